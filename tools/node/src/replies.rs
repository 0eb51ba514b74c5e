//! Results of the node's methods as checked types (spec 06, 1.2 and 1.3).

use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_proto::blkinfo::BlockInfoHeader;
use packetcrypt_proto::fields::{self, Fields, MessageError, invalid};
use packetcrypt_proto::template::{BlockTemplate, TRANSACTIONS_LEN_MAX};
use packetcrypt_proto::{HEADER_BYTES, MERKLE_BRANCH_LEN_MAX};
use serde_json::{Value, json};

use crate::ShareToCheck;
use crate::error::first_paragraph;

/// Most payees of a coinbase that are read.
const PAYEES_LEN_MAX: usize = 100_000;

/// Result of `getblockheader`.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockHeaderReply {
    /// The header.
    pub header: BlockInfoHeader,
    /// 1 for the best block.
    pub confirmations: i64,
    /// Hash of the block above, `None` for the best block.
    pub next_hash: Option<Hash32>,
}

impl BlockHeaderReply {
    /// Reads the result.
    ///
    /// # Errors
    /// [`MessageError`] with the member that is missing or makes no sense.
    pub fn from_json(value: &Value) -> Result<Self, MessageError> {
        let fields = Fields::of(value)?;
        Ok(Self {
            header: BlockInfoHeader::from_json(value)?,
            confirmations: fields.required_as("confirmations", signed64)?,
            next_hash: fields.optional_as("nextblockhash", fields::display_hash)?,
        })
    }
}

/// Result of `getblock`: what the pool reads of it.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockReply {
    /// Hash of the block.
    pub hash: Hash32,
    /// Its height.
    pub height: i32,
    /// Limit of the network / target.
    pub difficulty: f64,
    /// 1 for the best block.
    pub confirmations: i64,
    /// Ids of its transactions, the coinbase first.
    pub transaction_ids: Vec<Hash32>,
    /// Announcements behind the block; `None` where there is no PacketCrypt proof.
    pub ann_count: Option<u64>,
    /// Least work target of the commitment.
    pub ann_target: Option<CompactTarget>,
}

impl BlockReply {
    /// Reads the result.
    ///
    /// # Errors
    /// [`MessageError`] with the member that is missing or makes no sense.
    pub fn from_json(value: &Value) -> Result<Self, MessageError> {
        let fields = Fields::of(value)?;
        let hashes =
            |key, value| fields::list(key, value, TRANSACTIONS_LEN_MAX, fields::display_hash);
        Ok(Self {
            hash: fields.required_as("hash", fields::display_hash)?,
            height: fields.required_as("height", fields::height)?,
            difficulty: fields.required_as("difficulty", fields::double)?,
            confirmations: fields.optional_as("confirmations", signed64)?.unwrap_or(0),
            transaction_ids: fields.optional_as("tx", hashes)?.unwrap_or_default(),
            ann_count: fields.optional_as("packetcryptanncount", fields::unsigned64)?,
            ann_target: fields.optional_as("packetcryptannbits", word)?,
        })
    }
}

/// Result of `checkpcshare`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareVerdict {
    /// A share.
    Ok,
    /// A share that is a block.
    ResubmitAsBlock,
    /// Something that is not specified, as text.
    Other(String),
}

impl ShareVerdict {
    /// Reads the result; anything is one.
    #[must_use]
    pub fn from_json(value: &Value) -> Self {
        match value.as_str() {
            Some("OK") => Self::Ok,
            Some("RESUBMIT_AS_BLOCK") => Self::ResubmitAsBlock,
            Some(text) => Self::Other(first_paragraph(text)),
            None => Self::Other(first_paragraph(&value.to_string())),
        }
    }
}

/// Result of `submitblock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitVerdict {
    /// Taken into the block store. Not necessarily the best block: ask for that afterwards.
    Accepted,
    /// Refused, with the node's text without its call stack.
    Refused(String),
}

impl SubmitVerdict {
    /// Reads the result.
    ///
    /// # Errors
    /// [`MessageError`] when it is neither `null` nor a text.
    pub fn from_json(value: &Value) -> Result<Self, MessageError> {
        if value.is_null() {
            return Ok(Self::Accepted);
        }
        fields::text("result", value).map(|text| Self::Refused(first_paragraph(text)))
    }

