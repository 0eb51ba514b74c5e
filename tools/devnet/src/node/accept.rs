//! What the embedded node checks in announcements, shares and blocks, in the order of spec 06, 4.

use packetcrypt_core::announcement::{self, Announcement};
use packetcrypt_core::block::{
    BlockHeader, BlockKind, CheckScratch, ParentHash, SerializedBlock, ShareCheck, Transaction,
    validate_share, varint,
};
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_core::primitives::dsha256;
use serde_json::{Value, json};

use super::chain::{Added, Block, Chain, EASIEST_BITS};
use super::rpc::{RpcError, VERSION_TEXT};
use super::{EmbeddedNode, bad_params, display, now_ms, template, text};

/// Seconds that a header may be ahead of the clock (spec 06, 2).
const TIME_AHEAD_S_MAX: u64 = 720;
/// Size of a block at the most, bytes (spec 06, 2).
const BLOCK_BYTES_MAX: usize = 1_000_000;
/// Parent heights above this belong to no chain (spec 04, 7).
const PARENT_HEIGHT_MAX: u32 = 0x7fff_ffff;
/// Refused submissions that are remembered.
const REFUSED_LEN_MAX: usize = 1000;

/// Name of the error for a block that is there already.
const DUPLICATE: &str = "ErrDuplicateBlock";

/// A refused block: name of the error and what it found.
struct Refused {
    name: &'static str,
    detail: String,
}

fn refuse<T>(name: &'static str, detail: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { name, detail: detail.into() })
}

impl EmbeddedNode {
    pub(super) fn check_ann(&self, params: &[Value]) -> Result<Value, RpcError> {
        let bytes = unhex(text(params, 0)?)?;
        let eof = || RpcError::new(0, "ErrUnexpectedEOF: unexpected EOF");
        let announcement: &[u8; 1024] =
            bytes.get(..1024).and_then(|head| head.try_into().ok()).ok_or_else(eof)?;
        let announcement = Announcement::from_bytes(announcement);
        let parent = match params.get(2).and_then(Value::as_str) {
            Some(given) => reversed(given)?,
            None => {
                let height = announcement.parent_block_height();
                let known = self.with_chain(|chain| chain.at_height(height).map(|b| b.hash));
                known.ok_or_else(|| {
                    let text = format!("Could not get parent hash at height [{height}]");
                    RpcError::new(-25, text)
                })?
            }
        };
        let mut scratch = Box::new(announcement::CheckScratch::new());
        match announcement::check(announcement, &parent, &mut scratch) {
            Ok(work_hash) => Ok(json!({"workhash": display(&work_hash)})),
            Err(error) => Err(RpcError::new(-32603, format!("Validate_checkAnn_{}", error.name()))),
        }
    }

