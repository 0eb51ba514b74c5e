//! Runs every file of `vectors/blocks`, and the historic blocks where the chain data is present.

use packetcrypt_core::announcement::{self, Announcement};
use packetcrypt_core::block::entities::EntityWriter;
use packetcrypt_core::block::proof::{self, NodeKind, PROOF_BYTES_MAX};
use packetcrypt_core::block::{
    BlockCheck, BlockHeader, CheckScratch, Commitment, Entities, Entry, HeaderSearch, ParentHash,
    ShareCheck, Transaction, Tree, TreeError, check_block, coinbase, compact_tree, content,
    self_test, tree, validate_share, versions,
};
use packetcrypt_core::difficulty::{self, Natural};
use packetcrypt_core::primitives::x25519::{FixedBaseTable, TableEntry};
use packetcrypt_core::{Backend, CompactTarget, Hash32, primitives};
use packetcrypt_vectors::{VectorFile, chain, files, named, unhex, unhex_array};
use serde_json::Value;

/// The node's word for a target of -1, for which ours is 0.
const NODE_NEGATIVE_TARGET: u32 = 0x0181_0000;

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// A number, or the decimal string of one.
fn number(value: &Value) -> u64 {
    match value {
        Value::String(digits) => digits.parse().expect("a decimal number"),
        other => other.as_u64().expect("a number"),
    }
}

fn word(value: &Value) -> CompactTarget {
    CompactTarget(u32::try_from(number(value)).expect("a 32-bit word"))
}

fn hash(value: &Value) -> Hash32 {
    Hash32(unhex_array(text(value)))
}

fn header(value: &Value) -> BlockHeader {
    BlockHeader(unhex_array(text(value)))
}

fn commitment(value: &Value) -> Commitment {
    Commitment(unhex_array(text(value)))
}

fn four<T: std::fmt::Debug>(value: &Value, each: impl Fn(&Value) -> T) -> [T; 4] {
    list(value).iter().map(each).collect::<Vec<T>>().try_into().expect("four of them")
}

fn hashes(concatenated: &Value) -> Vec<Hash32> {
    unhex(text(concatenated)).as_chunks::<32>().0.iter().map(|hash| Hash32(*hash)).collect()
}

fn natural(hex: &str) -> Natural {
    let even = if hex.len().is_multiple_of(2) { hex.to_owned() } else { format!("0{hex}") };
    let mut bytes = unhex(&even);
    bytes.reverse();
    Natural::from_le_bytes(&bytes).expect("at most 1024 bits")
}

fn entries_of(count: u64) -> Vec<Entry> {
    vec![Entry::PAD; usize::try_from(tree::entries_len(count).unwrap()).unwrap()]
}

/// The announcements of a file, if the set has it.
fn announcements(file: &str) -> Option<Vec<[u8; 1024]>> {
    let bytes = named("blocks", file)?.bytes();
    let (announcements, rest) = bytes.as_chunks::<1024>();
    assert!(rest.is_empty(), "{file} is made of whole announcements");
    Some(announcements.to_vec())
}

/// The announcements of groups in the order of the index, if the set has them.
fn indexed_groups(case: &Value) -> Option<Vec<[u8; 1024]>> {
    let first = case.get("index_first").map_or(usize::MAX, |first| number(first) as usize);
    let mut all = Vec::new();
    for group in list(&case["index_from"]) {
        let file = announcements(&format!("anns_{}.bin", text(group)))?;
        all.extend(file.into_iter().take(first));
    }
    let kept = tree::index_by_key(&mut all, |ann| Announcement::from_bytes(ann).key());
    all.truncate(kept);
    Some(all)
}

fn ann_hash(ann: &[u8; 1024]) -> Hash32 {
    Announcement::from_bytes(ann).hash()
}

