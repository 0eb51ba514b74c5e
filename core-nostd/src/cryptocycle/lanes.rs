//! The operations of a CryptoCycle on many states a call.
//!
//! Callers that have several states pass them together, so that a back end with wide registers can
//! work on them side by side. The states need not have anything in common.

use super::State;
use crate::backend::Backend;
use crate::params::ITEM_BYTES;

/// States that a batch call can use well on any back end; more a call are welcome.
pub const LANES: usize = 16;

/// [`State::init`] of each state with one seed and its own nonce.
///
/// # Panics
/// When the number of states and of nonces differ.
pub fn init(states: &mut [State], seed: &[u8; 32], nonces: &[u64], backend: Backend) {
    assert_eq!(states.len(), nonces.len(), "a nonce for each state");
    let Some((first, rest)) = states.split_first_mut() else { return };
    match backend {
        Backend::Soft | Backend::Avx2 | Backend::Avx512 | Backend::Neon => {
            // The key stream is that of the seed alone.
            first.init(seed, nonces[0]);
            for (state, nonce) in rest.iter_mut().zip(&nonces[1..]) {
                state.0.copy_from_slice(&first.0);
                // `make_fuzzable` reads nothing that it or the nonce wrote.
                state.start_nonce(*nonce);
            }
        }
    }
}

/// As [`init`] from a state that [`State::init`] made of the seed, for states that all get an
/// [`update`] next: bytes 32 to 1055, which that overwrites, are left as they are (spec 03,
/// 2.8.1, 1 and 2).
///
/// # Panics
/// When the number of states and of nonces differ.
pub fn init_from(states: &mut [State], start: &State, nonces: &[u64], backend: Backend) {
    assert_eq!(states.len(), nonces.len(), "a nonce for each state");
    match backend {
        Backend::Soft | Backend::Avx2 | Backend::Avx512 | Backend::Neon => {
            for (state, nonce) in states.iter_mut().zip(nonces) {
                state.copy_around_item(start);
                state.start_nonce(*nonce);
            }
        }
    }
}

/// [`State::make_fuzzable`] and [`State::crypt`] of each state, as far as its first 1024 bytes go:
/// the end of a table item. The rest of the state is unspecified afterwards.
pub fn crypt_items(states: &mut [State], backend: Backend) {
    match backend {
        Backend::Soft | Backend::Avx2 | Backend::Avx512 | Backend::Neon => {
            states.iter_mut().for_each(State::crypt_item);
        }
    }
}

/// [`State::update`] of each state with its item.
///
/// # Panics
/// When the number of states and of items differ.
pub fn update(states: &mut [State], items: &[&[u8; ITEM_BYTES]], backend: Backend) {
    assert_eq!(states.len(), items.len(), "an item for each state");
    match backend {
        Backend::Soft | Backend::Avx2 | Backend::Avx512 | Backend::Neon => {
            for (state, item) in states.iter_mut().zip(items) {
                state.update(item);
            }
        }
    }
}

/// [`State::update`] of each state when another update follows: what that one overwrites, bytes 32
/// to 1055, is unspecified in between (spec 03, 2.8.1, 3).
///
/// # Panics
/// When the number of states and of items differ.
pub fn update_between(states: &mut [State], items: &[&[u8; ITEM_BYTES]], backend: Backend) {
    assert_eq!(states.len(), items.len(), "an item for each state");
    match backend {
        Backend::Soft | Backend::Avx2 | Backend::Avx512 | Backend::Neon => {
            for (state, item) in states.iter_mut().zip(items) {
                state.update_between(item);
            }
        }
    }
}

/// [`State::smul`] of each state.
pub fn smul(states: &mut [State], backend: Backend) {
    match backend {
        Backend::Soft | Backend::Avx2 | Backend::Avx512 | Backend::Neon => {
            states.iter_mut().for_each(State::smul);
        }
    }
}

/// [`State::finish`] of each state.
pub fn finish(states: &mut [State], backend: Backend) {
    match backend {
        Backend::Soft | Backend::Avx2 | Backend::Avx512 | Backend::Neon => {
            states.iter_mut().for_each(State::finish);
        }
    }
}
