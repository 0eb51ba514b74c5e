//! Transactions, as far as a commitment and an id need them (spec 04, 3).

use crate::bytes::{Hash32, read_u64};
use crate::primitives::sha256::dsha256_parts;

use super::error::TransactionError;
use super::varint;

/// Bytes of the version and of the locktime.
const WORD_BYTES: usize = 4;
/// Bytes of the outpoint of an input.
const OUTPOINT_BYTES: usize = 36;

/// A transaction whose form was checked, borrowed from its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    bytes: &'a [u8],
    /// Inputs and outputs with their counts.
    body: &'a [u8],
    /// Outputs without their count.
    outputs: &'a [u8],
    output_count: u64,
    has_witness: bool,
}

/// One output of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output<'a> {
    /// Value in units.
    pub value: u64,
    /// The output script.
    pub script: &'a [u8],
}

impl<'a> Transaction<'a> {
    /// Parses a transaction that takes all of the bytes, in plain or witness form.
    ///
    /// # Errors
    /// [`TransactionError`] when it ends early, has bytes left over, or a count is not in its
    /// shortest form.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TransactionError> {
        let (transaction, rest) = Self::parse_first(bytes)?;
        if rest.is_empty() {
            Ok(transaction)
        } else {
            Err(TransactionError::LeftOver { bytes: rest.len() })
        }
    }

    /// Parses a transaction from the front of the bytes and returns what follows it.
    ///
    /// # Errors
    /// As [`Transaction::parse`], bytes left over excepted.
    pub fn parse_first(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), TransactionError> {
        let mut rest = bytes;
        skip(&mut rest, WORD_BYTES)?;
        let has_witness = match rest {
            [0, 1, ..] => true,
            // In the witness form this is the flag, and 1 is the only flag there is.
            [0, flag, ..] => return Err(TransactionError::Flag { flag: *flag }),
            _ => false,
        };
        if has_witness {
            skip(&mut rest, 2)?;
        }
        let body_start = rest;
        let inputs = varint::take(&mut rest)?;
        // Each turn of these loops consumes bytes or fails: a count can not make them long.
        for _ in 0..inputs {
            skip(&mut rest, OUTPOINT_BYTES)?;
            take_sized(&mut rest)?;
            skip(&mut rest, WORD_BYTES)?;
        }
        let output_count = varint::take(&mut rest)?;
        let outputs_start = rest;
        for _ in 0..output_count {
            take_output(&mut rest)?;
        }
        let outputs = before(outputs_start, rest);
        let body = before(body_start, rest);
        if has_witness {
            for _ in 0..inputs {
                for _ in 0..varint::take(&mut rest)? {
                    take_sized(&mut rest)?;
                }
            }
        }
        skip(&mut rest, WORD_BYTES)?;
        let bytes = before(bytes, rest);
        Ok((Transaction { bytes, body, outputs, output_count, has_witness }, rest))
    }

    /// All of its bytes.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether it came in the witness form.
    #[must_use]
    pub fn has_witness(&self) -> bool {
        self.has_witness
    }

    /// The id in internal order: `dsha256` of the form without witness.
    #[must_use]
    pub fn id(&self) -> Hash32 {
        dsha256_parts(&self.parts_without_witness())
    }

    /// The three parts whose concatenation is the form without witness: version, inputs and
    /// outputs, locktime.
    #[must_use]
    pub fn parts_without_witness(&self) -> [&'a [u8]; 3] {
        let locktime_at = self.bytes.len() - WORD_BYTES;
        [&self.bytes[..WORD_BYTES], self.body, &self.bytes[locktime_at..]]
    }

    /// Number of outputs.
    #[must_use]
    pub fn output_count(&self) -> u64 {
        self.output_count
    }

    /// The outputs in order.
    pub fn outputs(&self) -> impl Iterator<Item = Output<'a>> + use<'a> {
        let mut rest = self.outputs;
        // Parsing checked the form of every output.
        core::iter::from_fn(
            move || {
                if rest.is_empty() { None } else { take_output(&mut rest).ok() }
            },
        )
    }
}

/// The part of `whole` in front of `rest`, which is its end.
fn before<'a>(whole: &'a [u8], rest: &[u8]) -> &'a [u8] {
    &whole[..whole.len() - rest.len()]
}

fn skip<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], TransactionError> {
    let (skipped, rest) = bytes.split_at_checked(count).ok_or(TransactionError::Truncated)?;
    *bytes = rest;
    Ok(skipped)
}

fn take_sized<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], TransactionError> {
    let len = varint::take(bytes)?;
    skip(bytes, usize::try_from(len).map_err(|_| TransactionError::Truncated)?)
}

fn take_output<'a>(bytes: &mut &'a [u8]) -> Result<Output<'a>, TransactionError> {
    let value = read_u64(skip(bytes, 8)?, 0);
    let script = take_sized(bytes)?;
    Ok(Output { value, script })
}
