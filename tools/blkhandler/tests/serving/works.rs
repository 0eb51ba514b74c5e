//! Works: before the first, after the present one, and refreshed ones.

use std::time::{Duration, Instant};

use packetcrypt_node::ShareVerdict;
use packetcrypt_proto::share::ShareUpload;
use packetcrypt_proto::template;
use packetcrypt_proto::work::WorkFile;

use super::pool::{self, Call, Pool, SHARE_HEADERS, ScriptedNode, WAIT_MAX};
use super::{HEIGHT, SHARE, Share, assert_conserved, error_of, event_of, pool_with_work, work};

/// A work at [`HEIGHT`] on block 1 as it is at a time, and with what is paid then.
fn work_of_time(time: u8) -> template::BlockTemplate {
    let mut header = [0x11; 80];
    header[4..36].fill(1);
    header[68..72].fill(time);
    let mut coinbase = vec![1, 0, 0, 0, 1];
    coinbase.extend([time; 36]);
    coinbase.extend([0, 0xff, 0xff, 0xff, 0xff, 1]);
    coinbase.extend([0; 8]);
    coinbase.extend([50, 0x6a, 0x30, 0x09, 0xf9, 0x11, 0x02]);
    coinbase.extend([0xfc; 44]);
    coinbase.extend([0; 4]);
    template::BlockTemplate {
        height: HEIGHT,
        header,
        coinbase_no_witness: coinbase.clone(),
        merkle_branch: vec![packetcrypt_core::bytes::Hash32([time; 32])],
        transactions: vec![coinbase, vec![time; 20]],
    }
}

