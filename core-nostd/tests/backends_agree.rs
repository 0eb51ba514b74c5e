//! Every back end of this machine gives what the portable code gives.

use packetcrypt_core::cryptocycle::{State, lanes};
use packetcrypt_core::params::{ITEM_BYTES, STATE_BYTES};
use packetcrypt_core::primitives::blake2b::{
    PARTS_TOGETHER, compress32_many, compress32_twofold, compress64_many,
};
use packetcrypt_core::primitives::chacha20::{BLOCK_BYTES, expand_long, expand_numbers};
use packetcrypt_core::primitives::{compress32, compress64, expand};
use packetcrypt_core::{Backend, Hash32, Hash64};

/// Compares what a piece of work gives on each back end with what it should give.
fn on_every_backend<T: PartialEq>(what: &str, wanted: &T, work: impl Fn(Backend) -> T) {
    for backend in Backend::ALL {
        // A level that the CPU lacks works as the portable code.
        assert!(work(backend) == *wanted, "{what}, {backend}");
    }
}

/// Random messages, different ones for each topic.
fn messages<const N: usize>(topic: u8, count: usize) -> Vec<[u8; N]> {
    let mut messages = vec![[0; N]; count];
    for (num, message) in (0..).zip(&mut messages) {
        expand(&[topic; 32], num, message);
    }
    messages
}

fn check_hashes<const N: usize>() {
    // Full lanes, lanes that are left over, and more and fewer of these than pay.
    for count in (0..20).chain([64]) {
        let messages = messages::<N>(1, count);
        let references: Vec<&[u8; N]> = messages.iter().rev().collect();
        let mut short: Vec<Hash32> = messages.iter().map(|message| compress32(message)).collect();
        let mut long: Vec<Hash64> = messages.iter().map(|message| compress64(message)).collect();
        let what = format!("{count} messages of {N} bytes");
        on_every_backend(&what, &(short.clone(), long.clone()), |backend| {
            let mut hashes = (vec![Hash32::ZERO; count], vec![Hash64::ZERO; count]);
            compress32_many(&messages, &mut hashes.0, backend);
            compress64_many(&messages, &mut hashes.1, backend);
            hashes
        });
        short.reverse();
        long.reverse();
        on_every_backend(&what, &(short, long), |backend| {
            let mut hashes = (vec![Hash32::ZERO; count], vec![Hash64::ZERO; count]);
            compress32_many(&references, &mut hashes.0, backend);
            compress64_many(&references, &mut hashes.1, backend);
            hashes
        });
    }
}

/// What is told of messages that are hashed twofold, of which that of number `left` is left when the
/// hashes of its part `at` or of one before have come: hashes of parts and wholes.
fn twofold<const N: usize>(
    messages: &[&[[u8; N]]],
    (left, at): (usize, usize),
    backend: Backend,
) -> (Vec<Vec<Hash32>>, Vec<Hash32>) {
    let mut parts = vec![Vec::new(); messages.len()];
    let mut wholes = vec![Hash32::ZERO; messages.len()];
    let look = |number: usize, first: usize, hashes: &[Hash32]| {
        assert_eq!(parts[number].len(), first, "in order, and not after it was left");
        assert!((1..=PARTS_TOGETHER).contains(&hashes.len()));
        parts[number].extend_from_slice(hashes);
        number != left || parts[number].len() <= at
    };
    compress32_twofold(messages, &mut wholes, look, backend);
    (parts, wholes)
}

fn check_twofold<const N: usize>(lens: &[usize]) {
    let all = messages::<N>(9, 100);
    let messages: Vec<&[[u8; N]]> =
        lens.iter().enumerate().map(|(from, &len)| &all[from..from + len]).collect();
    let of_parts = |message: &&[[u8; N]]| message.iter().map(|part| compress32(part)).collect();
    let parts: Vec<Vec<Hash32>> = messages.iter().map(of_parts).collect();
    let wholes: Vec<Hash32> =
        messages.iter().map(|message| compress32(message.as_flattened())).collect();
    for backend in Backend::ALL {
        let told = twofold(&messages, (usize::MAX, 0), backend);
        assert!(told == (parts.clone(), wholes.clone()), "{lens:?} parts of {N}, {backend}");
        for (left, &len) in lens.iter().enumerate().filter(|(_, len)| **len > 0) {
            let (mut some, rest) = twofold(&messages, (left, len / 2), backend);
            let seen = some[left].len();
            assert!(seen > len / 2 && seen <= len && some[left] == parts[left][..seen]);
            some[left].clone_from(&parts[left]);
            let mut wanted = wholes.clone();
            wanted[left] = Hash32::ZERO;
            assert!((some, rest) == (parts.clone(), wanted), "{lens:?}, {left} left, {backend}");
        }
    }
}

#[test]
fn messages_and_their_parts_in_one_pass() {
    check_twofold::<1024>(&[]);
    check_twofold::<1024>(&[33]);
    check_twofold::<1024>(&[0, 0]);
    check_twofold::<1024>(&[48, 48]);
    check_twofold::<1024>(&[1, 40, 0, 17, 16, 3, 0, 64, 2, 31]);
    check_twofold::<128>(&[5, 70, 9, 9, 9, 9, 80]);
}

#[test]
fn hashes_of_many_messages() {
    check_hashes::<0>();
    check_hashes::<1>();
    check_hashes::<96>();
    check_hashes::<127>();
    check_hashes::<128>();
    check_hashes::<129>();
    check_hashes::<152>();
    check_hashes::<256>();
    check_hashes::<1024>();
    check_hashes::<2048>();
}

