//! Any 1024 bytes with any parent: checked alone and in a batch with a neighbour, with the same
//! result, whatever was checked before.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packetcrypt_core::announcement::{
    Announcement, BatchScratch, CheckScratch, check, check_batch, check_v0,
};
use packetcrypt_core::randhash::Interpreter;
use packetcrypt_core::{Backend, Hash32};

fuzz_target!(|input: ([u8; 32], &[u8])| {
    let (parent, data) = input;
    let parent = Hash32(parent);
    let mut bytes = [0; 1024];
    let len = data.len().min(bytes.len());
    bytes[..len].copy_from_slice(&data[..len]);
    let ann = Announcement::from_bytes(&bytes);
    let mut neighbour = *ann.to_bytes();
    neighbour[1] ^= 1;
    let neighbour = Announcement::from_bytes(&neighbour);

    let mut scratch = CheckScratch::new();
    let _ = check_v0(ann, &parent, &mut scratch);
    let batch = [(ann, &parent), (neighbour, &parent), (ann, &parent)];
    let alone = batch.map(|(ann, parent)| check(ann, parent, &mut scratch));
    let mut together = [Ok(Hash32::ZERO); 3];
    let mut batch_scratch = Box::new(BatchScratch::new());
    let mut exec = Interpreter::new();
    check_batch(&batch, &mut together, &mut batch_scratch, &mut exec, Backend::best());
    assert_eq!(alone, together);
});
