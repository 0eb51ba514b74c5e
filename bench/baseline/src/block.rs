//! Block nonces and the tree of a block, as the reference does them.

use packetcrypt_core::block::tree::{Entry, key, leaf, odd_count, zero_entry};
use packetcrypt_core::{CompactTarget, Hash32};

use crate::Libsodium;
use crate::cycle::{State, item_number};

/// Nonces between which the reference alternates, so that the memory has time.
const INTERLEAVED: usize = 4;

/// The search for block nonces under one header.
pub struct Nonces<'a> {
    sodium: &'a Libsodium,
    /// `compress32` of the header.
    seed: [u8; 32],
    announcements: &'a [[u8; 1024]],
    states: [State; INTERLEAVED],
}

impl<'a> Nonces<'a> {
    /// The search with these announcements under the header of this hash.
    #[must_use]
    pub fn new(
        sodium: &'a Libsodium,
        header_hash: &Hash32,
        announcements: &'a [[u8; 1024]],
    ) -> Nonces<'a> {
        Nonces { sodium, seed: header_hash.0, announcements, states: [[0; 2048]; INTERLEAVED] }
    }

    /// Tries `count` low nonces from `first` on and hands over those that meet the target, with
    /// their work hash.
    pub fn search(
        &mut self,
        first: u32,
        count: u32,
        target: CompactTarget,
        found: &mut dyn FnMut(u32, Hash32),
    ) {
        for at in (0..count).step_by(INTERLEAVED) {
            let first = first.wrapping_add(at);
            for (low_nonce, state) in (first..).zip(&mut self.states) {
                self.sodium.init(state, &self.seed, u64::from(low_nonce));
            }
            for _ in 0..4 {
                let items = self.states.each_ref().map(|state| {
                    let number = item_number(state) % self.announcements.len() as u64;
                    let item = &self.announcements[number as usize];
                    self.sodium.prefetch(item);
                    item
                });
                for (state, item) in self.states.iter_mut().zip(items) {
                    self.sodium.update(state, item);
                }
            }
            for (low_nonce, state) in (first..).zip(&mut self.states) {
                self.sodium.smul(state);
                let hash = Hash32(self.sodium.finish(state));
                if target.is_met_by(&hash) {
                    found(low_nonce, hash);
                }
            }
        }
    }
}

/// The root of the tree over announcements of these hashes (spec 04, 4): sorts them, and hashes
/// layer by layer on one core. `layer` is memory that is kept between calls.
pub fn tree_root(sodium: &Libsodium, hashes: &mut [Hash32], layer: &mut Vec<Entry>) -> Hash32 {
    hashes.sort_unstable_by_key(key);
    let mut kept = 0;
    for at in 0..hashes.len() {
        let this = key(&hashes[at]);
        let is_new = kept == 0 || key(&hashes[kept - 1]) != this;
        if is_new && this != 0 && this != u64::MAX {
            hashes[kept] = hashes[at];
            kept += 1;
        }
    }
    let kept = odd_count(kept as u64) as usize;
    let hashes = &hashes[..kept];
    layer.clear();
    layer.extend(hashes.first().map(zero_entry));
    layer.extend(hashes.iter().enumerate().map(|(at, hash)| leaf(hash, hashes.get(at + 1))));
    while layer.len() > 1 {
        if layer.len() % 2 == 1 {
            layer.push(Entry::PAD);
        }
        for pair in 0..layer.len() / 2 {
            let (left, right) = (layer[2 * pair], layer[2 * pair + 1]);
            let mut message = [0; 2 * Entry::BYTES];
            message[..Entry::BYTES].copy_from_slice(&bytes_of(&left));
            message[Entry::BYTES..].copy_from_slice(&bytes_of(&right));
            layer[pair] = Entry::new(Hash32(sodium.blake2b(&message)), left.start(), right.end());
        }
        layer.truncate(layer.len() / 2);
    }
    layer.first().map_or(Hash32::ZERO, |top| Hash32(sodium.blake2b(&bytes_of(top))))
}

fn bytes_of(entry: &Entry) -> [u8; Entry::BYTES] {
    let mut bytes = [0; Entry::BYTES];
    bytes[..32].copy_from_slice(&entry.hash.0);
    bytes[32..40].copy_from_slice(&entry.start().to_le_bytes());
    bytes[40..].copy_from_slice(&entry.end().to_le_bytes());
    bytes
}
