//! `packetcrypt sprayer`: a relay of announcements.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use packetcrypt_net::control::{self, ControlCounters, ControlFigures, ControlLimits};
use packetcrypt_net::metrics::Metrics;
use packetcrypt_net::sprayer::{self, SprayerOptions};
use packetcrypt_net::{Shutdown, limits};
use serde::Serialize;

use crate::failure::Failure;
use crate::role;

/// Time between two lines about the links, as the reference.
const STATS_INTERVAL_S: u64 = 10;

/// Relay announcements by UDP
///
/// Takes announcements from the sprayers it subscribes to and passes them on to its subscribers.
/// Between a pool's handlers and its block miners it multiplies what one handler sends.
#[derive(Args, Debug)]
#[command(after_help = "The password travels in clear and sources can be forged: keep the port \
    behind a firewall.\n\n\
    Example:\n  packetcrypt sprayer --bind 0.0.0.0:6666 --subscribe 10.0.0.1:6666")]
pub(crate) struct Sprayer {
    /// UDP address to receive on and send from
    #[arg(short, long, value_name = "ADDR:PORT")]
    bind: SocketAddr,
    /// Sprayers to subscribe to; data from any other address is ignored
    #[arg(short, long, value_name = "ADDR:PORT", num_args = 1.., required = true)]
    subscribe: Vec<SocketAddr>,
    /// Addresses that get everything without having subscribed
    #[arg(short = 'S', long, value_name = "ADDR:PORT", num_args = 1..)]
    sprayat: Vec<SocketAddr>,
    /// Password of both sides of a subscription [default: empty]
    #[arg(
        short = 'P',
        long,
        alias = "passwd",
        default_value = "",
        env = "PACKETCRYPT_SPRAYER_PASSWORD",
        hide_default_value = true,
        hide_env_values = true
    )]
    password: String,
    /// Addresses that may subscribe [default: everybody with the password, without one only this
    /// machine]
    #[arg(short, long, value_name = "ADDR", num_args = 1..)]
    allow: Vec<IpAddr>,
    /// Receiving threads
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Largest payload of a datagram, bytes; a record has 1032
    #[arg(short = 'M', long = "maxsegmentsize", visible_alias = "mss", default_value_t = 1472)]
    #[arg(value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1032..=65507))]
    mss: u16,
    /// IPv4 multicast group to join instead of subscribing
    #[arg(long, value_name = "GROUP")]
    mcast: Option<Ipv4Addr>,
    /// Where /metrics and /stats.json are served [default: nowhere]
    #[arg(long, value_name = "ADDR:PORT")]
    metrics_listen: Option<SocketAddr>,
}

impl Sprayer {
    pub(super) fn run(self) -> Result<(), Failure> {
        let options = SprayerOptions {
            bind: self.bind,
            password: self.password,
            subscribers_allow: self.allow,
            subscribe_to: self.subscribe,
            spray_at: self.sprayat,
            mss_bytes: usize::from(self.mss),
            multicast: self.mcast,
            receive_threads: usize::from(self.threads),
            received_batches_max: limits::SPRAYER_CHUNKS_MAX,
        };
        role::run(async |shutdown| relay(options, self.metrics_listen, shutdown).await)
    }
}

/// What `/stats.json` shows.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    sprayer: sprayer::SprayerStats,
    /// Connections to `/metrics` and `/stats.json`.
    control: ControlFigures,
}

async fn relay(
    options: SprayerOptions,
    metrics_listen: Option<SocketAddr>,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let sprayer = sprayer::Sprayer::start(options, &shutdown).map_err(Failure::failed)?;
    let sprayer = Arc::new(sprayer);
    tracing::info!(bind = %sprayer.local_addr(), "sprayer");
    if let Some(address) = metrics_listen {
        let counted = ControlCounters::default();
        let (for_metrics, for_stats) = (sprayer.clone(), sprayer.clone());
        let (metrics_counted, stats_counted) = (counted.clone(), counted.clone());
        let routes = control::observation_routes(
            move || exposition(&for_metrics.stats(), &metrics_counted),
            move || Shown { sprayer: for_stats.stats(), control: stats_counted.figures() },
        );
        let limits = ControlLimits::default();
        let server = control::serve_counted(address, routes, limits, &counted, shutdown.clone())
            .await
            .map_err(Failure::failed)?;
        tracing::info!(address = %server.local_addr(), "serving /metrics and /stats.json");
    }
    let mut interval = tokio::time::interval(Duration::from_secs(STATS_INTERVAL_S));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            // The sprayer itself relays; what it hands to the program has no use here.
            batch = sprayer.receive() => if batch.is_none() { return Ok(()) },
            _ = interval.tick() => log_links(&sprayer.stats()),
        }
    }
}

/// The counters as Prometheus reads them, made anew from one snapshot.
fn exposition(stats: &sprayer::SprayerStats, control: &ControlCounters) -> String {
    let mut metrics = Metrics::new("sprayer");
    let sum = |of: fn(&sprayer::PeerStats) -> u64| stats.peers.iter().map(of).sum();
    for (name, help, value) in [
        ("received", "Announcements received, duplicates too", stats.received),
        ("duplicates", "Received announcements that were seen before", stats.duplicates),
        ("sent", "Announcements sent, to all peers", sum(|peer| peer.sent)),
        ("dropped", "Announcements dropped from full queues of peers", sum(|peer| peer.dropped)),
        ("incoming_dropped", "Received announcements dropped here", stats.incoming.dropped),
        ("outgoing_dropped", "Announcements dropped before they were sent", stats.outgoing.dropped),
        ("garbage_datagrams", "Datagrams that mean nothing", stats.garbage_datagrams),
        ("stranger_datagrams", "Data of addresses not subscribed to", stats.stranger_datagrams),
        ("wrong_passwords", "Subscriptions with a wrong password", stats.wrong_passwords),
        (
            "unlisted_subscriptions",
            "Subscriptions from addresses that may not subscribe",
            stats.unlisted_subscriptions,
        ),
        ("subscribers_refused", "Subscriptions above the bound", stats.subscribers_refused),
    ] {
        metrics.counter(name, help).inc_by(value);
    }
    let subscribers = stats.peers.iter().filter(|peer| peer.is_subscriber).count();
    metrics.gauge("subscribers", "Peers that are sent to").set(subscribers as i64);
    control.register(&mut metrics);
    metrics.encode()
}

fn log_links(stats: &sprayer::SprayerStats) {
    tracing::info!(
        received = stats.received,
        duplicates = stats.duplicates,
        strangers = stats.stranger_datagrams,
        garbage = stats.garbage_datagrams,
        wrong_passwords = stats.wrong_passwords,
        unlisted_subscriptions = stats.unlisted_subscriptions,
        "sprayer links:"
    );
    for peer in &stats.peers {
        tracing::info!(
            received = peer.received,
            sent = peer.sent,
            queued = peer.queued,
            dropped = peer.dropped,
            send_errors = peer.send_errors,
            "  {}{}",
            peer.addr,
            if peer.is_subscriber { " (subscriber)" } else { "" }
        );
    }
}
