//! Variable-length integers of the wire (spec 04, 8): one byte up to `fc`, else a byte `fd`, `fe` or
//! `ff` before 2, 4 or 8 little-endian bytes. The shortest form is required.

use super::error::VarintError;

/// Most bytes of a variable-length integer.
pub const VARINT_BYTES_MAX: usize = 9;

/// Takes an integer from the front of `bytes`.
///
/// # Errors
/// [`VarintError`]; `bytes` is then unchanged.
pub fn take(bytes: &mut &[u8]) -> Result<u64, VarintError> {
    let (first, rest) = bytes.split_first().ok_or(VarintError::Truncated)?;
    let (width, least) = match first {
        0xfd => (2, 0xfd),
        0xfe => (4, 0x1_0000),
        0xff => (8, 0x1_0000_0000),
        small => {
            *bytes = rest;
            return Ok(u64::from(*small));
        }
    };
    let (digits, rest) = rest.split_at_checked(width).ok_or(VarintError::Truncated)?;
    let value = digits.iter().rev().fold(0, |value, digit| value << 8 | u64::from(*digit));
    if value < least {
        return Err(VarintError::NotShortest { value, width: width + 1 });
    }
    *bytes = rest;
    Ok(value)
}

/// Bytes of the shortest form of an integer.
#[must_use]
pub const fn len(value: u64) -> usize {
    match value {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => VARINT_BYTES_MAX,
    }
}

/// The shortest form of an integer, and how many of the bytes it takes.
#[must_use]
pub fn encode(value: u64) -> ([u8; VARINT_BYTES_MAX], usize) {
    let mut bytes = [0; VARINT_BYTES_MAX];
    let len = len(value);
    if len == 1 {
        bytes[0] = value as u8;
    } else {
        bytes[0] = match len {
            3 => 0xfd,
            5 => 0xfe,
            _ => 0xff,
        };
        bytes[1..len].copy_from_slice(&value.to_le_bytes()[..len - 1]);
    }
    (bytes, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_round_trips_at_its_edges() {
        for value in [0, 0xfc, 0xfd, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX] {
            let (bytes, len) = encode(value);
            let mut front = &bytes[..len];
            assert_eq!(take(&mut front), Ok(value));
            assert!(front.is_empty());
            for cut in 0..len {
                assert_eq!(take(&mut &bytes[..cut]), Err(VarintError::Truncated));
            }
        }
    }

    #[test]
    fn longer_forms_are_refused() {
        let longer: [(&[u8], u64); 3] = [
            (&[0xfd, 0xfc, 0], 0xfc),
            (&[0xfe, 0xff, 0xff, 0, 0], 0xffff),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], 0xffff_ffff),
        ];
        for (mut bytes, value) in longer {
            let width = bytes.len();
            assert_eq!(take(&mut bytes), Err(VarintError::NotShortest { value, width }));
        }
    }
}
