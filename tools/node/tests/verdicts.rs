//! Recorded announcements, shares and blocks get the node's verdict from our own validator, as far
//! as PacketCrypt rules decide it (spec 06, 4).

use std::collections::BTreeMap;

use packetcrypt_core::announcement::{self, Announcement};
use packetcrypt_core::block::{
    AnnFault, BlockError, BlockKind, BlockOk, CheckScratch, ParentHash, SerializedBlock,
    ShareCheck, ShareError, Transaction, validate_share, versions,
};
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_core::error::AnnError;
use packetcrypt_core::primitives::dsha256;
use packetcrypt_vectors::{VectorFile, files, own};
use serde_json::Value;

type Chain = BTreeMap<u32, Hash32>;

fn chain() -> Chain {
    // A set without hashes is of the chain of the project's own copy.
    let mut chain = hashes(&own("pktd-rpc", "chain-hashes.json"));
    for file in files("pktd-rpc", "chain-hashes", "json") {
        let of_set = hashes(&file);
        file.report(of_set.len());
        chain.extend(of_set);
    }
    chain
}

fn hashes(file: &VectorFile) -> Chain {
    let json = file.json();
    let entry = |(height, hash): (&String, &Value)| {
        let hash = Hash32::from_display_hex(hash.as_str().unwrap()).unwrap();
        (height.parse().unwrap(), hash)
    };
    json["hashes"].as_object().unwrap().iter().map(entry).collect()
}

fn parent_in(chain: &Chain, height: u32) -> ParentHash {
    chain.get(&height).map_or(ParentHash::Unknown, |hash| ParentHash::Known(*hash))
}

/// Why our validator refuses.
#[derive(Debug)]
enum Refusal {
    /// The text is no hex, or there is no such parameter.
    Input,
    /// The bytes of the transactions.
    Transactions,
    Share(ShareError),
}

type Verdict = Result<BlockOk, Refusal>;

/// The phrase of the node belongs to our error.
fn is_same(phrase: &str, refusal: &Refusal) -> bool {
    use BlockError::{
        AnnContentInvalid, AnnInsufPow, AnnInvalid, AnnSigInvalid, BadCoinbase, InsufPow, PcpInval,
        PcpMismatch,
    };
    let says = |text: &str| phrase.contains(text);
    match refusal {
        Refusal::Input | Refusal::Transactions => says("(-22)") || says("(-32602)") || says("EOF"),
        Refusal::Share(ShareError::Header { .. })
        | Refusal::Share(ShareError::Entities(_))
        | Refusal::Share(ShareError::TransactionCount(_))
        | Refusal::Share(ShareError::Coinbase(_)) => says("(-22)") || says("EOF"),
        Refusal::Share(ShareError::MerkleRoot { .. }) => says("erkle root"),
        Refusal::Share(ShareError::NotStandard) => says("non-standard"),
        Refusal::Share(ShareError::VersionHeight { .. }) => says("Unallowed PacketCrypt proof"),
        Refusal::Share(ShareError::UnknownVersion { .. }) => false,
        // The node looks at the work first, our validator last: whatever else changed with the low
        // nonce is found before.
        Refusal::Share(ShareError::Block(_)) if says("checkBlock_INSUF_POW") => true,
        Refusal::Share(ShareError::Block(error)) => match error {
            BadCoinbase { least_work: None } => says("missing packetcrypt commitment"),
            BadCoinbase { .. } => says("BAD_COINBASE"),
            AnnContentInvalid(..) => says("content proof must be nil"),
            AnnSigInvalid(_) => says("announcement signature"),
            AnnInsufPow { .. } => says("ANN_INSUF_POW"),
            AnnInvalid(_, AnnFault::UnknownParent { .. }) => {
                says("could not get parent hash")
                    || says("missing block at height")
                    || says("parent block height exceeds")
                    // The node has the block, our view of the chain ends below it.
                    || says("ANN_INSUF_POW")
            }
            AnnInvalid(_, AnnFault::Version { .. }) => says("ANN_VERSION"),
            AnnInvalid(_, AnnFault::Check(AnnError::InvalItem4)) => says("INVAL_ITEM4"),
            AnnInvalid(..) => says("Validate_checkAnn"),
            PcpInval(_) => says("PCP_INVAL") || says("PCP_MISMATCH"),
            PcpMismatch { .. } => says("PCP_MISMATCH"),
            InsufPow { .. } => false,
        },
        #[allow(unreachable_patterns)]
        Refusal::Share(_) => false,
    }
}