/// Random states with header words at which something changes: every length of the additional
/// data, the longest and shortest messages, cut ones, both directions, all counts of zeros, and
/// words that are refused.
fn states(topic: u8) -> Vec<State> {
    let mut states: Vec<State> = messages(topic, 400).into_iter().map(State).collect();
    for (num, state) in states.iter_mut().enumerate() {
        let random = state.0[100];
        let lens =
            [0, 1, 3, 4, 5, 31, 32, 62, 63, 64, 96, 117, 118, 119, 125, 126, 127, random >> 1];
        let zeros = (num as u8).wrapping_mul(7);
        let direction_and_additional = (num as u8 & 15) << 4;
        let len = lens[num % lens.len()];
        state.0[12] = zeros;
        state.0[13] = direction_and_additional | if len == 0 { 0 } else { zeros >> 4 };
        state.0[14] = len << 1 | random & 1;
        state.0[15] = match num {
            50 => 1,
            51 => 2,
            _ => 0,
        };
    }
    states
}

fn bytes(states: &[State]) -> Vec<[u8; STATE_BYTES]> {
    states.iter().map(|state| state.0).collect()
}

#[test]
fn crypt_of_many_states() {
    for count in [0, 1, 2, 7, 16, 17, 400] {
        let states = states(count as u8);
        let mut wanted = states.clone();
        wanted.iter_mut().for_each(State::crypt);
        // Neighbours differ from run to run.
        on_every_backend(&format!("{count} states"), &bytes(&wanted[..count]), |backend| {
            let mut states = states[..count].to_vec();
            lanes::crypt(&mut states, backend);
            bytes(&states)
        });
        on_every_backend("reversed", &bytes(&wanted), |backend| {
            let mut states: Vec<State> = states.iter().rev().cloned().collect();
            lanes::crypt(&mut states, backend);
            states.reverse();
            bytes(&states)
        });
    }
}

#[test]
fn shortcuts_of_many_states() {
    let states = states(9);
    let items = messages::<ITEM_BYTES>(10, states.len());
    let items: Vec<&[u8; ITEM_BYTES]> = items.iter().collect();
    let (mut updated, mut made) = (states.clone(), states.clone());
    for ((updated, made), item) in updated.iter_mut().zip(&mut made).zip(&items) {
        updated.update(item);
        made.make_fuzzable();
        made.crypt();
    }
    let mut finished = updated.clone();
    finished.iter_mut().for_each(State::finish);
    on_every_backend("update", &bytes(&updated), |backend| {
        let mut states = states.clone();
        lanes::update(&mut states, &items, backend);
        bytes(&states)
    });
    on_every_backend("finish", &bytes(&finished), |backend| {
        let mut states = updated.clone();
        lanes::finish(&mut states, backend);
        bytes(&states)
    });
    let outside = |states: &[State]| -> Vec<Vec<u8>> {
        states.iter().map(|state| [&state.0[..32], &state.0[1056..]].concat()).collect()
    };
    on_every_backend("update_between", &outside(&updated), |backend| {
        let mut states = states.clone();
        lanes::update_between(&mut states, &items, backend);
        outside(&states)
    });
    let first_halves = |states: &[State]| -> Vec<[u8; ITEM_BYTES]> {
        states.iter().map(|state| *state.first_half()).collect()
    };
    on_every_backend("crypt_items", &first_halves(&made), |backend| {
        let mut states = states.clone();
        lanes::crypt_items(&mut states, backend);
        first_halves(&states)
    });
}

#[test]
fn states_of_many_nonces() {
    let nonces: Vec<u64> = (0..40).map(|num| num * 0x0123_4567_89ab_cdef).collect();
    let mut wanted = vec![State::ZERO; nonces.len()];
    for (state, nonce) in wanted.iter_mut().zip(&nonces) {
        state.init(&[8; 32], *nonce);
    }
    on_every_backend("init", &bytes(&wanted), |backend| {
        let mut states = vec![State([0xee; STATE_BYTES]); nonces.len()];
        lanes::init(&mut states, &[8; 32], &nonces, backend);
        bytes(&states)
    });
    let mut states = vec![State([0xee; STATE_BYTES]); nonces.len()];
    lanes::init_whole_from(&mut states, &wanted[7], &nonces);
    assert!(bytes(&states) == bytes(&wanted));
    let mut states = vec![State([0xee; STATE_BYTES]); nonces.len()];
    lanes::init_from(&mut states, &wanted[7], &nonces);
    for state in states.iter_mut().chain(&mut wanted) {
        state.0[32..1056].fill(0);
    }
    assert!(bytes(&states) == bytes(&wanted));
}

#[test]
fn long_key_streams() {
    for len in [0, 1, 63, 64, 65, 511, 512, 513, 2048, 8192] {
        let mut wanted = vec![0; len];
        expand(&[6; 32], 3, &mut wanted);
        on_every_backend(&format!("{len} bytes"), &wanted, |backend| {
            let mut out = vec![0xee; len];
            expand_long(&[6; 32], 3, &mut out, backend);
            out
        });
    }
    let mut wanted = [[0; BLOCK_BYTES]; 37];
    for (num, out) in wanted.iter_mut().enumerate() {
        expand(&[6; 32], (num as u32).wrapping_sub(5), out);
    }
    on_every_backend("numbers", &wanted, |backend| {
        let mut out = [[0xee; BLOCK_BYTES]; 37];
        expand_numbers(&[6; 32], 0_u32.wrapping_sub(5), &mut out, backend);
        out
    });
}
