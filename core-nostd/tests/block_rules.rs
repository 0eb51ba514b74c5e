//! Rules of blocks that no vector reaches: altered zero entries, huge trees, odd entities, targets
//! that are not well-formed, keys that a strict verification would refuse, order of the steps.

use packetcrypt_core::announcement::Announcement;
use packetcrypt_core::block::entities::{self, EntityWriter};
use packetcrypt_core::block::proof::{self, PROOF_BYTES_MAX};
use packetcrypt_core::block::{
    AnnFault, BlockCheck, BlockError, BlockHeader, BlockKind, CheckScratch, Commitment, Entities,
    EntityError, Entry, HeaderSearch, ParentHash, ProofError, SerializedBlock, ShareCheck,
    ShareError, Tree, TreeError, check_block, coinbase, self_test, tree, validate_share,
};
use packetcrypt_core::difficulty::NOT_USABLE;
use packetcrypt_core::{Backend, CompactTarget, Hash32, primitives};

const HEIGHT: u32 = 300_000;
const EASIEST: CompactTarget = CompactTarget::MAX;

/// Announcements that look right but were never mined, as an index.
fn made_up(count: usize, signing_key: [u8; 32]) -> Vec<[u8; 1024]> {
    let mut all: Vec<[u8; 1024]> = (0..count as u32)
        .map(|number| {
            let mut ann = [0; 1024];
            ann[0] = 1;
            ann[4..8].copy_from_slice(&number.to_le_bytes());
            ann[8..12].copy_from_slice(&EASIEST.0.to_le_bytes());
            ann[12..16].copy_from_slice(&(HEIGHT - 3).to_le_bytes());
            ann[56..88].copy_from_slice(&signing_key);
            ann
        })
        .collect();
    let kept = tree::index_by_key(&mut all, |ann| Announcement::from_bytes(ann).key());
    all.truncate(kept);
    all
}

/// A block over made-up announcements, and all that is needed to check it.
struct Case {
    header: BlockHeader,
    announcements: Vec<[u8; 1024]>,
    commitment: Commitment,
    low_nonce: u32,
    items: [u64; 4],
    proof: Vec<u8>,
}

impl Case {
    fn new(count: usize, signing_key: [u8; 32], bits: u32) -> Case {
        let announcements = made_up(count, signing_key);
        let mut header = BlockHeader([7; 80]);
        header.0[72..76].copy_from_slice(&bits.to_le_bytes());
        let count = announcements.len() as u64;
        let mut entries = vec![Entry::PAD; tree::entries_len(count).unwrap() as usize];
        let hash_of = |i: u64| Announcement::from_bytes(&announcements[i as usize]).hash();
        let tree = Tree::build(count, &mut entries, hash_of).unwrap();
        let found = HeaderSearch::new(&header, Backend::Soft)
            .search(0, 200, EASIEST, count, |number| &announcements[number as usize])
            .unwrap();
        let mut out = [0; PROOF_BYTES_MAX];
        let len = proof::make(&tree, &found.items, &mut out).unwrap();
        let commitment = Commitment::new(EASIEST, &tree.root(), count);
        Case {
            header,
            commitment,
            low_nonce: found.low_nonce,
            items: found.items,
            proof: out[..len].to_vec(),
            announcements,
        }
    }

    fn drawn(&self) -> [&Announcement; 4] {
        let count = self.announcements.len() as u64;
        self.items
            .map(|item| Announcement::from_bytes(&self.announcements[(item % count) as usize]))
    }

    fn entities(&self) -> Entities<'_> {
        Entities::new(self.low_nonce, self.drawn(), &self.proof)
    }

    /// The check of the block by itself: no share target, no parents, no signatures.
    fn with<T>(&self, then: impl FnOnce(BlockCheck<'_>) -> T) -> T {
        then(BlockCheck {
            header: &self.header,
            entities: &self.entities(),
            commitment: Some(&self.commitment),
            height: HEIGHT,
            share_target: CompactTarget(0),
            parent_hashes: None,
            check_signatures: false,
        })
    }
}

fn run(check: BlockCheck<'_>) -> Result<BlockKind, BlockError> {
    check_block(&check, &mut CheckScratch::new()).map(|valid| valid.kind)
}

