//! CryptoCycle as the reference does it (spec 03, 1): one state, every byte, every step.

use crate::Libsodium;

/// A CryptoCycle state.
pub(crate) type State = [u8; 2048];

impl Libsodium {
    /// `expand(seed, len, num)` of spec 01, 3.
    pub(crate) fn expand(&self, seed: &[u8; 32], num: u32, out: &mut [u8]) {
        let mut nonce = *b"\0\0\0\0PC_EXPND";
        nonce[..4].copy_from_slice(&num.to_le_bytes());
        self.stream(seed, &nonce, out);
    }

    /// `init`.
    pub(crate) fn init(&self, state: &mut State, seed: &[u8; 32], nonce: u64) {
        self.expand(seed, 0, state);
        state[..8].copy_from_slice(&nonce.to_le_bytes());
        make_fuzzable(state);
    }

    /// `update`.
    pub(crate) fn update(&self, state: &mut State, item: &[u8; 1024]) {
        state[32..1056].copy_from_slice(item);
        make_fuzzable(state);
        self.crypt(state);
    }

    /// `crypt`, of a header that `make_fuzzable` made.
    pub(crate) fn crypt(&self, state: &mut State) {
        let word = u32::from_le_bytes(part(state, 12));
        let additional_zeros = u64::from(word & 0xf);
        let trailing_zeros = (word >> 8 & 0xf) as usize;
        let decrypts = word >> 12 & 1 == 1;
        let additional_units = word >> 13 & 7;
        let asked_units = word >> 17 & 0x7f;
        let units = asked_units.min(125 - additional_units);
        let truncated = u32::from(units != asked_units);
        let word = word & !(0xff << 16) | truncated << 16 | units << 17;
        state[12..16].copy_from_slice(&word.to_le_bytes());

        let nonce: [u8; 12] = part(state, 0);
        let key: [u8; 32] = part(state, 16);
        let mut pad = [0; 64];
        self.stream(&key, &nonce, &mut pad);
        let tag_key = part(&pad, 0);

        let (additional_len, message_len) = (16 * additional_units as usize, 16 * units as usize);
        let message_at = 48 + additional_len;
        let end = message_at + message_len;
        let mut lengths = [0; 16];
        let additional_count = (additional_len as u64).wrapping_sub(additional_zeros);
        let message_count = (message_len as u64).wrapping_sub(trailing_zeros as u64);
        lengths[..8].copy_from_slice(&additional_count.to_le_bytes());
        lengths[8..].copy_from_slice(&message_count.to_le_bytes());

        let tag;
        if decrypts {
            tag = self.tag(&tag_key, &state[48..end], &lengths);
            self.stream_xor(&key, &nonce, 1, &mut state[message_at..end]);
        } else {
            self.stream_xor(&key, &nonce, 1, &mut state[message_at..end]);
            state[end - trailing_zeros..end].fill(0);
            tag = self.tag(&tag_key, &state[48..end], &lengths);
        }
        state[16..32].copy_from_slice(&tag);
    }

    /// `smul`.
    pub(crate) fn smul(&self, state: &mut State) {
        let inner = self.x25519_base(&part(state, 32));
        let product = self.x25519(&part(state, 0), &inner);
        state[64..96].copy_from_slice(&product);
    }

    /// `final`; returns the work hash.
    pub(crate) fn finish(&self, state: &mut State) -> [u8; 32] {
        let hash = self.blake2b(state);
        state[..32].copy_from_slice(&hash);
        hash
    }
}

/// `make_fuzzable`.
pub(crate) fn make_fuzzable(state: &mut State) {
    state[12] = state[16];
    state[13] = state[17];
    state[14] = state[18] | 0x40;
    state[15] = 0;
}

/// `item_number`.
pub(crate) fn item_number(state: &State) -> u64 {
    u64::from_le_bytes(part(state, 16))
}

/// `N` bytes from `at` on.
pub(crate) fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("inside of the state")
}
