//! The embedded node: as much of a chain node as a pool needs (spec 06, 1.1 to 1.4).
//!
//! Its chain is in memory, its difficulty easy, its mempool invented; but every submitted block is
//! validated in full by the core crate, in the order of spec 06, 4. It can be told to misbehave
//! ([`EmbeddedNode::reorganise`], [`EmbeddedNode::go_down`]), which is how the tests of the pool
//! try faults.

pub mod accept;
pub mod chain;
pub mod rpc;
pub mod template;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chain::{Block, Chain};
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_core::primitives::dsha256;
use packetcrypt_proto::address::payout_script;
use rpc::RpcError;
use serde_json::{Value, json};
use template::{FEE_UNITS, Payee, Template};

/// Mempool transactions of a template at the most.
const MEMPOOL_LEN_MAX: u64 = 5;
/// Payout maps that are remembered for the check at the end.
const PAYOUTS_LEN_MAX: usize = 100_000;

/// Settings of the embedded node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Target of the first block.
    pub first_bits: CompactTarget,
    /// Wanted time between blocks, milliseconds.
    pub block_time_ms: u64,
    /// Where the invented parts come from: history and mempool.
    pub seed: u64,
    /// Who is paid until `configureminingpayouts` says otherwise.
    pub first_payee: String,
}

/// A payout map as it was configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Payouts {
    /// Number of the call; 0 is the node's own setting at its start.
    pub number: u64,
    /// Height of the best block at that time.
    pub height: u32,
    /// Payees with their weights.
    pub payees: Vec<Payee>,
}

/// The payee that the node begins with is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address that the node can pay")]
pub struct BadPayee(pub String);

/// The node.
#[derive(Debug)]
pub struct EmbeddedNode {
    config: NodeConfig,
    state: Mutex<State>,
    /// Calls are not answered until then, milliseconds since the epoch.
    down_until_ms: AtomicU64,
    /// Meanwhile connections are held, not closed.
    hangs: AtomicBool,
    /// Answered calls.
    calls: AtomicU64,
    /// Peers that `getinfo` tells of.
    peers: AtomicU64,
}

#[derive(Debug)]
struct State {
    chain: Chain,
    payouts: Vec<Payouts>,
    template: Option<Template>,
    /// Submissions refused, with the reason, newest last.
    refused: Vec<String>,
    /// Submissions of blocks that were there already.
    known: u64,
}

impl EmbeddedNode {
    /// A node whose chain is [`chain::PLACEHOLDERS`] blocks old.
    ///
    /// # Errors
    /// [`BadPayee`] when the first payee is no address.
    pub fn new(config: NodeConfig) -> Result<Self, BadPayee> {
        let script = payout_script(&config.first_payee)
            .ok_or_else(|| BadPayee(config.first_payee.clone()))?;
        let payee = Payee { address: config.first_payee.clone(), script, weight: 1.0 };
        let chain = Chain::new(config.first_bits, config.block_time_ms, now_ms(), config.seed);
        let height = chain.tip().height;
        let state = State {
            chain,
            payouts: vec![Payouts { number: 0, height, payees: vec![payee] }],
            template: None,
            refused: Vec::new(),
            known: 0,
        };
        Ok(Self {
            config,
            state: Mutex::new(state),
            down_until_ms: AtomicU64::new(0),
            hangs: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            peers: AtomicU64::new(0),
        })
    }

    /// Looks at the chain.
    pub fn with_chain<T>(&self, look: impl FnOnce(&Chain) -> T) -> T {
        look(&self.lock().chain)
    }

    /// All payout maps so far, the node's own first.
    pub fn payouts(&self) -> Vec<Payouts> {
        self.lock().payouts.clone()
    }

    /// Reasons of refused submissions.
    pub fn refused(&self) -> Vec<String> {
        self.lock().refused.clone()
    }

    /// Submissions of blocks that were there already; not among the [refused](Self::refused).
    pub fn known(&self) -> u64 {
        self.lock().known
    }

