//! The fast ways of block mining give what the plain ones give, with every back end.

use num_bigint::BigUint;
use packetcrypt_core::Backend;
use packetcrypt_core::block::{BlockHeader, HeaderSearch, compact_tree, index, proof};
use packetcrypt_core::block::{CompactTree, Entry, Tree, tree};
use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::primitives::x25519::{
    FixedBaseTable, TableEntry, base_products, x25519, x25519_base,
};
use packetcrypt_core::primitives::{compress32, expand};
use packetcrypt_core::{CompactTarget, Hash32};
use proptest::prelude::*;

/// Memory of a table with windows of so many bits.
fn table_memory(bits: u32) -> Vec<TableEntry> {
    vec![TableEntry::ZERO; FixedBaseTable::entries_len(bits).unwrap()]
}

fn two_steps([a, b]: &[[u8; 32]; 2]) -> [u8; 32] {
    x25519(a, &x25519_base(b))
}

/// Without a table, and with windows of some widths, on every back end.
fn assert_products(pairs: &[[[u8; 32]; 2]]) {
    let expected: Vec<_> = pairs.iter().map(two_steps).collect();
    let mut results = vec![[0; 32]; pairs.len()];
    base_products(pairs, &mut results, None, Backend::Soft);
    assert_eq!(results, expected, "without a table");
    for bits in [4, 5, 7, 10] {
        let mut memory = table_memory(bits);
        let table = FixedBaseTable::build(bits, &mut memory).unwrap();
        for backend in Backend::available() {
            results.fill([0; 32]);
            base_products(pairs, &mut results, Some(&table), backend);
            assert_eq!(results, expected, "{bits} bits, {backend}");
        }
    }
}

fn order() -> BigUint {
    (BigUint::from(1_u8) << 252)
        + BigUint::from(27_742_317_777_372_353_535_851_937_790_883_648_493_u128)
}

fn bytes(number: &BigUint) -> [u8; 32] {
    let mut bytes = [0; 32];
    let digits = number.to_bytes_le();
    bytes[..digits.len()].copy_from_slice(&digits);
    bytes
}

/// A pair whose clamped product is this number modulo the order.
fn pair_of_product(product: &BigUint) -> [[u8; 32]; 2] {
    let (order, eight) = (order(), BigUint::from(8_u8));
    let from = BigUint::from(1_u8) << 254;
    for step in 0_u32.. {
        let a: BigUint = &from + &eight * step;
        let b = a.modinv(&order).unwrap() * product % &order;
        // The multiple of 8 that is b modulo the order, unique below 8 times the order.
        let b = (0_u8..8).map(|times| &b + &order * times).find(|b| (b % &eight) == BigUint::ZERO);
        let b = b.unwrap();
        if b >= from && b < &from + &from {
            return [bytes(&a), bytes(&b)];
        }
    }
    unreachable!("every second a has a b that is clamped")
}

#[test]
fn products_at_the_ends() {
    let order = order();
    // No clamped scalar is a multiple of the order: the least multiple that is one of 8 is too large.
    assert!(&order * 8_u8 > BigUint::from(1_u8) << 255);
    let mut scalars =
        vec![[0; 32], [0xff; 32], [1; 32], bytes(&order), bytes(&(&order * 8_u8 - 8_u8))];
    for times in 1_u8..8 {
        scalars.push(bytes(&(&order * times)));
        scalars.push(bytes(&(&order * times + 1_u8)));
        scalars.push(bytes(&(&order * times - 1_u8)));
    }
    let mut pairs = Vec::new();
    for a in &scalars {
        pairs.extend(scalars.iter().map(|b| [*a, *b]));
    }
    let half: BigUint = &order / 2_u8;
    for small in 1_u32..20 {
        for product in [BigUint::from(small), &order - small, &half + small, &half - small] {
            pairs.push(pair_of_product(&product));
        }
    }
    for bit in 1..252 {
        let power = BigUint::from(1_u8) << bit;
        pairs.extend([&power - 1_u8, power].map(|product| pair_of_product(&product)));
    }
    // u of P itself.
    assert_eq!(two_steps(&pair_of_product(&BigUint::from(1_u8))), {
        let mut nine = [0; 32];
        nine[0] = 9;
        nine
    });
    assert_products(&pairs);
}

