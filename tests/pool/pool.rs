//! A whole pool mines blocks and pays its miners, and everything adds up.

use std::sync::Arc;

use packetcrypt_core::CompactTarget;
use packetcrypt_devnet::node::rpc::{Credentials, serve};
use packetcrypt_devnet::node::{EmbeddedNode, NodeConfig};
use packetcrypt_devnet::run::{RunError, Show, run};
use packetcrypt_devnet::{Config, Pool};
use packetcrypt_net::Shutdown;
use packetcrypt_tests::TestPool;
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread")]
async fn five_blocks_and_everything_holds() {
    let test = TestPool::start(1).await;
    test.until_blocks(5).await;
    // The last coinbases pay by a map of the paymaker in which both miners are.
    test.until("a block that pays both miners", |pool| {
        pool.sent_maps().last().is_some_and(|map| map.len() >= 3) && pool.blocks() >= 7
    })
    .await;
    // Works are refreshed within a height; that all of this holds says that their shares count.
    test.until("refreshed works", |pool| {
        let handlers = pool.stats().block_handler;
        handlers.iter().map(|handler| handler.works_refreshed).sum::<u64>() >= 2
    })
    .await;
    let summary = test.finish().await;
    assert!(summary.blocks >= 5);
    assert!(summary.announcements_made > 0 && summary.shares > 0);
    for paid in &summary.paid {
        assert!(paid.coins > 0.0, "{paid:?}");
    }
}

/// A pool on a node of its own, as `devnet --node` has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_on_a_node_outside() {
    let node = Arc::new(
        EmbeddedNode::new(NodeConfig {
            first_bits: CompactTarget(0x1e7f_ffff),
            block_time_ms: 1_500,
            seed: 9,
            first_payee: "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2"
                .to_owned(),
        })
        .expect("a node"),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://u:p@{}", listener.local_addr().expect("an address"));
    let credentials = Credentials { user: "u".to_owned(), password: "p".to_owned() };
    let shutdown = Shutdown::new();
    tokio::spawn(serve(listener, node.clone(), credentials, shutdown.clone()));

    // With peers it may be one of the main network.
    let config = Config { node_url: Some(url), ..Config::default() };
    node.pretend_peers(3);
    let refused = Pool::start(config.clone()).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("3 peers") && refused.contains("--yes-real-network"), "{refused}");
    assert!(node.payouts().len() == 1, "nobody told it whom to pay");
    let test = TestPool::start_with(Config { any_network: true, ..config }).await;
    // Of two blocks of one height one stays.
    let on_chain =
        || node.with_chain(|chain| chain.main_from(0).filter(|b| !b.is_placeholder()).count());
    test.until("two blocks on the chain", |_| on_chain() >= 2).await;
    let summary = test.finish().await;
    assert!(on_chain() <= summary.blocks as usize, "{} {summary}", on_chain());
    assert_eq!(node.refused(), Vec::<String>::new());
    shutdown.trigger();
}

/// Ctrl-C while the pool waits for a node that says nothing.
#[tokio::test]
async fn a_start_that_hangs_can_be_ended() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://u:p@{}", silent.local_addr().expect("an address"));
    let config = Config { node_url: Some(url), ..Config::default() };
    let shutdown = Shutdown::new();
    let running = tokio::spawn(run(config, Show::Nothing, shutdown.clone()));
    let _held = silent.accept().await.expect("the pool asks the node");
    shutdown.trigger();
    let ended = running.await.expect("no panic");
    assert!(matches!(ended, Err(RunError::Stopped)), "{ended:?}");
}
