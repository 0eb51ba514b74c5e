//! What holds for any input: nothing panics, nothing runs on, and no way of doing a thing gives
//! another result than the plain one.

use packetcrypt_core::announcement::{
    Announcement, BatchScratch, CheckScratch, check, check_batch, check_v0,
};
use packetcrypt_core::cryptocycle::{State, lanes};
use packetcrypt_core::params::{CYCLES, OPS_MAX};
use packetcrypt_core::primitives::blake2b::{compress32_many, compress64_many};
use packetcrypt_core::primitives::chacha20::KeyStream;
use packetcrypt_core::primitives::{compress32, compress64, expand};
use packetcrypt_core::randhash::{Execute, Generator, Interpreter, Program};
use packetcrypt_core::{Backend, CompactTarget, ExecError, Hash32, Hash64, primitives};
use proptest::collection::vec;
use proptest::prelude::*;

fn any_announcement() -> impl Strategy<Value = [u8; 1024]> {
    (vec(any::<u8>(), 1024), 1_u8..3, prop::sample::select(&[0x207f_ffff_u32, 0x2000_0fff, 0][..]))
        .prop_map(|(bytes, version, work_bits)| {
            let mut bytes: [u8; 1024] = bytes.try_into().expect("1024 bytes");
            bytes[0] = version;
            bytes[2..4].fill(0);
            bytes[8..12].copy_from_slice(&work_bits.to_le_bytes());
            bytes
        })
}

