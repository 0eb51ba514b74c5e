//! Fixed-size values of the wire: hashes and compact targets, and little-endian access.
//!
//! Every integer of every structure of this system is little-endian (spec 01, 1), and no structure
//! is read by casting a pointer: all types here are plain bytes without alignment.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::params::COMPACT_MAX;

/// Reads the 4 bytes at `at` as a little-endian integer.
///
/// # Panics
/// When the bytes end before `at + 4`: offsets are constants of a layout, never input.
#[must_use]
pub fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// Reads the 8 bytes at `at` as a little-endian integer.
///
/// # Panics
/// When the bytes end before `at + 8`: offsets are constants of a layout, never input.
#[must_use]
pub fn read_u64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Why a text is not the hex of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HexError {
    /// The text has another number of characters.
    Length {
        /// Characters wanted.
        want: usize,
        /// Bytes of text that came.
        have: usize,
    },
    /// The byte of the text at this index is not a hex digit.
    Digit {
        /// Index of the byte in the text.
        at: usize,
    },
}

impl fmt::Display for HexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HexError::Length { want, have } => {
                write!(f, "a hash of {want} hex digits is wanted, {have} characters came")
            }
            HexError::Digit { at } => write!(f, "character {at} is not a hex digit"),
        }
    }
}

impl core::error::Error for HexError {}

fn decode_hex<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return Err(HexError::Length { want: 2 * N, have: digits.len() });
    }
    let digit = |at: usize| {
        let value = char::from(digits[at]).to_digit(16).ok_or(HexError::Digit { at })?;
        Ok(value as u8)
    };
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(2 * at)? << 4 | digit(2 * at + 1)?;
    }
    Ok(bytes)
}

/// A 32-byte hash in internal order (spec 01, 5).
///
/// Block hashes are displayed in reversed order ([`Hash32::display`], [`Hash32::from_display_hex`]);
/// all other hashes in memory order ([`Hash32::hex`], [`Hash32::from_hex`]). The order of the type
/// is that of the bytes in memory and not that of the little-endian number.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct Hash32(pub [u8; 32]);

impl Hash32 {
    /// 32 zero bytes.
    pub const ZERO: Hash32 = Hash32([0; 32]);

    /// Decodes hex in memory order.
    ///
    /// # Errors
    /// [`HexError`] when the text is not 64 hex digits.
    pub fn from_hex(text: &str) -> Result<Hash32, HexError> {
        decode_hex(text).map(Hash32)
    }

    /// Decodes hex in display order, that is with all 32 bytes reversed (spec 01, 5).
    ///
    /// # Errors
    /// [`HexError`] when the text is not 64 hex digits.
    pub fn from_display_hex(text: &str) -> Result<Hash32, HexError> {
        let mut bytes: [u8; 32] = decode_hex(text)?;
        bytes.reverse();
        Ok(Hash32(bytes))
    }

    /// Formats as hex in memory order.
    #[must_use]
    pub fn hex(&self) -> impl fmt::Display + '_ {
        Hex(&self.0)
    }

    /// Formats as hex in display order, that is with all 32 bytes reversed (spec 01, 5).
    #[must_use]
    pub fn display(&self) -> impl fmt::Display {
        let mut bytes = self.0;
        bytes.reverse();
        OwnedHex(bytes)
    }

    /// Whether all bytes are zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 32]
    }
}

impl fmt::Debug for Hash32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash32({})", self.hex())
    }
}

impl AsRef<[u8]> for Hash32 {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A 64-byte hash.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct Hash64(pub [u8; 64]);

impl Hash64 {
    /// 64 zero bytes.
    pub const ZERO: Hash64 = Hash64([0; 64]);

    /// Decodes hex in memory order.
    ///
    /// # Errors
    /// [`HexError`] when the text is not 128 hex digits.
    pub fn from_hex(text: &str) -> Result<Hash64, HexError> {
        decode_hex(text).map(Hash64)
    }

    /// Formats as hex in memory order.
    #[must_use]
    pub fn hex(&self) -> impl fmt::Display + '_ {
        Hex(&self.0)
    }

    /// The first 32 bytes: `lo` of spec 03, 2.3.
    #[must_use]
    pub fn lo(&self) -> &[u8; 32] {
        self.halves().0
    }

    /// The last 32 bytes: `hi` of spec 03, 2.3.
    #[must_use]
    pub fn hi(&self) -> &[u8; 32] {
        self.halves().1
    }

    fn halves(&self) -> (&[u8; 32], &[u8; 32]) {
        let [lo, hi]: &[[u8; 32]; 2] = zerocopy::transmute_ref!(&self.0);
        (lo, hi)
    }
}

impl Default for Hash64 {
    fn default() -> Self {
        Hash64::ZERO
    }
}

impl fmt::Debug for Hash64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash64({})", self.hex())
    }
}

impl AsRef<[u8]> for Hash64 {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

struct OwnedHex([u8; 32]);

impl fmt::Display for OwnedHex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

/// A compact target, "nBits" (spec 01, 6).
///
/// Different words may stand for the same target, and several rules compare the *words*: so does
/// the order of this type. Compare decoded targets where the specification says so.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompactTarget(pub u32);

impl CompactTarget {
    /// The largest admissible word, about 2^255: half of all hashes satisfy it.
    pub const MAX: CompactTarget = CompactTarget(COMPACT_MAX);

