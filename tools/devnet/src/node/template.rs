//! Block templates of the embedded node: coinbase, payees, a few mempool transactions, merkle
//! branch (spec 06, 1.3 `getrawblocktemplate`).

use packetcrypt_core::bytes::Hash32;
use packetcrypt_core::primitives::dsha256;

/// Units in one coin (spec 06, 2).
pub const UNITS_PER_COIN: u64 = 1 << 30;
/// Blocks until the subsidy falls by a tenth (spec 06, 2).
const SUBSIDY_PERIOD: u32 = 144_000;
/// The commitment's place in a template: `OP_RETURN`, push of 48, magic, 44 bytes `fc`.
pub const PLACEHOLDER: [u8; 50] = {
    let mut script = [0xfc; 50];
    let head = [0x6a, 0x30, 0x09, 0xf9, 0x11, 0x02];
    let mut i = 0;
    while i < head.len() {
        script[i] = head[i];
        i += 1;
    }
    script
};
/// Script of the network steward of this network: a P2WSH output of a fixed program.
pub const STEWARD_SCRIPT: [u8; 34] = {
    let mut script = [0x5a; 34];
    script[0] = 0x00;
    script[1] = 0x20;
    script
};

/// All units that the coinbase of a block may pay, without fees: `floor(4166 · 2^30 · 9^p / 10^p)`.
pub fn subsidy(height: u32) -> u64 {
    let mut units = u128::from(4166 * UNITS_PER_COIN);
    let mut divisor = 1_u128;
    for _ in 0..(height / SUBSIDY_PERIOD).min(20) {
        units *= 9;
        divisor *= 10;
    }
    (units / divisor) as u64
}

/// What the steward must get.
pub fn steward_part(height: u32) -> u64 {
    subsidy(height) * 51 / 256
}

/// A payee of the coinbase.
#[derive(Clone, Debug, PartialEq)]
pub struct Payee {
    /// Address as it was configured.
    pub address: String,
    /// Output script of it.
    pub script: Vec<u8>,
    /// Weight as it was configured.
    pub weight: f64,
}

/// Splits `coins` among the payees as the node does: truncation of `coins · (weight / sum)` in double
/// precision, cut when the total would pass `coins`; the last one gets what is left.
pub fn split(coins: u64, payees: &[Payee]) -> Vec<u64> {
    let sum: f64 = payees.iter().map(|p| p.weight).sum();
    let mut left = coins;
    let mut amounts = Vec::with_capacity(payees.len());
    for (i, payee) in payees.iter().enumerate() {
        let part = (coins as f64 * (payee.weight / sum)) as u64;
        let amount = if i + 1 == payees.len() { left } else { part.min(left) };
        amounts.push(amount);
        left -= amount;
    }
    amounts
}

/// One template.
#[derive(Clone, Debug)]
pub struct Template {
    /// Height of the block to mine.
    pub height: u32,
    /// Id of its parent.
    pub previous: Hash32,
    /// Header with nonce 0 and the merkle root of the coinbase with the placeholder.
    pub header: [u8; 80],
    /// All transactions; the first is the coinbase (no witness on this network).
    pub transactions: Vec<Vec<u8>>,
    /// Merkle branch of the coinbase, bottom up.
    pub branch: Vec<Hash32>,
    /// Number of the `configureminingpayouts` call that it pays by.
    pub payouts_number: u64,
}

/// The coinbase (spec 06, 1.3): payees, steward, placeholder.
pub fn coinbase(height: u32, fees: u64, payees: &[Payee]) -> Vec<u8> {
    let coins = subsidy(height) - steward_part(height);
    let mut amounts = split(coins, payees);
    if let Some(first) = amounts.first_mut() {
        *first += fees;
    }
    let mut script = push_number(height);
    script.push(0);
    let text = b"/devnet/";
    script.push(text.len() as u8);
    script.extend_from_slice(text);

    let mut tx = Vec::with_capacity(256 + payees.len() * 34);
    tx.extend_from_slice(&1_u32.to_le_bytes());
    tx.push(1);
    tx.extend_from_slice(&[0; 32]);
    tx.extend_from_slice(&u32::MAX.to_le_bytes());
    tx.push(script.len() as u8);
    tx.extend_from_slice(&script);
    tx.extend_from_slice(&u32::MAX.to_le_bytes());
    // A payee whose share is less than one unit gets no output.
    let outputs: Vec<(u64, &[u8])> = payees
        .iter()
        .zip(&amounts)
        .filter(|(_, amount)| **amount > 0)
        .map(|(payee, amount)| (*amount, payee.script.as_slice()))
        .chain([(steward_part(height), &STEWARD_SCRIPT[..]), (0, &PLACEHOLDER[..])])
        .collect();
    push_varint(&mut tx, outputs.len() as u64);
    for (amount, script) in outputs {
        tx.extend_from_slice(&amount.to_le_bytes());
        push_varint(&mut tx, script.len() as u64);
        tx.extend_from_slice(script);
    }
    tx.extend_from_slice(&0_u32.to_le_bytes());
    tx
}