#[test]
fn targets_that_are_not_well_formed_give_no_work() {
    assert_eq!(Case::new(9, [0; 32], EASIEST.0).with(run), Ok(BlockKind::Block));
    for word in [0, 0x217f_ffff, 0x2100_0001, 0x2080_0001, 0x2000_0000, 0x0100_00ff, u32::MAX] {
        let case = Case::new(9, [0; 32], word);
        assert!(matches!(case.with(run), Err(BlockError::InsufPow { .. })), "{word:08x}");
        let share =
            case.with(|check| run(BlockCheck { share_target: CompactTarget(word), ..check }));
        assert!(matches!(share, Err(BlockError::InsufPow { .. })), "{word:08x}");
        let share = case.with(|check| run(BlockCheck { share_target: EASIEST, ..check }));
        assert_eq!(share, Ok(BlockKind::Share), "{word:08x}");
    }
}

#[test]
fn block_work_is_a_block_whatever_the_share_target_is() {
    let case = Case::new(9, [0; 32], EASIEST.0);
    let easy = case.with(|check| run(BlockCheck { share_target: EASIEST, ..check }));
    assert_eq!(easy, Ok(BlockKind::Block));
    let hard =
        case.with(|check| run(BlockCheck { share_target: CompactTarget(0x0300_0001), ..check }));
    assert_eq!(hard, Ok(BlockKind::Block));
}

#[test]
fn lack_of_work_is_reported_last() {
    let case = Case::new(9, [0; 32], 0x0300_0001);
    let wrong = Commitment::new(EASIEST, &Hash32([1; 32]), 9);
    let mismatch = case.with(|check| run(BlockCheck { commitment: Some(&wrong), ..check }));
    assert!(matches!(mismatch, Err(BlockError::PcpMismatch { .. })));
    let young = case.with(|check| run(BlockCheck { height: HEIGHT - 1, ..check }));
    let aged = BlockError::AnnInsufPow { index: 0, aged: NOT_USABLE, least_work: EASIEST };
    assert_eq!(young, Err(aged));
    assert_eq!(aged.code(), 0x300);
}

#[test]
fn early_blocks_do_not_age_announcements() {
    let case = Case::new(9, [0; 32], EASIEST.0);
    assert_eq!(case.with(|check| run(BlockCheck { height: 2, ..check })), Ok(BlockKind::Block));
    // From height 3 on the parent far above wraps to a huge age.
    let third = case.with(|check| run(BlockCheck { height: 3, ..check }));
    assert!(matches!(third, Err(BlockError::AnnInsufPow { index: 0, .. })));
}

#[test]
fn unknown_parents_and_versions_come_before_the_announcement_check() {
    let case = Case::new(9, [0; 32], EASIEST.0);
    let unknown = [ParentHash::Unknown; 4];
    let height = HEIGHT - 3;
    assert_eq!(
        case.with(|check| run(BlockCheck { parent_hashes: Some(&unknown), ..check })),
        Err(BlockError::AnnInvalid(0, AnnFault::UnknownParent { height }))
    );
    let known = [ParentHash::Known(Hash32::ZERO); 4];
    let checked = case.with(|check| run(BlockCheck { parent_hashes: Some(&known), ..check }));
    assert!(matches!(checked, Err(BlockError::AnnInvalid(0, AnnFault::Check(_)))));
    let mut old = case;
    for ann in &mut old.announcements {
        ann[0] = 0;
    }
    assert_eq!(
        old.with(|check| run(BlockCheck { parent_hashes: Some(&known), ..check })),
        Err(BlockError::AnnInvalid(0, AnnFault::Version { version: 0, height }))
    );
}

#[test]
fn commitments_are_checked_first() {
    let case = Case::new(9, [0; 32], EASIEST.0);
    let none = Err(BlockError::BadCoinbase { least_work: None });
    assert_eq!(case.with(|check| run(BlockCheck { commitment: None, ..check })), none);
    let magic = Commitment([0; 48]);
    assert_eq!(case.with(|check| run(BlockCheck { commitment: Some(&magic), ..check })), none);
    let word = CompactTarget(0x2100_0001);
    let least = Commitment::new(word, &case.commitment.root(), 9);
    let bad = case.with(|check| run(BlockCheck { commitment: Some(&least), ..check }));
    assert_eq!(bad, Err(BlockError::BadCoinbase { least_work: Some(word) }));
    assert_eq!(bad.unwrap_err().code(), 0x900);
    for count in [0, u64::MAX] {
        let empty = Commitment::new(EASIEST, &case.commitment.root(), count);
        let checked = case.with(|check| run(BlockCheck { commitment: Some(&empty), ..check }));
        assert_eq!(checked, Err(BlockError::PcpInval(ProofError::Count { count })));
    }
}

