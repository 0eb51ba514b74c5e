//! `packetcrypt check block`.

use std::path::PathBuf;

use clap::Args;
use packetcrypt_core::block::{
    BlockCheck, BlockError, BlockHeader, BlockOk, CheckScratch, Entities, ParentHash, Transaction,
    check_block, coinbase, entities, versions,
};
use packetcrypt_core::{CompactTarget, Hash32};
use serde::Deserialize;

use super::lines::{self, LINE_BYTES_MAX, Verdict, unhex};
use super::{open, print, read_all};
use crate::failure::Failure;

/// Check a block or share
///
/// Checks a block or share: its proof, the four announcements, the work.
#[derive(Args, Debug)]
#[command(after_help = "\
FILE is a JSON object, or a serialised block as the node gives it (binary or hex: header, proof,
transactions), for which --height and, to have the announcements checked, --parent are needed.

Fields of the object, bytes in hex, hashes in internal order:
  header         80 bytes
  pcp            the proof: entities with their end
  coinbase       the coinbase transaction with the commitment
  height         height of the block
  share_target   compact target of a share; 0 or absent: blocks only
  parent_hashes  of the four announcements in order, null for an unknown block; absent: the
                 announcements are not checked
  merkle_branch  from the coinbase to the root in the header; absent: the root is not checked
  name           repeated in the verdict

The result is that of the PacketCrypt check alone: OK, SHARE_OK, or the class of the error, with the
number of the announcement where there is one, e.g. ANN_INVALID(3); DECODE when the proof can not be
read. What a node would object to beside it (merkle root, form, proof version) is noted; with
--strict it makes the block invalid.

Examples:
  packetcrypt check block block.json
  packetcrypt check block block.hex --height 300000 --parent <hash>,<hash>,<hash>,<hash>
  packetcrypt check block --ndjson < blocks.ndjson")]
pub(super) struct BlockArgs {
    /// A JSON object or a serialised block; `-` for standard input
    #[arg(required_unless_present = "ndjson")]
    file: Option<PathBuf>,
    /// Height of the block; comes before what FILE says
    #[arg(long, conflicts_with = "ndjson")]
    height: Option<u32>,
    /// Compact target of a share, e.g. 0x1f00ffff
    #[arg(long, value_name = "WORD", value_parser = word, conflicts_with = "ndjson")]
    share_target: Option<u32>,
    /// Hashes of the parent blocks of the four announcements, as explorers and nodes show them;
    /// without them the announcements are not checked
    #[arg(long, value_name = "HASH,..", value_delimiter = ',', conflicts_with = "ndjson")]
    parent: Vec<String>,
    /// The coinbase in hex, when FILE has none (a share)
    #[arg(long, value_name = "HEX", conflicts_with = "ndjson")]
    coinbase: Option<String>,
    /// Merkle branch of the coinbase, bottom up, in internal order
    #[arg(long, value_name = "HASH,..", value_delimiter = ',', conflicts_with = "ndjson")]
    branch: Vec<String>,
    /// Refuse what a node would refuse beside the PacketCrypt check
    #[arg(long)]
    strict: bool,
    /// Read one JSON object a line, from FILE or standard input
    #[arg(long)]
    ndjson: bool,
}

/// Said of each block whose announcements could not be checked.
const ANNOUNCEMENTS_UNCHECKED: &str =
    "the announcements were not checked: the hashes of their parents are not given";

/// A compact target, decimal or hex.
fn word(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| error.to_string())
}

pub(super) fn run(args: &BlockArgs) -> Result<(), Failure> {
    let path = args.file.clone().unwrap_or_else(|| PathBuf::from("-"));
    let mut scratch = CheckScratch::new();
    if args.ndjson {
        return lines::judge(open(&path)?, |object| {
            let block = serde_json::from_value(object).map_err(|error| error.to_string())?;
            judge(&Parts::of_object(&block)?, args.strict, &mut scratch)
        });
    }
    let bytes = read_all(&path, LINE_BYTES_MAX)?;
    let named = |error: String| Failure::usage(format!("{}: {error}", path.display()));
    let parts = if bytes.trim_ascii_start().starts_with(b"{") {
        let mut object: BlockObject =
            serde_json::from_slice(&bytes).map_err(|error| named(error.to_string()))?;
        object.height = args.height.or(object.height);
        object.share_target = args.share_target.or(object.share_target);
        let mut parts = Parts::of_object(&object).map_err(named)?;
        parts.replace(args).map_err(named)?;
        parts
    } else {
        Parts::of_block(binary(bytes), args).map_err(named)?
    };
    let verdict = judge(&parts, args.strict, &mut scratch).map_err(named)?;
    let mut text = verdict.result.clone();
    if let Some(hash) = &verdict.work_hash {
        text.push_str(&format!(", work hash {hash}"));
    }
    print(&text)?;
    for note in verdict.message.iter().chain(&verdict.notes) {
        print(&format!("  {note}"))?;
    }
    if verdict.is_valid { Ok(()) } else { Err(Failure::Invalid) }
}

