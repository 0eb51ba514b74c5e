//! `/metrics` and `/stats.json` of the miner.

use std::net::SocketAddr;
use std::sync::Arc;

use packetcrypt_net::control::{self, ControlCounters, ControlLimits, ListenError};
use packetcrypt_net::{Shutdown, metrics::Metrics};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::stats::Stats;

type Labels = Vec<(String, String)>;

/// Serves the statistics on `address` until `shutdown`.
pub(crate) async fn serve(
    address: SocketAddr,
    stats: impl Fn() -> Stats + Send + Sync + 'static,
    shutdown: &Shutdown,
) -> Result<(), ListenError> {
    let counted = ControlCounters::default();
    let stats = {
        let counted = counted.clone();
        Arc::new(move || Stats { control: counted.figures(), ..stats() })
    };
    let for_metrics = (Arc::clone(&stats), counted.clone());
    let metrics = move || exposition(&for_metrics.0(), &for_metrics.1);
    let routes = control::observation_routes(metrics, move || stats());
    let limits = ControlLimits::default();
    let server =
        control::serve_counted(address, routes, limits, &counted, shutdown.clone()).await?;
    tracing::info!(address = %server.local_addr(), "serving /metrics and /stats.json");
    Ok(())
}

/// The counters as Prometheus reads them. Made anew for each scrape from one snapshot, so that
/// they fit together.
fn exposition(stats: &Stats, control: &ControlCounters) -> String {
    let mut metrics = Metrics::new("ann");
    metrics.counter("made", "Announcements found").inc_by(stats.made);
    metrics.counter("nonces", "Soft nonces whose work hash was computed").inc_by(stats.nonces);
    metrics.counter("jobs", "Pairs of tables built").inc_by(stats.tables);
    metrics.counter("jobs_failed", "Jobs without a usable program").inc_by(stats.tables_failed);
    let mining = i64::from(stats.parent_height.is_some());
    metrics.gauge("mining", "1 while announcements are mined").set(mining);
    let settled = Family::<Labels, Counter>::default();
    for pool in &stats.pools {
        let outcomes = [
            ("accepted", pool.accepted),
            ("duplicate", pool.duplicate),
            ("rejected", pool.rejected_total()),
            ("overload", pool.overload),
            ("failed", pool.failed),
            ("overflow", pool.overflow),
        ];
        for (outcome, count) in outcomes {
            let labels = vec![
                ("pool".to_owned(), pool.url.clone()),
                ("outcome".to_owned(), outcome.to_owned()),
            ];
            settled.get_or_create(&labels).inc_by(count);
        }
    }
    let help = "Announcements offered to a pool, by what became of them";
    metrics.registry_mut().register("announcements", help, settled);
    control.register(&mut metrics);
    metrics.encode()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::PoolStats;

    #[test]
    fn every_outcome_is_exposed() {
        let pool = PoolStats { url: "http://p".to_owned(), accepted: 7, ..PoolStats::default() };
        let stats = Stats { made: 9, pools: vec![pool], ..Stats::default() };
        let text = exposition(&stats, &ControlCounters::default());
        assert!(text.contains("packetcrypt_ann_made_total 9"), "{text}");
        let line = r#"packetcrypt_ann_announcements_total{pool="http://p",outcome="accepted"} 7"#;
        assert!(text.contains(line), "{text}");
    }
}