    /// Whether the node refused the block because it has it already.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Refused(text) if text.contains("already have block"))
    }
}

/// Result of `getinfo`.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeInfo {
    /// Version of the node.
    pub version: i64,
    /// Height of the best block.
    pub blocks: i32,
    /// Peers. A node without peers, or behind them, gives out templates all the same.
    pub connections: i64,
    /// Limit of the network / target of the best block.
    pub difficulty: f64,
    /// What the node complains about; empty when nothing.
    pub errors: String,
}

impl NodeInfo {
    /// Reads the result.
    ///
    /// # Errors
    /// [`MessageError`] with the member that is missing or makes no sense.
    pub fn from_json(value: &Value) -> Result<Self, MessageError> {
        let fields = Fields::of(value)?;
        let errors = fields.optional_as("errors", fields::text)?.unwrap_or_default();
        Ok(Self {
            version: fields.optional_as("version", signed64)?.unwrap_or(0),
            blocks: fields.required_as("blocks", fields::height)?,
            connections: fields.optional_as("connections", signed64)?.unwrap_or(0),
            difficulty: fields.required_as("difficulty", fields::double)?,
            errors: first_paragraph(errors),
        })
    }
}

/// Reads the result of `getrawblocktemplate`.
pub(crate) fn template(value: &Value) -> Result<BlockTemplate, MessageError> {
    let fields = Fields::of(value)?;
    let branch = |key, value| fields::list(key, value, MERKLE_BRANCH_LEN_MAX, fields::memory_hash);
    let transactions = |key, value| fields::list(key, value, TRANSACTIONS_LEN_MAX, fields::bytes);
    let template = BlockTemplate {
        height: fields.required_as("height", fields::height)?,
        header: fields.required_as("header", header)?,
        coinbase_no_witness: fields.required_as("coinbase_no_witness", fields::bytes)?,
        merkle_branch: fields.optional_as("merklebranch", branch)?.unwrap_or_default(),
        transactions: fields.required_as("transactions", transactions)?,
    };
    if template.transactions.is_empty() {
        let have = "none".to_owned();
        return Err(MessageError::Invalid { key: "transactions", want: "a coinbase", have });
    }
    Ok(template)
}

/// Reads the result of `getminingpayouts`.
pub(crate) fn payouts(value: &Value) -> Result<Vec<(String, f64)>, MessageError> {
    let members = value.as_object().ok_or(MessageError::NotObject)?;
    if members.len() > PAYEES_LEN_MAX {
        let have = members.len().to_string();
        return Err(MessageError::Invalid { key: "result", want: "fewer payees", have });
    }
    let payee = |(address, coins): (&String, &Value)| {
        fields::double("result", coins).map(|coins| (address.clone(), coins))
    };
    members.iter().map(payee).collect()
}

/// Reads the result of `checkpcann`.
pub(crate) fn work_hash(value: &Value) -> Result<Hash32, MessageError> {
    Fields::of(value)?.required_as("workhash", fields::display_hash)
}

/// Reads a result that is a hash.
pub(crate) fn hash(value: &Value) -> Result<Hash32, MessageError> {
    fields::display_hash("result", value)
}

/// The parameter of `checkpcshare`.
pub(crate) fn share_params(share: &ShareToCheck) -> Value {
    let branch: Vec<String> = share.merkle_branch.iter().map(|h| h.hex().to_string()).collect();
    json!([{
        "sharetarget": share.share_target.0,
        "height": share.height,
        "hexblock": hex::encode(&share.block),
        "coinbase": hex::encode(&share.coinbase),
        "merklebranch": branch,
    }])
}

fn header(key: &'static str, value: &Value) -> Result<[u8; HEADER_BYTES], MessageError> {
    let bytes = fields::bytes(key, value)?;
    bytes.try_into().map_err(|_| invalid(key, "80 bytes as hex", value))
}

fn word(key: &'static str, value: &Value) -> Result<CompactTarget, MessageError> {
    let word = value.as_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let word = word.and_then(|text| u32::from_str_radix(text, 16).ok());
    word.map(CompactTarget).ok_or_else(|| invalid(key, "up to 8 hex digits", value))
}

fn signed64(key: &'static str, value: &Value) -> Result<i64, MessageError> {
    value.as_i64().ok_or_else(|| invalid(key, "an integer", value))
}
