//! Who may still send: the budget of each source for invalid work.
//!
//! A post that is refused after proof checks has cost us time and brought nothing. Each source
//! (an IP address; a /64 of IPv6, which one customer owns as a whole) has two figures, both halved
//! every [`HALF_LIFE_MS`]: what its posts cost and were good for, and what they cost and were
//! refused for. A source whose refused part is above [`Limits::ratio_max`] of all, and above a free
//! allowance that a single mistake never reaches, is turned away before its next body is looked
//! at, until time has made the figures small again. Honest sources keep the workers.
//!
//! The unit of cost is the cheap check of one announcement; a proof check costs
//! [`PROOF_COST`] of them.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A proof check costs as much as this many cheap checks (70 µs against about 1 µs).
pub const PROOF_COST: u64 = 64;
/// Figures of a source are halved in this time, milliseconds.
pub const HALF_LIFE_MS: u64 = 60_000;
/// Sources that are remembered; when more come, those with the smallest cost are forgotten.
pub const SOURCES_MAX: usize = 65_536;
/// A source is turned away for at most this long after its last post, milliseconds.
const FORGET_AFTER_MS: u64 = 10 * HALF_LIFE_MS;

/// When a source is turned away.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// The greatest refused part of the cost, 0 to 1. 1 turns nobody away.
    pub ratio_max: f64,
    /// Refused cost that is free, units of cost.
    pub free_cost: u64,
    /// Addresses that are never turned away.
    pub allow: HashSet<IpAddr>,
}

/// The budgets of all sources.
#[derive(Debug)]
pub struct Budgets {
    limits: Limits,
    sources: Mutex<HashMap<IpAddr, Source>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Source {
    good: f64,
    bad: f64,
    posts_refused: u64,
    updated_ms: u64,
}

/// What is known of a source, for `/stats.json`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SourceStats {
    /// The source: an address, for IPv6 the first of its /64.
    pub source: IpAddr,
    /// Recent cost of accepted and duplicate work, units of cost.
    pub good_cost: u64,
    /// Recent cost of refused work, units of cost.
    pub bad_cost: u64,
    /// Posts turned away because of the budget.
    pub posts_refused: u64,
    /// Whether the next post would be turned away.
    pub is_over_budget: bool,
}

impl Budgets {
    /// Budgets with nobody in them.
    pub fn new(limits: Limits) -> Self {
        Self { limits, sources: Mutex::default() }
    }

    /// Whether a post of this source is to be looked at. A refusal is counted.
    pub fn admit(&self, address: IpAddr, now_ms: u64) -> bool {
        if self.limits.allow.contains(&canonical(address)) {
            return true;
        }
        let mut sources = self.lock();
        let Some(source) = sources.get_mut(&source_of(address)) else { return true };
        source.age(now_ms);
        let over = self.is_over(source);
        if over {
            source.posts_refused += 1;
        }
        !over
    }

    /// The source that this address belongs to, `None` when no bounds of a source hold for it.
    pub fn bounded_source(&self, address: IpAddr) -> Option<IpAddr> {
        let is_allowed = self.limits.allow.contains(&canonical(address));
        (!is_allowed).then(|| source_of(address))
    }

    /// Books what a post cost: `good` when it was answered 200, else not.
    pub fn book(&self, address: IpAddr, cost: u64, good: bool, now_ms: u64) {
        if cost == 0 {
            return;
        }
        let mut sources = self.lock();
        let key = source_of(address);
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&key) {
            make_room(&mut sources, now_ms);
        }
        let source = sources.entry(key).or_default();
        source.age(now_ms);
        *(if good { &mut source.good } else { &mut source.bad }) += cost as f64;
    }

    /// The sources with the greatest refused cost, at most `count`.
    pub fn worst(&self, count: usize, now_ms: u64) -> Vec<SourceStats> {
        let sources = self.lock();
        let mut all: Vec<SourceStats> = sources
            .iter()
            .map(|(&address, source)| {
                let mut source = *source;
                source.age(now_ms);
                SourceStats {
                    source: address,
                    good_cost: source.good as u64,
                    bad_cost: source.bad as u64,
                    posts_refused: source.posts_refused,
                    is_over_budget: self.is_over(&source) && !self.limits.allow.contains(&address),
                }
            })
            .filter(|source| source.bad_cost > 0)
            .collect();
        all.sort_by(|a, b| b.bad_cost.cmp(&a.bad_cost).then(a.source.cmp(&b.source)));
        all.truncate(count);
        all
    }

    fn is_over(&self, source: &Source) -> bool {
        source.bad > self.limits.free_cost as f64
            && source.bad > self.limits.ratio_max * (source.good + source.bad)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Source>> {
        // The map is whole after every statement: a panic elsewhere does not spoil it.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn age(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.updated_ms);
        let factor = (-(passed as f64) / HALF_LIFE_MS as f64).exp2();
        self.good *= factor;
        self.bad *= factor;
        self.updated_ms = self.updated_ms.max(now_ms);
    }
}

