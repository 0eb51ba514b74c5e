//! The operations of a CryptoCycle on many states a call.
//!
//! Callers that have several states pass them together, so that a back end with wide registers can
//! work on them side by side. The states need not have anything in common.

use core::ops::Range;

use heapless::Vec;
use zerocopy::{FromBytes, IntoBytes};

use super::State;
use super::cycle::Cycle;
use super::state::{ITEM, TAG};
use crate::backend::Backend;
use crate::bytes::Hash32;
use crate::params::{ITEM_BYTES, STATE_BYTES};
use crate::primitives::blake2b::compress32_many;
use crate::primitives::chacha20::{self, BLOCK_BYTES, KeyStream, Run, expand_long};
use crate::primitives::poly1305::{self, Message};
use crate::primitives::x25519::{self, FixedBaseTable};

/// States that a batch call can use well on any back end; more a call are welcome.
pub const LANES: usize = 16;

/// [`State::init`] of each state with one seed and its own nonce.
///
/// # Panics
/// When the number of states and of nonces differ.
pub fn init(states: &mut [State], seed: &[u8; 32], nonces: &[u64], backend: Backend) {
    assert_eq!(states.len(), nonces.len(), "a nonce for each state");
    let Some((first, rest)) = states.split_first_mut() else { return };
    // The key stream is that of the seed alone.
    expand_long(seed, 0, &mut first.0, backend);
    first.start_nonce(nonces[0]);
    init_whole_from(rest, first, &nonces[1..]);
}

/// As [`init`] from a state that [`State::init`] made of the seed.
///
/// # Panics
/// When the number of states and of nonces differ.
pub fn init_whole_from(states: &mut [State], start: &State, nonces: &[u64]) {
    assert_eq!(states.len(), nonces.len(), "a nonce for each state");
    for (state, nonce) in states.iter_mut().zip(nonces) {
        state.0.copy_from_slice(&start.0);
        // `make_fuzzable` reads nothing that it or a nonce wrote.
        state.start_nonce(*nonce);
    }
}

/// As [`init_whole_from`], for states that all get an
/// [`update`] next: bytes 32 to 1055, which that overwrites, are left as they are (spec 03,
/// 2.8.1, 1 and 2).
///
/// # Panics
/// When the number of states and of nonces differ.
pub fn init_from(states: &mut [State], start: &State, nonces: &[u64]) {
    assert_eq!(states.len(), nonces.len(), "a nonce for each state");
    for (state, nonce) in states.iter_mut().zip(nonces) {
        state.copy_around_item(start);
        state.start_nonce(*nonce);
    }
}

/// [`State::make_fuzzable`] and [`State::crypt`] of each state, as far as its first 1024 bytes go:
/// the end of a table item. The rest of the state is unspecified afterwards.
pub fn crypt_items(states: &mut [State], backend: Backend) {
    states.iter_mut().for_each(State::make_fuzzable);
    crypt_for(states, 0..ITEM_BYTES, backend);
}

/// [`State::crypt`] of each state.
pub fn crypt(states: &mut [State], backend: Backend) {
    crypt_for(states, 0..STATE_BYTES, backend);
}

/// [`State::update`] of each state with its item.
///
/// # Panics
/// When the number of states and of items differ.
pub fn update(states: &mut [State], items: &[&[u8; ITEM_BYTES]], backend: Backend) {
    take_items(states, items);
    crypt_for(states, 0..STATE_BYTES, backend);
}

/// [`State::update`] of each state when another update follows: what that one overwrites, bytes 32
/// to 1055, is unspecified in between (spec 03, 2.8.1, 3).
///
/// # Panics
/// When the number of states and of items differ.
pub fn update_between(states: &mut [State], items: &[&[u8; ITEM_BYTES]], backend: Backend) {
    take_items(states, items);
    crypt_for(states, ITEM.end..STATE_BYTES, backend);
}

/// States whose scalar multiplications are done together.
const SMUL_STATES: usize = 128;

/// [`State::smul`] of each state; much faster with a table, and with many states a call.
pub fn smul(states: &mut [State], table: Option<&FixedBaseTable<'_>>, backend: Backend) {
    for states in states.chunks_mut(SMUL_STATES) {
        let mut pairs = [[[0; 32]; 2]; SMUL_STATES];
        let mut products = [[0; 32]; SMUL_STATES];
        let (pairs, products) = (&mut pairs[..states.len()], &mut products[..states.len()]);
        for (pair, state) in pairs.iter_mut().zip(&*states) {
            *pair = zerocopy::transmute!(*state.part::<0, 64>());
        }
        x25519::base_products(pairs, products, table, backend);
        for (state, product) in states.iter_mut().zip(products) {
            state.0[64..96].copy_from_slice(product);
        }
    }
}

