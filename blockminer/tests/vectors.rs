//! Recorded shares of the reference block miner: what it sent is what this miner would have sent.

use std::sync::Arc;

use packetcrypt_blockminer::class::SourceId;
use packetcrypt_blockminer::job::Job;
use packetcrypt_blockminer::share::Share;
use packetcrypt_blockminer::store::{Arrival, Store};
use packetcrypt_blockminer::tree::{AnnTree, CountRule};
use packetcrypt_core::announcement::Announcement;
use packetcrypt_core::backend::Backend;
use packetcrypt_core::block::{
    BlockHeader, BlockKind, CheckScratch, Commitment, HeaderSearch, ParentHash, ShareCheck,
    Transaction, coinbase, self_test, validate_share,
};
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_proto::ids;
use packetcrypt_proto::share::ShareUpload;
use packetcrypt_proto::work::WorkFile;
use packetcrypt_vectors::{files, named, unhex, unhex_array};
use serde_json::Value;

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key}"))
}

fn number(value: &Value, key: &str) -> u32 {
    value[key].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or_else(|| panic!("no {key}"))
}

fn hashes(value: &Value) -> Vec<Hash32> {
    let list = value.as_array().expect("a list");
    list.iter().map(|hash| Hash32(unhex_array(hash.as_str().expect("hex")))).collect()
}

/// All announcements of the named groups in a store, and the tree over them. The reference does
/// not make the count odd. `None` when the set lacks a group.
fn tree_over(groups: &Value, height: u32) -> Option<AnnTree> {
    let mut bytes = Vec::new();
    for group in groups.as_array().expect("groups") {
        let name = format!("anns_{}.bin", group.as_str().expect("a name"));
        bytes.extend(named("blocks", &name)?.bytes());
    }
    let (announcements, _) = bytes.as_chunks::<1024>();
    let store = Arc::new(Store::new(announcements.len() as u32, false).unwrap());
    for bytes in announcements {
        let announcement = Announcement::from_bytes(bytes);
        let arrival = Arrival {
            bytes,
            hash: announcement.hash(),
            parent_height: announcement.parent_block_height(),
            work_bits: announcement.work_bits(),
        };
        assert_eq!(store.insert(&[arrival], SourceId(0), height, store.epoch()).stored, 1);
    }
    let members: Vec<_> = store.classes().iter().map(|class| (class.id, class.count)).collect();
    Some(AnnTree::build(store.pin(&members).unwrap(), None, CountRule::AsItIs, 2).unwrap())
}

/// The work that a share was mined for: its coinbase with the placeholder put back.
fn work_of(share: &Value, commitment: &[u8]) -> WorkFile {
    let mut bytes = unhex(text(share, "coinbase"));
    let at = bytes
        .windows(commitment.len())
        .position(|window| window == commitment)
        .expect("the commitment in the coinbase");
    bytes[at..at + commitment.len()].copy_from_slice(&coinbase::PLACEHOLDER[2..]);
    let header = unhex(text(share, "header_and_proof"));
    WorkFile {
        header: *header.first_chunk().unwrap(),
        signing_key: Hash32::ZERO,
        share_target: CompactTarget(number(share, "share_target")),
        ann_target: CompactTarget::MAX,
        height: number(share, "height").cast_signed(),
        coinbase: bytes,
        merkle_branch: hashes(&share["merkle_branch"]),
    }
}

#[test]
fn the_recorded_fake_mine_and_share_are_reproduced() {
    for file in files("blocks", "mining", "json") {
        let vector = file.json();
        let (index, share) = (&vector["sorted_index"], &vector["share"]);
        let Some(tree) = tree_over(&index["index_from"], number(share, "height")) else { continue };
        let tree = Arc::new(tree);
        assert_eq!(tree.root().hex().to_string(), text(index, "root"));
        let sorted: String = (0..tree.count())
            .map(|number| tree.set().hash(number as usize).hex().to_string())
            .collect();
        assert_eq!(sorted, text(index, "ann_hashes_sorted"));
        let commitment = unhex(text(share, "coinbase_commit"));
        let work = Arc::new(work_of(share, &commitment));
        let job = Arc::new(Job::assemble(1, work, tree.clone()).unwrap());
        assert_eq!(job.commitment().0[..], commitment);
        assert_share_reproduced(&job, share);
        assert_fake_mine_reproduced(&tree, &vector["fake_mine"]);
        job.self_test(Backend::best()).unwrap();
        file.report(3);
    }
}

