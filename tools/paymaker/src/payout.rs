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

/// Whether the node is not there: no connection, no reply in time, or no place for one more call. It
/// has said nothing of the map then, and is asked again until it does.
fn is_absence(error: &NodeError) -> bool {
    error.is_retryable()
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

/// Sends to one node in cycles until the signal. Each node has its own: any of them may make the
/// next template, whichever the paymaker reached last.
pub(crate) struct Sender<N> {
    node: N,
    /// What the node is called in the log.
    name: String,
    service: Arc<Service>,
    shutdown: Shutdown,
    /// The map that this node took last, if it took the last one.
    taken: Option<Vec<(String, f64)>>,
    /// It is not to be reached, and so pays by no map of ours when it is back.
    is_away: bool,
}

impl<N: Node> Sender<N> {
    pub(crate) fn new(node: N, service: Arc<Service>, shutdown: Shutdown) -> Self {
        Self { name: node.name(), node, service, shutdown, taken: None, is_away: false }
    }

    pub(crate) async fn run(mut self) {
        let cycle = Duration::from_secs_f64(self.service.config.update_cycle_s);
        let check_s = self.service.config.node_check_s;
        if cycle.is_zero() || !self.shutdown.sleep(cycle).await {
            return;
        }
        loop {
            let mut is_settled = self.send().await;
            let mut left = cycle;
            loop {
                let check = match check_s {
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
                if self.is_away {
                    is_settled = self.send().await;
                } else if !is_settled || self.is_forgotten().await {
                    let node = &self.name;
                    tracing::warn!(%node, "the node does not pay by our map: it is sent again");
                    self.service.counters.payouts_sent_again.inc();
                    is_settled = self.send().await;
                }
            }
        }
    }

    async fn is_forgotten(&mut self) -> bool {
        let Some(sent) = &self.taken else { return false };
        match self.node.mining_payouts().await {
            Ok(payees) => is_forgotten(sent, &payees),
            Err(cause) if is_absence(&cause) => {
                self.is_gone(&cause);
                false
            }
            Err(cause) => {
                tracing::debug!(node = %self.name, %cause, "payees of the node are not known");
                false
            }
        }
    }

    /// Tells once that the node is away.
    fn is_gone(&mut self, cause: &NodeError) {
        if !self.is_away {
            self.is_away = true;
            self.service.counters.nodes_away.inc();
            let node = &self.name;
            tracing::warn!(%node, %cause, "the node is away: it gets the map when it is back");
        }
    }

    /// Tells once that it answers again; whether it was away.
    fn is_back(&mut self) -> bool {
        let was_away = std::mem::take(&mut self.is_away);
        if was_away {
            self.service.counters.nodes_away.dec();
            tracing::info!(node = %self.name, "the node is back");
        }
        was_away
    }

    /// One cycle; `false` when the node did not take what it was sent, so that the map must be sent
    /// again soon.
    async fn send(&mut self) -> bool {
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
                    if self.is_back() {
                        self.service.counters.payouts_sent_again.inc();
                    }
                    self.record(map, true, false);
                    return true;
                }
                // Nobody is there who could refuse: no reason to pay everything to errorAddress.
                Err(cause) if is_absence(&cause) => {
                    self.taken = None;
                    self.is_gone(&cause);
                    return false;
                }
                Err(cause) => {
                    self.is_back();
                    let node = &self.name;
                    tracing::error!(%node, %cause, "payouts refused: all goes to errorAddress");
                    self.record(map, false, false);
                    // Only what the node itself said of the map stays true. Without an answer, or
                    // when it took no map at all, it may still pay by none, as after a restart.
                    return self.send_error_map().await && cause.rpc().is_some();
                }
            }
        }
        self.send_error_map().await
    }

    /// Whether the node took it.
    async fn send_error_map(&mut self) -> bool {
        let map = vec![(self.service.config.error_address.clone(), 1.0)];
        let outcome = self.node.configure_mining_payouts(&map).await;
        match &outcome {
            Err(cause) if is_absence(cause) => {
                self.taken = None;
                self.is_gone(cause);
                return false;
            }
            Err(cause) => tracing::error!(node = %self.name, %cause, "errorAddress refused too"),
            Ok(()) => drop(self.is_back()),
        }
        let is_taken = outcome.is_ok();
        self.record(map, is_taken, true);
        is_taken
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

    fn record(&mut self, weights: Vec<(String, f64)>, is_accepted: bool, is_error_map: bool) {
        self.taken = is_accepted.then(|| weights.clone());
        let counters = &self.service.counters;
        if is_accepted { &counters.payouts_accepted } else { &counters.payouts_refused }.inc();
        let at_ms = self.service.clock.now_ms();
        self.service.sent.push(SentMap { number: 0, at_ms, weights, is_accepted, is_error_map });
    }
}

