//! The UDP feed: subscribes to sprayers and hands on what they send (spec 05, 7).
//!
//! Datagrams can not wait: what the intake has no room for is dropped and counted. Where data may
//! come from is the sprayer's to check; the sender's address tells peers apart.

use std::sync::Arc;

use bytes::Bytes;
use packetcrypt_net::Shutdown;
use packetcrypt_net::sprayer::{Sprayer, SprayerError, SprayerOptions};

use crate::config::SprayerConfig;
use crate::intake::{Batch, Inlet, Peers};

/// Batches of the sprayer that wait for the task that hands them on.
const BATCHES_MAX: usize = 128;

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

/// Hands on what comes until the signal.
pub(crate) async fn follow(sprayer: Sprayer, peers: Arc<Peers>, inlet: Inlet, shutdown: Shutdown) {
    loop {
        let batch = tokio::select! {
            () = shutdown.cancelled() => return,
            batch = sprayer.receive() => match batch {
                Some(batch) => batch,
                None => return,
            },
        };
        let source = peers.source(&format!("udp {}", batch.from));
        let bytes = Bytes::from(batch.announcements.into_flattened());
        inlet.offer(Batch { source, bytes });
    }
}
