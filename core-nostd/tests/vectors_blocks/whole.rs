//! Mining, whole blocks, and the historic ones where the chain data is present.

use packetcrypt_core::announcement::Announcement;
use packetcrypt_core::block::proof::PROOF_BYTES_MAX;
use packetcrypt_core::block::{
    BlockCheck, BlockHeader, CheckScratch, Commitment, Entities, HeaderSearch, ParentHash,
    ShareCheck, Transaction, Tree, check_block, coinbase, compact_tree, content, proof, self_test,
    tree, validate_share, versions,
};
use packetcrypt_core::primitives::x25519::{FixedBaseTable, TableEntry};
use packetcrypt_core::{Backend, CompactTarget, Hash32, difficulty};
use packetcrypt_vectors::{VectorFile, chain, files, unhex, unhex_array};
use serde_json::Value;

use crate::values::{
    NODE_NEGATIVE_TARGET, ann_hash, commitment, entries_of, four, hash, hashes, header,
    indexed_groups, list, number, text, word,
};

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
