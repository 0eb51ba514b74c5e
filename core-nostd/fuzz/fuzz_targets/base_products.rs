//! Any pairs of scalars: one multiplication of the base point gives what two give, on every back end.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use packetcrypt_core::Backend;
use packetcrypt_core::primitives::x25519::{
    FixedBaseTable, TableEntry, base_products, x25519, x25519_base,
};

const WINDOW_BITS: u32 = 7;

static TABLE: LazyLock<FixedBaseTable<'static>> = LazyLock::new(|| {
    let len = FixedBaseTable::entries_len(WINDOW_BITS).unwrap();
    FixedBaseTable::build(WINDOW_BITS, vec![TableEntry::ZERO; len].leak()).unwrap()
});

fuzz_target!(|pairs: Vec<[[u8; 32]; 2]>| {
    let expected: Vec<_> = pairs.iter().map(|[a, b]| x25519(a, &x25519_base(b))).collect();
    let mut results = vec![[0; 32]; pairs.len()];
    for backend in Backend::available() {
        for table in [None, Some(&*TABLE)] {
            base_products(&pairs, &mut results, table, backend);
            assert_eq!(results, expected, "{backend}");
        }
    }
});