#[test]
fn shares() {
    let chain = chain();
    let mut scratch = CheckScratch::new();
    for file in files("pktd-rpc", "checkpcshare-", "json") {
        let recording = file.json();
        let params = &recording["request"]["params"][0];
        let reply = &recording["reply"];
        let phrase = reply["error"]["message"].as_str().unwrap_or_default();
        // What the node says of the chain at the time of the call.
        let known = |height: u32| {
            if phrase.contains(&format!("parent hash at height [{height}]")) {
                ParentHash::Unknown
            } else {
                parent_in(&chain, height)
            }
        };
        let verdict = share_verdict(params, known, &mut scratch);
        let accepts = match reply["result"].as_str() {
            Some("OK") => Some(BlockKind::Share),
            Some("RESUBMIT_AS_BLOCK") => Some(BlockKind::Block),
            _ => None,
        };
        match (accepts, &verdict) {
            (Some(kind), Ok(ok)) => assert_eq!(ok.kind, kind, "{}", file.name),
            (Some(_), Err(refusal)) => {
                assert!(ours_is_stricter(refusal), "{}: {refusal:?}", file.name)
            }
            (None, Err(refusal)) => {
                assert!(is_same(phrase, refusal), "{}: {phrase} / {refusal:?}", file.name);
            }
            (None, Ok(_)) => panic!("{}: the node refuses: {phrase}", file.name),
        }
        file.report(1);
    }
}

/// What the node takes and we do not: proof versions above 2, and a tree proof cut within its last
/// element (spec 06, 1.4 and 2).
fn ours_is_stricter(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::Share(
            ShareError::UnknownVersion { .. } | ShareError::Block(BlockError::PcpInval(_))
        )
    )
}

fn share_verdict(
    params: &Value,
    parent_at: impl FnMut(u32) -> ParentHash,
    scratch: &mut CheckScratch,
) -> Verdict {
    let bytes = |key: &str| {
        params[key].as_str().and_then(|text| hex::decode(text).ok()).ok_or(Refusal::Input)
    };
    let branch = params["merklebranch"].as_array().ok_or(Refusal::Input)?;
    let branch: Vec<Hash32> =
        branch.iter().map(|hash| Hash32::from_hex(hash.as_str().unwrap()).unwrap()).collect();
    let share_target = params["sharetarget"].as_u64().ok_or(Refusal::Input)?;
    let share = ShareCheck {
        block: &bytes("hexblock")?,
        coinbase: &bytes("coinbase")?,
        merkle_branch: &branch,
        height: u32::try_from(params["height"].as_u64().ok_or(Refusal::Input)?).unwrap(),
        share_target: CompactTarget(u32::try_from(share_target).unwrap()),
        check_signatures: true,
    };
    validate_share(&share, parent_at, scratch).map_err(Refusal::Share)
}

#[test]
fn blocks() {
    let chain = chain();
    let mut scratch = CheckScratch::new();
    for file in files("pktd-rpc", "submitblock-", "json") {
        let recording = file.json();
        let reply = &recording["reply"];
        let error = reply["error"]["message"].as_str();
        let refused = reply["result"].as_str();
        let hex = recording["request"]["params"][0].as_str().unwrap();
        let verdict = block_verdict(hex, &chain, &mut scratch);
        match (error.or(refused), &verdict) {
            (None, Ok(ok)) => assert_eq!(ok.kind, BlockKind::Block, "{}", file.name),
            (None, Err(refusal)) => {
                assert!(ours_is_stricter(refusal), "{}: {refusal:?}", file.name)
            }
            (Some(phrase), Err(refusal)) if is_packetcrypt(phrase) => {
                assert!(is_same(phrase, refusal), "{}: {phrase} / {refusal:?}", file.name);
            }
            (Some(phrase), Ok(_)) => assert!(!is_packetcrypt(phrase), "{}: {phrase}", file.name),
            // Another rule of the chain refused it; the proof may have been spoiled with it.
            (Some(_), Err(_)) => {}
        }
        file.report(1);
    }
}

/// Whether a refusal is for a rule that our validator has.
fn is_packetcrypt(phrase: &str) -> bool {
    // That the previous block is unknown is a matter of the chain, not of the proof.
    let is_chain = phrase.contains("Context block node not found");
    let names = ["ErrBadPow", "ErrPowCannotVerify", "ErrBadMerkleRoot", "(-22)"];
    !is_chain && names.iter().any(|name| phrase.contains(name))
}

fn block_verdict(hex: &str, chain: &Chain, scratch: &mut CheckScratch) -> Verdict {
    let bytes = hex::decode(hex).map_err(|_| Refusal::Input)?;
    let block = SerializedBlock::decode(&bytes).map_err(Refusal::Share)?;
    let mut rest = block.transactions;
    let mut transactions = Vec::new();
    for _ in 0..block.transaction_count {
        let (transaction, after) =
            Transaction::parse_first(rest).map_err(|_| Refusal::Transactions)?;
        transactions.push(transaction);
        rest = after;
    }
    let coinbase = transactions.first().ok_or(Refusal::Transactions)?;
    let ids: Vec<Hash32> = transactions.iter().map(Transaction::id).collect();
    let height = claimed_height(coinbase).ok_or(Refusal::Transactions)?;
    let share = ShareCheck {
        block: &bytes,
        coinbase: coinbase.bytes(),
        merkle_branch: &branch_of_first(&ids),
        height,
        share_target: CompactTarget(0),
        check_signatures: true,
    };
    // Parents are looked for on the chain that ends in the block before.
    let previous = block.header.to_previous_height(chain).unwrap_or(height.saturating_sub(1));
    let parent_at = |parent: u32| {
        if parent > previous { ParentHash::Unknown } else { parent_in(chain, parent) }
    };
    validate_share(&share, parent_at, scratch).map_err(Refusal::Share)
}