    const SIGN: u32 = 0x0080_0000;

    /// Bits 31..24.
    #[must_use]
    pub const fn exponent(self) -> u32 {
        self.0 >> 24
    }

    /// Bits 22..0.
    #[must_use]
    pub const fn mantissa(self) -> u32 {
        self.0 & 0x007f_ffff
    }

    /// Whether this may be the target of an announcement or block: not above
    /// [`CompactTarget::MAX`] as a word, no sign, not zero (spec 01, 6).
    #[must_use]
    pub fn is_well_formed(self) -> bool {
        self.target().is_some_and(|target| target != [0; 32])
    }

    /// The target as a little-endian 256-bit number, or `None` for a word with the sign bit or
    /// above [`CompactTarget::MAX`], which stand for no valid target (spec 01, 6).
    #[must_use]
    pub fn target(self) -> Option<[u8; 32]> {
        if self > CompactTarget::MAX || self.0 & CompactTarget::SIGN != 0 {
            return None;
        }
        let mut target = [0; 32];
        let exponent = self.exponent() as usize;
        let mantissa = self.mantissa();
        if exponent < 3 {
            target[..4].copy_from_slice(&(mantissa >> (8 * (3 - exponent))).to_le_bytes());
        } else {
            // At most 0x20 - 3 + 3 = 32: the largest admissible word ends with the array.
            target[exponent - 3..exponent].copy_from_slice(&mantissa.to_le_bytes()[..3]);
        }
        Some(target)
    }

    /// The compact form of a little-endian 256-bit number: truncated, not rounded (spec 01, 6).
    #[must_use]
    pub fn from_target(target: &[u8; 32]) -> CompactTarget {
        let mut size = 32 - target.iter().rev().take_while(|byte| **byte == 0).count();
        let byte = |at: Option<usize>| at.map_or(0, |at| u32::from(target[at]));
        let mut mantissa = byte(size.checked_sub(1)) << 16
            | byte(size.checked_sub(2)) << 8
            | byte(size.checked_sub(3));
        if mantissa & CompactTarget::SIGN != 0 {
            mantissa >>= 8;
            size += 1;
        }
        CompactTarget((size as u32) << 24 | mantissa)
    }

    /// Whether a hash, as a little-endian number, is strictly below this target: `work_ok` of
    /// spec 01, 7.
    #[must_use]
    pub fn is_met_by(self, hash: &Hash32) -> bool {
        // Consensus: equal is not enough.
        self.target().is_some_and(|target| hash.0.iter().rev().lt(target.iter().rev()))
    }
}

impl fmt::Debug for CompactTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompactTarget({self})")
    }
}

impl fmt::Display for CompactTarget {
    /// The word as 8 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl From<u32> for CompactTarget {
    fn from(word: u32) -> Self {
        CompactTarget(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_order_is_the_reverse_of_memory_order() {
        let text = "00000000000000000000000000000000000000000000000000000000000000ff";
        let hash = Hash32::from_display_hex(text).unwrap();
        assert_eq!(hash.0[0], 0xff);
        assert_eq!(std::format!("{}", hash.display()), text);
        assert_eq!(Hash32::from_hex(&std::format!("{}", hash.hex())), Ok(hash));
    }

    #[test]
    fn hex_errors_name_what_differs() {
        assert_eq!(Hash32::from_hex("00"), Err(HexError::Length { want: 64, have: 2 }));
        let text = "zz00000000000000000000000000000000000000000000000000000000000000";
        assert_eq!(Hash32::from_hex(text), Err(HexError::Digit { at: 0 }));
        let text = "\u{e9}00000000000000000000000000000000000000000000000000000000000000";
        assert_eq!(Hash32::from_hex(text), Err(HexError::Digit { at: 0 }));
    }

    #[test]
    fn compact_words_normalise() {
        let normalised = |word| CompactTarget::from_target(&CompactTarget(word).target().unwrap());
        assert_eq!(normalised(0x2000_0fff), CompactTarget(0x1f0f_ff00));
        assert_eq!(normalised(0x207f_ffff), CompactTarget::MAX);
        assert_eq!(normalised(0), CompactTarget(0));
        assert_eq!(normalised(0x0412_3456), CompactTarget(0x0412_3456));
        assert_eq!(normalised(0x0500_8000), CompactTarget(0x0500_8000));
    }

    #[test]
    fn only_positive_targets_up_to_the_largest_are_well_formed() {
        for word in [0x207f_ffff, 0x2000_0001, 0x0300_0001, 0x0101_0000] {
            assert!(CompactTarget(word).is_well_formed(), "{word:08x}");
        }
        for word in [0, 0x2000_0000, 0x2080_0000, 0x1f80_0001, 0x2100_0001, 0x0100_ffff, u32::MAX] {
            assert!(!CompactTarget(word).is_well_formed(), "{word:08x}");
        }
    }
}
