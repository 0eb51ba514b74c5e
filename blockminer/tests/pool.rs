//! The whole miner against a small HTTP server ([`mock`]) that plays the rest of a pool.

#[path = "pool/faults.rs"]
mod faults;
#[path = "pool/mock.rs"]
mod mock;

use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::http::StatusCode;
use packetcrypt_blockminer::Stats;
use packetcrypt_core::bytes::Hash32;
use packetcrypt_net::Shutdown;

use mock::{HEIGHT, Pool, config, group, stop, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announcements_become_shares_over_a_change_of_the_block() {
    let pool = Pool::new([group("anns_g1.bin"), group("anns_g2.bin")].concat());
    // The first replies: not ready, overloaded, and nonsense, in this order.
    *pool.replies.lock().unwrap() = vec![
        (StatusCode::OK, "<html>"),
        (StatusCode::NOT_IMPLEMENTED, "overloaded"),
        (StatusCode::INTERNAL_SERVER_ERROR, "server not ready"),
    ];
    let url = pool.serve().await;
    let shutdown = Shutdown::new();
    let miner = packetcrypt_blockminer::start(config(url), shutdown.clone()).await.unwrap();
    let read = || miner.stats();
    let stats = wait_for("shares", &read, |stats| {
        stats.shares.accepted >= 3 && stats.shares.retries >= 3 && stats.announcements.stored == 220
    })
    .await;
    assert_eq!(stats.height, Some(HEIGHT));
    assert!(stats.job.is_some() && stats.not_mining.is_none());

    // The announcements of a second file part come as a range, and a new block changes the job.
    pool.announcements.lock().unwrap().extend(group("anns_g1.bin")[..10 * 1024].to_vec());
    wait_for("duplicates", &read, |stats| stats.announcements.duplicate == 10).await;
    pool.advance(HEIGHT + 1, Hash32([8; 32]));
    let before = wait_for("new block", &read, |stats| {
        stats.job.as_ref().is_some_and(|job| job.height == HEIGHT + 1)
    })
    .await;
    wait_for("shares of the new block", &read, |stats| {
        stats.shares.accepted >= before.shares.accepted + 2
    })
    .await;
    let stats = stop(miner, shutdown).await;
    assert_eq!(*pool.faults.lock().unwrap(), Vec::<String>::new());
    assert!(stats.shares.rejected.is_empty(), "{:?}", stats.shares);
    let mut ids = pool.accepted.lock().unwrap().clone();
    ids.sort();
    ids.dedup();
    assert!(ids.len() as u64 >= stats.shares.accepted, "every share has its own id");
}

/// The master takes the template of a height anew: what is mined changes, the tree does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refreshed_work_is_mined_with_the_tree_at_hand() {
    let pool = Pool::new(group("anns_g1.bin"));
    let url = pool.serve().await;
    let shutdown = Shutdown::new();
    let miner = packetcrypt_blockminer::start(config(url), shutdown.clone()).await.unwrap();
    let read = || miner.stats();
    let whole = |stats: &Stats| stats.job.as_ref().filter(|job| job.announcements == 119).cloned();
    let before =
        wait_for("shares", &read, |stats| stats.shares.accepted >= 1 && whole(stats).is_some())
            .await;
    let since = Instant::now();
    pool.refresh();
    wait_for("shares of the new work", &read, |_| {
        pool.accepted_newest.load(Ordering::Relaxed) >= 2
    })
    .await;
    let passed_ms = since.elapsed().as_millis() as u64;
    let after = read();
    assert!(after.builds.jobs > before.builds.jobs, "{:?}", after.builds);
    assert_eq!(after.builds.trees, before.builds.trees);
    let age_ms = |stats: &Stats| whole(stats).map(|job| job.age_ms);
    assert!(age_ms(&after) >= age_ms(&before).map(|ms| ms + passed_ms), "the tree is no younger");
    let stats = stop(miner, shutdown).await;
    assert_eq!(*pool.faults.lock().unwrap(), Vec::<String>::new());
    assert!(stats.shares.rejected.is_empty(), "{:?}", stats.shares);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_sends_a_bad_announcement_is_dropped() {
    let mut bytes = group("anns_g1.bin");
    bytes[5 * 1024 + 500] ^= 1;
    let pool = Pool::new(bytes);
    let url = pool.serve().await;
    let shutdown = Shutdown::new();
    let miner = packetcrypt_blockminer::start(config(url), shutdown.clone()).await.unwrap();
    let stats = wait_for(
        "the drop",
        || miner.stats(),
        |stats| {
            stats.announcements.dropped["bad_proof"] > 0
                && stats.peers[0].dropped_for_ms > 0
                && stats.store.held == 0
        },
    )
    .await;
    assert!(stats.peers[0].trouble.as_ref().is_some_and(|text| text.contains("INVAL")));
    let stats = stop(miner, shutdown).await;
    assert_eq!((stats.shares.found, stats.store.held), (0, 0));
    assert!(stats.not_mining.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announcements_that_wait_are_no_reason_to_mine() {
    let pool = Pool::new(group("anns_g1.bin"));
    pool.set_height(299_999);
    let url = pool.serve().await;
    let shutdown = Shutdown::new();
    let miner = packetcrypt_blockminer::start(config(url), shutdown.clone()).await.unwrap();
    let stats = wait_for(
        "the reason",
        || miner.stats(),
        |stats| stats.not_mining.as_ref().is_some_and(|why| why.contains("wait")),
    )
    .await;
    assert_eq!(stats.store.waiting, 120);
    assert!(stats.not_mining.unwrap().contains("block 300000"));
    let stats = stop(miner, shutdown).await;
    assert_eq!(stats.nonces, 0);
}