/// A transaction of the mempool: well-formed, unsigned, made from a number. The embedded node has
/// no coins to spend; these stand for other people's payments, so that merkle branches are real.
pub fn mempool_transaction(seed: u64, number: u64) -> Vec<u8> {
    let outpoint = dsha256(&[seed.to_le_bytes(), number.to_le_bytes()].concat());
    let mut tx = Vec::with_capacity(90);
    tx.extend_from_slice(&1_u32.to_le_bytes());
    tx.push(1);
    tx.extend_from_slice(&outpoint.0);
    tx.extend_from_slice(&0_u32.to_le_bytes());
    tx.extend_from_slice(&[1, 0x51]);
    tx.extend_from_slice(&u32::MAX.to_le_bytes());
    tx.push(1);
    tx.extend_from_slice(&(number % 1000 + 1).to_le_bytes());
    tx.push(22);
    tx.extend_from_slice(&[0x00, 0x14]);
    tx.extend_from_slice(&outpoint.0[..20]);
    tx.extend_from_slice(&0_u32.to_le_bytes());
    tx
}

/// Fee that the embedded node ascribes to each mempool transaction, in units.
pub const FEE_UNITS: u64 = 1000;

/// Merkle branch of the first of `ids`, bottom up. An odd level repeats its last element.
pub fn branch_of_first(ids: &[Hash32]) -> Vec<Hash32> {
    let mut branch = Vec::new();
    let mut level = ids.to_vec();
    while level.len() > 1 {
        branch.push(level[1]);
        level = next_level(&level);
    }
    branch
}

/// Merkle root of transaction ids.
pub fn merkle_root(ids: &[Hash32]) -> Hash32 {
    let mut level = ids.to_vec();
    while level.len() > 1 {
        level = next_level(&level);
    }
    level.first().copied().unwrap_or(Hash32([0; 32]))
}

fn next_level(level: &[Hash32]) -> Vec<Hash32> {
    level
        .chunks(2)
        .map(|pair| {
            let right = pair.get(1).unwrap_or(&pair[0]);
            dsha256(&[pair[0].0, right.0].concat())
        })
        .collect()
}

/// Folds a branch from the id of the first transaction.
pub fn fold(id: Hash32, branch: &[Hash32]) -> Hash32 {
    branch.iter().fold(id, |hash, element| dsha256(&[hash.0, element.0].concat()))
}

/// Minimal push of a block height as the node writes it (spec 06, 1.3).
fn push_number(height: u32) -> Vec<u8> {
    if (1..=16).contains(&height) {
        return vec![0x50 + height as u8];
    }
    let mut bytes = height.to_le_bytes().to_vec();
    while bytes.len() > 1 && bytes.last() == Some(&0) && bytes[bytes.len() - 2] < 0x80 {
        bytes.pop();
    }
    let mut push = vec![bytes.len() as u8];
    push.extend_from_slice(&bytes);
    push
}

/// Height that a coinbase claims: the number that its input script begins with.
pub fn claimed_height(coinbase: &[u8]) -> Option<u32> {
    // version 4, number of inputs 1, outpoint 36, script length 1
    let script = coinbase.get(42..)?;
    match *script.first()? {
        small @ 0x51..=0x60 => Some(u32::from(small - 0x50)),
        len @ 1..=4 => {
            let mut bytes = [0; 4];
            bytes[..usize::from(len)].copy_from_slice(script.get(1..1 + usize::from(len))?);
            Some(u32::from_le_bytes(bytes))
        }
        _ => None,
    }
}

/// Appends a Bitcoin varint.
pub fn push_varint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0xfc => out.push(value as u8),
        0xfd..=0xffff => {
            out.push(0xfd);
            out.extend_from_slice(&(value as u16).to_le_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xfe);
            out.extend_from_slice(&(value as u32).to_le_bytes());
        }
        _ => {
            out.push(0xff);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payee(weight: f64) -> Payee {
        Payee { address: weight.to_string(), script: vec![0x51], weight }
    }

    #[test]
    fn subsidies_are_those_of_the_network() {
        assert_eq!(subsidy(143_999), 4_473_208_438_784);
        assert_eq!(steward_part(122_700), 891_146_993_664);
        assert_eq!(subsidy(144_000), 4_473_208_438_784 * 9 / 10);
    }

    #[test]
    fn nothing_is_lost_in_the_split() {
        let payees = [payee(1.0), payee(1.0), payee(1.0)];
        assert_eq!(split(100, &payees), [33, 33, 34]);
        assert_eq!(split(7, &[payee(0.25)]), [7]);
    }

    #[test]
    fn the_branch_proves_the_first_transaction() {
        for count in 1..10_u64 {
            let ids: Vec<Hash32> =
                (0..count).map(|n| dsha256(&mempool_transaction(1, n))).collect();
            assert_eq!(fold(ids[0], &branch_of_first(&ids)), merkle_root(&ids), "{count}");
        }
    }

    #[test]
    fn heights_are_pushed_minimally() {
        assert_eq!(push_number(114_913), [3, 0xe1, 0xc0, 0x01]);
        assert_eq!(push_number(16), [0x60]);
        assert_eq!(push_number(128), [2, 0x80, 0x00]);
        for height in [5, 17, 128, 40_000, 122_700, 8_400_000] {
            assert_eq!(claimed_height(&coinbase(height, 0, &[payee(1.0)])), Some(height));
        }
    }
}
