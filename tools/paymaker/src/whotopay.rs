//! Who is paid by the next coinbase (spec 05, 12.5).
//!
//! All numbers are doubles and every operation is in the order of the text: the answers of the
//! reference are met bit for bit.

use std::sync::Arc;

use indexmap::IndexMap;
use packetcrypt_proto::{address, number};
use serde::Serialize;

use crate::history::History;
use crate::slots::Entry;

/// Time over which block miners' hash rates are taken, ms.
const RATE_MS: f64 = 600_000.0;
/// Warm-up above which a miner counts as warm, percent.
const WARM_PERCENT: f64 = 90.0;

/// The rules of payment.
#[derive(Clone, Debug)]
pub struct PayRules {
    /// Part of the block miners, 0 to 1.
    pub block_payout_fraction: f64,
    /// Window of the block miners.
    pub pplns_blk_constant_x: f64,
    /// Window of the announcement miners.
    pub pplns_ann_constant_x: f64,
    /// Gets what is left.
    pub default_address: Arc<str>,
    /// Part of the pool, `None` for nothing.
    pub pool_fee: Option<f64>,
    /// Where the pool's part goes.
    pub pool_fee_address: Arc<str>,
    /// An entry without credit hides the later ones of its slot, as in the reference (16.3).
    pub zero_credit_hides_slot: bool,
}

/// An announcement miner.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AnnMinerStats {
    /// Bandwidth in the second newest slot, kbit/s.
    pub kbps: f64,
    /// How much of the window it has mined, percent.
    pub warmup_percent: f64,
    /// Hashes a second in the second newest slot.
    pub current_encryptions_per_second: f64,
    /// Its newest slot, ms.
    pub last_seen: f64,
    /// Its part of the announcement miners' pay.
    pub credits: f64,
}

/// A block miner.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlkMinerStats {
    /// Hashes a second over the last ten minutes.
    pub current_encryptions_per_second: f64,
    /// Its newest share, ms.
    pub last_seen: f64,
    /// Its part of the block miners' pay.
    pub credits: f64,
}

/// The answer; order of the members as the reference prints them. NaN and infinity are printed null.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WhoToPay {
    /// Reasons not to pay by `result`.
    pub error: Vec<String>,
    /// Things to look at.
    pub warn: Vec<String>,
    /// Sum over the announcement miners.
    pub total_kbps: f64,
    /// Blocks of the chain by hour, the present one last.
    pub blocks_per_hour: Vec<f64>,
    /// Blocks of ours by hour.
    pub wins_per_hour: Vec<f64>,
    /// Sum over all miners.
    pub total_encryptions_per_second: f64,
    /// Length of the block miners' window, ms.
    pub blk_payout_warmup_period: Option<f64>,
    /// Length of the announcement miners' window, ms.
    pub ann_payout_warmup_period: Option<f64>,
    /// Now, ms.
    pub generated_at: f64,
    /// Time of the newest event paid, ms; 0 when there is none.
    pub latest_payout: f64,
    /// Hash of the last block won, empty when there is none.
    pub last_won_block: String,
    /// Its time, ms; -1 when there is none.
    pub last_won_block_time: f64,
    /// Announcement miners in at least two slots.
    pub ann_miner_stats: IndexMap<String, AnnMinerStats>,
    /// Block miners.
    pub blk_miner_stats: IndexMap<String, BlkMinerStats>,
    /// Address to weight.
    pub result: IndexMap<String, f64>,
    /// Part of the pool.
    pub pool_fee: f64,
    /// Part of the block miners.
    pub block_miners: f64,
    /// Part of the announcement miners.
    pub ann_miners: f64,
}

/// Pay of one kind of miner.
struct Half {
    pay: IndexMap<Arc<str>, f64>,
    remaining: f64,
    oldest: Option<f64>,
}

impl Half {
    fn new(remaining: f64) -> Self {
        Self { pay: IndexMap::new(), remaining, oldest: None }
    }