    /// Answered calls.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Replaces the last `depth` blocks by a longer branch of placeholders; gives the real depth.
    pub fn reorganise(&self, depth: u32) -> u32 {
        let mut state = self.lock();
        state.template = None;
        state.chain.reorganise(depth, now_ms())
    }

    /// Closes every connection for a while, without an answer.
    pub fn go_down(&self, duration_ms: u64) {
        self.hangs.store(false, Relaxed);
        self.down_until_ms.store(now_ms() + duration_ms, Relaxed);
    }

    /// Takes connections for a while and answers nothing, as a node does that is stuck or behind a
    /// line that is cut.
    pub fn hang(&self, duration_ms: u64) {
        self.hangs.store(true, Relaxed);
        self.down_until_ms.store(now_ms() + duration_ms, Relaxed);
    }

    /// Ends [`go_down`](Self::go_down) and [`hang`](Self::hang) before their time.
    pub fn come_back(&self) {
        self.down_until_ms.store(0, Relaxed);
    }

    /// Whether connections are held while the node is down.
    pub(crate) fn hangs(&self) -> bool {
        self.hangs.load(Relaxed)
    }

    /// Whether the node answers nothing at present.
    pub fn is_down(&self) -> bool {
        now_ms() < self.down_until_ms.load(Relaxed)
    }

    /// Tells of so many peers from now on, as a node of a network that others use.
    pub fn pretend_peers(&self, peers: u64) {
        self.peers.store(peers, Relaxed);
    }