#[test]
fn announcement_groups() {
    let mut described = Vec::new();
    for file in files("blocks", "anns", "json") {
        let groups = file.json();
        let mut cases = 0;
        let mut are_absent = true;
        for (name, group) in groups["groups"].as_object().expect("groups by name") {
            let height = number(&group["parent_height"]);
            let parent = hash(&groups["parents"][height.to_string()]);
            let Some(all) = announcements(text(&group["file"])) else { continue };
            are_absent = false;
            assert_eq!(all.len() as u64, number(&group["count"]), "{name}");
            let mut scratch = announcement::CheckScratch::new();
            for ann in &all {
                let ann = Announcement::from_bytes(ann);
                assert_eq!(u64::from(ann.version()), number(&group["version"]));
                assert_eq!(ann.work_bits(), word(&group["target"]));
                assert_eq!(u64::from(ann.parent_block_height()), height);
                assert_eq!(u64::from(ann.content_type()), number(&group["content_type"]));
                assert_eq!(u64::from(ann.content_length()), number(&group["content_length"]));
                assert_eq!(*ann.content_hash(), hash(&group["content_hash"]).0);
                assert_eq!(*ann.signing_key(), hash(&group["signing_key"]).0);
                let checked = announcement::check(ann, &parent, &mut scratch);
                assert!(checked.is_ok(), "{name}: {checked:?}");
                cases += 1;
            }
            described.push(text(&group["file"]).to_owned());
        }
        let all_keys = groups["groups"].as_object().unwrap().values();
        let mut signed = all_keys
            .map(|group| text(&group["signing_key"]))
            .filter(|key| key.contains(|c| c != '0'));
        // A set need not have a signed group.
        if let Some(first) = signed.next() {
            let seed = unhex_array(text(&groups["signing_seed"]));
            let key = hex::encode(primitives::ed25519::public_key(&seed));
            let is_used = first == key || signed.any(|of_group| of_group == key);
            assert!(is_used, "a group is signed with the seed's key");
        }
        if !are_absent {
            file.report(cases);
        }
    }
    for file in files("blocks", "anns_", "bin") {
        let all = announcements(&file.name).expect("listed");
        if !described.contains(&file.name) {
            // A set without descriptions: what can be said without the parent blocks.
            for ann in all.iter().map(Announcement::from_bytes) {
                assert!(ann.work_bits().is_well_formed() && ann.version() <= 1, "{}", file.name);
            }
        }
        file.report(all.len());
    }
}

#[test]
fn difficulty_arithmetic() {
    for file in files("blocks", "difficulty", "json") {
        let json = file.json();
        let mut cases = 0;
        let mut each = |form: &str, check: &dyn Fn(&Value)| {
            for case in list(&json[form]) {
                check(case);
                cases += 1;
            }
        };
        each("compact_decode", &decode_case);
        each("compact_encode", &|case| {
            let value = natural(text(&case["value"]));
            assert_eq!(difficulty::encode(&value), word(&case["compact"]), "{case}");
        });
        each("work_for_target", &|case| {
            // Some words here are above the largest admissible one: by value.
            let target = value_of_word(word(&case["compact"]));
            let work = difficulty::work_for_target(&target);
            assert_eq!(work, natural(text(&case["work"])), "{case}");
        });
        each("target_for_work", &|case| {
            let target = difficulty::target_for_work(&natural(text(&case["work"])));
            let node = text(&case["target"]);
            let want = if node == "-1" { Natural::ZERO } else { natural(node) };
            assert_eq!(target, want, "{case}");
        });
        each("effective_target", &effective_target_case);
        each("aged_target", &|case| {
            let age = u32::try_from(number(&case["age"])).unwrap();
            let aged =
                difficulty::aged_target(word(&case["target"]), age, number(&case["version"]));
            assert_eq!(aged, word(&case["aged"]), "{case}");
        });
        each("min_ann_diff_ok", &|case| {
            let ok = difficulty::min_ann_diff_ok(word(&case["target"]));
            assert_eq!(ok, case["ok"].as_bool().unwrap(), "{case}");
        });
        each("hashrate_multiplier", &|case| {
            let have = difficulty::hashrate_multiplier(word(&case["ann"]), number(&case["count"]));
            assert_eq!(have, number(&case["mult"]), "{case}");
        });
        each("work_check", &|case| {
            let ok = difficulty::work_ok(&hash(&case["hash"]), word(&case["target"]));
            assert_eq!(ok, case["ok"].as_bool().unwrap(), "{case}");
        });
        each("version_allowed", &|case| {
            let height = u32::try_from(number(&case["height"])).unwrap();
            let ok = versions::allowed_at(number(&case["version"]), height);
            assert_eq!(ok, case["ok"].as_bool().unwrap(), "{case}");
        });
        file.report(cases);
    }
}

fn decode_case(case: &Value) {
    let compact = word(&case["compact"]);
    let value = text(&case["value"]);
    match difficulty::target(compact) {
        Some(target) => assert_eq!(target, natural(value), "{case}"),
        None => assert!(
            value.starts_with('-') || compact.0 & 0x0080_0000 != 0 || compact > CompactTarget::MAX,
            "{case}"
        ),
    }
}