trait PreviousHeight {
    fn to_previous_height(&self, chain: &Chain) -> Option<u32>;
}

impl PreviousHeight for packetcrypt_core::block::BlockHeader {
    fn to_previous_height(&self, chain: &Chain) -> Option<u32> {
        use zerocopy::IntoBytes as _;
        let previous = Hash32(self.as_bytes()[4..36].try_into().ok()?);
        chain.iter().find(|(_, hash)| **hash == previous).map(|(height, _)| *height)
    }
}

/// The height that the script of a coinbase pushes first.
fn claimed_height(coinbase: &Transaction<'_>) -> Option<u32> {
    let [_, body, _] = coinbase.parts_without_witness();
    // One input: its count, outpoint and length of script.
    let script = body.get(1 + 36 + 1..)?;
    let (&push, rest) = script.split_first()?;
    match push {
        0x51..=0x60 => Some(u32::from(push - 0x50)),
        1..=4 => {
            let mut word = [0; 4];
            word[..usize::from(push)].copy_from_slice(rest.get(..usize::from(push))?);
            Some(u32::from_le_bytes(word))
        }
        _ => None,
    }
}

/// The branch of transaction 0 in the tree of these ids.
fn branch_of_first(ids: &[Hash32]) -> Vec<Hash32> {
    let mut layer = ids.to_vec();
    let mut branch = Vec::new();
    while layer.len() > 1 {
        branch.push(layer[1]);
        layer = layer
            .chunks(2)
            .map(|pair| dsha256(&[pair[0].0, pair[pair.len() - 1].0].concat()))
            .collect();
    }
    branch
}

#[test]
fn announcements() {
    let chain = chain();
    let mut scratch = announcement::CheckScratch::new();
    for file in files("pktd-rpc", "checkpcann-", "json") {
        let recording = file.json();
        let params = recording["request"]["params"].as_array().unwrap();
        let phrase = recording["reply"]["error"]["message"].as_str().unwrap_or_default();
        let verdict = ann_verdict(params, &chain, &mut scratch);
        match (recording["reply"]["result"]["workhash"].as_str(), &verdict) {
            (Some(hash), Ok(found)) => assert_eq!(found.display().to_string(), hash),
            (None, Err(fault)) => {
                assert!(is_same_ann(phrase, fault.as_ref()), "{}: {phrase} / {fault:?}", file.name);
            }
            (recorded, found) => panic!("{}: {recorded:?} / {found:?}", file.name),
        }
        file.report(1);
    }
}

/// `None` is an input that is no announcement.
fn ann_verdict(
    params: &[Value],
    chain: &Chain,
    scratch: &mut announcement::CheckScratch,
) -> Result<Hash32, Option<AnnFault>> {
    let bytes = params[0].as_str().and_then(|text| hex::decode(text).ok()).ok_or(None)?;
    let announcement = Announcement::from_bytes(bytes.first_chunk().ok_or(None)?);
    let height = announcement.parent_block_height();
    let proof_version = params.get(1).and_then(Value::as_u64).unwrap_or(1);
    let parent = match params.get(2).and_then(Value::as_str) {
        Some(hash) => Hash32::from_display_hex(hash).map_err(|_| None)?,
        None => *chain.get(&height).ok_or(Some(AnnFault::UnknownParent { height }))?,
    };
    let version = announcement.version();
    if !versions::announcement_allowed(version, height, proof_version) {
        return Err(Some(AnnFault::Version { version, height }));
    }
    announcement::check(announcement, &parent, scratch).map_err(|e| Some(AnnFault::Check(e)))
}

fn is_same_ann(phrase: &str, fault: Option<&AnnFault>) -> bool {
    let says = |text: &str| phrase.contains(text);
    match fault {
        None => says("(-22)") || says("EOF"),
        Some(AnnFault::UnknownParent { .. }) => says("Could not get parent hash"),
        Some(AnnFault::Version { .. }) => says("ANN_VERSION"),
        Some(AnnFault::Check(error)) => match error {
            // We refuse such targets before anything else; the node closes the connection without
            // a reply, or finds that what is decrypted is noise.
            AnnError::BadWorkBits => phrase.is_empty() || says("INVAL_ITEM4"),
            AnnError::SoftNonceHigh => says("SOFT_NONCE_HIGH"),
            AnnError::InvalItem4 => says("INVAL_ITEM4"),
            AnnError::Inval => says("INVAL_MERKLE") || says("_INVAL"),
            AnnError::InsufPow(_) => says("INSUF_POW"),
            _ => says("BAD_PROGRAM"),
        },
    }
}