    /// Forgets the configured payouts, as a node does that is started again.
    pub fn forget_payouts(&self) {
        let mut state = self.lock();
        let mut first = state.payouts[0].clone();
        first.number = state.payouts.len() as u64;
        first.height = state.chain.tip().height;
        state.payouts.push(first);
        state.template = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one call.
    pub fn call(&self, method: &str, params: &[Value]) -> Result<Value, RpcError> {
        self.calls.fetch_add(1, Relaxed);
        match method {
            "getinfo" => Ok(self.info()),
            "getbestblockhash" => Ok(json!(display(&self.lock().chain.tip().hash))),
            "getbestblock" => {
                let state = self.lock();
                let tip = state.chain.tip();
                Ok(json!({"hash": display(&tip.hash), "height": tip.height}))
            }
            "getblockcount" => Ok(json!(self.lock().chain.tip().height)),
            "getblockhash" => self.block_hash(params),
            "getblockheader" => self.block_header(params),
            "getblock" => self.block(params),
            "getrawblocktemplate" => Ok(self.raw_block_template()),
            "checkpcann" => self.check_ann(params),
            "checkpcshare" => self.check_share(params),
            "submitblock" => self.submit_block(params),
            "configureminingpayouts" => self.configure_mining_payouts(params),
            "getminingpayouts" => Ok(self.mining_payouts()),
            "getnetworksteward" => Ok(json!({
                "script": hex::encode(template::STEWARD_SCRIPT), "votesagainst": 0, "totalpossible": 0
            })),
            "validateaddress" => {
                let given = text(params, 0)?;
                Ok(match payout_script(given) {
                    Some(_) => json!({"isvalid": true, "address": given}),
                    None => json!({"isvalid": false}),
                })
            }
            _ => Err(RpcError::new(-32601, "ErrRPCMethodNotFound(-32601): Method not found")),
        }
    }

    fn info(&self) -> Value {
        let state = self.lock();
        let tip = state.chain.tip();
        json!({
            "version": 1, "protocolversion": 70002, "blocks": tip.height, "timeoffset": 0,
            "connections": self.peers.load(Relaxed), "difficulty": difficulty(tip.bits()), "testnet": false,
            "relayfee": 0.0, "errors": "",
        })
    }

    fn block_hash(&self, params: &[Value]) -> Result<Value, RpcError> {
        let height = params.first().and_then(Value::as_i64).ok_or_else(|| bad_params("height"))?;
        let state = self.lock();
        let block = u32::try_from(height).ok().and_then(|height| state.chain.at_height(height));
        let block = block
            .ok_or_else(|| RpcError::new(-8, "ErrRPCOutOfRange(-8): Block number out of range"))?;
        Ok(json!(display(&block.hash)))
    }

    fn block_header(&self, params: &[Value]) -> Result<Value, RpcError> {
        let state = self.lock();
        let block = find_block(&state.chain, params)?;
        if !verbose(params) {
            return Ok(json!(hex::encode(block.header)));
        }
        header_object(&state.chain, block, text(params, 0)?)
    }

    fn block(&self, params: &[Value]) -> Result<Value, RpcError> {
        let state = self.lock();
        let block = find_block(&state.chain, params)?;
        if !verbose(params) {
            return Ok(json!(hex::encode(serialise(block))));
        }
        let mut object = header_object(&state.chain, block, text(params, 0)?)?;
        let ids: Vec<String> = block.transactions.iter().map(|tx| display(&dsha256(tx))).collect();
        object["tx"] = json!(ids);
        object["size"] = json!(serialise(block).len());
        Ok(object)
    }

    /// The present template, made anew when the tip or the payouts changed; its time is now.
    pub fn template(&self) -> Template {
        let mut state = self.lock();
        let tip_hash = state.chain.tip().hash;
        let payouts_number = state.payouts.len() as u64 - 1;
        let fresh = state
            .template
            .as_ref()
            .is_some_and(|t| t.previous == tip_hash && t.payouts_number == payouts_number);
        if !fresh {
            state.template = Some(self.make_template(&state));
        }
        let time = (now_ms() / 1000).max(u64::from(state.chain.median_time()) + 1) as u32;
        let mut template = state.template.clone().expect("just made");
        template.header[68..72].copy_from_slice(&time.to_le_bytes());
        template
    }

    fn make_template(&self, state: &State) -> Template {
        let tip = state.chain.tip();
        let height = tip.height + 1;
        let waiting = u64::from(height).wrapping_mul(self.config.seed | 1) % (MEMPOOL_LEN_MAX + 1);
        let payouts = state.payouts.last().expect("the node's own setting is the first");
        let mut transactions =
            vec![template::coinbase(height, waiting * FEE_UNITS, &payouts.payees)];
        transactions.extend(
            (0..waiting).map(|n| {
                template::mempool_transaction(self.config.seed, u64::from(height) * 10 + n)
            }),
        );
        let ids: Vec<Hash32> = transactions.iter().map(|tx| dsha256(tx)).collect();
        let root = template::merkle_root(&ids);
        Template {
            height,
            previous: tip.hash,
            header: chain::header(&tip.hash, &root, 0, state.chain.next_bits(), 0),
            branch: template::branch_of_first(&ids),
            transactions,
            payouts_number: payouts.number,
        }
    }

    fn raw_block_template(&self) -> Value {
        let template = self.template();
        let branch: Vec<String> = template.branch.iter().map(|h| hex::encode(h.0)).collect();
        let transactions: Vec<String> = template.transactions.iter().map(hex::encode).collect();
        json!({
            "height": template.height,
            "header": hex::encode(template.header),
            "coinbase_no_witness": transactions[0],
            "merklebranch": branch,
            "transactions": transactions,
        })
    }

    fn configure_mining_payouts(&self, params: &[Value]) -> Result<Value, RpcError> {
        let map = params.first().and_then(Value::as_object).ok_or_else(|| bad_params("map"))?;
        let mut payees = Vec::with_capacity(map.len());
        for (given, weight) in map {
            let script = payout_script(given).ok_or_else(|| {
                RpcError::new(-32603, format!("Address [{given}] could not be decoded [devnet]"))
            })?;
            let weight = weight.as_f64().ok_or_else(|| bad_params("weight"))?;
            payees.push(Payee { address: given.clone(), script, weight });
        }
        if payees.iter().map(|p| p.weight).sum::<f64>() <= 0.0 {
            return Err(RpcError::new(-32603, "You must specify at least one address to pay to"));
        }
        let mut state = self.lock();
        if state.payouts.len() >= PAYOUTS_LEN_MAX {
            return Err(RpcError::new(-32603, "devnet: too many payout maps in one run"));
        }
        let number = state.payouts.len() as u64;
        let height = state.chain.tip().height;
        state.payouts.push(Payouts { number, height, payees });
        Ok(Value::Null)
    }

    fn mining_payouts(&self) -> Value {
        let template = self.template();
        let state = self.lock();
        let payouts = &state.payouts[template.payouts_number as usize];
        let coins = template::subsidy(template.height) - template::steward_part(template.height);
        let amounts = template::split(coins, &payouts.payees);
        let map: serde_json::Map<String, Value> = payouts
            .payees
            .iter()
            .zip(amounts)
            .map(|(payee, units)| {
                (payee.address.clone(), json!(units as f64 / template::UNITS_PER_COIN as f64))
            })
            .collect();
        Value::Object(map)
    }
}

/// A block as it is sent: header, entities, number of transactions, transactions.
pub fn serialise(block: &Block) -> Vec<u8> {
    let mut bytes = block.header.to_vec();
    bytes.extend_from_slice(&block.entities);
    template::push_varint(&mut bytes, block.transactions.len() as u64);
    for tx in &block.transactions {
        bytes.extend_from_slice(tx);
    }
    bytes
}

fn find_block<'a>(chain: &'a Chain, params: &[Value]) -> Result<&'a Block, RpcError> {
    let given = text(params, 0)?;
    let undecodable = || {
        RpcError::new(
            -22,
            format!(
                "ErrRPCDecodeHexString(-22): Argument must be hexadecimal string (not \"{given}\")"
            ),
        )
    };
    if given.len() > 64 {
        return Err(undecodable());
    }
    // A short hash is padded on the left, so that it is merely not found.
    let mut bytes: [u8; 32] = hex::decode(format!("{given:0>64}"))
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(undecodable)?;
    bytes.reverse();
    chain
        .block(&Hash32(bytes))
        .ok_or_else(|| RpcError::new(-5, "ErrRPCBlockNotFound(-5): Block not found"))
}