/// What a word without sign stands for, also above the largest admissible word.
fn value_of_word(word: CompactTarget) -> Natural {
    difficulty::target(word).unwrap_or_else(|| {
        let mut bytes = vec![0; word.exponent() as usize - 3];
        bytes.extend(&word.mantissa().to_le_bytes()[..3]);
        Natural::from_le_bytes(&bytes).unwrap()
    })
}

fn effective_target_case(case: &Value) {
    let version = number(&case["version"]);
    let have = difficulty::effective_target(
        word(&case["block"]),
        word(&case["ann"]),
        number(&case["count"]),
        version,
    );
    let node = word(&case["target"]);
    let want = match case.get("target_lib") {
        Some(library) if !library.is_null() => word(library),
        _ if node.0 == NODE_NEGATIVE_TARGET => CompactTarget(0),
        _ => node,
    };
    assert_eq!(have, want, "{case}");
}

#[test]
fn index() {
    for file in files("blocks", "index", "json") {
        let json = file.json();
        for case in list(&json) {
            let mut have: Vec<Hash32> = list(&case["raw"]).iter().map(hash).collect();
            let keys: Vec<u64> = have.iter().map(tree::key).collect();
            let want_keys: Vec<u64> = list(&case["keys"]).iter().map(number).collect();
            assert_eq!(keys, want_keys);
            let kept = tree::index(&mut have);
            have.truncate(kept);
            let want: Vec<Hash32> = list(&case["index"]).iter().map(hash).collect();
            let keys = |hashes: &[Hash32]| hashes.iter().map(tree::key).collect::<Vec<u64>>();
            assert_eq!(keys(&have), keys(&want));
            let mut entries = entries_of(want.len() as u64);
            let tree = Tree::build(want.len() as u64, &mut entries, |i| want[i as usize]).unwrap();
            assert_eq!(tree.root(), hash(&case["root"]));
        }
        file.report(list(&json).len());
    }
}

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

#[test]
fn mining() {
    for file in files("blocks", "mining", "json") {
        let json = file.json();
        let Some(all) = indexed_groups(&json["sorted_index"]) else {
            mined_share(&json["share"]);
            file.report(1);
            continue;
        };
        let count = all.len() as u64;
        assert_eq!(count, number(&json["sorted_index"]["count"]));
        let sorted = hashes(&json["sorted_index"]["ann_hashes_sorted"]);
        let mut entries = entries_of(count);
        let tree = Tree::build(count, &mut entries, |i| ann_hash(&all[i as usize])).unwrap();
        assert!(tree.layer(0)[1..=all.len()].iter().map(|entry| entry.hash).eq(sorted));
        assert_eq!(tree.root(), hash(&json["sorted_index"]["root"]));
        for backend in Backend::available() {
            assert_eq!(compact_root(count, &all, backend), tree.root());
        }
        let committed = commitment(&json["sorted_index"]["commit"]);
        assert_eq!(committed, Commitment::new(committed.least_work(), &tree.root(), count));

        let by_number = |number: u64| &all[number as usize];
        let mut memory = vec![TableEntry::ZERO; FixedBaseTable::entries_len(6).unwrap()];
        let table = FixedBaseTable::build(6, &mut memory).unwrap();
        for (backend, with_table) in Backend::available().flat_map(|b| [(b, false), (b, true)]) {
            let mut search = Box::new(HeaderSearch::new(&header(&json["header"]), backend));
            if with_table {
                search.set_table(&table);
            }
            for case in list(&json["nonces"]) {
                let low_nonce = u32::try_from(number(&case["low_nonce"])).unwrap();
                let found = search.solution(low_nonce, count, by_number).unwrap();
                assert_eq!(found.items, four(&case["item_numbers"], number));
                assert_eq!(found.announcement_numbers(count), four(&case["ann_indexes"], number));
                assert_eq!(found.work_hash, hash(&case["work_hash"]), "{backend}");
                let batch = search.search(low_nonce, 1, CompactTarget::MAX, count, by_number);
                let enough = difficulty::work_ok(&found.work_hash, CompactTarget::MAX);
                assert_eq!(batch, enough.then_some(found));
            }
        }
        let fake = &json["fake_mine"];
        assert_eq!(number(&fake["high_nonce"]), u64::from(self_test::HEADER_NONCE));
        let found =
            self_test::search(&header(&fake["header"]), count, by_number, Backend::Soft).unwrap();
        assert_eq!(u64::from(found.low_nonce), number(&fake["low_nonce"]));
        assert_eq!(found.announcement_numbers(count), four(&fake["ann_mlocs"], number));
        assert_eq!(found.work_hash, hash(&fake["work_hash"]));
        mined_share(&json["share"]);
        file.report(list(&json["nonces"]).len() + 2);
    }
}