/// Words that look like a program: valid opcodes, small registers, short loops and jumps.
fn hostile_word() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => (0_u32..72, 0_u32..24, 0_u32..24, any::<bool>())
            .prop_map(|(op, a, b, imm)| op | a << 9 | u32::from(imm) << 18 | b << 20),
        2 => Just(70),
        1 => (1_u32..40).prop_map(|count| 66 | count << 20),
        1 => (0_u32..20).prop_map(|jump| 69 | jump << 8),
        1 => any::<u32>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_seed_generates_and_runs(seed: [u8; 32], item: u64) {
        let mut program = Program::EMPTY;
        if Generator::new().generate(&seed, &mut program).is_ok() {
            let mut state = [State::ZERO];
            state[0].init(&seed, item);
            let result = Interpreter::new().run(&program, &[item], &mut state, CYCLES);
            prop_assert!(matches!(result, Ok(()) | Err(ExecError::TooLong)));
        }
    }

    #[test]
    fn hostile_programs_end(words in vec(hostile_word(), 0..200), seed: [u8; 32], item: u64) {
        let mut program = Program::EMPTY;
        let mut all = vec![66 | 3 << 20];
        all.extend(words);
        program.assemble(&seed, &all).expect("short enough");
        let mut state = State::ZERO;
        state.init(&seed, item);
        let executed = Interpreter::new().interpret_cycle(
            program.words(), program.window(item), &mut state, 0, &mut (),
        );
        if let Ok(executed) = executed {
            prop_assert!(executed <= OPS_MAX);
        }
    }

    #[test]
    fn used_registers_do_not_matter(seed: [u8; 32], other: [u8; 32], item: u64) {
        let mut generator = Generator::new();
        let (mut program, mut fresh) = (Program::EMPTY, Program::EMPTY);
        let mut interpreter = Interpreter::new();
        let run = |program: &Program, interpreter: &mut Interpreter| {
            let mut state = [State::ZERO];
            state[0].init(&seed, item);
            interpreter.run(program, &[item], &mut state, CYCLES).map(|()| state[0].0)
        };
        let _ = generator.generate(&other, &mut program);
        let _ = run(&program, &mut interpreter);
        let used = generator.generate(&seed, &mut program);
        prop_assert_eq!(used, Generator::new().generate(&seed, &mut fresh));
        prop_assert_eq!(program.memory(), fresh.memory());
        prop_assert_eq!(run(&program, &mut interpreter), run(&fresh, &mut Interpreter::new()));
    }

    #[test]
    fn any_bytes_are_checked(bytes in any_announcement(), parent: [u8; 32]) {
        let ann = Announcement::from_bytes(&bytes);
        let mut scratch = CheckScratch::new();
        prop_assert!(check(ann, &Hash32(parent), &mut scratch).is_err());
        let mut bytes = bytes;
        bytes[0] = 0;
        let ann = Announcement::from_bytes(&bytes);
        prop_assert!(check_v0(ann, &Hash32(parent), &mut scratch).is_err());
    }

    #[test]
    fn a_batch_gives_what_single_checks_give(
        anns in vec((any_announcement(), any::<bool>()), 1..5),
        copies in 1_usize..20,
    ) {
        let parents = [Hash32::ZERO, Hash32([1; 32])];
        let batch: Vec<(Announcement, Hash32)> = anns
            .iter()
            .flat_map(|(bytes, other)| {
                (0..copies).map(move |copy| {
                    let mut bytes = *bytes;
                    bytes[1] = copy as u8;
                    (*Announcement::from_bytes(&bytes), parents[usize::from(*other)])
                })
            })
            .collect();
        let refs: Vec<_> = batch.iter().map(|(ann, parent)| (ann, parent)).collect();
        let mut results = vec![Ok(Hash32::ZERO); refs.len()];
        let mut scratch = Box::new(BatchScratch::new());
        let mut exec = Interpreter::new();
        check_batch(&refs, &mut results, &mut scratch, &mut exec, Backend::best());
        let mut scratch = CheckScratch::new();
        for ((ann, parent), result) in batch.iter().zip(results) {
            prop_assert_eq!(result, check(ann, parent, &mut scratch));
        }
    }

    #[test]
    fn lanes_give_what_single_states_give(
        seed: [u8; 32],
        nonces in vec(any::<u64>(), 0..20),
    ) {
        for backend in Backend::available() {
            let mut together = vec![State::ZERO; nonces.len()];
            let item = [0x33; 1024];
            let items = vec![&item; nonces.len()];
            lanes::init(&mut together, &seed, &nonces, backend);
            lanes::update(&mut together, &items, backend);
            lanes::smul(&mut together, None, backend);
            lanes::finish(&mut together, backend);
            for (nonce, state) in nonces.iter().zip(&together) {
                let mut alone = State::ZERO;
                alone.init(&seed, *nonce);
                alone.update(&item);
                alone.smul();
                alone.finish();
                prop_assert_eq!(&alone.0[..], &state.0[..]);
            }
        }
    }

    #[test]
    fn many_hashes_are_single_hashes(messages in vec(any::<[u8; 32]>(), 0..20)) {
        for backend in Backend::available() {
            let mut short = vec![Hash32::ZERO; messages.len()];
            let mut long = vec![Hash64::ZERO; messages.len()];
            compress32_many(&messages, &mut short, backend);
            compress64_many(&messages, &mut long, backend);
            for (at, message) in messages.iter().enumerate() {
                prop_assert_eq!(short[at], compress32(message));
                prop_assert_eq!(long[at], compress64(message));
            }
        }
    }

    #[test]
    fn key_streams_are_those_of_another_implementation(
        key: [u8; 32], nonce: [u8; 12], first in 0_u32..100, len in 0_usize..300,
    ) {
        use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
        let mut wanted = vec![0x5a; len];
        let mut cipher = chacha20::ChaCha20::new(&key.into(), &nonce.into());
        cipher.seek(64 * u64::from(first));
        cipher.apply_keystream(&mut wanted);
        let mut data = vec![0x5a; len];
        KeyStream::new(&key, &nonce).apply(first, &mut data);
        prop_assert_eq!(data, wanted);
    }

    #[test]
    fn tags_are_those_of_another_implementation(
        key: [u8; 32], message in vec(any::<[u8; 16]>(), 0..130), tail: [u8; 16],
    ) {
        use poly1305::universal_hash::{KeyInit, UniversalHash};
        let mut mac = poly1305::Poly1305::new(&key.into());
        mac.update(&message.iter().chain([&tail]).map(|block| (*block).into()).collect::<Vec<_>>());
        let wanted: [u8; 16] = mac.finalize().into();
        prop_assert_eq!(primitives::poly1305::tag(&key, message.as_flattened(), &tail), wanted);
    }

    #[test]
    fn a_key_stream_can_begin_anywhere(
        seed: [u8; 32], num: u32, first in 0_u32..20, len in 0_usize..300,
    ) {
        let mut whole = vec![0; 64 * first as usize + len];
        expand(&seed, num, &mut whole);
        let mut part = vec![0; len];
        KeyStream::of_expand(&seed, num).write(first, &mut part);
        prop_assert_eq!(&whole[64 * first as usize..], part);
    }

    #[test]
    fn targets_round_trip(word: u32) {
        let target = CompactTarget(word & 0x1fff_ffff).target();
        prop_assert_eq!(target.is_none(), word & 0x0080_0000 != 0);
        if let Some(target) = target {
            let normalised = CompactTarget::from_target(&target);
            prop_assert_eq!(normalised.target(), Some(target));
            // Strict: a hash equal to the target has not enough work.
            prop_assert!(!normalised.is_met_by(&Hash32(target)));
        }
    }

    #[test]
    fn work_is_the_comparison_of_numbers(hash: [u8; 32], word in 0_u32..0x2080_0000) {
        let word = CompactTarget(word & 0xff7f_ffff);
        let (mut hash_be, mut target_be) = (hash, word.target().expect("admissible"));
        hash_be.reverse();
        target_be.reverse();
        prop_assert_eq!(word.is_met_by(&Hash32(hash)), hash_be < target_be);
    }
}

/// The tag against the definition of RFC 8439, 2.5 in integers as wide as needed.
#[test]
fn poly1305_is_its_definition() {
    use num_bigint::BigUint;
    let key: [u8; 32] = core::array::from_fn(|at| (at * 7 + 3) as u8);
    let message: Vec<u8> = (0..160).map(|at| (at * 31 + 5) as u8).collect();
    let tail = [0xff; 16];
    let clamp = BigUint::from(0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff_u128);
    let r = BigUint::from_bytes_le(&key[..16]) & clamp;
    let p = (BigUint::from(1_u32) << 130_u32) - 5_u32;
    let mut sum = BigUint::from(0_u32);
    for block in [&message[..], &tail].concat().chunks(16) {
        sum += BigUint::from_bytes_le(block) + (BigUint::from(1_u32) << 128_u32);
        sum = sum * &r % &p;
    }
    sum += BigUint::from_bytes_le(&key[16..]);
    let mut wanted = sum.to_bytes_le();
    wanted.resize(16, 0);
    assert_eq!(primitives::poly1305::tag(&key, &message, &tail)[..], wanted[..16]);
}
