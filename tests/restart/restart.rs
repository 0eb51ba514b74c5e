//! Every role is restarted under load; what was acknowledged is not lost, and the pool goes on.

use packetcrypt_devnet::Role;
use packetcrypt_tests::{TestPool, accepted};

#[tokio::test(flavor = "multi_thread")]
async fn every_role_can_be_restarted_under_load() {
    let mut test = TestPool::start(2).await;
    test.until_blocks(1).await;
    let roles = [
        Role::AnnHandler(0),
        Role::Paymaker,
        Role::BlockHandler,
        Role::Master,
        Role::BlockMiner,
        Role::AnnHandler(1),
        Role::AnnMiner,
    ];
    for role in roles {
        let (blocks, announcements) = (test.pool.blocks(), accepted(&test.pool));
        test.pool.restart(role).await.unwrap_or_else(|e| panic!("{role:?}: {e}"));
        test.until(&format!("block after the restart of {role:?}"), |pool| pool.blocks() > blocks)
            .await;
        test.until(&format!("announcements after the restart of {role:?}"), |pool| {
            accepted(pool) > announcements
        })
        .await;
    }
    test.finish().await;
}
