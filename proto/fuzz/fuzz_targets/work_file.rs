//! A work file that parses is written back byte for byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packetcrypt_proto::work::WorkFile;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(work) = WorkFile::parse(bytes) {
        assert_eq!(work.to_bytes(), bytes);
    }
});
