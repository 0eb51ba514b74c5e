//! Every back end of this machine gives what the portable code gives.

use std::fmt::Debug;

use packetcrypt_core::primitives::blake2b::{compress32_many, compress64_many};
use packetcrypt_core::primitives::{compress32, compress64, expand};
use packetcrypt_core::{Backend, Hash32, Hash64};

/// Compares what a piece of work gives on each back end with what it should give.
fn on_every_backend<T: PartialEq + Debug>(what: &str, wanted: &T, work: impl Fn(Backend) -> T) {
    for backend in Backend::ALL {
        // A level that the CPU lacks works as the portable code.
        assert_eq!(work(backend), *wanted, "{what}, {backend}");
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
