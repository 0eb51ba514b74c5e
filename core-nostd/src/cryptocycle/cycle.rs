//! The operations on one state, each as in spec 03, 1.2 to 1.4.

use core::ops::Range;

use super::State;
use super::state::{DATA_AT, Header, ITEM, NONCE_BYTES, TAG};
use crate::params::{ITEM_BYTES, MESSAGE_UNITS_MAX, STATE_BYTES};
use crate::primitives::chacha20::{BLOCK_BYTES, KeyStream};
use crate::primitives::{compress32, expand, poly1305, x25519};

impl State {
    /// Starts from a seed and a nonce: `init` of spec 03, 1.4.
    pub fn init(&mut self, seed: &[u8; 32], nonce: u64) {
        expand(seed, 0, &mut self.0);
        self.start_nonce(nonce);
    }

    /// The end of [`init`](State::init) for a state that holds the expanded seed.
    pub(crate) fn start_nonce(&mut self, nonce: u64) {
        self.0[..8].copy_from_slice(&nonce.to_le_bytes());
        self.make_fuzzable();
    }

    /// Turns random bytes into an acceptable header word (spec 03, 1.2).
    pub fn make_fuzzable(&mut self) {
        let [.., b16, b17, b18, _] = *self.part::<0, 20>();
        self.0[12..16].copy_from_slice(&[b16, b17, b18 | 0x40, 0]);
    }

    /// Encrypts or decrypts and authenticates the message, as the header word says
    /// (spec 03, 1.3).
    pub fn crypt(&mut self) {
        self.crypt_for(0..STATE_BYTES);
    }

    /// [`crypt`](State::crypt) for a caller that will read only the `wanted` bytes of the message:
    /// others may be left as they were (spec 03, 2.8.1, 3 and 6).
    pub(super) fn crypt_for(&mut self, wanted: Range<usize>) {
        let Some(cycle) = self.begin_cycle() else { return };
        let stream = self.key_stream();
        let mut pad_key = [0; 32];
        stream.write(0, &mut pad_key);
        let (counter, ciphered) = cycle.ciphered(&wanted);
        let tag;
        if cycle.decrypts() {
            // The tag is of the message as it came.
            tag = poly1305::tag(&pad_key, &self.0[cycle.authenticated()], &cycle.lengths());
            stream.apply(counter, &mut self.0[ciphered]);
        } else {
            stream.apply(counter, &mut self.0[ciphered]);
            self.0[cycle.zeroed()].fill(0);
            tag = poly1305::tag(&pad_key, &self.0[cycle.authenticated()], &cycle.lengths());
        }
        self.0[TAG].copy_from_slice(&tag);
    }

    /// Reads the header word and writes back what became of it; `None` when the operation is
    /// refused.
    pub(super) fn begin_cycle(&mut self) -> Option<Cycle> {
        let asked = self.header();
        if asked.is_refused() {
            self.write_header(asked.with_failure());
            return None;
        }
        let units = asked.message_units().min(MESSAGE_UNITS_MAX - asked.additional_units());
        let header = asked.with_message_units(units);
        self.write_header(header);
        let message_at = DATA_AT + 16 * header.additional_units();
        Some(Cycle { header, message_at, end: message_at + 16 * units })
    }

    /// The key stream of the next cycle.
    pub(super) fn key_stream(&self) -> KeyStream {
        KeyStream::new(self.part::<{ TAG.start }, 32>(), self.part::<0, NONCE_BYTES>())
    }

    /// Takes in one table item (spec 03, 1.4).
    pub fn update(&mut self, item: &[u8; ITEM_BYTES]) {
        self.0[ITEM].copy_from_slice(item);
        self.make_fuzzable();
        self.crypt();
    }

    /// As [`update`](State::update), with 32 bytes of announcement content behind the item: blocks
    /// of proof version 0 and 1 only (spec 03, 1.4).
    pub fn update_with_content(&mut self, item: &[u8; ITEM_BYTES], content: &[u8; 32]) {
        self.0[ITEM].copy_from_slice(item);
        self.0[ITEM.end..ITEM.end + 32].copy_from_slice(content);
        self.make_fuzzable();
        self.crypt();
    }

    /// The scalar multiplications of a block nonce (spec 03, 1.4).
    pub fn smul(&mut self) {
        let inner = x25519::x25519_base(self.part::<32, 32>());
        let product = x25519::x25519(self.part::<0, 32>(), &inner);
        self.0[64..96].copy_from_slice(&product);
    }