    /// Pays for a credit; `false` when nothing is left.
    fn pay(&mut self, to: &Arc<str>, credit: f64, constant: f64) -> bool {
        let mut part = credit / constant;
        if part >= self.remaining {
            part = self.remaining;
        }
        *self.pay.entry(to.clone()).or_insert(0.0) += part;
        self.remaining -= part;
        self.remaining != 0.0
    }

    fn pay_rest(&mut self, kind: &str, to: &Arc<str>, warn: &mut Vec<String>) {
        if self.remaining != 0.0 {
            let percent = number::to_text(self.remaining * 100.0);
            warn.push(format!(
                "Ran out of {kind} shares to pay paying [{percent}%] to defaultAddress"
            ));
            *self.pay.entry(to.clone()).or_insert(0.0) += self.remaining;
        }
    }
}

struct BlkMeeting {
    last_seen: f64,
    encryptions: f64,
}

struct AnnMeeting {
    last_seen: f64,
    first_seen: f64,
    second: Option<Entry>,
}

/// Computes the answer at `now_ms` from events up to `max_time`.
#[must_use]
pub fn who_to_pay(history: &History, rules: &PayRules, now_ms: f64, max_time: f64) -> WhoToPay {
    let fraction = rules.block_payout_fraction;
    let mut warn = Vec::new();

    let mut blocks = Half::new(fraction);
    let blk_met = pay_shares(history, rules, now_ms, max_time, &mut blocks);
    blocks.pay_rest("block", &rules.default_address, &mut warn);

    let mut anns = Half::new(1.0 - fraction);
    let (ann_met, newest) = pay_slots(history, rules, max_time, &mut anns);
    anns.pay_rest("ann", &rules.default_address, &mut warn);

    let (fee, result) = share_out(rules, &blocks, &anns, &mut warn);
    let latest = latest_payout(history);
    let span = newest.unwrap_or(0.0) - anns.oldest.unwrap_or(0.0);
    let timespan_ms = history.rules().timespan_ms;
    let ann_miner_stats: IndexMap<_, _> = ann_met
        .into_iter()
        .filter_map(|(pay_to, met)| {
            let credits = anns.pay.get(&pay_to).copied().unwrap_or(0.0);
            Some((pay_to.to_string(), ann_stats(&met, span, timespan_ms, credits)?))
        })
        .collect();
    let blk_miner_stats: IndexMap<_, _> = blk_met
        .into_iter()
        .map(|(pay_to, met)| {
            let rate = (met.encryptions / RATE_MS * 1000.0).floor();
            let credits = blocks.pay.get(&pay_to).copied().unwrap_or(0.0);
            let stats = BlkMinerStats {
                current_encryptions_per_second: rate,
                last_seen: met.last_seen,
                credits,
            };
            (pay_to.to_string(), stats)
        })
        .collect();
    let (blocks_per_hour, wins_per_hour) = history.hours.lists(now_ms);
    let ann_rates = ann_miner_stats.values().map(|miner| miner.current_encryptions_per_second);
    let blk_rates = blk_miner_stats.values().map(|miner| miner.current_encryptions_per_second);
    let (last_won_block, last_won_block_time) =
        history.last_won.clone().unwrap_or((String::new(), -1.0));
    WhoToPay {
        error: Vec::new(),
        warn,
        total_kbps: ann_miner_stats.values().fold(0.0, |sum, miner| sum + miner.kbps),
        blocks_per_hour,
        wins_per_hour,
        total_encryptions_per_second: ann_rates.chain(blk_rates).fold(0.0, |sum, rate| sum + rate),
        blk_payout_warmup_period: blocks.oldest.map(|oldest| latest - oldest),
        ann_payout_warmup_period: anns.oldest.map(|oldest| latest - oldest),
        generated_at: now_ms,
        latest_payout: latest,
        last_won_block,
        last_won_block_time,
        ann_miner_stats,
        blk_miner_stats,
        result,
        pool_fee: fee,
        block_miners: fraction * (1.0 - fee),
        ann_miners: (1.0 - fraction) * (1.0 - fee),
    }
}

fn latest_payout(history: &History) -> f64 {
    let share = history.shares_newest_first().next().map_or(0.0, |(time, _)| time);
    share.max(history.slots.newest().unwrap_or(0.0))
}

