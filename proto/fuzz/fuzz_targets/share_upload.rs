//! Shares as JSON and as bytes: whatever parses can be read and is written back alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packetcrypt_proto::share::ShareUpload;

fn read(upload: &ShareUpload) {
    let header = upload.effective_header(upload.header());
    let _ = (upload.low_nonce(), upload.announcements(), upload.event_id(&header));
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(upload) = ShareUpload::parse(bytes) {
        read(&upload);
        assert_eq!(ShareUpload::parse(upload.to_json().as_bytes()), Ok(upload));
    }
    if let Ok(upload) = ShareUpload::new([0; 48], bytes.to_vec()) {
        read(&upload);
        assert_eq!(upload.header_and_proof(), bytes);
    }
});