#[cfg(test)]
mod tests {
    use packetcrypt_core::bytes::Hash32;
    use packetcrypt_net::SystemClock;
    use packetcrypt_net::metrics::Metrics;
    use packetcrypt_node::{
        BlockHeaderReply, BlockReply, NodeInfo, RpcError, ShareToCheck, ShareVerdict, SubmitVerdict,
    };
    use packetcrypt_proto::settings::Secret;
    use packetcrypt_proto::template::BlockTemplate;

    use super::*;
    use crate::config::Config;
    use crate::stats::Counters;

    const DEFAULT: &str = "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2";

    type Taken = Vec<Vec<(String, f64)>>;

    /// A node that answers maps by a script and keeps those that it took.
    #[derive(Clone, Default)]
    struct ScriptedNode {
        answers: Arc<Mutex<VecDeque<Result<(), NodeError>>>>,
        taken: Arc<Mutex<Taken>>,
    }

    impl Node for ScriptedNode {
        async fn configure_mining_payouts(&self, map: &[(String, f64)]) -> Result<(), NodeError> {
            let answer = self.answers.lock().unwrap().pop_front().expect("no more calls");
            if answer.is_ok() {
                self.taken.lock().unwrap().push(map.to_vec());
            }
            answer
        }
        async fn mining_payouts(&self) -> Result<Vec<(String, f64)>, NodeError> {
            Ok(self.taken.lock().unwrap().last().cloned().unwrap_or_default())
        }
        async fn raw_block_template(&self) -> Result<BlockTemplate, NodeError> {
            panic!("not asked by a paymaker")
        }
        async fn best_block_hash(&self) -> Result<Hash32, NodeError> {
            panic!("not asked by a paymaker")
        }
        async fn block_header(&self, _: &Hash32) -> Result<BlockHeaderReply, NodeError> {
            panic!("not asked by a paymaker")
        }
        async fn block(&self, _: &Hash32) -> Result<BlockReply, NodeError> {
            panic!("not asked by a paymaker")
        }
        async fn block_hash(&self, _: i32) -> Result<Hash32, NodeError> {
            panic!("not asked by a paymaker")
        }
        async fn check_share(&self, _: &ShareToCheck) -> Result<ShareVerdict, NodeError> {
            panic!("not asked by a paymaker")
        }
        async fn submit_block(&self, _: &[u8]) -> Result<SubmitVerdict, NodeError> {
            panic!("not asked by a paymaker")
        }
        async fn info(&self) -> Result<NodeInfo, NodeError> {
            panic!("not asked by a paymaker")
        }
        async fn check_ann(
            &self,
            _: &[u8; packetcrypt_proto::ANNOUNCEMENT_BYTES],
            _: u32,
            _: Option<&Hash32>,
        ) -> Result<Hash32, NodeError> {
            panic!("not asked by a paymaker")
        }
    }

    fn closed() -> NodeError {
        NodeError::ClosedWithoutReply { method: "m".to_owned() }
    }

    fn away() -> NodeError {
        NodeError::Unreachable { method: "m".to_owned(), cause: "refused".to_owned() }
    }

    fn refused() -> NodeError {
        let message = "address could not be decoded".to_owned();
        NodeError::Rpc { method: "m".to_owned(), error: RpcError { code: Some(-5), message } }
    }

