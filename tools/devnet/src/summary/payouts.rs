//! Who was paid what, and whether the coinbases say so.

use packetcrypt_core::block::Transaction;

use super::{Check, Paid, check};
use crate::node::chain::Block;
use crate::node::{EmbeddedNode, Payouts, template};
use crate::pool::Pool;

/// Blocks and seconds after which the paymaker must have been heard: ten of its cycles.
const LONG_RUN: (usize, f64) = (10, 20.0);
/// The template of a block is made when its parent is the best one: it pays a map that was
/// configured when the best block was so many heights below it, or a newer one.
const IN_FORCE_HEIGHTS: u32 = 2;

/// The coinbase of every block pays what a payout map says, never an older map than the block
/// before it nor one that was replaced before its parent was found, and in a run that is long enough
/// one of the paymaker.
pub(super) fn check_payees(node: &EmbeddedNode, seconds: f64) -> Check {
    let name = "coinbase payees = payout map";
    let payouts = node.payouts();
    let paid = node.with_chain(|chain| {
        let blocks = chain.main_from(0).filter(|block| !block.is_placeholder());
        blocks.map(|block| (block.height, block.clone())).collect::<Vec<_>>()
    });
    let maps = maps_paid(&payouts, paid.iter().map(|(height, block)| (*height, block)), pays);
    let bad: Vec<u32> = maps.iter().filter(|(_, map)| map.is_none()).map(|(at, _)| *at).collect();
    let is_paymakers = |map: usize| payouts[map].payees != payouts[0].payees;
    let by_paymaker = maps.iter().filter_map(|(_, map)| *map).filter(|&map| is_paymakers(map));
    let by_paymaker = by_paymaker.count();
    let is_long = maps.len() >= LONG_RUN.0 && seconds >= LONG_RUN.1;
    let detail = format!(
        "{} blocks pay a map exactly, {by_paymaker} of them one of the paymaker; others: {bad:?}",
        maps.len() - bad.len()
    );
    check(name, bad.is_empty() && (by_paymaker > 0 || !is_long), detail)
}

/// Which of the maps each block pays, `None` for none that may be: blocks and maps in order.
fn maps_paid<'a, B: 'a>(
    payouts: &[Payouts],
    blocks: impl Iterator<Item = (u32, &'a B)>,
    pays: impl Fn(&B, &Payouts) -> bool,
) -> Vec<(u32, Option<usize>)> {
    let mut oldest = 0;
    let which = |(height, block)| {
        let in_force = payouts.iter().rposition(|map| map.height + IN_FORCE_HEIGHTS <= height);
        oldest = oldest.max(in_force.unwrap_or(0));
        let found = payouts[oldest..].iter().position(|map| pays(block, map));
        oldest += found.unwrap_or(0);
        (height, found.map(|_| oldest))
    };
    blocks.map(which).collect()
}

/// Whether the outputs of a block are those of a map, within one unit of rounding each.
fn pays(block: &Block, map: &Payouts) -> bool {
    let Some(Ok(coinbase)) = block.transactions.first().map(|tx| Transaction::parse(tx)) else {
        return false;
    };
    let coins = template::subsidy(block.height) - template::steward_part(block.height);
    let fees = (block.transactions.len() as u64 - 1) * template::FEE_UNITS;
    let total: f64 = map.payees.iter().map(|p| p.weight).sum();
    let last = map.payees.len().saturating_sub(1);
    let expected: Vec<(f64, f64, &[u8])> = map
        .payees
        .iter()
        .enumerate()
        .map(|(i, payee)| {
            let fee = if i == 0 { fees as f64 } else { 0.0 };
            // The last payee gets what the truncation of the others left over.
            let tolerance = if i == last { 1.0 + last as f64 } else { 1.0 };
            (coins as f64 * (payee.weight / total) + fee, tolerance, payee.script.as_slice())
        })
        .filter(|(amount, tolerance, _)| amount > tolerance)
        .collect();
    let paid: Vec<_> = coinbase
        .outputs()
        .filter(|output| {
            output.script != template::STEWARD_SCRIPT && !output.script.starts_with(&[0x6a])
        })
        .collect();
    paid.len() == expected.len()
        && paid.iter().zip(&expected).all(|(output, (amount, tolerance, script))| {
            output.script == *script && (output.value as f64 - amount).abs() <= *tolerance
        })
}

/// Every map that the node was given is one that the paymaker says it sent.
pub(super) fn check_maps(node: &EmbeddedNode, sent: &[Vec<(String, f64)>]) -> Check {
    let name = "payout maps at the node = those of the paymaker";
    let payouts = node.payouts();
    let first = payouts[0].payees.clone();
    let received: Vec<Vec<(String, f64)>> = payouts
        .iter()
        .skip(1)
        .filter(|map| map.payees != first)
        .map(|map| map.payees.iter().map(|p| (p.address.clone(), p.weight)).collect())
        .collect();
    let unknown = received.iter().filter(|map| !sent.contains(map)).count();
    let detail = format!("{} received, {} sent, {unknown} unknown", received.len(), sent.len());
    check(name, unknown == 0, detail)
}
/// What announcement miner, block miner and pool were paid by the blocks on the main chain.
pub(super) fn payments(node: &EmbeddedNode, pool: &Pool) -> Vec<Paid> {
    let names = [
        ("announcement miner", &pool.plan.ann_miner_address),
        ("block miner", &pool.plan.block_miner_address),
        ("pool", &pool.plan.pool_address),
    ];
    node.with_chain(|chain| {
        let coins_of = |address: &str| -> f64 {
            let script = packetcrypt_proto::address::payout_script(address);
            chain
                .main_from(0)
                .filter_map(|block| block.transactions.first())
                .filter_map(|tx| Transaction::parse(tx).ok())
                .flat_map(|tx| tx.outputs().collect::<Vec<_>>())
                .filter(|output| Some(output.script) == script.as_deref())
                .fold(0.0, |sum, output| {
                    sum + output.value as f64 / template::UNITS_PER_COIN as f64
                })
        };
        names
            .into_iter()
            .map(|(name, address)| Paid {
                name: name.to_owned(),
                address: address.clone(),
                coins: coins_of(address),
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::template::Payee;

    #[test]
    fn a_block_pays_a_map_that_was_in_force() {
        let payee =
            |address: &str| Payee { address: address.to_owned(), script: Vec::new(), weight: 1.0 };
        let map =
            |number, height, address| Payouts { number, height, payees: vec![payee(address)] };
        let maps = [map(0, 10, "node"), map(1, 12, "a"), map(2, 12, "b"), map(3, 15, "node")];
        let paid = |blocks: &[(u32, &'static str)]| -> Vec<Option<usize>> {
            let blocks: Vec<(u32, String)> =
                blocks.iter().map(|(height, to)| (*height, (*to).to_owned())).collect();
            let pays = |to: &String, map: &Payouts| map.payees[0].address == *to;
            let blocks = blocks.iter().map(|(height, to)| (*height, to));
            maps_paid(&maps, blocks, pays).into_iter().map(|(_, map)| map).collect()
        };
        assert_eq!(paid(&[(11, "node"), (13, "node"), (14, "b")]), [Some(0), Some(0), Some(2)]);
        // A map that two newer ones had replaced when the parent was found.
        assert_eq!(paid(&[(14, "a"), (14, "node"), (15, "a")]), [None, Some(3), None]);
        // The node's own again, after it was restarted.
        assert_eq!(paid(&[(17, "b"), (17, "node")]), [None, Some(3)]);
        assert_eq!(paid(&[(13, "a"), (13, "node")]), [Some(1), Some(3)]);
    }
}
