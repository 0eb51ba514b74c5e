//! The chain is reorganised, the node is away: the pool finds its way back.

use std::time::{Duration, Instant};

use packetcrypt_devnet::node::EmbeddedNode;
use packetcrypt_tests::{TestPool, accepted};

#[tokio::test(flavor = "multi_thread")]
async fn a_reorganisation_of_depth_two() {
    let test = TestPool::start(3).await;
    test.until_blocks(4).await;
    let node = test.pool.node().expect("the embedded node");
    assert_eq!(node.reorganise(2), 2);
    let blocks = test.pool.blocks();
    test.until_blocks(blocks + 3).await;
    let summary = test.finish().await;
    assert!(summary.orphans >= 2, "{summary}");
}

/// Blocks until the difficulty fits the machine, at most doubled by each of them. Before that most
/// shares are blocks, of which each waits for the node: no pool has that.
const SETTLED_BLOCKS: u32 = 10;
/// How long the node is away at the least.
const AWAY: Duration = Duration::from_secs(20);
/// How soon after that the pool mines on. Blocks come every second or two; the rest is for a machine
/// that is busy with other things.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// It does not come back by itself.
const LONG_MS: u64 = 24 * 3600 * 1000;

/// The pool goes on while the node is away: announcements and shares are taken and paid. It is back
/// within seconds, and nothing is lost.
async fn survives(test: TestPool, cut: impl FnOnce(&EmbeddedNode, u64)) {
    test.until_blocks(SETTLED_BLOCKS).await;
    let (announcements, unchecked) = (accepted(&test.pool), test.pool.shares_without_node());
    let node = test.pool.node().expect("the embedded node");
    cut(node, LONG_MS);
    tokio::time::sleep(AWAY).await;
    test.until("announcements while the node is away", |pool| accepted(pool) > announcements).await;
    test.until("shares while the node is away", |pool| pool.shares_without_node() > unchecked)
        .await;
    let (back, blocks) = (Instant::now(), test.pool.blocks());
    node.come_back();
    test.until_blocks(blocks + 2).await;
    assert!(back.elapsed() < RECOVERY_MAX, "two blocks took {:?}", back.elapsed());
    let announcements = accepted(&test.pool);
    test.until("announcements", |pool| accepted(pool) > announcements).await;
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_away_for_twenty_seconds() {
    survives(TestPool::start(4).await, EmbeddedNode::go_down).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_for_twenty_seconds() {
    survives(TestPool::start(7).await, EmbeddedNode::hang).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_forgets_who_is_paid() {
    let test = TestPool::start(5).await;
    test.until("a map with both miners", |pool| {
        pool.sent_maps().last().is_some_and(|map| map.len() >= 3)
    })
    .await;
    let maps = test.pool.sent_maps().len();
    test.pool.node().expect("the embedded node").forget_payouts();
    test.until("a map after the node forgot it", |pool| pool.sent_maps().len() > maps).await;
    let blocks = test.pool.blocks();
    test.until_blocks(blocks + 1).await;
    test.finish().await;
}
