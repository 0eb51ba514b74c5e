//! Properties of the block rules on random inputs: exact arithmetic against an oracle, proofs of
//! random trees, decoders on hostile bytes.

use num_bigint::BigUint;
use packetcrypt_core::announcement::Announcement;
use packetcrypt_core::block::entities::EntityWriter;
use packetcrypt_core::block::proof::{self, PROOF_BYTES_MAX};
use packetcrypt_core::block::{
    Entities, Entry, SerializedBlock, Transaction, Tree, TreeError, coinbase, content, tree, varint,
};
use packetcrypt_core::difficulty::{self, NOT_USABLE, Natural};
use packetcrypt_core::{CompactTarget, Hash32};
use proptest::collection::vec;
use proptest::prelude::*;

fn two_to_256() -> BigUint {
    BigUint::from(1u8) << 256
}

/// Spec 01, 6 on any word without sign.
fn oracle_target(word: u32) -> BigUint {
    let (exponent, mantissa) = (word >> 24, BigUint::from(word & 0x007f_ffff));
    if exponent < 3 { mantissa >> (8 * (3 - exponent)) } else { mantissa << (8 * (exponent - 3)) }
}

fn oracle_encode(value: &BigUint) -> u32 {
    let mut size = value.bits().div_ceil(8) as u32;
    let shifted = if size <= 3 { value << (8 * (3 - size)) } else { value >> (8 * (size - 3)) };
    let mut mantissa = u32::try_from(shifted).unwrap();
    if mantissa & 0x0080_0000 != 0 {
        mantissa >>= 8;
        size += 1;
    }
    if mantissa == 0 { 0 } else { size << 24 | mantissa }
}

fn oracle_work(target: &BigUint) -> BigUint {
    two_to_256() / (target + 1u8)
}

fn oracle_target_for_work(work: &BigUint) -> BigUint {
    if *work == BigUint::ZERO {
        two_to_256()
    } else if *work > two_to_256() {
        BigUint::ZERO
    } else {
        two_to_256() / work - 1u8
    }
}

fn oracle_effective(block: u32, ann: u32, count: u64, version: u64) -> u32 {
    let block_work = oracle_work(&oracle_target(block));
    let ann_work = oracle_work(&oracle_target(ann));
    let cube = &block_work * &block_work * &block_work;
    let work = if count == 0 {
        two_to_256()
    } else if version >= 2 {
        // Nested divisions, as the references do it.
        ((cube / ann_work) >> 10) / (BigUint::from(count) * count)
    } else {
        cube / ann_work / count
    };
    oracle_encode(&oracle_target_for_work(&work)).min(0x207f_ffff)
}

fn natural(value: &BigUint) -> Natural {
    Natural::from_le_bytes(&value.to_bytes_le()).unwrap()
}