fn pay_shares(
    history: &History,
    rules: &PayRules,
    now_ms: f64,
    max_time: f64,
    half: &mut Half,
) -> IndexMap<Arc<str>, BlkMeeting> {
    let mut met: IndexMap<Arc<str>, BlkMeeting> = IndexMap::new();
    let shares = history.shares_newest_first().skip_while(|(time, _)| *time > max_time);
    for (time, share) in shares {
        half.oldest = Some(time);
        let miner = met
            .entry(share.pay_to.clone())
            .or_insert(BlkMeeting { last_seen: time, encryptions: 0.0 });
        if now_ms - time < RATE_MS {
            miner.encryptions += share.encryptions;
        }
        if !half.pay(&share.pay_to, share.credit, rules.pplns_blk_constant_x) {
            break;
        }
    }
    met
}

/// Also gives the newest slot in which any address was met.
fn pay_slots(
    history: &History,
    rules: &PayRules,
    max_time: f64,
    half: &mut Half,
) -> (IndexMap<Arc<str>, AnnMeeting>, Option<f64>) {
    let mut met: IndexMap<Arc<str>, AnnMeeting> = IndexMap::new();
    let mut newest = None;
    'slots: for (time, slot) in
        history.slots.newest_first().skip_while(|(time, _)| *time > max_time)
    {
        for (pay_to, entry) in &slot.entries {
            if entry.credit == 0.0 {
                if rules.zero_credit_hides_slot {
                    break;
                }
                continue;
            }
            newest.get_or_insert(time);
            half.oldest = Some(time);
            if let Some(miner) = met.get_mut(pay_to) {
                miner.first_seen = time;
                miner.second.get_or_insert(*entry);
            } else {
                let miner = AnnMeeting { last_seen: time, first_seen: time, second: None };
                met.insert(pay_to.clone(), miner);
            }
            if !half.pay(pay_to, entry.credit, rules.pplns_ann_constant_x) {
                break 'slots;
            }
        }
    }
    (met, newest)
}

fn ann_stats(met: &AnnMeeting, span: f64, t: f64, credits: f64) -> Option<AnnMinerStats> {
    let second = met.second?;
    Some(AnnMinerStats {
        kbps: (second.accepted / t * 1000.0 * 8.0).floor(),
        warmup_percent: warmup(met.last_seen - met.first_seen, span),
        current_encryptions_per_second: (second.encryptions * 1000.0 / t).floor(),
        last_seen: met.last_seen,
        credits,
    })
}

fn warmup(seen: f64, span: f64) -> f64 {
    let percent = (seen / span * 100.0).floor();
    if percent > WARM_PERCENT { 100.0 } else { percent }
}

fn share_out(
    rules: &PayRules,
    blocks: &Half,
    anns: &Half,
    warn: &mut Vec<String>,
) -> (f64, IndexMap<String, f64>) {
    let mut list: Vec<_> = blocks.pay.iter().chain(&anns.pay).collect();
    list.sort_by(|a, b| b.1.total_cmp(a.1));
    let mut fee = 0.0;
    let mut result = IndexMap::new();
    if let Some(wanted) = rules.pool_fee.filter(|fee| *fee != 0.0) {
        if !(0.0..1.0).contains(&wanted) {
            let wanted = number::to_text(wanted);
            warn.push(format!("invalid poolFee {wanted} must be between 0 and 1"));
        } else if !address::is_valid_pay_to(&rules.pool_fee_address) {
            warn.push(format!("invalid poolFeeAddress {}", rules.pool_fee_address));
        } else {
            fee = wanted;
            result.insert(rules.pool_fee_address.to_string(), fee);
        }
    }
    for (pay_to, part) in list {
        *result.entry(pay_to.to_string()).or_insert(0.0) += part * (1.0 - fee);
    }
    (fee, result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_is_above_ninety_not_at_it() {
        assert_eq!(warmup(90.0, 100.0), 90.0);
        assert_eq!(warmup(91.0, 100.0), 100.0);
        assert_eq!(warmup(90.99, 100.0), 90.0);
        assert!(warmup(0.0, 0.0).is_nan());
    }
}