    /// Hashes the state into its first 32 bytes: `final` of spec 03, 1.4.
    pub fn finish(&mut self) {
        let hash = compress32(&self.0);
        self.0[..32].copy_from_slice(&hash.0);
    }
}

/// What one `crypt` does with which bytes of the state.
#[derive(Clone, Copy)]
pub(super) struct Cycle {
    /// With the length that is really used.
    header: Header,
    /// Offset of the message.
    message_at: usize,
    /// Its end.
    end: usize,
}

impl Cycle {
    /// Whether the message is decrypted, and so is authenticated before it is touched.
    pub(super) fn decrypts(&self) -> bool {
        self.header.decrypts()
    }

    /// The bytes of which the tag is made, the lengths apart.
    pub(super) fn authenticated(&self) -> Range<usize> {
        DATA_AT..self.end
    }

    /// The bytes that the key stream is applied to when only `wanted` ones matter, and the block of
    /// the stream for the first of them.
    pub(super) fn ciphered(&self, wanted: &Range<usize>) -> (u32, Range<usize>) {
        if !self.decrypts() {
            // The tag covers the result.
            return (1, self.message_at..self.end);
        }
        let first_block = wanted.start.saturating_sub(self.message_at) / BLOCK_BYTES;
        let to = self.end.min(wanted.end);
        let from = (self.message_at + first_block * BLOCK_BYTES).min(to);
        (1 + first_block as u32, from..to)
    }

    /// The bytes that are zeroed after encryption.
    pub(super) fn zeroed(&self) -> Range<usize> {
        // An empty message has no bytes to zero: undefined in the references, and it can not
        // follow `make_fuzzable`.
        let from = self.end.saturating_sub(self.header.trailing_zeros()).max(self.message_at);
        from..self.end
    }

    /// The 16 bytes that end the authenticated data.
    ///
    /// Consensus: the zero counts are subtracted with wrap, and the trailing one in decryption too.
    pub(super) fn lengths(&self) -> [u8; 16] {
        let additional_len = 16 * self.header.additional_units() as u64;
        let message_len = 16 * self.header.message_units() as u64;
        zerocopy::transmute!([
            additional_len.wrapping_sub(self.header.additional_zeros()).to_le_bytes(),
            message_len.wrapping_sub(self.header.trailing_zeros() as u64).to_le_bytes(),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a shortcut leaves unspecified is zeroed before the comparison.
    fn differing(full: &State, short: &State, unspecified: Range<usize>) -> bool {
        let (mut full, mut short) = (full.clone(), short.clone());
        full.0[unspecified.clone()].fill(0);
        short.0[unspecified].fill(0);
        full.0 != short.0
    }

    #[test]
    fn shortcuts_leave_what_is_wanted_as_the_whole_operation_does() {
        let item = [0x5a; ITEM_BYTES];
        for nonce in 0..500 {
            let mut full = State::ZERO;
            full.init(&[7; 32], nonce);
            expand(&[9; 32], nonce as u32, &mut full.0[12..]);
            let mut between = full.clone();
            let mut of_item = full.clone();
            let mut whole_item = full.clone();

            full.update(&item);
            between.0[ITEM].copy_from_slice(&item);
            between.make_fuzzable();
            between.crypt_for(ITEM.end..STATE_BYTES);
            assert!(!differing(&full, &between, ITEM), "between, nonce {nonce}");

            whole_item.make_fuzzable();
            whole_item.crypt();
            of_item.make_fuzzable();
            of_item.crypt_for(0..ITEM_BYTES);
            assert!(!differing(&whole_item, &of_item, ITEM_BYTES..STATE_BYTES), "item {nonce}");
        }
    }

    #[test]
    fn a_refused_header_only_sets_the_failure_flag() {
        for last in [0x02, 0x01, 0xff] {
            let mut state = State([0x11; STATE_BYTES]);
            state.0[15] = last;
            let mut expected = state.clone();
            expected.0[15] |= 1;
            state.crypt();
            assert_eq!(state.0, expected.0);
        }
    }

    #[test]
    fn an_empty_message_is_memory_safe() {
        let mut state = State([0xff; STATE_BYTES]);
        // No message, seven units of additional data, all zero counts, both directions.
        for direction in [0xef_u8, 0xff] {
            state.0[12..16].copy_from_slice(&[0xff, direction, 0, 0]);
            state.crypt();
        }
    }
}
