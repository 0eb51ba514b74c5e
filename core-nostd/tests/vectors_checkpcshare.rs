//! Shares and blocks that a real node judged (`vectors/pktd-rpc`), judged by the core from the same
//! bytes. The two points in which we are stricter than the node are named below.

use std::collections::HashMap;

use packetcrypt_core::block::{
    BlockError, BlockKind, CheckScratch, ParentHash, ProofError, ShareCheck, ShareError,
    validate_share,
};
use packetcrypt_core::{CompactTarget, Hash32};
use packetcrypt_vectors::{files, own, unhex_array};
use serde_json::Value;

/// Display hashes of the chain of these vectors by height.
fn chain_hashes() -> HashMap<u32, Hash32> {
    let mut hashes = HashMap::new();
    // A set without hashes is of the chain of the project's own copy.
    let own = own("pktd-rpc", "chain-hashes.json");
    for file in [own].into_iter().chain(files("pktd-rpc", "chain-hashes", "json")) {
        for (height, hash) in file.json()["hashes"].as_object().expect("hashes by height") {
            let hash = Hash32::from_display_hex(hash.as_str().unwrap()).unwrap();
            hashes.insert(height.parse().unwrap(), hash);
        }
    }
    hashes
}

/// Block, coinbase, branch, height and share target of a request.
type Request = (Vec<u8>, Vec<u8>, Vec<Hash32>, u32, u32);

/// The parts of a request, or `None` for one that is malformed as a request.
fn request(params: &Value) -> Option<Request> {
    let request = params.get(0)?;
    let bytes = |field: &str| hex::decode(request[field].as_str()?).ok();
    let number = |field: &str| u32::try_from(request[field].as_u64()?).ok();
    let branch = request["merklebranch"].as_array()?.iter();
    let branch = branch.map(|element| Hash32(unhex_array(element.as_str().unwrap()))).collect();
    Some((
        bytes("hexblock")?,
        bytes("coinbase")?,
        branch,
        number("height")?,
        number("sharetarget")?,
    ))
}

/// The node's verdict: the kind, or the key phrase of its error (spec 06, 1.3 and 4).
fn node_verdict(reply: &Value) -> Result<BlockKind, String> {
    match reply["result"].as_str() {
        Some("OK") => Ok(BlockKind::Share),
        Some("RESUBMIT_AS_BLOCK") => Ok(BlockKind::Block),
        _ => Err(reply["error"]["message"].as_str().unwrap_or_default().to_owned()),
    }
}

/// Key phrases of the node for an error of ours.
fn phrases(error: &ShareError) -> &'static [&'static str] {
    match error {
        ShareError::Header { .. } | ShareError::Entities(_) | ShareError::TransactionCount(_) => {
            &["Share decode failed"]
        }
        ShareError::Coinbase(_) => &["EOF"],
        ShareError::MerkleRoot { .. } => &["merkle root mismatch"],
        ShareError::NotStandard => &["non-standard / mutated"],
        ShareError::UnknownVersion { .. } => &[],
        ShareError::VersionHeight { .. } => &["Unallowed PacketCrypt proof version"],
        ShareError::Block(error) => match error {
            BlockError::BadCoinbase { .. } => &["missing packetcrypt commitment", "BAD_COINBASE"],
            BlockError::AnnContentInvalid(..) => &["content proof"],
            BlockError::AnnSigInvalid(_) => {
                &["missing announcement signature", "invalid announcement signature"]
            }
            BlockError::AnnInvalid(..) => &["could not get parent hash", "Validate_checkAnn"],
            BlockError::AnnInsufPow { .. } => &["Validate_checkBlock_ANN_INSUF_POW"],
            BlockError::PcpInval(_) => &["Validate_checkBlock_PCP_INVAL"],
            BlockError::PcpMismatch { .. } => &["Validate_checkBlock_PCP_MISMATCH"],
            BlockError::InsufPow { .. } => &["Validate_checkBlock_INSUF_POW"],
        },
    }
}

/// Whether we are right to say something else than the node.
fn is_stricter(node: &Result<BlockKind, String>, ours: &ShareError) -> bool {
    match ours {
        // Versions above 2 are refused (spec 04, 8).
        ShareError::UnknownVersion { version } => *version > 2 && node.is_ok(),
        // A short last element is not filled with zeros (spec 04, 5.5): the node accepts it, or
        // finds another root.
        ShareError::Block(BlockError::PcpInval(ProofError::Truncated)) => {
            node.as_ref().map_or_else(|phrase| phrase.contains("PCP_MISMATCH"), |_| true)
        }
        // The node has work before announcements, we have it last (spec 04, 11).
        ShareError::Block(_) => node.as_ref().is_err_and(|phrase| phrase.contains("INSUF_POW")),
        _ => false,
    }
}

#[test]
fn shares_as_the_node_judges_them() {
    let hashes = chain_hashes();
    let parent_at =
        |height| hashes.get(&height).map_or(ParentHash::Unknown, |hash| ParentHash::Known(*hash));
    let mut scratch = CheckScratch::new();
    for file in files("pktd-rpc", "checkpcshare", "json") {
        let json = file.json();
        let node = node_verdict(&json["reply"]);
        let Some((block, coinbase, branch, height, target)) = request(&json["request"]["params"])
        else {
            assert!(node.is_err(), "{} is no request, and the node took it", file.name);
            file.report(1);
            continue;
        };
        let share = ShareCheck {
            block: &block,
            coinbase: &coinbase,
            merkle_branch: &branch,
            height,
            share_target: CompactTarget(target),
            check_signatures: true,
        };
        match validate_share(&share, parent_at, &mut scratch) {
            Ok(valid) => assert_eq!(Ok(valid.kind), node, "{}", file.name),
            Err(error) => {
                let same = node.as_ref().is_err_and(|message| {
                    phrases(&error).iter().any(|phrase| message.contains(phrase))
                });
                let name = &file.name;
                assert!(same || is_stricter(&node, &error), "{name}: {node:?}, ours {error}");
            }
        }
        file.report(1);
    }
}