#[tokio::test]
async fn the_previous_work_is_paid_for_a_while_as_no_block() {
    let pool = pool_with_work(|config| config.previous_work_grace_ms = 600_000).await;
    let (file, template) = work(HEIGHT + 1, 2);
    pool.advance(&file, &template).await;
    pool.node.script().share = Ok(ShareVerdict::ResubmitAsBlock);
    let (event, warnings) = event_of(&pool.share(&SHARE.body()).await);
    assert!(!event.block && warnings[0].contains("previous work"), "{warnings:?}");
    assert!(matches!(&pool.node.share_calls()[..], [Call::CheckShare(_)]));
    // A fresh share for the new work is a block as ever.
    let (event, _) = event_of(&pool.share(&Share { previous: 2, ..SHARE }.body()).await);
    assert!(event.block);
    assert_eq!(pool.handler.stats().accepted_previous_work, 1);
    // The new parent of the work is an event, the first one was not.
    pool.until("block event", |stats| stats.block_events == 1).await;
    let block = pool.pay_log().into_iter().find(|line| line.contains(r#""type":"block""#)).unwrap();
    let expected = "02".repeat(32);
    assert!(block.contains(&format!(r#""hash":"{expected}","height":77"#)), "{block}");
    assert_conserved(&pool);
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn the_grace_of_the_previous_work_ends() {
    let pool = pool_with_work(|config| config.previous_work_grace_ms = 300).await;
    let (file, template) = work(HEIGHT + 1, 2);
    pool.advance(&file, &template).await;
    let deadline = Instant::now() + WAIT_MAX;
    let answer = loop {
        let answer = pool.share(&SHARE.body()).await;
        if answer.status != 200 {
            break answer;
        }
        assert!(Instant::now() < deadline, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let (expected, got) = ("02".repeat(32), "01".repeat(32));
    let text =
        format!("Share is for wrong work, expecting previous hash [{expected}] but got [{got}]");
    assert_eq!(error_of(&answer), (400, text));
    assert_conserved(&pool);
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn before_the_work_is_there() {
    let pool = Pool::start(ScriptedNode::default(), |_| {}).await;
    let answer = pool.share(&SHARE.body()).await;
    assert_eq!((answer.status, &answer.body[..]), (500, "server not ready"));
    // A configuration, no work.
    let (bytes, template) = work(HEIGHT, 1);
    let file = WorkFile::parse(&bytes).unwrap();
    pool.publish_config(&file, &["http://127.0.0.1:9/submit"]);
    let deadline = Instant::now() + WAIT_MAX;
    let answer = loop {
        let answer = pool.share(&SHARE.body()).await;
        if answer.body != "server not ready" {
            break answer;
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(error_of(&answer), (500, "no currentWork".to_owned()));
    // The work, but the template of another one.
    let other = work(HEIGHT, 9).1;
    pool.advance(&bytes, &other).await;
    let answer = pool.share(&SHARE.body()).await;
    assert_eq!(error_of(&answer), (500, "Unable to get block template".to_owned()));
    pool.publish(&bytes, &template);
    let deadline = Instant::now() + WAIT_MAX;
    while pool.share(&SHARE.body()).await.status != 200 {
        assert!(Instant::now() < deadline, "the template is not tried again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_conserved(&pool);
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn a_share_for_work_that_is_on_its_way_waits_for_it() {
    let pool = pool_with_work(|_| {}).await;
    let addr = pool.addr;
    for next in 1..=60 {
        let (bytes, template) = work(HEIGHT + i32::from(next), 1 + next);
        pool.publish_config(&WorkFile::parse(&bytes).unwrap(), &["http://127.0.0.1:9/submit"]);
        // Some polls later, on a machine that is not too busy: else it is tried with the next work.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let body = Share { previous: 1 + next, ..SHARE }.body();
        let post = tokio::spawn(async move {
            pool::send(addr, "POST", "/submit", SHARE_HEADERS, body.as_bytes()).await
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        let waits = !post.is_finished();
        pool.advance(&bytes, &template).await;
        let answer = post.await.unwrap();
        if answer.status == 200 {
            assert!(waits, "answered before the work was there");
            pool.stop().await.1.unwrap();
            return;
        }
        // It came before the handler had read the configuration.
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    panic!("no share waits for the announced work");
}

/// The share of [`SHARE`] as it is mined with a work.
fn share_of(file: &WorkFile) -> ShareUpload {
    let upload = SHARE.upload();
    let commitment = packetcrypt_core::block::Commitment(*upload.commitment());
    let mut proof = upload.header_and_proof().to_vec();
    proof[36..68].copy_from_slice(&file.merkle_root_with(&commitment).unwrap().0);
    ShareUpload::new(*upload.commitment(), proof).unwrap()
}

#[tokio::test]
async fn a_refreshed_work_without_its_template_leaves_the_one_before() {
    let pool = Pool::start(ScriptedNode::default(), |_| {}).await;
    let target = packetcrypt_core::bytes::CompactTarget(0x1d03_fffc);
    let templates = [5, 6].map(work_of_time);
    let files = templates.each_ref().map(|t| WorkFile::from_template(t, None, target, target));
    pool.advance(&files[0].to_bytes(), &templates[0].to_bytes()).await;
    // The work is the new one already, its template is not.
    pool.publish(&files[1].to_bytes(), &templates[0].to_bytes());
    // Some polls later.
    tokio::time::sleep(Duration::from_millis(300)).await;
    event_of(&pool.share(&share_of(&files[0]).to_json()).await);
    assert_eq!(pool.handler.stats().works_refreshed, 0);
    pool.publish(&files[1].to_bytes(), &templates[1].to_bytes());
    pool.until("the refresh", |stats| stats.works_refreshed == 1).await;
    let (_, warnings) = event_of(&pool.share(&share_of(&files[1]).to_json()).await);
    assert_eq!(warnings, Vec::<String>::new());
    assert_conserved(&pool);
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn shares_and_blocks_of_a_work_that_was_refreshed_are_as_good_as_of_the_new_one() {
    let pool = Pool::start(ScriptedNode::default(), |_| {}).await;
    let target = packetcrypt_core::bytes::CompactTarget(0x1d03_fffc);
    let templates = [5, 6].map(work_of_time);
    let files = templates.each_ref().map(|t| WorkFile::from_template(t, None, target, target));
    for (file, template) in files.iter().zip(&templates) {
        pool.advance(&file.to_bytes(), &template.to_bytes()).await;
    }
    pool.until("the refresh", |stats| stats.works_refreshed == 1).await;
    pool.node.script().share = Ok(ShareVerdict::ResubmitAsBlock);
    for (file, template) in files.iter().zip(&templates) {
        let upload = share_of(file);
        let (event, warnings) = event_of(&pool.share(&upload.to_json()).await);
        assert_eq!((event.block, warnings.len()), (true, 0));
        let calls = pool.node.share_calls();
        let [.., Call::CheckShare(check), Call::SubmitBlock(block)] = &calls[..] else {
            panic!("{calls:?}")
        };
        assert_eq!(check.merkle_branch, file.merkle_branch);
        assert_eq!(block[68..72], template.header[68..72], "the time of its own work");
        assert!(block.ends_with(&template.transactions[1]), "and its transactions");
    }
    assert_eq!(pool.handler.stats().blocks_taken, 2);
    assert_conserved(&pool);
    pool.stop().await.1.unwrap();
}
