//! Every datagram is records and a tail.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packetcrypt_proto::datagram::{Datagram, RECORD_BYTES, Tail};

fuzz_target!(|bytes: &[u8]| {
    let datagram = Datagram::parse(bytes);
    assert_eq!(datagram.records.len(), bytes.len() / RECORD_BYTES);
    assert_eq!(datagram.tail == Tail::None, bytes.len() % RECORD_BYTES == 0);
});
