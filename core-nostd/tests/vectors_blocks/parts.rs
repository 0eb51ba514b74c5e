//! What a block is made of: tree and proof, entities, coinbase, headers, content proofs.

use packetcrypt_core::block::entities::EntityWriter;
use packetcrypt_core::block::proof::{NodeKind, PROOF_BYTES_MAX};
use packetcrypt_core::block::{
    Entities, Entry, Transaction, Tree, TreeError, coinbase, content, proof,
};
use packetcrypt_core::{Hash32, primitives};
use packetcrypt_vectors::{files, unhex};
use serde_json::Value;

use crate::values::{commitment, entries_of, four, hash, hashes, header, list, number, text};

#[test]
fn layouts() {
    for file in files("blocks", "layout", "json") {
        let json = file.json();
        for case in list(&json) {
            let items = four(&case["idx"], number);
            let walk = proof::layout(number(&case["count"]), &items).unwrap();
            let have: Vec<(u64, u64, &str, u64, u64)> = walk
                .map(|node| {
                    let kind = match node.kind {
                        NodeKind::Drawn => "A",
                        NodeKind::Computed => "C",
                        NodeKind::Pad => "P",
                        NodeKind::Provided => "S",
                    };
                    let (range, hash) = (node.writes_range(), node.writes_hash());
                    (node.depth.into(), node.first_leaf(), kind, range.into(), hash.into())
                })
                .collect();
            let want: Vec<(u64, u64, &str, u64, u64)> = list(&case["nodes"])
                .iter()
                .map(|node| {
                    let flags = (number(&node[3]), number(&node[4]));
                    (number(&node[0]), number(&node[1]), text(&node[2]), flags.0, flags.1)
                })
                .collect();
            assert_eq!(have, want, "{case}");
        }
        file.report(list(&json).len());
    }
}

#[test]
fn tree_proofs() {
    for file in files("blocks", "prooftree", "json") {
        let json = file.json();
        let mut cases = 0;
        for case in list(&json) {
            cases +=
                if case.get("hashes").is_some() { built_tree_case(case) } else { bare_case(case) };
        }
        file.report(cases);
    }
}

fn built_tree_case(case: &Value) -> usize {
    let count = number(&case["count"]);
    let sorted = hashes(&case["hashes"]);
    let mut entries = entries_of(count);
    let tree = Tree::build(count, &mut entries, |i| sorted[i as usize]).unwrap();
    assert_eq!(tree.root(), hash(&case["root"]));
    if let Some(layers) = case.get("layers").filter(|layers| !layers.is_null()) {
        for (at, layer) in list(layers).iter().enumerate() {
            let have: Vec<String> =
                tree.layer(at as u32).iter().map(|e| hex::encode(zerocopy_bytes(e))).collect();
            assert_eq!(have, list(layer).iter().map(text).collect::<Vec<_>>(), "layer {at}");
        }
        assert!(tree.layer(list(layers).len() as u32).is_empty());
    }
    for made in list(&case["proofs"]) {
        let items = four(&made["raw"], number);
        let numbers = four(&made["idx"], number);
        assert_eq!(items.map(|item| item % count), numbers);
        let ok = made["lib_ok"].as_bool().unwrap() && made["node_ok"].as_bool().unwrap();
        let want = unhex(text(&made["proof"]));
        let mut out = [0; PROOF_BYTES_MAX];
        let drawn = numbers.map(|number| sorted[number as usize]);
        let proven = proof::pcp_hash(&drawn, count, &items, &want);
        match proof::make(&tree, &items, &mut out) {
            Ok(len) => {
                assert!(ok);
                assert_eq!(out[..len], want);
                assert_eq!(proven, Ok(tree.root()));
                let short = proof::make(&tree, &items, &mut out[..len - 1]);
                assert_eq!(short, Err(TreeError::Buffer { have: len - 1 }));
            }
            Err(error) => {
                assert!(!ok && error == TreeError::LastOfEven, "{error}");
                assert!(proven.is_err());
            }
        }
    }
    list(&case["proofs"]).len()
}

fn zerocopy_bytes(entry: &Entry) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[..32].copy_from_slice(&entry.hash.0);
    bytes[32..40].copy_from_slice(&entry.start().to_le_bytes());
    bytes[40..].copy_from_slice(&entry.end().to_le_bytes());
    bytes
}

/// A proof without its tree: synthetic or damaged.
fn bare_case(case: &Value) -> usize {
    let proven = proof::pcp_hash(
        &four(&case["ann_hashes"], hash),
        number(&case["count"]),
        &four(&case["raw"], number),
        &unhex(text(&case["proof"])),
    );
    let want = (!case["strict"].is_null()).then(|| hash(&case["strict"]));
    assert_eq!(proven.ok(), want, "{case}");
    1
}

#[test]
fn entities() {
    for file in files("blocks", "pcp_entities", "json") {
        let json = file.json();
        for case in list(&json) {
            entities_case(case);
        }
        file.report(list(&json).len());
    }
}

