//! Programs that the generator never makes: anybody could put them where one is expected.

use packetcrypt_core::params::OPS_MAX;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{ITEMS, Numbers, assembled, compare, executors, some_items, some_states};

/// Words that look like a program: valid opcodes, small registers, short loops and jumps.
fn hostile_word() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => (1_u32..64, 0_u32..12, 0_u32..12, any::<bool>())
            .prop_map(|(op, a, b, imm)| op | a << 9 | u32::from(imm) << 18 | b << 20),
        3 => (0_u32..256).prop_map(|index| 64 | index << 20),
        2 => any::<u32>().prop_map(|random| 65 | random << 8),
        2 => Just(70),
        1 => (1_u32..40).prop_map(|count| 66 | count << 20),
        1 => (0_u32..8).prop_map(|jump| 69 | jump << 8),
        1 => any::<u32>(),
    ]
}

/// A piece of a program: straight words, or a scope around pieces.
fn piece() -> impl Strategy<Value = Vec<u32>> {
    let straight = vec(hostile_word().prop_filter("no control", |w| *w as u8 <= 65), 0..6);
    straight.prop_recursive(4, 200, 5, |inner| {
        let pieces = vec(inner, 0..5).prop_map(|pieces| pieces.concat());
        prop_oneof![
            (pieces.clone(), 1_u32..12)
                .prop_map(|(body, count)| { [vec![66 | count << 20], body, vec![70]].concat() }),
            (pieces.clone(), pieces.clone(), 1_u32..6, 67_u32..69).prop_map(
                |(yes, no, register, code)| {
                    let to_no = yes.len() as u32 + 2;
                    let over_no = no.len() as u32 + 1;
                    let branch = vec![code | register << 9, 69 | to_no << 8];
                    [branch, yes, vec![70, 69 | over_no << 8], no, vec![70]].concat()
                }
            ),
            pieces,
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn hostile_programs(hostile in vec(hostile_word(), 0..100), first: u64, random: u64) {
        let program = assembled(&[vec![66 | 3 << 20], hostile].concat());
        let mut numbers = Numbers(random);
        let items: Vec<u64> = (0..5).map(|at| (first >> 1) + at).collect();
        let states = some_states(&mut numbers, 5);
        compare(&mut executors(OPS_MAX), &program, &items, &states, OPS_MAX);
    }

    /// Well-formed programs of shapes that are never generated: loops behind loops, empty scopes,
    /// MEMORY anywhere.
    #[test]
    fn structured_programs(body in vec(piece(), 0..8), count in 1_u32..5, random: u64) {
        let start = vec![66 | count << 20, 64 | 3 << 20, 64 | 7 << 20, 64 | 9 << 20];
        let words = [start, body.concat(), vec![70]].concat();
        prop_assume!(words.len() <= 2048);
        let program = assembled(&words);
        let mut numbers = Numbers(random);
        let items = some_items(&mut numbers, ITEMS);
        let states = some_states(&mut numbers, ITEMS);
        compare(&mut executors(OPS_MAX), &program, &items, &states, OPS_MAX);
    }
}