/// The root as the fast tree has it.
fn compact_root(count: u64, announcements: &[[u8; 1024]], backend: Backend) -> Hash32 {
    let hash_of = |number: u64| ann_hash(&announcements[number as usize]);
    let mut hashes = vec![Hash32::ZERO; compact_tree::hashes_len(count).unwrap()];
    for part in compact_tree::parts(count, &mut hashes, 2).unwrap() {
        part.fill(hash_of, backend).unwrap();
    }
    compact_tree::CompactTree::finish(count, hashes, hash_of, backend).unwrap().root()
}

fn mined_share(share: &Value) {
    let mut bytes = unhex(text(&share["header_and_proof"]));
    // What the block handler appends: the end entity, and no transactions.
    bytes.extend([0, 0, 0]);
    let coinbase = unhex(text(&share["coinbase"]));
    let found = coinbase::find_commitment(&Transaction::parse(&coinbase).unwrap());
    assert_eq!(found, Some(commitment(&share["coinbase_commit"])));
    let branch: Vec<Hash32> = list(&share["merkle_branch"]).iter().map(hash).collect();
    let check = ShareCheck {
        block: &bytes,
        coinbase: &coinbase,
        merkle_branch: &branch,
        height: u32::try_from(number(&share["height"])).unwrap(),
        share_target: word(&share["share_target"]),
        check_signatures: true,
    };
    let mut parents = list(&share["parent_hashes"]).iter().map(hash).map(ParentHash::Known);
    let valid = validate_share(&check, |_| parents.next().unwrap(), &mut CheckScratch::new());
    let is_block = share["node"]["block_ok"].as_bool().unwrap();
    assert_eq!(valid.unwrap().kind.name(), if is_block { "OK" } else { "SHARE_OK" });
    let (header, rest) = bytes.split_at(80);
    let header = BlockHeader(header.try_into().unwrap());
    let (entities, _) = Entities::decode(rest).unwrap();
    let id = content::proof_index(&header.hash(), entities.low_nonce);
    assert_eq!(u64::from(id), number(&share["share_id_u32"]));
    let mut event = header.hash().0;
    event[..4].copy_from_slice(&id.to_le_bytes());
    assert_eq!(hex::encode(&event[..16]), text(&share["event_id"]));
}

#[test]
fn blocks() {
    for prefix in ["blocks_valid", "blocks_invalid"] {
        for file in files("blocks", prefix, "json") {
            let json = file.json();
            let mut scratch = CheckScratch::new();
            for case in list(&json) {
                block_case(case, &mut scratch);
            }
            file.report(list(&json).len());
        }
    }
}

fn block_case(case: &Value, scratch: &mut CheckScratch) {
    let (name, expected) = (text(&case["name"]), text(&case["expected"]));
    let pcp = unhex(text(&case["pcp"]));
    let header = header(&case["header"]);
    let height = u32::try_from(number(&case["height"])).unwrap();
    let decoded = Entities::decode(&pcp);
    assert_eq!(decoded.is_err(), expected == "DECODE", "{name}");
    let Ok((entities, rest)) = decoded else { return };
    assert!(rest.is_empty(), "{name}");
    let coinbase = unhex(text(&case["coinbase"]));
    let transaction = Transaction::parse(&coinbase).unwrap();
    let commitment = coinbase::find_commitment(&transaction);
    let parent_hashes = four(&case["parent_hashes"], |parent| {
        parent.as_str().map_or(ParentHash::Unknown, |_| ParentHash::Known(hash(parent)))
    });
    let share_target = word(&case["share_target"]);
    let check = BlockCheck {
        header: &header,
        entities: &entities,
        commitment: commitment.as_ref(),
        height,
        share_target,
        parent_hashes: Some(&parent_hashes),
        check_signatures: true,
    };
    let result = check_block(&check, scratch);
    let have = match &result {
        Ok(valid) => valid.kind.name().to_owned(),
        Err(error) => match error.index() {
            Some(index) => format!("{}({index})", error.name()),
            None => error.name().to_owned(),
        },
    };
    assert_eq!(have, expected, "{name}: {result:?}");
    let code = result.as_ref().map_or_else(|error| error.code(), |valid| valid.kind.code());
    if case["lib"].as_str() == Some(expected) {
        assert_eq!(u64::from(code), number(&case["lib_code"]), "{name}");
    }
    if let Ok(valid) = &result {
        assert_eq!(valid.work_hash, hash(&case["work_hash"]), "{name}");
        assert_eq!(valid.items, four(&case["item_numbers"], number), "{name}");
    }
    if let Some(commitment) = commitment {
        block_parts(case, &check, &commitment);
    }
    whole_share(case, &check, result, scratch);
}