/// The encoding of the neutral element, and the one that is 2^255 - 19 greater.
const SMALL_ORDER: [u8; 32] = {
    let mut key = [0; 32];
    key[0] = 1;
    key
};
const NOT_CANONICAL: [u8; 32] = {
    let mut key = [0xff; 32];
    key[0] = 0xee;
    key[31] = 0x7f;
    key
};
/// The order of the base point.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn signed_with(key: [u8; 32], r: [u8; 32], s: [u8; 32]) -> Result<BlockKind, BlockError> {
    let case = Case::new(9, key, EASIEST.0);
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&s);
    let mut entities = case.entities();
    entities.signatures = [Some(&signature); 4];
    case.with(|check| run(BlockCheck { entities: &entities, check_signatures: true, ..check }))
}

#[test]
fn keys_of_small_order_and_other_encodings_are_accepted() {
    // With the neutral element as key every S verifies whose R is [S]B.
    for key in [SMALL_ORDER, NOT_CANONICAL] {
        assert_eq!(signed_with(key, SMALL_ORDER, [0; 32]), Ok(BlockKind::Block));
    }
    let refused = Err(BlockError::AnnSigInvalid(0));
    assert_eq!(signed_with(SMALL_ORDER, NOT_CANONICAL, [0; 32]), refused);
    assert_eq!(signed_with(SMALL_ORDER, SMALL_ORDER, ORDER), refused);
    // No point of the curve has this coordinate.
    let mut no_point = [0; 32];
    no_point[0] = 2;
    assert_eq!(signed_with(no_point, SMALL_ORDER, [0; 32]), refused);
}

#[test]
fn signatures_are_checked_over_the_announcement_and_only_when_asked() {
    let seed = [5; 32];
    let case = Case::new(9, primitives::ed25519::public_key(&seed), EASIEST.0);
    assert_eq!(case.with(run), Ok(BlockKind::Block));
    let missing = case.with(|check| run(BlockCheck { check_signatures: true, ..check }));
    assert_eq!(missing, Err(BlockError::AnnSigInvalid(0)));
    let signatures = case.drawn().map(|ann| primitives::ed25519::sign(&seed, ann.to_bytes()));
    let mut entities = case.entities();
    entities.signatures = signatures.each_ref().map(Some);
    let signed =
        case.with(|check| run(BlockCheck { entities: &entities, check_signatures: true, ..check }));
    assert_eq!(signed, Ok(BlockKind::Block));
    entities.signatures[2] = None;
    let third =
        case.with(|check| run(BlockCheck { entities: &entities, check_signatures: true, ..check }));
    assert_eq!(third, Err(BlockError::AnnSigInvalid(2)));
    assert_eq!(third.unwrap_err().code(), 0x402);
}

/// An entry of a tree in which the key of every leaf is its number.
fn virtual_entry(count: u64, layer: u32, index: u64) -> Entry {
    let first = index.checked_shl(layer).unwrap_or(0);
    let behind = 1u64.checked_shl(layer).and_then(|leaves| first.checked_add(leaves));
    let end = behind.filter(|behind| *behind <= count).unwrap_or(u64::MAX);
    let mut hash = Hash32([layer as u8 + 1; 32]);
    if first == 0 && layer == 0 {
        hash = Hash32::ZERO;
    } else if layer == 0 {
        hash.0[..8].copy_from_slice(&first.to_le_bytes());
    }
    Entry::new(hash, first, end)
}

