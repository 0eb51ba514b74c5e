//! The UDP feed: subscribes to sprayers and takes in what they send (spec 05, 7).
//!
//! Datagrams can not wait: what comes faster than it is taken in is dropped by the sprayer's queue,
//! oldest first, and counted there. Where data may come from is the sprayer's to check; the
//! sender's address tells peers apart.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use packetcrypt_net::Shutdown;
use packetcrypt_net::sprayer::{Sprayer, SprayerError, SprayerOptions};

use crate::config::SprayerConfig;
use crate::intake::Taker;
use crate::peers::Peers;

/// Batches of the sprayer that wait for being taken in: 128 MiB.
const BATCHES_MAX: usize = 128;
/// How long the thread waits before it looks at the signal.
const TICK: Duration = Duration::from_millis(100);

/// Opens the socket and subscribes.
pub(crate) fn open(config: &SprayerConfig, shutdown: &Shutdown) -> Result<Sprayer, SprayerError> {
    let options = SprayerOptions {
        subscribe_to: config.subscribe.clone(),
        mss_bytes: config.mss,
        multicast: config.mcast,
        receive_threads: config.threads,
        received_batches_max: BATCHES_MAX,
        ..SprayerOptions::new(config.bind, config.password.expose())
    };
    Sprayer::start(options, shutdown)
}

/// Starts the thread that takes in what comes, until the signal.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn follow(
    sprayer: Arc<Sprayer>,
    peers: Arc<Peers>,
    mut taker: Taker,
    shutdown: Shutdown,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("blk-intake".to_owned()).spawn(move || {
        let received = sprayer.received();
        while !shutdown.is_triggered() {
            let Some(batch) = received.pop_timeout(TICK) else { continue };
            let source = peers.source_udp(batch.from);
            taker.take_copies(source, &batch.announcements);
        }
    })
}