#[test]
fn nothing_is_multiplied_by_nothing() {
    assert_products(&[]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn products_of_any_pairs(pairs in prop::collection::vec(any::<[[u8; 32]; 2]>(), 1..300)) {
        assert_products(&pairs);
    }

    #[test]
    fn searches_find_what_single_nonces_lead_to(
        seed: [u8; 32], first: u32, nonces in 1_u32..200, count in 1_u64..40,
    ) {
        let mut announcements = vec![[0; 1024]; count as usize];
        for (number, announcement) in announcements.iter_mut().enumerate() {
            expand(&seed, number as u32, announcement);
        }
        let announcement_of = |number: u64| &announcements[number as usize];
        let mut bytes = [0; 80];
        expand(&seed, u32::MAX, &mut bytes);
        let header = BlockHeader(bytes);
        // About one of 16 is below it.
        let target = CompactTarget(0x200f_ffff);
        let plain = (0..nonces).map(|at| first.wrapping_add(at)).find_map(|nonce| {
            let mut state = State::ZERO;
            state.init(&header.hash().0, u64::from(nonce));
            let items = [(); 4].map(|()| {
                let item = state.item_number();
                state.update(announcement_of(item % count));
                item
            });
            state.smul();
            state.finish();
            target.is_met_by(&Hash32(*state.head())).then_some((nonce, items, *state.head()))
        });
        let mut memory = table_memory(5);
        let table = FixedBaseTable::build(5, &mut memory).unwrap();
        for backend in Backend::available() {
            let mut search = Box::new(HeaderSearch::new(&header, backend));
            for _ in 0..2 {
                let found = search.search(first, nonces, target, count, announcement_of);
                let found = found.map(|found| (found.low_nonce, found.items, found.work_hash.0));
                prop_assert_eq!(found, plain, "{}", backend);
                search.set_table(&table);
            }
        }
    }

    #[test]
    fn the_compact_tree_proves_as_the_plain_one(
        count in 1_u64..3000, seed: u64, items: [u64; 4], pieces in 1_usize..5,
    ) {
        let mut hashes: Vec<_> =
            (seed..).take(count as usize).map(|n| compress32(&n.to_le_bytes())).collect();
        index::sort_by_key(&mut hashes, tree::key);
        prop_assert_eq!(index::keep_by_key(&mut hashes, tree::key) as u64, count);
        let count = tree::odd_count(count);
        let hash_of = |number: u64| hashes[number as usize];
        let mut entries = vec![Entry::PAD; tree::entries_len(count).unwrap() as usize];
        let plain = Tree::build(count, &mut entries, hash_of).unwrap();
        let mut expected = [0; proof::PROOF_BYTES_MAX];
        let expected_len = proof::make(&plain, &items, &mut expected).unwrap();
        for backend in Backend::available() {
            let mut above = vec![Hash32::ZERO; compact_tree::hashes_len(count).unwrap()];
            for part in compact_tree::parts(count, &mut above, pieces).unwrap() {
                part.fill(hash_of, backend).unwrap();
            }
            let compact = CompactTree::finish(count, above, hash_of, backend).unwrap();
            prop_assert_eq!(compact.root(), plain.root());
            let mut made = [0; proof::PROOF_BYTES_MAX];
            let entry_of = |layer, number| compact.entry(layer, number, hash_of);
            let len = proof::make_with(count, &items, entry_of, &mut made).unwrap();
            prop_assert_eq!(&made[..len], &expected[..expected_len]);
        }
    }
}
