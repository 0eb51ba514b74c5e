//! JSON of a hostile master or handler: what parses is understood again after it was written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packetcrypt_proto::anns_index::AnnsIndex;
use packetcrypt_proto::blkinfo::BlockInfo;
use packetcrypt_proto::config::MasterConfig;
use packetcrypt_proto::events::ShareEvent;
use packetcrypt_proto::reply::Reply;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = MasterConfig::parse(bytes) {
        assert_eq!(MasterConfig::parse(config.to_json().as_bytes()), Ok(config));
    }
    if let Ok(info) = BlockInfo::parse(bytes) {
        assert_eq!(BlockInfo::parse(info.to_json().as_bytes()), Ok(info));
    }
    if let Ok(index) = AnnsIndex::parse(bytes) {
        assert_eq!(AnnsIndex::parse(index.to_json().as_bytes()), Ok(index));
    }
    let _ = Reply::<ShareEvent>::parse(bytes);
});
