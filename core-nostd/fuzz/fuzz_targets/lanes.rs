//! Any states and items, many at once on the best back end and one by one in portable code.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packetcrypt_core::Backend;
use packetcrypt_core::cryptocycle::{State, lanes};
use packetcrypt_core::primitives::expand;

/// More than are worked on together.
const STATES_MAX: usize = 20;

fuzz_target!(|input: (u8, Vec<[u8; 24]>, bool)| {
    let (topic, heads, whole) = input;
    // Random messages under the heads that the fuzzer chose: nonce, header word, part of the key.
    let mut states = vec![State::ZERO; heads.len().min(STATES_MAX)];
    for (num, (state, head)) in (0..).zip(states.iter_mut().zip(&heads)) {
        expand(&[topic; 32], num, &mut state.0);
        state.0[..24].copy_from_slice(head);
        // Undefined in the references.
        if state.0[14] >> 1 == 0 {
            state.0[13] &= 0xf0;
        }
    }
    let item = [topic; 1024];
    let items = vec![&item; states.len()];
    let before = states.clone();
    for state in &mut states {
        if whole {
            state.crypt();
            state.finish();
        } else {
            state.update(&item);
        }
    }
    for backend in Backend::available() {
        let mut together = before.clone();
        if whole {
            lanes::crypt(&mut together, backend);
            lanes::finish(&mut together, backend);
        } else {
            lanes::update(&mut together, &items, backend);
        }
        assert!(states.iter().zip(&together).all(|(alone, state)| alone.0 == state.0), "{backend}");
    }
});
