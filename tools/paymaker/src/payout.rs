//! Telling the node whom to pay (spec 05, 12.6).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use packetcrypt_net::Shutdown;
use packetcrypt_node::{Node, NodeError};
use packetcrypt_proto::address;
use serde::Serialize;

use crate::service::Service;
use crate::whotopay::WhoToPay;

/// Code of every error of `configureminingpayouts`.
const INTERNAL_ERROR: i64 = -32603;
/// How often it is tried again after such an error.
const RETRIES_MAX: u32 = 20;
/// Pause before it is tried again, ms.
const RETRY_MS: u64 = 1000;
/// How many weights are remembered, over all maps but the newest.
const SENT_WEIGHTS_MAX: usize = 1 << 18;
/// A payee of at least this part of the coinbase is missed when it is not there.
const MISSED_PART: f64 = 0.001;

/// A map that was sent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SentMap {
    /// Counts the maps of this paymaker from 1.
    pub number: u64,
    /// When the node answered, ms since the epoch.
    pub at_ms: u64,
    /// Address and weight, greatest first; all weights are positive.
    pub weights: Vec<(String, f64)>,
    /// Whether the node took it.
    pub is_accepted: bool,
    /// Whether it is the map that pays the error address alone, because something went wrong.
    pub is_error_map: bool,
}

/// Maps that were sent, newest last.
#[derive(Clone, Debug, Default)]
pub struct SentMaps(Arc<Mutex<VecDeque<SentMap>>>);

impl SentMaps {
    /// The newest.
    #[must_use]
    pub fn last(&self) -> Option<SentMap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }

    /// All that are remembered (2^18 weights), oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<SentMap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, mut map: SentMap) {
        let mut maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.number = maps.back().map_or(0, |last| last.number) + 1;
        maps.push_back(map);
        let mut weights: usize = maps.iter().map(|map| map.weights.len()).sum();
        while weights > SENT_WEIGHTS_MAX && maps.len() > 1 {
            weights -= maps.pop_front().map_or(0, |map| map.weights.len());
        }
    }
}

/// The map to send: positive weights, addresses that the node takes, at most `payees_max`. What is
/// left out goes to the default address. Empty when nobody is to be paid.
#[must_use]
pub fn weights(answer: &WhoToPay, default_address: &str, payees_max: usize) -> Vec<(String, f64)> {
    let mut list: Vec<(String, f64)> = Vec::new();
    let mut left_out = 0.0;
    let mut entries: Vec<_> = answer.result.iter().collect();
    entries.retain(|(_, weight)| weight.is_finite() && **weight > 0.0);
    entries.sort_by(|a, b| b.1.total_cmp(a.1));
    for (pay_to, weight) in entries {
        // One place is kept for the default address.
        let fits = list.len() + 1 < payees_max || pay_to == default_address;
        match address::check(pay_to) {
            Ok(()) if fits => list.push((pay_to.clone(), *weight)),
            Ok(()) => left_out += weight,
            Err(cause) => {
                tracing::warn!(%pay_to, weight, %cause, "address left out of the payouts");
                left_out += weight;
            }
        }
    }
    if left_out > 0.0 {
        match list.iter_mut().find(|(pay_to, _)| pay_to == default_address) {
            Some((_, weight)) => *weight += left_out,
            None => list.push((default_address.to_owned(), left_out)),
        }
    }
    list
}

/// Whether a map will never be taken, so that there is no use in trying again.
fn is_permanent(error: &NodeError) -> bool {
    error.rpc().is_some_and(|rpc| {
        rpc.message.contains("could not be decoded")
            || rpc.message.contains("must specify at least one address")
    })
}

/// Whether the node's template pays somebody else than `sent` says. Only payees that are missing
/// count: the reply may list the network steward, and leaves out payees of nothing (spec 06, 1.3).
fn is_forgotten(sent: &[(String, f64)], payees: &[(String, f64)]) -> bool {
    let sum: f64 = sent.iter().map(|(_, weight)| weight).sum();
    let is_missing = |(pay_to, weight): &(String, f64)| {
        weight / sum >= MISSED_PART && !payees.iter().any(|(payee, _)| payee == pay_to)
    };
    !payees.is_empty() && sent.iter().any(is_missing)
}

/// Sends in cycles until the signal.
pub(crate) struct Sender<N> {
    pub(crate) node: N,
    pub(crate) service: Arc<Service>,
    pub(crate) shutdown: Shutdown,
}

