//! The layout of a CryptoCycle state and of its header word (spec 03, 1.1).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::bytes::{read_u32, read_u64};
use crate::params::STATE_BYTES;

/// Bytes of the ChaCha20 nonce.
pub(super) const NONCE_BYTES: usize = 12;
/// Offset of the header word.
pub(super) const HEADER_AT: usize = 12;
/// The tag that a cycle leaves; before it, the first half of the key.
pub(super) const TAG: core::ops::Range<usize> = 16..32;
/// Offset of the additional data, and of the message behind it.
pub(super) const DATA_AT: usize = 48;
/// Where [`State::update`] puts the item.
pub(super) const ITEM: core::ops::Range<usize> = 32..1056;

/// A CryptoCycle state: 2048 bytes, aligned so that it can be read in words.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct State(pub [u8; STATE_BYTES]);

impl State {
    /// A state of zero bytes.
    pub const ZERO: State = State([0; STATE_BYTES]);

    /// The unreduced number of the item that the next [`update`](State::update) wants. Callers
    /// reduce it modulo the number of items they have.
    #[must_use]
    pub fn item_number(&self) -> u64 {
        read_u64(&self.0, TAG.start)
    }

    /// The first 32 bytes: after [`finish`](State::finish) the work hash.
    #[must_use]
    pub fn head(&self) -> &[u8; 32] {
        self.part::<0, 32>()
    }

    /// The first 1024 bytes: the finished table item in the making of an item (spec 03, 2.4).
    #[must_use]
    pub fn first_half(&self) -> &[u8; 1024] {
        self.part::<0, 1024>()
    }

    /// The first 1024 bytes, to be written.
    pub(crate) fn first_half_mut(&mut self) -> &mut [u8; 1024] {
        self.0.first_chunk_mut().expect("a state is longer")
    }

    /// Copies what the next [`update`](State::update) does not overwrite.
    pub(super) fn copy_around_item(&mut self, from: &State) {
        self.0[..ITEM.start].copy_from_slice(&from.0[..ITEM.start]);
        self.0[ITEM.end..].copy_from_slice(&from.0[ITEM.end..]);
    }

    /// The `LEN` bytes at `AT`.
    pub(crate) fn part<const AT: usize, const LEN: usize>(&self) -> &[u8; LEN] {
        const { assert!(AT + LEN <= STATE_BYTES) };
        self.0[AT..].first_chunk().expect("the end is checked at compile time")
    }

    /// The header word.
    pub(super) fn header(&self) -> Header {
        Header(read_u32(&self.0, HEADER_AT))
    }

    /// Replaces the header word.
    pub(super) fn write_header(&mut self, header: Header) {
        self.0[HEADER_AT..HEADER_AT + 4].copy_from_slice(&header.0.to_le_bytes());
    }
}

impl Default for State {
    fn default() -> Self {
        State::ZERO
    }
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("State").field("header", &self.header()).finish_non_exhaustive()
    }
}

/// The header word: which cipher operation the state asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header(u32);

impl Header {
    const TRUNCATED: u32 = 1 << 16;
    const LEN_SHIFT: u32 = 17;
    const LEN_MASK: u32 = 0x7f << Header::LEN_SHIFT;
    const FAILED: u32 = 1 << 24;

    /// Zeros at the end of the additional data that do not count for its length.
    pub(super) fn additional_zeros(self) -> u64 {
        u64::from(self.0 & 0xf)
    }

    /// Zeros at the end of the message: written when encrypting, never counted for its length.
    pub(super) fn trailing_zeros(self) -> usize {
        (self.0 >> 8 & 0xf) as usize
    }

    /// Whether the message is decrypted.
    pub(super) fn decrypts(self) -> bool {
        self.0 >> 12 & 1 == 1
    }

    /// Length of the additional data in units of 16 bytes, 0 to 7.
    pub(super) fn additional_units(self) -> usize {
        (self.0 >> 13 & 0x7) as usize
    }

    /// Length of the message in units of 16 bytes, 0 to 127.
    pub(super) fn message_units(self) -> usize {
        (self.0 >> Header::LEN_SHIFT & 0x7f) as usize
    }

    /// Whether the operation can not be done: unknown version, or failed before.
    pub(super) fn is_refused(self) -> bool {
        self.0 >> 24 != 0
    }

    /// The header with the failure flag.
    pub(super) fn with_failure(self) -> Header {
        Header(self.0 | Header::FAILED)
    }

    /// The header with the message length that was really used.
    pub(super) fn with_message_units(self, units: usize) -> Header {
        let truncated = if units == self.message_units() { 0 } else { Header::TRUNCATED };
        let kept = self.0 & !(Header::LEN_MASK | Header::TRUNCATED);
        Header(kept | truncated | (units as u32) << Header::LEN_SHIFT)
    }
}
