//! Faults: whatever goes wrong around the miner, no invalid share leaves it, every share and every
//! announcement is counted once, and it mines again as soon as it can.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::StatusCode;
use packetcrypt_blockminer::Config;
use packetcrypt_core::bytes::Hash32;
use packetcrypt_net::Shutdown;

use super::mock::{HEIGHT, Pool, config, group, stop, until_more, wait_for};

/// Blocks come while trees are built, ranges are on their way and shares are being uploaded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_come_in_the_middle_of_everything() {
    let pool = Pool::new(group("anns_g2.bin"));
    *pool.delay.lock().unwrap() = Duration::from_millis(60);
    let url = pool.serve().await;
    let shutdown = Shutdown::new();
    let miner = packetcrypt_blockminer::start(config(url), shutdown.clone()).await.unwrap();
    let read = || miner.stats();
    let (mut ranges, mut shares) = (0, 0);
    for block in 1..=6_u8 {
        // Now with announcements under way, now with shares under way.
        match block % 2 {
            1 => until_more(&pool.ranges_asked, ranges).await,
            _ => until_more(&pool.shares_asked, shares).await,
        }
        ranges = pool.ranges_asked.load(Ordering::Relaxed);
        shares = pool.shares_asked.load(Ordering::Relaxed);
        pool.advance(HEIGHT + u32::from(block), Hash32([100 + block; 32]));
        let chunk = group("anns_g1.bin")[usize::from(block) * 1024..][..1024].to_vec();
        pool.announcements.lock().unwrap().extend(chunk);
    }
    let before = wait_for("the last block", &read, |stats| {
        stats.job.as_ref().is_some_and(|job| job.height == HEIGHT + 6)
    })
    .await;
    wait_for("shares of it", &read, |stats| stats.shares.accepted >= before.shares.accepted + 2)
        .await;
    let stats = stop(miner, shutdown).await;
    assert_eq!(*pool.faults.lock().unwrap(), Vec::<String>::new());
    assert!(stats.shares.rejected.is_empty(), "{:?}", stats.shares);
    assert!(stats.builds.failed == 0 && stats.builds.jobs >= 2, "{:?}", stats.builds);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_reorganisation_what_was_made_on_replaced_blocks_is_given_up() {
    let pool = Pool::new([group("anns_g1.bin"), group("anns_g2.bin")].concat());
    let url = pool.serve().await;
    let shutdown = Shutdown::new();
    let miner = packetcrypt_blockminer::start(config(url), shutdown.clone()).await.unwrap();
    let read = || miner.stats();
    wait_for("shares", &read, |stats| stats.shares.accepted >= 1).await;
    // Block 299996 and those above it are replaced: group 1 is worthless, group 2 is not.
    pool.reorganise(299_996, Hash32([9; 32]));
    let before = wait_for("what is given up", &read, |stats| {
        stats.store.usable == 100 && stats.job.as_ref().is_some_and(|job| job.announcements == 99)
    })
    .await;
    wait_for("shares", &read, |stats| stats.shares.accepted >= before.shares.accepted + 2).await;
    stop(miner, shutdown).await;
    assert_eq!(*pool.faults.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_go_and_come_back() {
    let pool = Pool::new(group("anns_g1.bin"));
    pool.is_down.store(true, Ordering::Relaxed);
    let url = pool.serve().await;
    let shutdown = Shutdown::new();
    let miner = packetcrypt_blockminer::start(config(url), shutdown.clone()).await.unwrap();
    let read = || miner.stats();
    let stats = wait_for("the trouble", &read, |stats| {
        stats.peers.iter().any(|peer| peer.trouble.as_ref().is_some_and(|why| why.contains("503")))
    })
    .await;
    assert_eq!(stats.not_mining.as_deref(), Some("there are no announcements"));
    pool.is_down.store(false, Ordering::Relaxed);
    wait_for("shares", &read, |stats| stats.shares.accepted >= 1).await;
    // Gone while there is something to mine with: that goes on.
    pool.is_down.store(true, Ordering::Relaxed);
    pool.announcements.lock().unwrap().extend(group("anns_g2.bin"));
    let before = wait_for("the trouble", &read, |stats| stats.peers[0].trouble.is_some()).await;
    wait_for("shares", &read, |stats| stats.shares.accepted > before.shares.accepted).await;
    pool.is_down.store(false, Ordering::Relaxed);
    let stats = wait_for("the rest", &read, |stats| stats.announcements.stored == 220).await;
    assert_eq!(stats.announcements.duplicate, 0, "it went on where it had stopped");
    stop(miner, shutdown).await;
}

/// A bad announcement that no spot check finds makes no bad share: the miner's own check does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_announcement_in_the_tree_makes_no_bad_share() {
    let mut bytes = group("anns_g1.bin");
    bytes.truncate(9 * 1024);
    for at in [2, 5, 7] {
        bytes[at * 1024 + 500] ^= 1;
    }
    let pool = Pool::new(bytes);
    let url = pool.serve().await;
    let shutdown = Shutdown::new();
    let config = Config { check_chance: 0.0, ..config(url) };
    let miner = packetcrypt_blockminer::start(config, shutdown.clone()).await.unwrap();
    let stats = wait_for(
        "the drop",
        || miner.stats(),
        |stats| {
            stats.peers.iter().any(|peer| peer.dropped_for_ms > 0)
                && stats.shares.rejected.keys().any(|why| why.contains("bad announcement"))
                && stats.store.held == 0
                && stats.job.is_none()
        },
    )
    .await;
    assert!(stats.peers[0].trouble.as_ref().is_some_and(|text| text.contains("INVAL")));
    let stats = stop(miner, shutdown).await;
    assert_eq!(*pool.faults.lock().unwrap(), Vec::<String>::new());
    assert_eq!((stats.store.held, stats.job.is_none()), (0, true), "all it sent is given up");
}

/// Announcements that look better than all honest ones and lie on a block so far down that the
/// miner did not ask for it: it asks now, and then finds them out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_on_an_old_block_is_not_mined_with() {
    let junk = |count: usize| {
        let mut bytes = group("anns_g1.bin")[..count * 1024].to_vec();
        for announcement in bytes.chunks_mut(1024) {
            announcement[8..12].copy_from_slice(&0x1900_ffff_u32.to_le_bytes());
            announcement[12..16].copy_from_slice(&(HEIGHT - 31).to_le_bytes());
        }
        bytes
    };
    let pool = Pool::new([junk(20), group("anns_g2.bin")].concat());
    let url = pool.serve().await;
    let shutdown = Shutdown::new();
    let miner = packetcrypt_blockminer::start(config(url), shutdown.clone()).await.unwrap();
    let read = || miner.stats();
    wait_for("shares", &read, |stats| stats.shares.accepted >= 2).await;
    let stats = wait_for("the refusal", &read, |stats| stats.announcements.stored == 100).await;
    assert_eq!(stats.announcements.dropped["unknown_parent"], 20);
    assert!(stats.peers.iter().all(|peer| peer.dropped_for_ms == 0));
    // Until the block is known the sender is left in peace, and not for longer.
    while read().peers.iter().all(|peer| peer.dropped_for_ms == 0) {
        pool.announcements.lock().unwrap().extend(junk(1));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let stats = stop(miner, shutdown).await;
    assert_eq!(stats.announcements.dropped["bad_proof"], 1);
    assert_eq!(*pool.faults.lock().unwrap(), Vec::<String>::new());
    assert!(stats.shares.rejected.is_empty(), "{:?}", stats.shares);
}

/// Announcements that were taken before their block was there: nothing is sent with them until it
/// is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_checked_is_not_sent() {
    let pool = Pool::new(group("anns_g2.bin"));
    pool.blocks_are_down.store(true, Ordering::Relaxed);
    pool.set_height(299_995);
    let url = pool.serve().await;
    let shutdown = Shutdown::new();
    let miner = packetcrypt_blockminer::start(config(url), shutdown.clone()).await.unwrap();
    let read = || miner.stats();
    wait_for("announcements", &read, |stats| stats.announcements.stored == 100).await;
    pool.advance(HEIGHT, Hash32([8; 32]));
    let stats = wait_for("shares that are kept back", &read, |stats| {
        stats.shares.rejected.keys().any(|why| why.contains("is not known"))
    })
    .await;
    assert_eq!((stats.shares.accepted, stats.announcements.checked), (0, 0));
    pool.blocks_are_down.store(false, Ordering::Relaxed);
    wait_for("shares", &read, |stats| stats.shares.accepted >= 1).await;
    stop(miner, shutdown).await;
    assert_eq!(*pool.faults.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_truncates_its_files_or_starts_anew_is_read_from_the_beginning() {
    let (first, second) = (group("anns_g1.bin"), group("anns_g2.bin"));
    let pool = Pool::new([&first[..], &second[..50 * 1024]].concat());
    let url = pool.serve().await;
    let shutdown = Shutdown::new();
    let miner = packetcrypt_blockminer::start(config(url), shutdown.clone()).await.unwrap();
    let read = || miner.stats();
    wait_for("all", &read, |stats| stats.announcements.stored == 170).await;
    // Cut, and other content behind the cut.
    *pool.announcements.lock().unwrap() = first[..50 * 1024].to_vec();
    wait_for("the cut file again", &read, |stats| stats.announcements.duplicate == 50).await;
    pool.announcements.lock().unwrap().extend_from_slice(&second[50 * 1024..]);
    wait_for("what is behind it", &read, |stats| stats.announcements.stored == 220).await;
    // Another store with a file of the same number and length.
    *pool.store.lock().unwrap() = 2;
    wait_for("another store", &read, |stats| stats.announcements.duplicate == 150).await;
    let stats = stop(miner, shutdown).await;
    assert_eq!(stats.announcements.received, 170 + 50 + 50 + 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn block_handlers_that_time_out_refuse_or_talk_nonsense() {
    let pool = Pool::new([group("anns_g1.bin"), group("anns_g2.bin")].concat());
    *pool.replies.lock().unwrap() = vec![
        (StatusCode::OK, r#"{"result":7,"error":[],"warn":[]}"#),
        (StatusCode::BAD_GATEWAY, "<html>"),
        (StatusCode::SERVICE_UNAVAILABLE, r#"{"result":"","error":["overloaded"],"warn":[]}"#),
    ];
    pool.shares_hang.store(true, Ordering::Relaxed);
    let url = pool.serve().await;
    let shutdown = Shutdown::new();
    let config = Config { upload_timeout_s: 1, uploaders: 1, ..config(url) };
    let miner = packetcrypt_blockminer::start(config, shutdown.clone()).await.unwrap();
    let read = || miner.stats();
    wait_for("time-outs", &read, |stats| stats.shares.retries >= 2).await;
    assert_eq!(read().shares.accepted, 0);
    pool.shares_hang.store(false, Ordering::Relaxed);
    let stats = wait_for("shares", &read, |stats| stats.shares.accepted >= 3).await;
    assert!(stats.shares.retries >= 5, "{:?}", stats.shares);
    let stats = stop(miner, shutdown).await;
    assert_eq!(*pool.faults.lock().unwrap(), Vec::<String>::new());
    assert!(stats.shares.rejected.is_empty(), "{:?}", stats.shares);
}

/// A miner that is started again on its file mines before it has downloaded anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_miner_goes_on_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let arena_file = Some(dir.path().join("arena"));
    let pool = Pool::new(group("anns_g1.bin"));
    let url = pool.serve().await;
    let config = Config { arena_file, ..config(url) };
    let shutdown = Shutdown::new();
    let miner = packetcrypt_blockminer::start(config.clone(), shutdown.clone()).await.unwrap();
    let read = || miner.stats();
    wait_for("shares", &read, |stats| {
        stats.announcements.stored == 120 && stats.shares.accepted >= 1
    })
    .await;
    stop(miner, shutdown).await;

    pool.is_down.store(true, Ordering::Relaxed);
    let shutdown = Shutdown::new();
    let miner = packetcrypt_blockminer::start(config.clone(), shutdown.clone()).await.unwrap();
    let read = || miner.stats();
    assert_eq!(read().store.held, 120);
    wait_for("shares", &read, |stats| stats.shares.accepted >= 1).await;
    pool.is_down.store(false, Ordering::Relaxed);
    pool.announcements.lock().unwrap().extend(group("anns_g2.bin"));
    let stats = wait_for("what is new", &read, |stats| stats.announcements.stored == 100).await;
    assert_eq!(stats.announcements.duplicate, 0, "what came before the restart came again");
    stop(miner, shutdown).await;

    // While it was off, blocks were replaced.
    pool.reorganise(299_996, Hash32([9; 32]));
    let shutdown = Shutdown::new();
    let miner = packetcrypt_blockminer::start(config, shutdown.clone()).await.unwrap();
    let read = || miner.stats();
    wait_for("what is given up", &read, |stats| stats.store.usable == 100).await;
    wait_for("shares", &read, |stats| stats.shares.accepted >= 1).await;
    stop(miner, shutdown).await;
    assert_eq!(*pool.faults.lock().unwrap(), Vec::<String>::new());
}
