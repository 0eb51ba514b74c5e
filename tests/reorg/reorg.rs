//! The chain is reorganised, the node is away: the pool finds its way back.

use std::time::Duration;

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

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_away_for_twenty_seconds() {
    let test = TestPool::start(4).await;
    test.until_blocks(1).await;
    let node = test.pool.node().expect("the embedded node");
    node.go_down(20_000);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (blocks, announcements) = (test.pool.blocks(), accepted(&test.pool));
    test.until_blocks(blocks + 2).await;
    test.until("announcements", |pool| accepted(pool) > announcements).await;
    test.finish_after_fault().await;
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
