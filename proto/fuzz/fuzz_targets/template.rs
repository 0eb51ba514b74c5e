//! A block template that parses is written back byte for byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packetcrypt_proto::template::BlockTemplate;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(template) = BlockTemplate::parse(bytes) {
        assert_eq!(template.to_bytes(), bytes);
    }
});
