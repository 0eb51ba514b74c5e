//! Any bytes as a coinbase: parsing, id, finding the commitment, putting one in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packetcrypt_core::block::{Commitment, Transaction, coinbase};
use packetcrypt_core::primitives::dsha256;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((transaction, rest)) = Transaction::parse_first(bytes) {
        assert_eq!(transaction.bytes().len() + rest.len(), bytes.len());
        assert_eq!(transaction.outputs().count() as u64, transaction.output_count());
        let plain = transaction.parts_without_witness().concat();
        assert_eq!(transaction.id(), dsha256(&plain));
        if let Some(commitment) = coinbase::find_commitment(&transaction) {
            assert!(commitment.has_magic());
        }
    }
    let mut changed = bytes.to_vec();
    let commitment = Commitment([1; Commitment::BYTES]);
    let put = coinbase::put_commitment(&mut changed, &commitment);
    assert_eq!(put.is_ok(), coinbase::find_placeholder(bytes).is_some());
});