    pub(super) fn check_share(&self, params: &[Value]) -> Result<Value, RpcError> {
        let missing = || RpcError::new(-22, "Share decode failed: request missing");
        let request = params.first().and_then(Value::as_object).ok_or_else(missing)?;
        let field = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &'static str| {
            let number = request.get(name).and_then(Value::as_u64).unwrap_or(u64::MAX);
            u32::try_from(number).map_err(|_| bad_params(name))
        };
        let (share_target, height) = (number("sharetarget")?, number("height")?);
        let block = unhex(field("hexblock"))?;
        let coinbase = unhex(field("coinbase"))?;
        let branch = request.get("merklebranch").and_then(Value::as_array);
        let branch: Vec<Hash32> = branch
            .into_iter()
            .flatten()
            .map(|element| {
                let bytes = unhex(element.as_str().unwrap_or_default())?;
                bytes.try_into().map(Hash32).map_err(|_| bad_params("merklebranch"))
            })
            .collect::<Result<_, _>>()?;
        let share = ShareCheck {
            block: &block,
            coinbase: &coinbase,
            merkle_branch: &branch,
            height,
            share_target: CompactTarget(share_target),
            check_signatures: true,
        };
        let mut scratch = Box::new(CheckScratch::new());
        let verdict = validate_share(&share, |height| self.parent_on_main(height), &mut scratch);
        match verdict {
            Ok(ok) if ok.kind == BlockKind::Block => Ok(json!("RESUBMIT_AS_BLOCK")),
            Ok(_) => Ok(json!("OK")),
            Err(error) => Err(RpcError::new(-32603, format!("Share validation failed: {error}"))),
        }
    }

    fn parent_on_main(&self, height: u32) -> ParentHash {
        self.with_chain(|chain| match chain.at_height(height) {
            Some(block) if height <= PARENT_HEIGHT_MAX => ParentHash::Known(block.hash),
            _ => ParentHash::Unknown,
        })
    }

    /// A refused block is a result, not an error (spec 06, 1.3).
    pub(super) fn submit_block(&self, params: &[Value]) -> Result<Value, RpcError> {
        let bytes = unhex(text(params, 0)?)?;
        let block = SerializedBlock::decode(&bytes).map_err(|e| {
            RpcError::new(-22, format!("ErrRPCDeserialization(-22): Block decode failed: {e}"))
        })?;
        match self.accept(&block, &bytes) {
            Ok(_) => Ok(Value::Null),
            Err(refused) => {
                let reason = format!("{}: {}", refused.name, refused.detail);
                let mut state = self.lock();
                if refused.name == DUPLICATE {
                    state.known += 1;
                } else if state.refused.len() < REFUSED_LEN_MAX {
                    state.refused.push(reason.clone());
                }
                Ok(json!(format!("rejected: {VERSION_TEXT} {reason}\n\ndevnet: no call stack")))
            }
        }
    }

    fn accept(&self, block: &SerializedBlock<'_>, bytes: &[u8]) -> Result<Added, Refused> {
        let hash = block.header.id();
        let (parent_height, parent_main) = self.with_chain(|chain| {
            if chain.block(&hash).is_some() {
                return refuse(DUPLICATE, format!("already have block {}", display(&hash)));
            }
            let Some(parent) = chain.block(&block.header.previous_block()) else {
                return refuse("ErrPowCannotVerify", "Cannot verify pow, unknown previous block");
            };
            Ok((parent.height, chain.is_main(parent)))
        })?;
        let height = parent_height + 1;
        if block.header.bits().0 > EASIEST_BITS || !block.header.bits().is_well_formed() {
            let text = format!(
                "block target difficulty {:08x} is higher than max of {EASIEST_BITS:08x}",
                block.header.bits().0
            );
            return refuse("ErrUnexpectedDifficulty", text);
        }
        if u64::from(block.header.time_s()) > now_ms() / 1000 + TIME_AHEAD_S_MAX {
            return refuse("ErrTimeTooNew", "block timestamp is too far in the future");
        }
        if bytes.len() > BLOCK_BYTES_MAX {
            let text = format!("{} bytes of at most {BLOCK_BYTES_MAX}", bytes.len());
            return refuse("ErrBlockTooBig", text);
        }
        let transactions = split_transactions(block)?;
        let ids: Vec<Hash32> = transactions.iter().map(Transaction::id).collect();
        if template::merkle_root(&ids) != block.header.merkle_root() {
            return refuse("ErrBadMerkleRoot", "block merkle root is invalid");
        }
        let entities = entity_bytes(block, bytes);
        self.check_proof(block, entities, &transactions[0], &ids, height)?;
        self.check_context(block, &transactions[0], height, parent_main)?;
        let header: [u8; 80] = block.header.0;
        let mut added = self.lock();
        added.template = None;
        Ok(added.chain.add(Block {
            hash,
            height,
            header,
            entities: entities.to_vec(),
            transactions: transactions.iter().map(|tx| tx.bytes().to_vec()).collect(),
            received_ms: now_ms(),
        }))
    }

    fn check_proof(
        &self,
        block: &SerializedBlock<'_>,
        entities: &[u8],
        coinbase: &Transaction<'_>,
        ids: &[Hash32],
        height: u32,
    ) -> Result<(), Refused> {
        let previous = block.header.previous_block();
        validate(
            &block.header.0,
            entities,
            coinbase,
            &template::branch_of_first(ids),
            height,
            |parent| self.with_chain(|chain| parent_on_branch(chain, &previous, parent)),
        )
        .map_err(|error| Refused {
            name: "ErrBadPow",
            detail: format!("Error validating PacketCrypt proof [{error}]"),
        })
    }

    fn check_context(
        &self,
        block: &SerializedBlock<'_>,
        coinbase: &Transaction<'_>,
        height: u32,
        parent_main: bool,
    ) -> Result<(), Refused> {
        let claimed = template::claimed_height(coinbase.bytes());
        if claimed != Some(height) {
            let text =
                format!("Wrong declared block height, expected [{height}] got [{claimed:?}]");
            return refuse("ErrBadCoinbaseHeight", text);
        }
        let (expected_bits, median) =
            self.with_chain(|chain| (chain.next_bits(), chain.median_time()));
        let extends_tip = parent_main && self.with_chain(|chain| chain.tip().height + 1 == height);
        if extends_tip && block.header.bits() != expected_bits {
            let text = format!(
                "block difficulty of {} is not the expected value of {}",
                block.header.bits().0,
                expected_bits.0
            );
            return refuse("ErrUnexpectedDifficulty", text);
        }
        if extends_tip && block.header.time_s() <= median {
            let text = format!(
                "block timestamp of {} is not after expected {median}",
                block.header.time_s()
            );
            return refuse("ErrTimeTooOld", text);
        }
        let paid: u64 = coinbase.outputs().fold(0, |sum, output| sum.saturating_add(output.value));
        let mempool = block.transaction_count - 1;
        let allowed = template::subsidy(height) + mempool * template::FEE_UNITS;
        if paid > allowed {
            let text = format!(
                "coinbase transaction pays {paid} which is more than expected value of {allowed}"
            );
            return refuse("ErrBadCoinbaseValue", text);
        }
        let steward = template::steward_part(height);
        let pays_steward = |output: packetcrypt_core::block::transaction::Output<'_>| {
            output.value == steward && output.script == template::STEWARD_SCRIPT
        };
        if !coinbase.outputs().any(pays_steward) {
            return refuse(
                "ErrBadCoinbaseNetworkSteward",
                "does not contain a proper payment to network steward",
            );
        }
        Ok(())
    }
}

