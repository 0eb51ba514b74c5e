//! Any bytes as proof entities: what decodes is written again and decodes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packetcrypt_core::block::Entities;
use packetcrypt_core::block::entities::EntityWriter;

fuzz_target!(|bytes: &[u8]| {
    let Ok((entities, rest)) = Entities::decode(bytes) else { return };
    assert!(rest.len() < bytes.len());
    let mut out = vec![0; bytes.len() + 32];
    let mut writer = EntityWriter::new(&mut out);
    writer
        .proof(entities.low_nonce, &entities.announcements, entities.tree_proof)
        .and_then(|writer| writer.signatures(&entities.signatures))
        .and_then(|writer| writer.content_proofs(entities.content_proofs.unwrap_or_default()))
        .and_then(|writer| writer.version(entities.version))
        .and_then(EntityWriter::end)
        .unwrap();
    let len = writer.written();
    let (again, rest) = Entities::decode(&out[..len]).unwrap();
    assert!(rest.is_empty() && again.is_standard());
    assert_eq!(again.tree_proof, entities.tree_proof);
    assert_eq!(again.version, entities.version);
    assert_eq!(again.signatures, entities.signatures);
});