fn header_object(chain: &Chain, block: &Block, given: &str) -> Result<Value, RpcError> {
    if !chain.is_main(block) {
        let text = format!("Failed to obtain block height: block {given} is not in the main chain");
        return Err(RpcError::new(-32603, text));
    }
    let tip = chain.tip().height;
    let mut object = json!({
        "hash": given,
        "confirmations": i64::from(tip) - i64::from(block.height) + 1,
        "height": block.height,
        "version": block.version(),
        "versionHex": format!("{:08x}", block.version()),
        "merkleroot": display(&block.merkle_root()),
        "time": block.time(),
        "nonce": block.nonce(),
        "bits": format!("{:x}", block.bits().0),
        "difficulty": difficulty(block.bits()),
        "previousblockhash": display(&block.previous()),
    });
    if let Some(next) = chain.at_height(block.height + 1) {
        object["nextblockhash"] = json!(display(&next.hash));
    }
    Ok(object)
}

/// Limit of the network divided by the target, rounded to eight decimals (spec 06, 1.2).
fn difficulty(bits: CompactTarget) -> f64 {
    let value = |word: u32| f64::from(word & 0x007f_ffff) * 256_f64.powi((word >> 24) as i32 - 3);
    (value(chain::EASIEST_BITS) / value(bits.0) * 1e8).round() / 1e8
}

fn display(hash: &Hash32) -> String {
    let mut bytes = hash.0;
    bytes.reverse();
    hex::encode(bytes)
}

/// The second parameter, which may be a flag or a number; true when absent.
fn verbose(params: &[Value]) -> bool {
    params.get(1).is_none_or(|given| given.as_bool().unwrap_or(given.as_i64() != Some(0)))
}

fn text(params: &[Value], index: usize) -> Result<&str, RpcError> {
    params.get(index).and_then(Value::as_str).ok_or_else(|| bad_params("text"))
}

fn bad_params(what: &str) -> RpcError {
    RpcError::new(
        -32602,
        format!("ErrRPCInvalidParams(-32602): wrong number or type of parameters: {what}"),
    )
}

/// Milliseconds since the epoch.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