/// Validates the proof of a block again, from its stored parts: for the summary of a run.
///
/// # Errors
/// What the validation found, in words.
pub fn revalidate(chain: &Chain, block: &Block) -> Result<(), String> {
    if dsha256(&block.header) != block.hash {
        return Err("the stored id is not that of the header".to_owned());
    }
    let coinbase = block.transactions.first().ok_or("no coinbase")?;
    let coinbase = Transaction::parse(coinbase).map_err(|e| e.to_string())?;
    let ids: Vec<Hash32> = block.transactions.iter().map(|tx| dsha256(tx)).collect();
    let branch = template::branch_of_first(&ids);
    let previous = block.previous();
    validate(&block.header, &block.entities, &coinbase, &branch, block.height, |height| {
        parent_on_branch(chain, &previous, height)
    })
}

/// Proof of a whole block: as a share without a share target, so that only block work will do.
fn validate(
    header: &[u8; 80],
    entities: &[u8],
    coinbase: &Transaction<'_>,
    branch: &[Hash32],
    height: u32,
    parent_at: impl FnMut(u32) -> ParentHash,
) -> Result<(), String> {
    let share_form = [header, entities, &[0]].concat();
    let check = ShareCheck {
        block: &share_form,
        coinbase: coinbase.bytes(),
        merkle_branch: branch,
        height,
        share_target: CompactTarget(0),
        check_signatures: true,
    };
    let mut scratch = Box::new(CheckScratch::new());
    validate_share(&check, parent_at, &mut scratch).map(|_| ()).map_err(|e| e.to_string())
}

fn parent_on_branch(chain: &Chain, previous: &Hash32, height: u32) -> ParentHash {
    match chain.ancestor(previous, height) {
        Some(block) if height <= PARENT_HEIGHT_MAX => ParentHash::Known(block.hash),
        _ => ParentHash::Unknown,
    }
}

fn split_transactions<'a>(block: &SerializedBlock<'a>) -> Result<Vec<Transaction<'a>>, Refused> {
    if block.transaction_count == 0 {
        return refuse("ErrNoTransactions", "block does not contain any transactions");
    }
    let mut rest = block.transactions;
    let mut transactions = Vec::new();
    for number in 0..block.transaction_count {
        // A transaction takes at least ten bytes, so the loop ends with the bytes.
        let (transaction, tail) = Transaction::parse_first(rest).map_err(|e| Refused {
            name: "ErrRPCDeserialization",
            detail: format!("transaction {number}: {e}"),
        })?;
        transactions.push(transaction);
        rest = tail;
    }
    if !rest.is_empty() {
        return refuse("ErrRPCDeserialization", format!("{} bytes left over", rest.len()));
    }
    Ok(transactions)
}

/// The entities as they came, end included: what lies between the header and the number of
/// transactions, which is in its shortest form or would not have been decoded.
fn entity_bytes<'a>(block: &SerializedBlock<'_>, bytes: &'a [u8]) -> &'a [u8] {
    let count_len = varint::encode(block.transaction_count).1;
    &bytes[BlockHeader::BYTES..bytes.len() - block.transactions.len() - count_len]
}

fn unhex(given: &str) -> Result<Vec<u8>, RpcError> {
    let padded = if given.len() % 2 == 1 { format!("0{given}") } else { given.to_owned() };
    hex::decode(padded).map_err(|e| {
        RpcError::new(
            -22,
            format!("ErrRPCDecodeHexString(-22): Argument must be hexadecimal string: {e}"),
        )
    })
}

fn reversed(given: &str) -> Result<Hash32, RpcError> {
    let mut bytes: [u8; 32] =
        unhex(given)?.try_into().map_err(|_| bad_params("hash of 32 bytes"))?;
    bytes.reverse();
    Ok(Hash32(bytes))
}