/// From the recorded nonces this miner makes the same header, proof and upload.
fn assert_share_reproduced(job: &Arc<Job>, share: &Value) {
    let tree = job.tree();
    let want = unhex(text(share, "header_and_proof"));
    let upload = ShareUpload::new(job.commitment().0, want.clone()).unwrap();
    let header = BlockHeader(*upload.header());
    assert_eq!(job.header().with_nonce(header.nonce()), header);
    let solution = HeaderSearch::new(&header, Backend::best())
        .solution(upload.low_nonce(), tree.count(), |number| tree.announcement(number))
        .unwrap();
    let made = Share::assemble(job.clone(), header.nonce(), &solution).unwrap();
    assert_eq!(made.upload().header_and_proof(), want);
    assert_eq!(ShareUpload::parse(made.upload().to_json().as_bytes()), Ok(upload));
    assert_eq!(made.check().unwrap().kind, BlockKind::Share);
    assert_eq!(made.id(), number(share, "share_id_u32"));
    assert_eq!(made.event_id(), text(share, "event_id"));
}

fn assert_fake_mine_reproduced(tree: &AnnTree, fake: &Value) {
    let header = BlockHeader(unhex_array(text(fake, "header")));
    let announcement_of = |number| tree.announcement(number);
    let found = self_test::search(&header, tree.count(), announcement_of, Backend::best()).unwrap();
    assert_eq!(found.low_nonce, number(fake, "low_nonce"));
    assert_eq!(found.work_hash.hex().to_string(), text(fake, "work_hash"));
    let places = fake["ann_llocs"].as_array().unwrap().iter();
    let places: Vec<u64> = places.map(|place| place.as_u64().unwrap()).collect();
    assert_eq!(found.announcement_numbers(tree.count())[..], places);
}

#[test]
fn real_shares_are_what_this_miner_sends_and_accepts() {
    for file in files("pool", "real_shares", "json") {
        let vector = file.json();
        let work = WorkFile::parse(&unhex(text(&vector, "work"))).unwrap();
        let shares = vector["shares"].as_array().unwrap();
        for share in shares {
            let body = share["upload"].to_string();
            let upload = ShareUpload::parse(body.as_bytes()).unwrap();
            // The same text, key by key.
            assert_eq!(upload.to_json(), body);
            // Commitment into coinbase, coinbase into header.
            let mut bytes = work.coinbase.clone();
            coinbase::put_commitment(&mut bytes, &Commitment(*upload.commitment())).unwrap();
            let mut header = BlockHeader(work.header);
            header.set_merkle_root(&work.merkle_root(Transaction::parse(&bytes).unwrap().id()));
            header.set_nonce(BlockHeader(*upload.header()).nonce());
            assert_eq!(header.0, *upload.header());
            // Ids, and with them the choice of the handler.
            let event_id = ids::share_event_id(&header.0, upload.low_nonce());
            assert_eq!(event_id, text(share, "event_id"));
            let handler = ids::share_number(&header.0, upload.low_nonce());
            assert_eq!(handler.to_le_bytes()[..], unhex(&event_id)[..4]);
            assert_accepted(share, &work);
        }
        file.report(shares.len());
    }
}

/// Our validator accepts the recorded request with its parents.
fn assert_accepted(share: &Value, work: &WorkFile) {
    let request = &share["checkpcshare"];
    let block = unhex(text(request, "hexblock"));
    let upload = unhex(text(&share["upload"], "header_and_proof"));
    assert!(block.starts_with(&upload), "the request begins with what was uploaded");
    let branch = hashes(&request["merklebranch"]);
    assert_eq!(branch, work.merkle_branch);
    let heights = share["ann_parent_heights"].as_array().unwrap().iter();
    let parents: Vec<(u64, Hash32)> = heights
        .zip(share["ann_parent_hash_display"].as_array().unwrap())
        .map(|(height, hash)| {
            let hash = Hash32::from_display_hex(hash.as_str().unwrap()).unwrap();
            (height.as_u64().unwrap(), hash)
        })
        .collect();
    let parent_of = |height: u32| {
        let known = parents.iter().find(|(of, _)| *of == u64::from(height));
        known.map_or(ParentHash::Unknown, |(_, hash)| ParentHash::Known(*hash))
    };
    let check = ShareCheck {
        block: &block,
        coinbase: &unhex(text(request, "coinbase")),
        merkle_branch: &branch,
        height: number(request, "height"),
        share_target: CompactTarget(number(request, "sharetarget")),
        check_signatures: true,
    };
    let checked = validate_share(&check, parent_of, &mut CheckScratch::new()).unwrap();
    assert_eq!(checked.kind, BlockKind::Share);
}