#[test]
fn trees_of_any_size_make_and_check() {
    for count in [1 << 62, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, u64::MAX - 3, u64::MAX - 1] {
        for items in [[0, 1, count / 2, count - 2], [count / 3, 5, 5, count - 3], [7; 4]] {
            let mut out = [0; PROOF_BYTES_MAX];
            let entry_of = |layer, index| virtual_entry(count, layer, index);
            let len = proof::make_with(count, &items, entry_of, &mut out).unwrap();
            let hashes = items.map(|item| virtual_entry(count, 0, item % count + 1).hash);
            let root = proof::pcp_hash(&hashes, count, &items, &out[..len]).unwrap();
            for at in (0..len).step_by(97) {
                let mut altered = out;
                altered[at] ^= 0x10;
                let checked = proof::pcp_hash(&hashes, count, &items, &altered[..len]);
                assert_ne!(checked, Ok(root), "{count}, byte {at}");
            }
            let short = proof::pcp_hash(&hashes, count, &items, &out[..len - 1]);
            assert_eq!(short, Err(ProofError::Truncated));
            let long = proof::pcp_hash(&hashes, count, &items, &out[..len + 1]);
            assert_eq!(long, Err(ProofError::LeftOver { bytes: 1 }));
        }
    }
    let last = u64::MAX - 2;
    let mut out = [0; PROOF_BYTES_MAX];
    let entry_of = |layer, index| virtual_entry(u64::MAX - 1, layer, index);
    let made = proof::make_with(u64::MAX - 1, &[last; 4], entry_of, &mut out);
    assert_eq!(made, Err(TreeError::LastOfEven));
    let hashes = [virtual_entry(u64::MAX - 1, 0, u64::MAX - 1).hash; 4];
    let long_enough = proof::pcp_hash(&hashes, u64::MAX - 1, &[last; 4], &out);
    assert!(long_enough.is_err());
}

#[test]
fn only_the_key_of_the_zero_entry_is_forced() {
    let hash = Hash32([9; 32]);
    let mut proof = [0; 40];
    proof[32..].copy_from_slice(&(u64::MAX - tree::key(&hash)).to_le_bytes());
    let check = |proof: &[u8]| proof::pcp_hash(&[hash; 4], 1, &[0; 4], proof);
    let root = check(&proof).unwrap();
    let mut tail = proof;
    tail[8] = 1;
    assert!(check(&tail).is_ok_and(|other| other != root));
    let mut key = proof;
    key[7] = 1;
    let have = 1 << 56;
    assert_eq!(check(&key), Err(ProofError::Start { leaf: 0, want: 0, have }));
}

#[test]
fn the_same_leaf_with_two_announcements_is_refused() {
    let hash = Hash32([9; 32]);
    let mut proof = [0; 40];
    proof[32..].copy_from_slice(&(u64::MAX - tree::key(&hash)).to_le_bytes());
    let mut other = hash;
    other.0[31] = 0;
    let checked = proof::pcp_hash(&[hash, hash, other, hash], 1, &[0; 4], &proof);
    assert_eq!(checked, Err(ProofError::DrawnTwice { leaf: 1 }));
}

fn proof_entity(tree_proof: &[u8]) -> Vec<u8> {
    let ann = [0; 1024];
    let mut out = vec![0; 5000 + tree_proof.len()];
    let mut writer = EntityWriter::new(&mut out);
    writer.proof(9, &[Announcement::from_bytes(&ann); 4], tree_proof).unwrap();
    let len = writer.written();
    out.truncate(len);
    out
}

fn decoded_standard(bytes: &[u8]) -> bool {
    let (entities, rest) = Entities::decode(bytes).unwrap();
    assert!(rest.is_empty());
    entities.is_standard()
}

#[test]
fn entities_of_other_forms_decode_but_are_not_standard() {
    let with = |tail: &[u8]| [&proof_entity(&[1; 40])[..], tail].concat();
    assert!(decoded_standard(&with(&[0, 0])));
    assert!(decoded_standard(&with(&[4, 1, 2, 0, 0])));
    let mut first = vec![4, 1, 2];
    first.extend(with(&[0, 0]));
    assert!(decoded_standard(&first));
    for tail in [
        &[4, 1, 0, 0, 0][..],                               // an explicit version 0
        &[2, 0, 0, 0],                                      // empty signatures
        &[3, 0, 0, 0],                                      // empty content proofs
        &[4, 1, 2, 4, 1, 2, 0, 0],                          // the version twice
        &[7, 0, 0, 0],                                      // unknown
        &[0, 5],                                            // a length with the end
        &[0, 0xff, 255, 255, 255, 255, 255, 255, 255, 255], // a length that is absurd
    ] {
        assert!(!decoded_standard(&with(tail)), "{tail:?}");
    }
    let mut unknown = with(&[9, 0xfe, 0x40, 0x0d, 0x03, 0]);
    unknown.extend(vec![0; 200_000]);
    unknown.extend([0, 0]);
    assert!(!decoded_standard(&unknown));
}