    fn service(dir: &std::path::Path) -> Arc<Service> {
        let config = Config {
            paymaker_http_password: Secret::new("hush"),
            default_address: DEFAULT.into(),
            error_address: "pkt1error".into(),
            dir: dir.to_owned(),
            ..Config::default()
        };
        let files = crate::ledger::Files::open(&config.dir).unwrap();
        let counters = Counters::new(&mut Metrics::new("paymaker"));
        let service = Service::new(config, Arc::new(SystemClock), Box::new(files), counters);
        service.load().unwrap();
        Arc::new(service)
    }

    /// What is settled: only a map that the node took, or a refusal of its own and the error map.
    #[tokio::test]
    async fn a_map_is_settled_only_when_the_node_pays_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let service = service(dir.path());
        for (answers, is_settled, error_maps) in [
            (vec![Ok(())], true, 0),
            // The node died within the call and was not back for the second one, or just back.
            (vec![Err(closed()), Err(away())], false, 0),
            (vec![Err(closed()), Ok(())], false, 1),
            (vec![Err(away())], false, 0),
            (vec![Err(refused()), Ok(())], true, 1),
            (vec![Err(refused()), Err(away())], false, 0),
        ] {
            let node = ScriptedNode::default();
            node.answers.lock().unwrap().extend(answers.clone());
            let mut sender = Sender::new(node.clone(), service.clone(), Shutdown::new());
            assert_eq!(sender.send().await, is_settled, "{answers:?}");
            assert!(node.answers.lock().unwrap().is_empty(), "{answers:?}");
            let taken = node.taken.lock().unwrap().clone();
            let of_error = |map: &&Vec<(String, f64)>| map[0].0 == "pkt1error";
            assert_eq!(taken.iter().filter(of_error).count(), error_maps, "{answers:?}");
            assert_eq!(sender.taken.as_ref(), taken.last(), "{answers:?}");
        }
        // Each node that took or refused something counts, none that was away.
        let stats = service.stats();
        assert_eq!((stats.payouts_accepted, stats.payouts_refused), (3, 4));
    }

    /// A spare node that is down for a while costs two lines and no map.
    #[tokio::test]
    async fn a_node_that_is_away_is_asked_again_quietly() {
        let dir = tempfile::tempdir().unwrap();
        let service = service(dir.path());
        let node = ScriptedNode::default();
        let timeout = || NodeError::Timeout { method: "m".to_owned(), ms: 1 };
        let answers = [Err(away()), Err(timeout()), Err(away()), Ok(()), Ok(()), Err(away())];
        node.answers.lock().unwrap().extend(answers);
        let mut sender = Sender::new(node.clone(), service.clone(), Shutdown::new());
        assert_eq!(sender.name, "node");
        for (is_settled, away, sent_again) in
            [(false, 1, 0), (false, 1, 0), (false, 1, 0), (true, 0, 1), (true, 0, 1), (false, 1, 1)]
        {
            assert_eq!(sender.send().await, is_settled);
            let stats = service.stats();
            assert_eq!((stats.nodes_away, stats.payouts_sent_again), (away, sent_again));
            assert_eq!(stats.payouts_refused, 0);
        }
        assert!(service.sent.all().iter().all(|map| map.is_accepted && !map.is_error_map));
        assert!(sender.taken.is_none());
    }

    /// Each node is looked after by itself.
    #[tokio::test]
    async fn a_node_that_forgot_is_told_from_one_that_did_not() {
        let dir = tempfile::tempdir().unwrap();
        let service = service(dir.path());
        let nodes = [ScriptedNode::default(), ScriptedNode::default()];
        let mut senders = Vec::new();
        for node in &nodes {
            node.answers.lock().unwrap().push_back(Ok(()));
            let mut sender = Sender::new(node.clone(), service.clone(), Shutdown::new());
            assert!(sender.send().await && !sender.is_forgotten().await);
            senders.push(sender);
        }
        *nodes[1].taken.lock().unwrap() = vec![list(&[("miningaddr", 1.0)])];
        assert!(!senders[0].is_forgotten().await);
        assert!(senders[1].is_forgotten().await);
    }

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