/// The parts of a block case that are given beside the result.
fn block_parts(case: &Value, check: &BlockCheck<'_>, committed: &Commitment) {
    let name = text(&case["name"]);
    if case.get("commit").is_some_and(Value::is_string) {
        assert_eq!(*committed, commitment(&case["commit"]), "{name}");
    }
    let targets =
        [("effective_target", check.header.bits()), ("effective_share_target", check.share_target)];
    for (field, target) in targets {
        let Some(node) = case.get(field).filter(|node| !node.is_null()).map(word) else { continue };
        let (least_work, count) = (committed.least_work(), committed.count());
        let version = check.entities.version;
        let have = difficulty::effective_target(target, least_work, count, version);
        let want = if node.0 == NODE_NEGATIVE_TARGET { CompactTarget(0) } else { node };
        assert_eq!(have, want, "{name}: {field}");
    }
    let valid = matches!(text(&case["expected"]), "OK" | "SHARE_OK" | "INSUF_POW");
    if case.get("index_from").is_none() || !valid {
        return;
    }
    // The same tree, search and proof again.
    let Some(all) = indexed_groups(case) else { return };
    let count = all.len() as u64;
    let mut entries = entries_of(count);
    let tree = Tree::build(count, &mut entries, |i| ann_hash(&all[i as usize])).unwrap();
    assert_eq!((tree.root(), count), (committed.root(), committed.count()), "{name}");
    let found = HeaderSearch::new(check.header, Backend::Soft)
        .solution(check.entities.low_nonce, count, |number| &all[number as usize])
        .unwrap();
    if check.entities.content_proofs.is_none() {
        assert_eq!(found.work_hash, hash(&case["work_hash"]), "{name}");
        assert_eq!(found.announcement_numbers(count), four(&case["ann_indexes"], number), "{name}");
        let mut out = [0; PROOF_BYTES_MAX];
        let len = proof::make(&tree, &found.items, &mut out).unwrap();
        assert_eq!(out[..len], *check.entities.tree_proof, "{name}");
    }
}

/// The same block as a handler gets it: from bytes.
fn whole_share(
    case: &Value,
    check: &BlockCheck<'_>,
    result: Result<packetcrypt_core::block::BlockOk, packetcrypt_core::block::BlockError>,
    scratch: &mut CheckScratch,
) {
    use packetcrypt_core::block::ShareError;
    let name = text(&case["name"]);
    let mut bytes = check.header.0.to_vec();
    bytes.extend(unhex(text(&case["pcp"])));
    bytes.push(0);
    let branch: Vec<Hash32> = list(&case["merkle_branch"]).iter().map(hash).collect();
    let share = ShareCheck {
        block: &bytes,
        coinbase: &unhex(text(&case["coinbase"])),
        merkle_branch: &branch,
        height: check.height,
        share_target: check.share_target,
        check_signatures: true,
    };
    let mut parents = check.parent_hashes.unwrap().iter();
    let have = validate_share(&share, |_| *parents.next().unwrap(), scratch);
    let allowed = case["node"]["version_allowed"].as_bool().unwrap();
    match have {
        Err(ShareError::VersionHeight { .. }) => assert!(!allowed, "{name}"),
        // The vectors' own note: in these the root in the header does not fit.
        Err(ShareError::MerkleRoot { .. }) => {
            assert!(text(&case["expected"]) == "BAD_COINBASE", "{name}");
        }
        Err(ShareError::NotStandard) => assert!(!check.entities.is_standard(), "{name}"),
        Err(ShareError::Block(error)) => assert_eq!(Err(error), result, "{name}"),
        Err(error) => panic!("{name}: {error}"),
        Ok(valid) => {
            assert!(allowed, "{name}");
            assert_eq!(Ok(valid), result, "{name}");
        }
    }
}