/// Bytes that may be written in hex.
fn binary(bytes: Vec<u8>) -> Vec<u8> {
    hex::decode(bytes.trim_ascii()).unwrap_or(bytes)
}

/// Fields of an object, named as in the vectors.
#[derive(Deserialize)]
struct BlockObject {
    header: String,
    pcp: String,
    coinbase: String,
    height: Option<u32>,
    share_target: Option<u32>,
    parent_hashes: Option<[Option<String>; entities::ANNOUNCEMENTS]>,
    merkle_branch: Option<Vec<String>>,
}

/// What is checked.
struct Parts {
    header: BlockHeader,
    entities: Vec<u8>,
    coinbase: Vec<u8>,
    height: u32,
    share_target: CompactTarget,
    parent_hashes: Option<[ParentHash; entities::ANNOUNCEMENTS]>,
    merkle_branch: Option<Vec<Hash32>>,
}

impl Parts {
    fn of_object(object: &BlockObject) -> Result<Self, String> {
        let parent = |text: &Option<String>| match text {
            Some(text) => hash("parent_hashes", text).map(ParentHash::Known),
            None => Ok(ParentHash::Unknown),
        };
        let parents: Option<Vec<ParentHash>> = match &object.parent_hashes {
            Some(texts) => Some(texts.iter().map(parent).collect::<Result<_, _>>()?),
            None => None,
        };
        let branch = object.merkle_branch.as_deref();
        Ok(Self {
            header: header(&unhex("header", &object.header)?)?,
            entities: unhex("pcp", &object.pcp)?,
            coinbase: unhex("coinbase", &object.coinbase)?,
            height: object.height.ok_or("height: missing")?,
            share_target: CompactTarget(object.share_target.unwrap_or(0)),
            parent_hashes: parents.and_then(|list| list.try_into().ok()),
            merkle_branch: branch.map(|list| hashes("merkle_branch", list)).transpose()?,
        })
    }

    /// A serialised block; its parts that do not decode are found by the check.
    fn of_block(bytes: Vec<u8>, args: &BlockArgs) -> Result<Self, String> {
        let (head, rest) = bytes
            .split_at_checked(BlockHeader::BYTES)
            .ok_or_else(|| format!("{} bytes, a header alone has 80", bytes.len()))?;
        let tail = Entities::decode(rest).map_or(&[][..], |(_, tail)| tail);
        let entities = rest[..rest.len() - tail.len()].to_vec();
        let coinbase = match &args.coinbase {
            Some(_) => Vec::new(),
            None => first_transaction(tail)?,
        };
        let mut parts = Self {
            header: header(head)?,
            entities,
            coinbase,
            height: args.height.ok_or("--height is needed for a serialised block")?,
            share_target: CompactTarget(args.share_target.unwrap_or(0)),
            parent_hashes: None,
            merkle_branch: None,
        };
        parts.replace(args)?;
        Ok(parts)
    }

    /// What the options say instead of the file.
    fn replace(&mut self, args: &BlockArgs) -> Result<(), String> {
        if let Some(text) = &args.coinbase {
            self.coinbase = unhex("--coinbase", text)?;
        }
        if !args.branch.is_empty() {
            self.merkle_branch = Some(hashes("--branch", &args.branch)?);
        }
        let parent = |text: &String| {
            Hash32::from_display_hex(text)
                .map(ParentHash::Known)
                .map_err(|error| format!("--parent {text:?}: {error}"))
        };
        let parents = args.parent.iter().map(parent).collect::<Result<Vec<_>, _>>()?;
        if !parents.is_empty() {
            let count = parents.len();
            let array = parents.try_into().map_err(|_| {
                format!("--parent: {count} hashes, must be one for each of the 4 announcements")
            })?;
            self.parent_hashes = Some(array);
        }
        Ok(())
    }
}