impl<N: Node> Sender<N> {
    pub(crate) async fn run(self) {
        let config = &self.service.config;
        let cycle = Duration::from_secs_f64(config.update_cycle_s);
        if cycle.is_zero() || !self.shutdown.sleep(cycle).await {
            return;
        }
        loop {
            let mut is_settled = self.send().await;
            let mut left = cycle;
            loop {
                let check = match config.node_check_s {
                    0 => left,
                    seconds => left.min(Duration::from_secs(seconds)),
                };
                if !self.shutdown.sleep(check).await {
                    return;
                }
                left = left.saturating_sub(check);
                if left.is_zero() {
                    break;
                }
                if !is_settled || self.is_forgotten().await {
                    tracing::warn!("the node does not pay by our map: it is sent again");
                    self.service.counters.payouts_sent_again.inc();
                    is_settled = self.send().await;
                }
            }
        }
    }

    async fn is_forgotten(&self) -> bool {
        let Some(sent) = self.service.sent.last().filter(|map| map.is_accepted) else {
            return false;
        };
        match self.node.mining_payouts().await {
            Ok(payees) => is_forgotten(&sent.weights, &payees),
            Err(cause) => {
                tracing::debug!(%cause, "payees of the node are not known");
                false
            }
        }
    }

    /// One cycle; `false` when the node was away, so that the map must be sent again soon.
    async fn send(&self) -> bool {
        let config = &self.service.config;
        // The service answers what it answers to the public; without history (still loading) there
        // is nothing to send.
        let Some(answer) = self.service.who_to_pay(f64::INFINITY).await else { return false };
        for warning in &answer.warn {
            tracing::info!(%warning, "payouts");
        }
        let mut map = Vec::new();
        if answer.error.is_empty() {
            map = weights(&answer, &config.default_address, config.payees_max);
        }
        if answer.error.is_empty() && !map.is_empty() {
            match self.configure(&map).await {
                Ok(()) => {
                    self.record(map, true, false);
                    return true;
                }
                Err(cause) => {
                    tracing::error!(%cause, "payouts refused: everything goes to errorAddress");
                    self.record(map, false, false);
                    self.send_error_map().await;
                    return !cause.is_retryable();
                }
            }
        }
        self.send_error_map().await;
        true
    }

    async fn send_error_map(&self) {
        let map = vec![(self.service.config.error_address.clone(), 1.0)];
        let outcome = self.node.configure_mining_payouts(&map).await;
        if let Err(cause) = &outcome {
            tracing::error!(%cause, "errorAddress refused too");
        }
        self.record(map, outcome.is_ok(), true);
    }

    async fn configure(&self, map: &[(String, f64)]) -> Result<(), NodeError> {
        let mut tries = 0;
        loop {
            match self.node.configure_mining_payouts(map).await {
                Err(cause)
                    if cause.code() == Some(INTERNAL_ERROR)
                        && !is_permanent(&cause)
                        && tries < RETRIES_MAX =>
                {
                    tries += 1;
                    if !self.shutdown.sleep(Duration::from_millis(RETRY_MS)).await {
                        return Err(cause);
                    }
                }
                outcome => return outcome,
            }
        }
    }

    fn record(&self, weights: Vec<(String, f64)>, is_accepted: bool, is_error_map: bool) {
        let counters = &self.service.counters;
        if is_accepted { &counters.payouts_accepted } else { &counters.payouts_refused }.inc();
        let at_ms = self.service.clock.now_ms();
        self.service.sent.push(SentMap { number: 0, at_ms, weights, is_accepted, is_error_map });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(&str, f64)]) -> Vec<(String, f64)> {
        entries.iter().map(|(pay_to, weight)| ((*pay_to).to_owned(), *weight)).collect()
    }

    #[test]
    fn forgotten_is_a_payee_that_is_missing() {
        let sent = list(&[("a", 0.7), ("b", 0.2999), ("c", 0.0001)]);
        assert!(!is_forgotten(&sent, &list(&[("a", 7.0), ("b", 3.0), ("steward", 2.0)])));
        assert!(is_forgotten(&sent, &list(&[("a", 10.0)])));
        assert!(is_forgotten(&sent, &list(&[("miningaddr", 10.0)])));
        assert!(!is_forgotten(&sent, &[]));
    }
}
