//! A whole pool mines blocks and pays its miners, and everything adds up.

use packetcrypt_tests::TestPool;

#[tokio::test(flavor = "multi_thread")]
async fn five_blocks_and_everything_holds() {
    let test = TestPool::start(1).await;
    test.until_blocks(5).await;
    // The last coinbases pay by a map of the paymaker in which both miners are.
    test.until("a block that pays both miners", |pool| {
        pool.sent_maps().last().is_some_and(|map| map.len() >= 3) && pool.blocks() >= 7
    })
    .await;
    let summary = test.finish().await;
    assert!(summary.blocks >= 5);
    assert!(summary.announcements_made > 0 && summary.shares > 0);
    for paid in &summary.paid {
        assert!(paid.coins > 0.0, "{paid:?}");
    }
}