/// The coinbase in what follows the proof: a count and the transactions.
fn first_transaction(mut tail: &[u8]) -> Result<Vec<u8>, String> {
    let count = packetcrypt_core::block::varint::take(&mut tail)
        .map_err(|_| "the proof or the number of transactions can not be read".to_owned())?;
    if count == 0 {
        return Err("it has no transactions: give the coinbase with --coinbase".to_owned());
    }
    let (first, _) =
        Transaction::parse_first(tail).map_err(|error| format!("coinbase: {error}"))?;
    Ok(first.bytes().to_vec())
}

fn header(bytes: &[u8]) -> Result<BlockHeader, String> {
    let bytes =
        bytes.try_into().map_err(|_| format!("header: {} bytes, must be 80", bytes.len()))?;
    Ok(BlockHeader(bytes))
}

fn hash(key: &str, text: &str) -> Result<Hash32, String> {
    Hash32::from_hex(text).map_err(|error| format!("{key}: {text:?}: {error}"))
}

fn hashes(key: &str, texts: &[String]) -> Result<Vec<Hash32>, String> {
    texts.iter().map(|text| hash(key, text)).collect()
}

fn judge(parts: &Parts, strict: bool, scratch: &mut CheckScratch) -> Result<Verdict, String> {
    let mut notes = Vec::new();
    let decoded = match Entities::decode(&parts.entities) {
        Ok((entities, [])) => entities,
        Ok((_, rest)) => return Ok(undecoded(format!("{} bytes follow the proof", rest.len()))),
        Err(error) => return Ok(undecoded(error.to_string())),
    };
    let commitment = match Transaction::parse(&parts.coinbase) {
        Ok(transaction) => {
            if let Some(branch) = &parts.merkle_branch {
                let computed = coinbase::merkle_root(transaction.id(), branch);
                if computed != parts.header.merkle_root() {
                    notes.push("the merkle root does not fit coinbase and branch".to_owned());
                }
            }
            coinbase::find_commitment(&transaction)
        }
        Err(error) => {
            notes.push(format!("coinbase: {error}"));
            None
        }
    };
    if !decoded.is_standard() {
        notes.push("the proof is not in standard form".to_owned());
    }
    let version = decoded.version;
    if !versions::is_known(version) || !versions::allowed_at(version, parts.height) {
        notes.push(format!("proof version {version} is not allowed at height {}", parts.height));
    }
    let check = BlockCheck {
        header: &parts.header,
        entities: &decoded,
        commitment: commitment.as_ref(),
        height: parts.height,
        share_target: parts.share_target,
        parent_hashes: parts.parent_hashes.as_ref(),
        check_signatures: true,
    };
    let mut verdict = verdict(check_block(&check, scratch));
    verdict.is_valid &= !strict || notes.is_empty();
    if parts.parent_hashes.is_none() {
        notes.push(ANNOUNCEMENTS_UNCHECKED.to_owned());
    }
    verdict.notes = notes;
    Ok(verdict)
}

fn undecoded(message: String) -> Verdict {
    Verdict {
        name: None,
        result: "DECODE".to_owned(),
        code: None,
        work_hash: None,
        message: Some(message),
        notes: Vec::new(),
        is_valid: false,
    }
}

fn verdict(result: Result<BlockOk, BlockError>) -> Verdict {
    let name = match &result {
        Ok(valid) => valid.kind.name().to_owned(),
        Err(error) => match error.index() {
            Some(index) => format!("{}({index})", error.name()),
            None => error.name().to_owned(),
        },
    };
    let work_hash = match &result {
        Ok(BlockOk { work_hash, .. }) | Err(BlockError::InsufPow { work_hash }) => {
            Some(work_hash.hex().to_string())
        }
        Err(_) => None,
    };
    Verdict {
        name: None,
        result: name,
        code: Some(result.as_ref().map_or_else(BlockError::code, |valid| valid.kind.code())),
        work_hash,
        message: result.as_ref().err().map(ToString::to_string),
        notes: Vec::new(),
        is_valid: result.is_ok(),
    }
}
