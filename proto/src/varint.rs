//! Bitcoin's variable-length integers, "CompactSize" (spec 05, 2.1).

use std::fmt;

/// Why the bytes do not begin with an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VarintError {
    /// The bytes end within the integer.
    Truncated,
    /// A longer form than the value needs. The node refuses it, so it is refused at once.
    NotMinimal,
}

impl fmt::Display for VarintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "bytes end within an integer",
            Self::NotMinimal => "integer in a longer form than needed",
        })
    }
}

impl std::error::Error for VarintError {}

/// Appends the shortest form of `number`.
pub fn write(number: u64, to: &mut Vec<u8>) {
    match number {
        0..=0xfc => to.push(number as u8),
        0xfd..=0xffff => {
            to.push(0xfd);
            to.extend_from_slice(&(number as u16).to_le_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            to.push(0xfe);
            to.extend_from_slice(&(number as u32).to_le_bytes());
        }
        _ => {
            to.push(0xff);
            to.extend_from_slice(&number.to_le_bytes());
        }
    }
}

/// Reads the integer at the beginning and moves `from` behind it; on an error it stays.
///
/// # Errors
/// [`VarintError`].
pub fn read(from: &mut &[u8]) -> Result<u64, VarintError> {
    let (&first, rest) = from.split_first().ok_or(VarintError::Truncated)?;
    let (len, least) = match first {
        0..=0xfc => (0, 0),
        0xfd => (2, 0xfd),
        0xfe => (4, 0x1_0000),
        0xff => (8, 0x1_0000_0000),
    };
    if len == 0 {
        *from = rest;
        return Ok(u64::from(first));
    }
    let (bytes, rest) = rest.split_at_checked(len).ok_or(VarintError::Truncated)?;
    let mut word = [0; 8];
    word[..len].copy_from_slice(bytes);
    let number = u64::from_le_bytes(word);
    if number < least {
        return Err(VarintError::NotMinimal);
    }
    *from = rest;
    Ok(number)
}

/// Appends a string of bytes with its length before it.
pub fn write_bytes(bytes: &[u8], to: &mut Vec<u8>) {
    write(bytes.len() as u64, to);
    to.extend_from_slice(bytes);
}

/// Reads a string of bytes with its length before it and moves `from` behind it.
///
/// # Errors
/// [`VarintError`]; [`VarintError::Truncated`] also when the length points past the end.
pub fn read_bytes<'a>(from: &mut &'a [u8]) -> Result<&'a [u8], VarintError> {
    let mut rest = *from;
    let len = usize::try_from(read(&mut rest)?).map_err(|_| VarintError::Truncated)?;
    let (bytes, rest) = rest.split_at_checked(len).ok_or(VarintError::Truncated)?;
    *from = rest;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_forms_than_needed_are_refused() {
        for bytes in
            [&[0xfd, 0xfc, 0][..], &[0xfe, 0xff, 0xff, 0, 0], &[0xff, 1, 0, 0, 0, 0, 0, 0, 0]]
        {
            let mut from = bytes;
            assert_eq!(read(&mut from), Err(VarintError::NotMinimal));
            assert_eq!(from, bytes);
        }
    }

    #[test]
    fn short_bytes_are_refused() {
        for bytes in [&[][..], &[0xfd], &[0xfd, 1], &[0xff, 1, 2, 3]] {
            assert_eq!(read(&mut &bytes[..]), Err(VarintError::Truncated));
        }
        assert_eq!(read_bytes(&mut &[3, 1, 2][..]), Err(VarintError::Truncated));
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
        assert_eq!(read_bytes(&mut &huge[..]), Err(VarintError::Truncated));
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(number: u64, shift in 0..64u32, tail: Vec<u8>) {
            let number = number >> shift;
            let mut bytes = Vec::new();
            write(number, &mut bytes);
            bytes.extend_from_slice(&tail);
            let mut from = &bytes[..];
            assert_eq!(read(&mut from), Ok(number));
            assert_eq!(from, tail);
        }
    }
}
