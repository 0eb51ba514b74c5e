//! Blocks: told once, kept until the node has said what became of them, refused.

use std::time::{Duration, Instant};

use packetcrypt_node::{ShareVerdict, SubmitVerdict};
use packetcrypt_proto::events::ShareEvent;

use super::pool::{self, Pool, WAIT_MAX};
use super::{HEIGHT, SHARE, Share, assert_conserved, error_of, event_of, pool_with_work, work};

#[tokio::test]
async fn a_block_told_again_is_no_second_block() {
    let pool = pool_with_work(|_| {}).await;
    pool.node.script().share = Ok(ShareVerdict::ResubmitAsBlock);
    let (first, _) = event_of(&pool.share(&SHARE.body()).await);
    assert!(first.block && first.header_hash.is_some());
    let (again, warnings) = event_of(&pool.share(&SHARE.body()).await);
    assert_eq!((again, warnings.len()), (first.without_block(), 1));
    // Another block of the same work is submitted too, however soon.
    let (second, _) = event_of(&pool.share(&Share { nonce: 2, ..SHARE }.body()).await);
    assert!(second.block);
    let stats = pool.handler.stats();
    assert_eq!((stats.blocks_submitted, stats.blocks_taken), (2, 2));
    assert_eq!(std::fs::read_dir(pool.dir.path().join("blocks")).unwrap().count(), 0);
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn a_block_without_an_answer_is_submitted_until_there_is_one() {
    let pool = pool_with_work(|_| {}).await;
    pool.node.script().share = Ok(ShareVerdict::ResubmitAsBlock);
    pool.node.script().submit = Err(pool::away("submitblock"));
    let (event, warnings) = event_of(&pool.share(&SHARE.body()).await);
    assert!(!event.block && warnings[0].contains("pending"), "{warnings:?}");
    assert_eq!(pool.handler.stats().blocks_pending, 1);
    // The handler is restarted with the node still away.
    let node = pool.node.clone();
    let (dir, outcome) = pool.stop().await;
    outcome.unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("blocks")).unwrap().count(), 1);
    let pool = Pool::start_in(dir, node, |_| {}).await;
    pool.until("submitted", |stats| stats.blocks_submitted == 1).await;
    // Another solution of the header is the same block, which is on its way.
    let (file, template) = work(HEIGHT, 1);
    pool.advance(&file, &template).await;
    let (same_block, warnings) =
        event_of(&pool.share(&Share { low_nonce: 6, ..SHARE }.body()).await);
    assert_eq!((same_block.block, warnings.len()), (false, 0));
    assert_eq!(pool.handler.stats().blocks_submitted, 1);
    // The first submission was taken after all.
    let text = "rejected: 1.0 ErrDuplicateBlock: already have block";
    pool.node.script().submit = Ok(SubmitVerdict::Refused(text.to_owned()));
    pool.until("taken", |stats| stats.blocks_taken == 1).await;
    let lines = pool.pay_log();
    assert_eq!(lines.len(), 3);
    let late: ShareEvent = serde_json::from_str(&lines[2]).unwrap();
    assert!(late.block && late.header_hash.is_some());
    assert_eq!(late.without_block(), event);
    let blocks = pool.dir.path().join("blocks");
    let deadline = Instant::now() + WAIT_MAX;
    while std::fs::read_dir(&blocks).unwrap().count() > 0 {
        assert!(Instant::now() < deadline, "the settled block stays on disk");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn a_share_whose_block_is_refused_is_paid() {
    let pool = pool_with_work(|_| {}).await;
    pool.node.script().share = Ok(ShareVerdict::ResubmitAsBlock);
    let text = "rejected: already have block x";
    pool.node.script().submit = Ok(SubmitVerdict::Refused(text.to_owned()));
    let answer = pool.share(&SHARE.body()).await;
    assert_eq!(error_of(&answer), (409, "already have block".to_owned()));
    pool.node.script().submit = Err(pool::refused(-22, "Block decode failed"));
    let answer = pool.share(&Share { nonce: 2, ..SHARE }.body()).await;
    assert_eq!(error_of(&answer).0, 400);
    assert_eq!(pool.pay_log().len(), 2);
    let stats = pool.handler.stats();
    assert_eq!((stats.blocks_refused, stats.blocks_known, stats.blocks_pending), (1, 1, 0));
    assert_eq!(stats.accepted, 2);
    // What the node has it is not given again; what it refused may be good with another proof.
    pool.node.script().submit = Ok(SubmitVerdict::Accepted);
    let (known, _) = event_of(&pool.share(&Share { low_nonce: 6, ..SHARE }.body()).await);
    assert!(!known.block);
    let other_proof = Share { nonce: 2, low_nonce: 6, ..SHARE };
    let (good, _) = event_of(&pool.share(&other_proof.body()).await);
    assert!(good.block);
    assert_eq!(pool.handler.stats().blocks_submitted, 3);
    assert_conserved(&pool);
    pool.stop().await.1.unwrap();
}