#[test]
fn lengths_of_entities_are_bounded() {
    let longest = entities::PROOF_BYTES_MAX - entities::PROOF_HEAD_BYTES;
    let mut at_most = proof_entity(&vec![0; longest]);
    at_most.extend([0, 0]);
    assert!(decoded_standard(&at_most));
    let error = |bytes: &[u8]| Entities::decode(bytes).unwrap_err();
    let len = entities::PROOF_BYTES_MAX as u64 + 1;
    assert_eq!(error(&proof_entity(&vec![0; longest + 1])), EntityError::ProofLen { len });
    assert_eq!(error(&proof_entity(&[])), EntityError::ProofLen { len: 4100 });
    let absurd = [9, 0xff, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0];
    assert_eq!(error(&absurd), EntityError::Truncated);
    assert_eq!(error(&[0, 0]), EntityError::NoProof);
    assert_eq!(error(&[]), EntityError::Truncated);
    assert_eq!(error(&[2, 0]), EntityError::BeforeProof { kind: entities::SIGNATURES });
    let unsigned = [&proof_entity(&[1; 40])[..], &[2, 64]].concat();
    assert_eq!(error(&unsigned), EntityError::SignaturesLen { len: 64, want: 0 });
    let version = [&proof_entity(&[1; 40])[..], &[4, 2, 2, 0, 0, 0]].concat();
    assert_eq!(error(&version), EntityError::VersionLen { len: 2 });
    let empty = [&proof_entity(&[1; 40])[..], &[4, 0, 0, 0]].concat();
    assert_eq!(error(&empty), EntityError::VersionLen { len: 0 });
}

#[test]
fn full_buffers_are_an_error() {
    let case = Case::new(9, [0; 32], EASIEST.0);
    let mut out = vec![0; 4200 + case.proof.len()];
    let len = {
        let mut writer = EntityWriter::new(&mut out);
        writer.proof(1, &case.drawn(), &case.proof).unwrap().version(2).unwrap().end().unwrap();
        writer.written()
    };
    for short in [0, 1, 3, 5, 2000, len - 6, len - 1] {
        let mut writer = EntityWriter::new(&mut out[..short]);
        let written = writer
            .proof(1, &case.drawn(), &case.proof)
            .and_then(|writer| writer.version(2))
            .and_then(EntityWriter::end)
            .is_ok();
        assert!(!written, "{short}");
    }
}

/// A share as bytes over a coinbase with the case's commitment.
fn share_bytes(case: &Case, version: u64) -> (Vec<u8>, Vec<u8>) {
    let mut coinbase = vec![1, 0, 0, 0, 1];
    coinbase.extend([0; 36]);
    coinbase.extend([2, 0x51, 0x00, 0xff, 0xff, 0xff, 0xff, 1]);
    coinbase.extend([0; 8]);
    coinbase.push(50);
    coinbase.extend(coinbase::PLACEHOLDER);
    coinbase.extend([0; 4]);
    coinbase::put_commitment(&mut coinbase, &case.commitment).unwrap();
    let mut out = vec![0; 6000];
    let mut writer = EntityWriter::new(&mut out);
    writer.proof(case.low_nonce, &case.drawn(), &case.proof).unwrap();
    writer.version(version).unwrap().end().unwrap();
    let len = writer.written();
    let mut header = case.header;
    header.set_merkle_root(&primitives::dsha256(&coinbase));
    ([&header.0[..], &out[..len], &[0]].concat(), coinbase)
}

fn validated(block: &[u8], coinbase: &[u8], height: u32) -> ShareError {
    let share = ShareCheck {
        block,
        coinbase,
        merkle_branch: &[],
        height,
        share_target: EASIEST,
        check_signatures: true,
    };
    let unknown = |_| ParentHash::Unknown;
    validate_share(&share, unknown, &mut CheckScratch::new()).unwrap_err()
}