#[test]
fn historic_blocks() {
    let Some(file) = chain("history.json") else { return };
    let json = file.json();
    let mut cases = 0;
    for case in list(&json) {
        if case.get("pcp").is_some() {
            genesis(case)
        } else {
            development_block(case, &file)
        }
        cases += 1;
    }
    file.report(cases);
}

fn genesis(case: &Value) {
    let pcp = unhex(text(&case["pcp"]));
    let (entities, rest) = Entities::decode(&pcp).unwrap();
    assert!(rest.is_empty());
    assert_eq!(entities.version, 0);
    let coinbase = unhex(text(&case["coinbase"]));
    let transaction = Transaction::parse(&coinbase).unwrap();
    assert_eq!(transaction.id(), hash(&case["coinbase_txid"]));
    let committed = coinbase::find_commitment(&transaction).unwrap();
    assert_eq!(committed, commitment(&case["commit"]));
    let header = header(&case["header"]);
    assert_eq!(header.merkle_root(), transaction.id());
    let height = u32::try_from(number(&case["height"])).unwrap();
    assert!(versions::allowed_at(entities.version, height) && entities.is_standard());
    let check = BlockCheck {
        header: &header,
        entities: &entities,
        commitment: Some(&committed),
        height,
        share_target: CompactTarget(0),
        parent_hashes: Some(&four(&case["parent_hashes"], |parent| {
            ParentHash::Known(hash(parent))
        })),
        check_signatures: true,
    };
    let valid = check_block(&check, &mut CheckScratch::new()).unwrap();
    assert_eq!(valid.kind.name(), "OK");
    assert_eq!(valid.work_hash, hash(&case["work_hash"]));
    assert_eq!(valid.items, four(&case["item_numbers"], number));
    assert_eq!(
        valid.items.map(|item| item % committed.count()),
        four(&case["ann_indexes"], number)
    );
    assert_eq!(committed.root(), hash(&case["root"]));
    let (bits, least_work, count) = (header.bits(), committed.least_work(), committed.count());
    let target = difficulty::effective_target(bits, least_work, count, 0);
    assert_eq!(target, word(&case["effective_target"]));
}

/// Tree, search and proof of the block; its announcements are older than the present rules.
fn development_block(case: &Value, file: &VectorFile) {
    let all = &case["all_announcements"];
    let path = file.path.with_file_name(text(&all["file"]));
    let file = VectorFile { name: text(&all["file"]).to_owned(), path };
    let bytes = file.bytes();
    file.report(bytes.len() / 1024);
    let mut known = bytes.as_chunks::<1024>().0.to_vec();
    let kept = tree::index_by_key(&mut known, |ann| Announcement::from_bytes(ann).key());
    let count = kept as u64;
    assert_eq!(count, number(&all["count"]));
    assert!(known[..kept].iter().map(ann_hash).eq(hashes(&all["ann_hashes_sorted"])));
    let mut entries = entries_of(count);
    let tree = Tree::build(count, &mut entries, |i| ann_hash(&known[i as usize])).unwrap();
    assert_eq!(tree.root(), hash(&case["root"]));
    let committed = commitment(&case["commit"]);
    assert_eq!((committed.root(), committed.count()), (tree.root(), count));
    let low_nonce = u32::try_from(number(&case["low_nonce"])).unwrap();
    let found = HeaderSearch::new(&header(&case["header"]), Backend::Soft)
        .solution(low_nonce, count, |number| &known[number as usize])
        .unwrap();
    assert_eq!(found.items, four(&case["item_numbers"], number));
    assert_eq!(found.announcement_numbers(count), four(&case["ann_indexes"], number));
    assert_eq!(found.work_hash, hash(&case["work_hash"]));
    let mut out = [0; PROOF_BYTES_MAX];
    let len = proof::make(&tree, &found.items, &mut out).unwrap();
    assert_eq!(hex::encode(&out[..len]), text(&case["proof"]));
    let drawn = four(&case["announcements"], |ann| ann_hash(&unhex_array(text(ann))));
    assert_eq!(proof::pcp_hash(&drawn, count, &found.items, &out[..len]), Ok(tree.root()));
}