/// [`State::finish`] of each state.
pub fn finish(states: &mut [State], backend: Backend) {
    for states in states.chunks_mut(LANES) {
        let mut hashes = [Hash32::ZERO; LANES];
        let hashes = &mut hashes[..states.len()];
        let messages = <[[u8; STATE_BYTES]]>::ref_from_bytes(states.as_bytes());
        compress32_many(messages.expect("a state is its bytes"), hashes, backend);
        for (state, hash) in states.iter_mut().zip(hashes) {
            state.0[..32].copy_from_slice(&hash.0);
        }
    }
}

fn take_items(states: &mut [State], items: &[&[u8; ITEM_BYTES]]) {
    assert_eq!(states.len(), items.len(), "an item for each state");
    for (state, item) in states.iter_mut().zip(items) {
        state.0[ITEM].copy_from_slice(*item);
        state.make_fuzzable();
    }
}

/// `crypt` of each state for a caller that will read only the `wanted` bytes of the messages.
fn crypt_for(states: &mut [State], wanted: Range<usize>, backend: Backend) {
    if backend.level().is_none() {
        states.iter_mut().for_each(|state| state.crypt_for(wanted.clone()));
        return;
    }
    for states in states.chunks_mut(LANES) {
        crypt_lanes(states, &wanted, backend);
    }
}

/// The same for at most [`LANES`] states, step by step for all of them.
fn crypt_lanes(states: &mut [State], wanted: &Range<usize>, backend: Backend) {
    let cycles: Cycles = states
        .iter_mut()
        .enumerate()
        .filter_map(|(at, state)| state.begin_cycle().map(|cycle| (at, cycle)))
        .collect();
    let streams: Vec<KeyStream, LANES> =
        cycles.iter().map(|(at, _)| states[*at].key_stream()).collect();

    let mut pad_keys = [[0; BLOCK_BYTES]; LANES];
    let run = |stream| Run { stream, counter: 0, at: BLOCK_BYTES * stream, len: BLOCK_BYTES };
    let runs: Vec<Run, LANES> = (0..streams.len()).map(run).collect();
    chacha20::apply_runs(pad_keys.as_flattened_mut(), &streams, &runs, backend);

    let mut tags = [[0; 16]; LANES];
    authenticate(states, &cycles, true, &pad_keys, &mut tags, backend);
    let run = |(stream, (at, cycle)): (usize, &(usize, Cycle))| {
        let (counter, bytes) = cycle.ciphered(wanted);
        Run { stream, counter, at: STATE_BYTES * at + bytes.start, len: bytes.len() }
    };
    let runs: Vec<Run, LANES> = cycles.iter().enumerate().map(run).collect();
    chacha20::apply_runs(states.as_mut_bytes(), &streams, &runs, backend);
    for (at, cycle) in cycles.iter().filter(|(_, cycle)| !cycle.decrypts()) {
        states[*at].0[cycle.zeroed()].fill(0);
    }
    authenticate(states, &cycles, false, &pad_keys, &mut tags, backend);
    for ((at, _), tag) in cycles.iter().zip(tags) {
        states[*at].0[TAG].copy_from_slice(&tag);
    }
}

/// Cycles, each with the number of its state.
type Cycles = Vec<(usize, Cycle), LANES>;

/// Computes the tags of those states that decrypt, or of those that encrypt.
fn authenticate(
    states: &[State],
    cycles: &Cycles,
    decrypting: bool,
    pad_keys: &[[u8; BLOCK_BYTES]; LANES],
    tags: &mut [[u8; 16]; LANES],
    backend: Backend,
) {
    let mut numbers: Vec<usize, LANES> = Vec::new();
    let mut messages: Vec<Message<'_>, LANES> = Vec::new();
    for (number, (at, cycle)) in cycles.iter().enumerate() {
        if cycle.decrypts() == decrypting {
            let (blocks, _) = states[*at].0[cycle.authenticated()].as_chunks();
            let (key, _) = pad_keys[number].split_first_chunk().expect("half of a block");
            let _ = numbers.push(number);
            let _ = messages.push(Message { key, blocks, tail: cycle.lengths() });
        }
    }
    let mut of_messages = [[0; 16]; LANES];
    poly1305::tags(&messages, &mut of_messages[..messages.len()], backend);
    for (number, tag) in numbers.into_iter().zip(of_messages) {
        tags[number] = tag;
    }
}