#[test]
fn shares_are_refused_by_the_first_step_that_fails() {
    let case = Case::new(9, [0; 32], EASIEST.0);
    let (good, coinbase) = share_bytes(&case, 2);
    let refused = validated(&good, &coinbase, HEIGHT);
    assert!(matches!(refused, ShareError::Block(BlockError::AnnInvalid(0, _))), "{refused}");
    let version = validated(&share_bytes(&case, 3).0, &coinbase, HEIGHT);
    assert_eq!(version, ShareError::UnknownVersion { version: 3 });
    let gate = validated(&good, &coinbase, 113_948);
    assert_eq!(gate, ShareError::VersionHeight { version: 2, height: 113_948 });
    let old = validated(&share_bytes(&case, 1).0, &coinbase, 122_622);
    assert_eq!(old, ShareError::VersionHeight { version: 1, height: 122_622 });
    let zero = [&good[..good.len() - 6], &[4, 1, 0, 0, 0, 0]].concat();
    assert_eq!(validated(&zero, &coinbase, HEIGHT), ShareError::NotStandard);
    let mut other = coinbase.clone();
    other[70] ^= 1;
    assert!(matches!(validated(&good, &other, HEIGHT), ShareError::MerkleRoot { .. }));
    let cut = validated(&good, &coinbase[..coinbase.len() - 1], HEIGHT);
    assert!(matches!(cut, ShareError::Coinbase(_)));
    assert_eq!(validated(&good[..79], &coinbase, HEIGHT), ShareError::Header { bytes: 79 });
    let no_count = validated(&good[..good.len() - 1], &coinbase, HEIGHT);
    assert!(matches!(no_count, ShareError::TransactionCount(_)));
    assert!(matches!(validated(&good[..200], &coinbase, HEIGHT), ShareError::Entities(_)));
    assert_eq!(SerializedBlock::decode(&good).unwrap().transaction_count, 0);
}

#[test]
fn no_cut_of_a_share_decodes() {
    let (good, _) = share_bytes(&Case::new(9, [0; 32], EASIEST.0), 2);
    for len in 0..good.len() {
        assert!(SerializedBlock::decode(&good[..len]).is_err(), "{len}");
    }
}

#[test]
fn self_test_finds_and_proves() {
    let case = Case::new(9, [0; 32], 0x0300_0001);
    let mut entries = vec![Entry::PAD; tree::entries_len(9).unwrap() as usize];
    let hash_of = |i: u64| Announcement::from_bytes(&case.announcements[i as usize]).hash();
    let tree = Tree::build(9, &mut entries, hash_of).unwrap();
    let run = |commitment: &Commitment, height| {
        let by_number = |number: u64| &case.announcements[number as usize];
        let scratch = &mut CheckScratch::new();
        self_test::run(&case.header, &tree, by_number, commitment, height, Backend::Soft, scratch)
    };
    let found = run(&case.commitment, HEIGHT).unwrap();
    assert!(found.low_nonce >= self_test::LOW_NONCE_FIRST);
    assert!(EASIEST.is_met_by(&found.work_hash));
    let wrong = Commitment::new(EASIEST, &Hash32::ZERO, 9);
    assert!(matches!(
        run(&wrong, HEIGHT),
        Err(self_test::SelfTestError::Block(BlockError::PcpMismatch { .. }))
    ));
    assert!(run(&case.commitment, HEIGHT - 1).is_err());
}

#[test]
fn searches_go_on_behind_a_solution_and_wrap() {
    let case = Case::new(9, [0; 32], EASIEST.0);
    let by_number = |number: u64| &case.announcements[number as usize];
    let mut search = HeaderSearch::new(&case.header, Backend::Soft);
    let first = u32::MAX - 9;
    let one_by_one: Vec<_> = (0..20u32)
        .filter_map(|n| search.solution(first.wrapping_add(n), 9, by_number))
        .filter(|found| EASIEST.is_met_by(&found.work_hash))
        .collect();
    let mut batch = Vec::new();
    let mut tried = 0;
    while let Some(found) =
        search.search(first.wrapping_add(tried), 20 - tried, EASIEST, 9, by_number)
    {
        tried = found.low_nonce.wrapping_sub(first) + 1;
        batch.push(found);
    }
    assert_eq!(batch, one_by_one);
    assert!(batch.len() > 2 && batch.iter().any(|found| found.low_nonce < 10));
    let draws: Vec<u64> = batch.iter().map(|found| found.items[0]).collect();
    assert!(draws.iter().all(|item| *item == draws[0]), "the header fixes the first draw");
    assert_eq!(search.search(0, 100, EASIEST, 0, by_number), None);
    assert_eq!(search.solution(0, 0, by_number), None);
    assert_eq!(search.search(0, 0, EASIEST, 9, by_number), None);
}
