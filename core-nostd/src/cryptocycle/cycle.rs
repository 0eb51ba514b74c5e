//! The operations on one state, each as in spec 03, 1.2 to 1.4.

use super::State;
use super::state::{DATA_AT, ITEM, KEY, NONCE, TAG};
use crate::params::{ITEM_BYTES, MESSAGE_UNITS_MAX};
use crate::primitives::chacha20::{self, KeyStream};
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
        let asked = self.header();
        if asked.is_refused() {
            self.write_header(asked.with_failure());
            return;
        }
        let units = asked.message_units().min(MESSAGE_UNITS_MAX - asked.additional_units());
        let header = asked.with_message_units(units);
        self.write_header(header);

        let message_at = DATA_AT + 16 * header.additional_units();
        let end = message_at + 16 * units;
        let mut stream = KeyStream::new(self.part::<{ KEY.start }, 32>(), self.part::<0, 12>());
        const { assert!(NONCE.end == 12 && KEY.end - KEY.start == 32) };
        let mut pad_key = [0; chacha20::BLOCK_BYTES];
        stream.write(0, &mut pad_key);
        let [tag_key, _]: [[u8; 32]; 2] = zerocopy::transmute!(pad_key);
        // Consensus: the zero counts are subtracted with wrap, and the trailing one in decryption
        // too.
        let additional_len = 16 * header.additional_units() as u64;
        let message_len = 16 * units as u64;
        let lengths: [u8; 16] = zerocopy::transmute!([
            additional_len.wrapping_sub(header.additional_zeros()).to_le_bytes(),
            message_len.wrapping_sub(header.trailing_zeros() as u64).to_le_bytes(),
        ]);

        let tag;
        if header.decrypts() {
            tag = poly1305::tag(&tag_key, &self.0[DATA_AT..end], &lengths);
            stream.apply(1, &mut self.0[message_at..end]);
        } else {
            stream.apply(1, &mut self.0[message_at..end]);
            // An empty message has no bytes to zero: undefined in the references, and it can not
            // follow `make_fuzzable`.
            let zeros_at = end.saturating_sub(header.trailing_zeros()).max(message_at);
            self.0[zeros_at..end].fill(0);
            tag = poly1305::tag(&tag_key, &self.0[DATA_AT..end], &lengths);
        }
        self.0[TAG].copy_from_slice(&tag);
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