/// Forgets the idle, and if that is not enough the half with the smallest cost.
fn make_room(sources: &mut HashMap<IpAddr, Source>, now_ms: u64) {
    sources.retain(|_, source| now_ms.saturating_sub(source.updated_ms) < FORGET_AFTER_MS);
    if sources.len() < SOURCES_MAX {
        return;
    }
    let mut costs: Vec<f64> = sources.values().map(|source| source.good + source.bad).collect();
    costs.sort_by(f64::total_cmp);
    let median = costs[costs.len() / 2];
    sources.retain(|_, source| source.good + source.bad > median);
}

fn source_of(address: IpAddr) -> IpAddr {
    match canonical(address) {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// An IPv4 address that came through an IPv6 socket is the IPv4 address.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JUNK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const HONEST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn budgets() -> Budgets {
        Budgets::new(Limits { ratio_max: 0.5, free_cost: 1000, allow: HashSet::new() })
    }

    #[test]
    fn a_source_of_junk_loses_its_budget_and_gets_it_back() {
        let budgets = budgets();
        assert!(budgets.admit(JUNK, 0));
        budgets.book(JUNK, 1000, false, 0);
        assert!(budgets.admit(JUNK, 0), "the allowance itself is free");
        budgets.book(JUNK, 3000, false, 0);
        assert!(!budgets.admit(JUNK, 1));
        assert!(budgets.admit(HONEST, 1));
        assert_eq!(budgets.worst(10, 1)[0].posts_refused, 1);
        assert!(budgets.worst(10, 1)[0].is_over_budget);
        assert!(!budgets.admit(JUNK, HALF_LIFE_MS));
        assert!(budgets.admit(JUNK, 3 * HALF_LIFE_MS));
    }

    #[test]
    fn the_ratio_counts_not_the_amount() {
        let budgets = budgets();
        budgets.book(HONEST, 1_000_000, true, 0);
        budgets.book(HONEST, 900_000, false, 0);
        assert!(budgets.admit(HONEST, 0));
        budgets.book(HONEST, 200_000, false, 0);
        assert!(!budgets.admit(HONEST, 0));
    }

    #[test]
    fn the_allow_list_and_mapped_addresses() {
        let limits = Limits { ratio_max: 0.0, free_cost: 0, allow: HashSet::from([HONEST]) };
        let budgets = Budgets::new(limits);
        let mapped: IpAddr = "::ffff:192.0.2.2".parse().unwrap();
        budgets.book(mapped, 5, false, 0);
        assert!(budgets.admit(mapped, 0));
        budgets.book("2001:db8::1".parse().unwrap(), 5, false, 0);
        assert!(!budgets.admit("2001:db8::ffff".parse().unwrap(), 0), "same /64");
        assert!(budgets.admit("2001:db8:0:1::1".parse().unwrap(), 0), "another /64");
    }

    #[test]
    fn the_number_of_sources_is_bounded_and_the_worst_stay() {
        let budgets = budgets();
        budgets.book(JUNK, 1_000_000, false, 0);
        for i in 0..(SOURCES_MAX as u32 + 10) {
            let address = IpAddr::V4((0x0a00_0000 + i).into());
            budgets.book(address, 1 + u64::from(i % 7), false, 0);
        }
        assert!(budgets.lock().len() <= SOURCES_MAX);
        assert!(!budgets.admit(JUNK, 0));
    }

    #[test]
    fn a_clock_that_steps_back_does_no_harm() {
        let budgets = budgets();
        budgets.book(JUNK, 5000, false, 1_000_000);
        assert!(!budgets.admit(JUNK, 0));
    }
}