fn entities_case(case: &Value) {
    let name = text(&case["name"]);
    let bytes = unhex(text(&case["bytes"]));
    let decoded = Entities::decode(&bytes);
    assert_eq!(decoded.is_ok(), case["ok"].as_bool().unwrap(), "{name}: {:?}", decoded.err());
    let Ok((entities, rest)) = decoded else { return };
    assert_eq!((bytes.len() - rest.len()) as u64, number(&case["used"]), "{name}");
    assert_eq!(u64::from(entities.low_nonce), number(&case["nonce"]), "{name}");
    assert_eq!(entities.version, number(&case["version"]), "{name}");
    assert_eq!(entities.tree_proof, unhex(text(&case["proof"])), "{name}");
    let signatures = four(&case["signatures"], |s| s.as_str().map(unhex));
    assert_eq!(entities.signatures.map(|s| s.map(|s| s.to_vec())), signatures, "{name}");
    let content = case["content_proof"].as_str().map(unhex);
    assert_eq!(entities.content_proofs.map(<[u8]>::to_vec), content, "{name}");
    assert_eq!(entities.is_standard(), case["standard"].as_bool().unwrap(), "{name}");
    // What we write in the node's order is as long as the bytes when these are standard.
    let mut out = vec![0; bytes.len() + 16];
    let mut writer = EntityWriter::new(&mut out);
    writer
        .proof(entities.low_nonce, &entities.announcements, entities.tree_proof)
        .and_then(|writer| writer.signatures(&entities.signatures))
        .and_then(|writer| writer.content_proofs(entities.content_proofs.unwrap_or_default()))
        .and_then(|writer| writer.version(entities.version))
        .and_then(EntityWriter::end)
        .unwrap();
    let len = writer.written();
    assert_eq!(
        len == bytes.len() - rest.len(),
        entities.is_standard() || name.contains("end entity")
    );
    let (again, behind) = Entities::decode(&out[..len]).unwrap();
    assert!(behind.is_empty() && again.is_standard(), "{name}");
    // The older node, which wrote the form that was hashed, also writes an empty content entity.
    let rewritten = entities.content_proofs != Some(&[]);
    if let Some(sha256) = case["node_reencoded_sha256"].as_str().filter(|_| rewritten) {
        assert_eq!(primitives::dsha256(&out[..len]), sha256_once(&unhex(sha256)), "{name}");
    }
}

/// SHA-256 of a digest: the second pass of `dsha256`, which is what the core offers.
fn sha256_once(digest: &[u8]) -> Hash32 {
    use sha2::Digest as _;
    Hash32(sha2::Sha256::digest(digest).into())
}

#[test]
fn coinbases() {
    for file in files("blocks", "coinbase", "json") {
        let json = file.json();
        for case in list(&json) {
            let bytes = unhex(text(&case["tx"]));
            let transaction = Transaction::parse(&bytes).unwrap();
            let found = coinbase::find_commitment(&transaction);
            let want = case["commit"].as_str().map(|_| commitment(&case["commit"]));
            assert_eq!(found, want, "{case}");
            assert_eq!(transaction.id(), hash(&case["txid"]), "{case}");
        }
        file.report(list(&json).len());
    }
}

#[test]
fn headers_from_work() {
    for file in files("blocks", "header_from_work", "json") {
        let json = file.json();
        for case in list(&json) {
            let mut bytes = unhex(text(&case["coinbase_no_witness"]));
            coinbase::put_commitment(&mut bytes, &commitment(&case["commit"])).unwrap();
            assert_eq!(hex::encode(&bytes), text(&case["coinbase"]));
            let branch: Vec<Hash32> = list(&case["merkle_branch"]).iter().map(hash).collect();
            let id = Transaction::parse(&bytes).unwrap().id();
            let root = coinbase::merkle_root(id, &branch);
            assert_eq!(root, hash(&case["merkle_root"]));
            let mut made = header(&case["template_header"]);
            made.set_merkle_root(&root);
            assert_eq!(made, header(&case["header"]).with_nonce(made.nonce()));
        }
        file.report(list(&json).len());
    }
}

#[test]
fn content_proofs() {
    for file in files("blocks", "content_proofs", "json") {
        let json = file.json();
        for case in list(&json) {
            let len = u32::try_from(number(&case["length"])).unwrap();
            let index = u32::try_from(number(&case["proof_index"])).unwrap();
            let root = hash(&case["root"]).0;
            let mut proof = unhex(text(&case["proof"]));
            assert_eq!(u64::from(content::block_number(len, index)), number(&case["block"]));
            assert_eq!(content::proof_bytes(len, index), proof.len(), "{case}");
            assert!(content::proof_ok(len, &root, index, &proof), "{case}");
            if let Ok(bytes) = hex::decode(text(&case["content"])) {
                assert_eq!(content_proof(&bytes, index), (root, proof.clone()));
            }
            assert!(!content::proof_ok(len, &root, index, &proof[1..]));
            let last = proof.len() - 1;
            proof[last] ^= 1;
            assert!(!content::proof_ok(len, &root, index, &proof));
        }
        file.report(list(&json).len());
    }
}

/// Root and proof of content, made in the plainest way.
fn content_proof(content: &[u8], index: u32) -> ([u8; 32], Vec<u8>) {
    let mut level: Vec<[u8; 32]> = content
        .chunks(32)
        .map(|part| {
            let mut block = [0; 32];
            block[..part.len()].copy_from_slice(part);
            block
        })
        .collect();
    let mut at = index as usize % level.len();
    let mut proof = level[at].to_vec();
    while level.len() > 1 {
        proof.extend(level.get(at ^ 1).into_iter().flatten());
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => primitives::compress32(&[*left, *right].concat()).0,
                unpaired => unpaired[0],
            })
            .collect();
        at /= 2;
    }
    (level[0], proof)
}