prop_compose! {
    /// Words of all exponents that are well-formed.
    fn well_formed()(exponent in 1u32..=0x20, mantissa in 1u32..=0x007f_ffff) -> u32 {
        let word = exponent << 24 | mantissa;
        if CompactTarget(word).is_well_formed() { word } else { 0x0300_0001 }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn effective_targets_are_exact(
        block in well_formed(),
        ann in well_formed(),
        count in any::<u64>(),
        shift in 0u32..64,
        version in 0u64..4,
    ) {
        let count = count >> shift;
        let have = difficulty::effective_target(
            CompactTarget(block), CompactTarget(ann), count, version,
        );
        prop_assert_eq!(have, CompactTarget(oracle_effective(block, ann, count, version)));
        let work = oracle_work(&oracle_target(ann));
        let multiplier = (work * count * count) >> 10;
        let want = u64::try_from(multiplier).unwrap_or(u64::MAX);
        prop_assert_eq!(difficulty::hashrate_multiplier(CompactTarget(ann), count), want);
    }

    #[test]
    fn works_and_targets_are_exact(bytes in vec(any::<u8>(), 0..40)) {
        let value = BigUint::from_bytes_le(&bytes);
        let have = difficulty::work_for_target(&natural(&value));
        prop_assert_eq!(have, natural(&oracle_work(&value)));
        let have = difficulty::target_for_work(&natural(&value));
        prop_assert_eq!(have, natural(&oracle_target_for_work(&value)));
        let have = difficulty::encode(&natural(&value));
        prop_assert_eq!(have, CompactTarget(oracle_encode(&value)));
    }

    #[test]
    fn aged_targets_are_exact(word in well_formed(), age in 0u32..300) {
        let have = difficulty::aged_target(CompactTarget(word), age, 2);
        let want = match age {
            0..3 => NOT_USABLE.0,
            3 => word,
            _ => {
                let aged = oracle_target(word) << (age - 3);
                if aged.bits() > 255 { NOT_USABLE.0 } else { oracle_encode(&aged) }
            }
        };
        prop_assert_eq!(have, CompactTarget(want));
        let have = difficulty::aged_target(CompactTarget(word), age, 1);
        let want = match age {
            0..3 => NOT_USABLE.0,
            3 => oracle_encode(&oracle_target(word)),
            _ => {
                let work = oracle_work(&oracle_target(word)) / (age - 3);
                let aged = oracle_encode(&oracle_target_for_work(&work));
                if aged > 0x207f_ffff { NOT_USABLE.0 } else { aged }
            }
        };
        prop_assert_eq!(have, CompactTarget(want));
    }

    #[test]
    fn any_word_has_a_result(block: u32, ann: u32, count: u64, age: u32, version: u64) {
        let (block, ann) = (CompactTarget(block), CompactTarget(ann));
        let effective = difficulty::effective_target(block, ann, count, version);
        prop_assert!(effective <= CompactTarget::MAX);
        let aged = difficulty::aged_target(ann, age, version);
        prop_assert!(aged <= CompactTarget::MAX || aged == NOT_USABLE);
        let _ = difficulty::hashrate_multiplier(ann, count);
        prop_assert_eq!(difficulty::min_ann_diff_ok(ann), ann.is_well_formed());
    }

    #[test]
    fn varints_round_trip(value: u64, shift in 0u32..64) {
        let value = value >> shift;
        let (bytes, len) = varint::encode(value);
        prop_assert_eq!(len, varint::len(value));
        let mut rest = &bytes[..len];
        prop_assert_eq!(varint::take(&mut rest), Ok(value));
        prop_assert!(rest.is_empty());
    }
}

/// A random tree: hashes from a seed, indexed.
fn random_tree(count: usize, seed: u64) -> (Vec<Hash32>, Vec<Entry>) {
    let mut hashes: Vec<Hash32> = (0..count as u64)
        .map(|number| {
            let mut message = seed.to_le_bytes().to_vec();
            message.extend(number.to_le_bytes());
            packetcrypt_core::primitives::compress32(&message)
        })
        .collect();
    let kept = tree::index(&mut hashes);
    hashes.truncate(kept);
    let mut entries = vec![Entry::PAD; tree::entries_len(kept as u64).unwrap() as usize];
    Tree::build(kept as u64, &mut entries, |i| hashes[i as usize]).unwrap();
    (hashes, entries)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn proofs_check_and_altered_proofs_do_not(
        count in 1usize..300,
        seed: u64,
        items: [u64; 4],
        at: prop::sample::Index,
        bit in 0u32..8,
        which in 0usize..4,
    ) {
        let (hashes, entries) = random_tree(count, seed);
        let count = hashes.len() as u64;
        let tree = Tree::from_entries(count, &entries).unwrap();
        let mut out = [0; PROOF_BYTES_MAX];
        let drawn = items.map(|item| hashes[(item % count) as usize]);
        let made = proof::make(&tree, &items, &mut out);
        if count.is_multiple_of(2) && items.iter().any(|item| item % count == count - 1) {
            prop_assert_eq!(made, Err(TreeError::LastOfEven));
            return Ok(());
        }
        let len = made.unwrap();
        let check = |drawn: &[Hash32; 4], proof: &[u8]| proof::pcp_hash(drawn, count, &items, proof);
        prop_assert_eq!(check(&drawn, &out[..len]), Ok(tree.root()));
        let mut altered = out[..len].to_vec();
        altered[at.index(len)] ^= 1 << bit;
        prop_assert_ne!(check(&drawn, &altered), Ok(tree.root()));
        let mut other = drawn;
        other[which].0[at.index(32)] ^= 1 << bit;
        prop_assert_ne!(check(&other, &out[..len]), Ok(tree.root()));
        prop_assert!(check(&drawn, &out[..at.index(len)]).is_err());
        let mut shifted = items;
        shifted[which] = shifted[which].wrapping_add(1);
        if shifted[which] % count != items[which] % count {
            prop_assert_ne!(proof::pcp_hash(&drawn, count, &shifted, &out[..len]), Ok(tree.root()));
        }
    }

    #[test]
    fn layouts_of_any_tree_are_bounded(count in 1u64..u64::MAX, items: [u64; 4], shift in 0u32..64) {
        let count = (count >> shift).max(1);
        let height = tree::height(count) as usize;
        let nodes: Vec<proof::Node> = proof::layout(count, &items).unwrap().collect();
        if height > 1 {
            prop_assert!(nodes.len() <= 8 * height - 9);
        }
        let bytes: usize = nodes
            .iter()
            .map(|node| 8 * usize::from(node.writes_range()) + 32 * usize::from(node.writes_hash()))
            .sum();
        prop_assert!((40..=PROOF_BYTES_MAX).contains(&bytes));
    }

    #[test]
    fn hostile_proofs_are_judged(
        count: u64, shift in 0u32..64, items: [u64; 4], hashes: [[u8; 32]; 4], zeros: bool,
        proof in vec(any::<u8>(), 0..600),
    ) {
        let hashes = if zeros { [Hash32::ZERO; 4] } else { hashes.map(Hash32) };
        let _ = proof::pcp_hash(&hashes, count >> shift, &items, &proof);
    }

    #[test]
    fn hostile_bytes_are_judged(bytes in vec(any::<u8>(), 0..6000)) {
        let _ = Entities::decode(&bytes);
        let _ = SerializedBlock::decode(&bytes);
        let _ = coinbase::find_placeholder(&bytes);
        if let Ok((transaction, rest)) = Transaction::parse_first(&bytes) {
            prop_assert_eq!(transaction.bytes().len() + rest.len(), bytes.len());
            let _ = coinbase::find_commitment(&transaction);
        }
    }

    #[test]
    fn hostile_content_proofs_are_judged(
        len: u32, index: u32, shift in 0u32..32, proof in vec(any::<u8>(), 0..1000),
    ) {
        let len = len >> shift;
        prop_assert!(content::proof_bytes(len, index) <= 29 * 32);
        let _ = content::proof_ok(len, &[0; 32], index, &proof);
    }

    #[test]
    fn entities_round_trip(
        low_nonce: u32,
        signed: [bool; 4],
        tree_proof in vec(any::<u8>(), 1..500),
        content in vec(any::<u8>(), 0..300),
        version in 0u64..100_000,
        cut: prop::sample::Index,
    ) {
        let announcements: [[u8; 1024]; 4] = std::array::from_fn(|at| {
            let mut ann = [at as u8; 1024];
            ann[56..88].fill(u8::from(signed[at]));
            ann
        });
        let announcements = announcements.each_ref().map(Announcement::from_bytes);
        let signatures: [[u8; 64]; 4] = std::array::from_fn(|at| [at as u8 + 1; 64]);
        let signatures = std::array::from_fn(|at| signed[at].then_some(&signatures[at]));
        let mut out = vec![0; 8000];
        let mut writer = EntityWriter::new(&mut out);
        writer.proof(low_nonce, &announcements, &tree_proof).unwrap();
        writer.signatures(&signatures).unwrap().content_proofs(&content).unwrap();
        writer.version(version).unwrap().end().unwrap();
        let len = writer.written();
        let (entities, rest) = Entities::decode(&out[..len]).unwrap();
        prop_assert!(rest.is_empty() && entities.is_standard());
        prop_assert_eq!(entities.low_nonce, low_nonce);
        prop_assert_eq!(entities.announcements.map(Announcement::to_bytes),
            announcements.map(Announcement::to_bytes));
        prop_assert_eq!(entities.tree_proof, &tree_proof[..]);
        prop_assert_eq!(entities.signatures, signatures);
        prop_assert_eq!(entities.content_proofs.unwrap_or_default(), &content[..]);
        prop_assert_eq!(entities.version, version);
        prop_assert!(Entities::decode(&out[..cut.index(len)]).is_err());
    }

    #[test]
    fn transactions_round_trip(
        inputs in vec(vec(any::<u8>(), 0..80), 1..4),
        outputs in vec((any::<u64>(), vec(any::<u8>(), 0..300)), 0..5),
        witness in vec(any::<u8>(), 0..40),
        cut: prop::sample::Index,
    ) {
        let sized = |bytes: &[u8]| {
            let (head, len) = varint::encode(bytes.len() as u64);
            [&head[..len], bytes].concat()
        };
        let mut body = vec![inputs.len() as u8];
        for script in &inputs {
            body.extend([7; 36]);
            body.extend(sized(script));
            body.extend([0xff; 4]);
        }
        body.push(outputs.len() as u8);
        for (value, script) in &outputs {
            body.extend(value.to_le_bytes());
            body.extend(sized(script));
        }
        let plain = [&[1, 0, 0, 0][..], &body, &[9; 4]].concat();
        let mut with_witness = [&[1, 0, 0, 0, 0, 1][..], &body].concat();
        for _ in &inputs {
            with_witness.push(1);
            with_witness.extend(sized(&witness));
        }
        with_witness.extend([9; 4]);
        let bare = Transaction::parse(&plain).unwrap();
        let full = Transaction::parse(&with_witness).unwrap();
        prop_assert!(!bare.has_witness() && full.has_witness());
        prop_assert_eq!(bare.id(), full.id());
        prop_assert_eq!(bare.id(), packetcrypt_core::primitives::dsha256(&plain));
        for transaction in [&bare, &full] {
            prop_assert_eq!(transaction.parts_without_witness().concat(), plain.clone());
            let have: Vec<_> =
                transaction.outputs().map(|out| (out.value, out.script.to_vec())).collect();
            prop_assert_eq!(&have, &outputs);
            prop_assert_eq!(transaction.output_count(), outputs.len() as u64);
        }
        prop_assert!(Transaction::parse(&plain[..cut.index(plain.len())]).is_err());
        prop_assert!(Transaction::parse(&with_witness[..cut.index(with_witness.len())]).is_err());
    }
}
