//! `packetcrypt sprayer`: a relay of announcements.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use packetcrypt_net::sprayer::{self, SprayerOptions};
use packetcrypt_net::{Shutdown, limits};

use crate::failure::Failure;
use crate::role;

/// Time between two lines about the links, as the reference.
const STATS_INTERVAL_S: u64 = 10;

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
    /// Password of both sides of a subscription [default: empty, everybody may subscribe]
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
    /// Receiving threads
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Largest payload of a datagram, bytes; a record has 1032
    #[arg(short = 'M', long = "maxsegmentsize", visible_alias = "mss", default_value_t = 1472)]
    mss: usize,
    /// IPv4 multicast group to join instead of subscribing
    #[arg(long, value_name = "GROUP")]
    mcast: Option<Ipv4Addr>,
}

impl Sprayer {
    pub(super) fn run(self) -> Result<(), Failure> {
        let options = SprayerOptions {
            bind: self.bind,
            password: self.password,
            subscribe_to: self.subscribe,
            spray_at: self.sprayat,
            mss_bytes: self.mss,
            multicast: self.mcast,
            receive_threads: usize::from(self.threads),
            received_batches_max: limits::SPRAYER_CHUNKS_MAX,
        };
        role::run(async |shutdown| relay(options, shutdown).await)
    }
}

async fn relay(options: SprayerOptions, shutdown: Shutdown) -> Result<(), Failure> {
    let sprayer = sprayer::Sprayer::start(options, &shutdown).map_err(Failure::failed)?;
    tracing::info!(bind = %sprayer.local_addr(), "sprayer");
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

fn log_links(stats: &sprayer::SprayerStats) {
    tracing::info!(
        received = stats.received,
        duplicates = stats.duplicates,
        strangers = stats.stranger_datagrams,
        garbage = stats.garbage_datagrams,
        wrong_passwords = stats.wrong_passwords,
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
