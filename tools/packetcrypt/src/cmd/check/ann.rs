//! `packetcrypt check ann`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use packetcrypt_core::announcement::{
    Announcement, BatchScratch, CheckScratch, check_batch, check_v0,
};
use packetcrypt_core::params::VERSION_1_HEIGHT_MIN;
use packetcrypt_core::{AnnError, Backend, Hash32};
use packetcrypt_jit::AnyExecutor;
use packetcrypt_proto::ANNOUNCEMENT_BYTES;
use serde::Deserialize;
use serde_json::Value;

use super::lines::{self, Verdict, unhex};
use super::{open, print};
use crate::failure::Failure;

/// Check announcements against their parent block
///
/// Checks announcements: the proof, the work, and that they belong to the parent block.
#[derive(Args, Debug)]
#[command(after_help = "\
Prints OK with the work hash (in memory order), or the class of the error and what it means.

An announcement of version 0 is checked by the historic rule when its parent block is old enough to
have such ones, else refused. Block and announcement ages are not looked at: they depend on the block.

With --ndjson each line is an object with `ann` (hex of 1024 bytes; or `announcement`),
`parent_block_hash` (hex in internal order) and, if wanted, `name`; each verdict is
  {\"name\":..,\"result\":\"OK\"|\"INSUF_POW\"|..,\"code\":0..4,\"work_hash\":hex,\"message\":..}
and a line that can not be read gives {\"line\":n,\"error\":..}.

Examples:
  packetcrypt check ann announcement.bin --parent 2550...5e48
  packetcrypt check ann --ndjson < many.ndjson")]
pub(super) struct AnnArgs {
    /// One announcement of 1024 bytes or several without gaps; `-` for standard input
    #[arg(required_unless_present = "ndjson")]
    file: Option<PathBuf>,
    /// Hash of the parent block as explorers and nodes show it. Where that does not fit, internal
    /// order is tried as well
    #[arg(long, value_name = "HASH", required_unless_present = "ndjson")]
    parent: Option<String>,
    /// The hash is in internal order: the bytes as they are hashed
    #[arg(long)]
    internal: bool,
    /// Read one JSON object a line, from FILE or standard input
    #[arg(long, conflicts_with_all = ["parent", "internal"])]
    ndjson: bool,
}

pub(super) fn run(args: &AnnArgs) -> Result<(), Failure> {
    let path = args.file.clone().unwrap_or_else(|| PathBuf::from("-"));
    let mut checker = Checker::new();
    if args.ndjson {
        return lines::judge(open(&path)?, |object| judge_object(object, &mut checker));
    }
    let parents = parent_readings(args.parent.as_deref().unwrap_or_default(), args.internal)?;
    let mut input = open(&path)?;
    let first = read_one(&mut input, &path, 0)?.ok_or_else(|| wrong_length(&path, 0))?;
    let mut next = Some(first);
    let (mut number, mut are_all_valid) = (0, true);
    while let Some(bytes) = next {
        next = read_one(&mut input, &path, number + 1)?;
        let verdict = verdict(best_reading(&bytes, &parents, &mut checker));
        are_all_valid &= verdict.is_valid;
        // One announcement needs no number.
        match (number, &next) {
            (0, None) => print(&describe(&verdict))?,
            _ => print(&format!("{number}: {}", describe(&verdict)))?,
        }
        number += 1;
    }
    if are_all_valid { Ok(()) } else { Err(Failure::Invalid) }
}

/// The next announcement of a file, `None` at its end.
fn read_one(
    input: &mut impl Read,
    path: &Path,
    number: u64,
) -> Result<Option<[u8; ANNOUNCEMENT_BYTES]>, Failure> {
    let mut bytes = Vec::with_capacity(ANNOUNCEMENT_BYTES);
    input
        .take(ANNOUNCEMENT_BYTES as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    match <[u8; ANNOUNCEMENT_BYTES]>::try_from(bytes.as_slice()) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) if bytes.is_empty() => Ok(None),
        Err(_) => Err(wrong_length(path, number * ANNOUNCEMENT_BYTES as u64 + bytes.len() as u64)),
    }
}

fn wrong_length(path: &Path, bytes: u64) -> Failure {
    Failure::usage(format!(
        "{}: {bytes} bytes, must be a multiple of {ANNOUNCEMENT_BYTES} and not 0",
        path.display()
    ))
}

/// What the hash of a parent may mean.
fn parent_readings(text: &str, is_internal: bool) -> Result<Vec<Hash32>, Failure> {
    let wrong = |error| Failure::usage(format!("--parent {text:?}: {error}"));
    let internal = Hash32::from_hex(text).map_err(wrong)?;
    let display = Hash32::from_display_hex(text).map_err(wrong)?;
    Ok(if is_internal { vec![internal] } else { vec![display, internal] })
}

/// The result with the parent in the order that fits: with the wrong one a check ends early.
fn best_reading(
    bytes: &[u8; ANNOUNCEMENT_BYTES],
    parents: &[Hash32],
    checker: &mut Checker,
) -> Result<Hash32, AnnError> {
    let mut best = None;
    for parent in parents {
        let result = checker.check(bytes, parent);
        if result.is_ok() {
            return result;
        }
        let is_better = match (&best, &result) {
            (Some(Err(best)), Err(error)) => step(error) > step(best),
            _ => true,
        };
        if is_better {
            best = Some(result);
        }
    }
    best.unwrap_or(Err(AnnError::Inval))
}

/// How far a check got: the step of spec 03, 2.9 that failed.
fn step(error: &AnnError) -> u8 {
    match error {
        AnnError::BadWorkBits => 1,
        AnnError::SoftNonceHigh => 2,
        AnnError::BadProgram => 3,
        AnnError::BadProgramExec => 4,
        AnnError::InvalItem4 => 5,
        AnnError::Inval => 8,
        AnnError::InsufPow(_) => 9,
    }
}

/// What announcements are checked with: the engines of this machine, or those that are forced.
struct Checker {
    scratch: Box<BatchScratch>,
    exec: AnyExecutor,
    backend: Backend,
    historic: Box<CheckScratch>,
}

impl Checker {
    fn new() -> Checker {
        Checker {
            scratch: Box::new(BatchScratch::new()),
            exec: AnyExecutor::best(),
            backend: Backend::best(),
            historic: Box::new(CheckScratch::new()),
        }
    }

    /// The check of the version that an announcement may have at its height. Version 0 is checked
    /// without engines: nobody mines it any more.
    fn check(
        &mut self,
        bytes: &[u8; ANNOUNCEMENT_BYTES],
        parent: &Hash32,
    ) -> Result<Hash32, AnnError> {
        let announcement = Announcement::from_bytes(bytes);
        let is_historic = announcement.parent_block_height() < VERSION_1_HEIGHT_MIN;
        if announcement.version() == 0 && is_historic {
            return check_v0(announcement, parent, &mut self.historic);
        }
        let mut results = [Err(AnnError::Inval)];
        let batch = [(announcement, parent)];
        check_batch(&batch, &mut results, &mut self.scratch, &mut self.exec, self.backend);
        let [result] = results;
        result
    }
}

/// Fields of a line, named as in the vectors.
#[derive(Deserialize)]
struct AnnObject {
    #[serde(alias = "announcement")]
    ann: String,
    #[serde(alias = "parent")]
    parent_block_hash: String,
}

fn judge_object(object: Value, checker: &mut Checker) -> Result<Verdict, String> {
    let object: AnnObject = serde_json::from_value(object).map_err(|error| error.to_string())?;
    let bytes = unhex("ann", &object.ann)?;
    let bytes: [u8; ANNOUNCEMENT_BYTES] = bytes
        .try_into()
        .map_err(|bytes: Vec<u8>| format!("ann: {} bytes, must be 1024", bytes.len()))?;
    let parent = Hash32::from_hex(&object.parent_block_hash)
        .map_err(|error| format!("parent_block_hash: {error}"))?;
    Ok(verdict(checker.check(&bytes, &parent)))
}

fn verdict(result: Result<Hash32, AnnError>) -> Verdict {
    let work_hash = match &result {
        Ok(hash) | Err(AnnError::InsufPow(hash)) => Some(hash.hex().to_string()),
        Err(_) => None,
    };
    Verdict {
        name: None,
        result: result.map_or_else(|error| error.name(), |_| "OK").to_owned(),
        code: Some(result.map_or_else(AnnError::code, |_| 0)),
        work_hash,
        message: result.err().map(|error| error.to_string()),
        notes: Vec::new(),
        is_valid: result.is_ok(),
    }
}

fn describe(verdict: &Verdict) -> String {
    match (&verdict.message, &verdict.work_hash) {
        (Some(message), _) => format!("{}: {message}", verdict.result),
        (None, Some(hash)) => format!("{}, work hash {hash}", verdict.result),
        (None, None) => verdict.result.clone(),
    }
}
