//! One JSON object a line in, one verdict a line out.

use std::io::{BufRead, BufReader, Read};

use serde::Serialize;
use serde_json::{Map, Value};

use super::print;
use crate::failure::Failure;

/// Bytes of a line: a block with the longest entities in hex and a large coinbase.
pub(super) const LINE_BYTES_MAX: u64 = 4 << 20;

/// The verdict on one object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Verdict {
    /// `name` of the object, whatever it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<Value>,
    /// `OK`, `SHARE_OK`, the class of the error, or `DECODE`.
    pub(super) result: String,
    /// Number of the result in the numbering of the reference; none for `DECODE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<u32>,
    /// The work hash in memory order, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) work_hash: Option<String>,
    /// What the error means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    /// What a node would object to beside the result.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
    /// Whether the result is no error.
    #[serde(skip)]
    pub(super) is_valid: bool,
}

/// What is printed for a line that can not be read.
#[derive(Serialize)]
struct Unreadable {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Value>,
    line: u64,
    error: String,
}

/// Judges every line; blank ones are passed over.
pub(super) fn judge(
    input: impl Read,
    mut check: impl FnMut(Value) -> Result<Verdict, String>,
) -> Result<(), Failure> {
    let mut input = BufReader::new(input);
    let (mut number, mut are_all_valid) = (0, true);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line);
        let read = read.map_err(|error| Failure::failed(format!("input: {error}")))?;
        if read == 0 {
            break;
        }
        number += 1;
        let judged = if line.len() as u64 > LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            skip_line(&mut input)?;
            Err((None, format!("the line has more than {LINE_BYTES_MAX} bytes")))
        } else if line.trim_ascii().is_empty() {
            continue;
        } else {
            judge_line(&line, &mut check)
        };
        let text = match judged {
            Ok(verdict) => {
                are_all_valid &= verdict.is_valid;
                to_line(&verdict)?
            }
            Err((name, error)) => {
                are_all_valid = false;
                to_line(&Unreadable { name, line: number, error })?
            }
        };
        print(&text)?;
    }
    if are_all_valid { Ok(()) } else { Err(Failure::Invalid) }
}

fn judge_line(
    line: &[u8],
    check: &mut impl FnMut(Value) -> Result<Verdict, String>,
) -> Result<Verdict, (Option<Value>, String)> {
    let object: Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| (None, error.to_string()))?;
    let name = object.get("name").cloned();
    match check(Value::Object(object)) {
        Ok(verdict) => Ok(Verdict { name, ..verdict }),
        Err(error) => Err((name, error)),
    }
}

fn skip_line(input: &mut impl BufRead) -> Result<(), Failure> {
    loop {
        let bytes = input.fill_buf().map_err(|error| Failure::failed(format!("input: {error}")))?;
        let (used, is_end) = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (bytes.len(), bytes.is_empty()),
        };
        input.consume(used);
        if is_end {
            return Ok(());
        }
    }
}

fn to_line(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(Failure::failed)
}

/// Bytes from hex.
pub(super) fn unhex(key: &str, text: &str) -> Result<Vec<u8>, String> {
    hex::decode(text).map_err(|error| format!("{key}: {error}"))
}
