//! What the vectors do not show: duplicates, stale work, blocks whose fate is open, a node or master
//! that is away, hostile and broken requests.

mod blocks;
#[path = "../support/pool.rs"]
mod pool;
mod works;

use std::time::{Duration, Instant};

use packetcrypt_blkhandler::{Config, RunError, StartError};
use packetcrypt_net::Shutdown;
use packetcrypt_node::ShareVerdict;
use packetcrypt_proto::events::ShareEvent;
use packetcrypt_proto::reply::Reply;
use packetcrypt_proto::share::ShareUpload;
use packetcrypt_proto::work::WorkFile;
use packetcrypt_proto::{template, varint};
use pool::{Answer, Call, NOW_MS, Pool, SHARE_HEADERS, ScriptedNode, WAIT_MAX};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const HEIGHT: i32 = 200_000;

/// A work at `height` on a block whose id is all `previous`, with its template.
fn work(height: i32, previous: u8) -> (Vec<u8>, Vec<u8>) {
    let mut header = [0x11; 80];
    header[4..36].fill(previous);
    let mut coinbase = vec![7; 60];
    coinbase.extend([0x6a, 0x30, 0x09, 0xf9, 0x11, 0x02]);
    coinbase.extend([0xfc; 44]);
    let template = template::BlockTemplate {
        height,
        header,
        coinbase_no_witness: coinbase.clone(),
        merkle_branch: Vec::new(),
        transactions: vec![coinbase, vec![9; 20]],
    };
    let target = packetcrypt_core::bytes::CompactTarget(0x1d03_fffc);
    let work = WorkFile::from_template(&template, None, target, target);
    (work.to_bytes(), template.to_bytes())
}

/// What can be changed of a share.
#[derive(Clone, Copy)]
struct Share {
    previous: u8,
    nonce: u8,
    low_nonce: u8,
    parent: u32,
    work_bits: u32,
    ann_count: u64,
}

const SHARE: Share = Share {
    previous: 1,
    nonce: 1,
    low_nonce: 5,
    parent: 199_990,
    work_bits: 0x2002_0000,
    ann_count: 1000,
};

impl Share {
    fn upload(self) -> ShareUpload {
        let mut commitment = [3; 48];
        commitment[..4].copy_from_slice(&[0x09, 0xf9, 0x11, 0x02]);
        commitment[4..8].copy_from_slice(&0x2002_0000_u32.to_le_bytes());
        commitment[40..].copy_from_slice(&self.ann_count.to_le_bytes());
        let mut proof = vec![0x22; 80];
        proof[4..36].fill(self.previous);
        proof[76..80].fill(self.nonce);
        let mut announcement = [0; 1024];
        announcement[8..12].copy_from_slice(&self.work_bits.to_le_bytes());
        announcement[12..16].copy_from_slice(&self.parent.to_le_bytes());
        let content = [&[self.low_nonce; 4][..], &announcement.repeat(4), &[0xab; 40]].concat();
        varint::write(1, &mut proof);
        varint::write_bytes(&content, &mut proof);
        proof.extend([4, 1, 2]);
        ShareUpload::new(commitment, proof).unwrap()
    }

    fn body(self) -> String {
        self.upload().to_json()
    }
}

fn event_of(answer: &Answer) -> (ShareEvent, Vec<String>) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let reply = Reply::<ShareEvent>::parse(answer.body.as_bytes()).unwrap();
    (reply.result.unwrap(), reply.warn)
}

fn error_of(answer: &Answer) -> (u16, String) {
    let reply = Reply::<ShareEvent>::parse(answer.body.as_bytes()).unwrap();
    assert_eq!(reply.error.len(), 1, "{answer:?}");
    assert!(!answer.has_content_type, "{answer:?}");
    (answer.status, reply.error[0].clone())
}

async fn pool_with_work(change: impl FnOnce(&mut Config)) -> Pool {
    let pool = Pool::start(ScriptedNode::default(), change).await;
    let (file, template) = work(HEIGHT, 1);
    pool.advance(&file, &template).await;
    pool
}

/// Every request is in exactly one place.
fn assert_conserved(pool: &Pool) {
    let stats = pool.handler.stats();
    let ended = stats.accepted + stats.duplicate + stats.rejected + stats.overloaded + stats.failed;
    assert_eq!(stats.received, ended + stats.in_flight, "{stats:?}");
}

#[tokio::test]
async fn a_share_is_paid_once() {
    let pool = pool_with_work(|_| {}).await;
    let (first, warnings) = event_of(&pool.share(&SHARE.body()).await);
    assert_eq!((first.time, warnings.len()), (NOW_MS, 0));
    // The fields that the pool overwrites do not make another share of it.
    let mut altered = SHARE.upload().header_and_proof().to_vec();
    altered[0..4].fill(0x77);
    altered[68..76].fill(0x77);
    let altered = ShareUpload::new(*SHARE.upload().commitment(), altered).unwrap();
    for body in [SHARE.body(), altered.to_json()] {
        let (again, warnings) = event_of(&pool.share(&body).await);
        assert_eq!((again, &warnings[..]), (first.clone(), &["Duplicate share".to_owned()][..]));
    }
    assert_eq!(pool.pay_log(), [first.to_line()]);
    assert_eq!(pool.node.share_calls().len(), 1);
    let other = Share { nonce: 2, ..SHARE };
    event_of(&pool.share(&other.body()).await);
    let stats = pool.handler.stats();
    assert_eq!((stats.accepted, stats.duplicate), (2, 2));
    assert_conserved(&pool);
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn shares_at_the_same_moment_are_paid_once() {
    let pool = pool_with_work(|_| {}).await;
    pool.node.script().check_time = Duration::from_millis(100);
    let body = SHARE.body();
    let posts = (0..8).map(|_| {
        let (addr, body) = (pool.addr, body.clone());
        tokio::spawn(async move {
            pool::send(addr, "POST", "/submit", SHARE_HEADERS, body.as_bytes()).await
        })
    });
    let mut fresh = 0;
    for post in posts.collect::<Vec<_>>() {
        fresh += usize::from(event_of(&post.await.unwrap()).1.is_empty());
    }
    assert_eq!((fresh, pool.pay_log().len()), (1, 1));
    assert_eq!(pool.node.share_calls().len(), 1);
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn what_would_hurt_the_node_does_not_reach_it() {
    let pool = pool_with_work(|_| {}).await;
    let parent = |parent| Share { parent, ..SHARE };
    let bits = |work_bits| Share { work_bits, ..SHARE };
    let cases = [
        (parent(199_998), "announcement parent block [199998] out of range"),
        (parent(0x8000_0000), "announcement parent block [2147483648] out of range"),
        (bits(0), "announcement [0] work target [00000000] is not well-formed"),
        (bits(0x2000_0000), "announcement [0] work target [20000000] is not well-formed"),
        (bits(0x2080_0001), "announcement [0] work target [20800001] is not well-formed"),
        (
            Share { ann_count: 0, ..SHARE },
            r#"Failed validation of share [{"code":-32603,"message":"the commitment counts no announcements or its target leaves no work"}]"#,
        ),
    ];
    for (share, text) in cases {
        let answer = pool.share(&share.body()).await;
        assert_eq!(error_of(&answer), (400, text.to_owned()));
    }
    assert_eq!(error_of(&pool.share("{}").await).1, "Upload is not parsable as json");
    let crash = r#"{"coinbase_commit":"","header_and_proof":"00"}"#;
    assert_eq!(error_of(&pool.share(crash).await).1, "Upload is not parsable as json");
    let long = "p".repeat(2000);
    let headers = [("x-pc-payto", &long[..]), ("x-pc-sver", "1")];
    let answer = pool.send("POST", "/submit", &headers, SHARE.body().as_bytes()).await;
    assert_eq!(error_of(&answer).1, "payto too long");
    assert!(pool.node.share_calls().is_empty());
    event_of(&pool.share(&parent(199_997).body()).await);
    let stats = pool.handler.stats();
    assert_eq!((stats.rejected_announcement, stats.rejected_malformed), (5, 3));
    assert_conserved(&pool);
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn the_own_check_spares_the_node() {
    let pool = pool_with_work(|config| config.own_check = true).await;
    let (status, text) = error_of(&pool.share(&SHARE.body()).await);
    assert_eq!(status, 400);
    assert!(
        text.starts_with(r#"Failed validation of share [{"code":-32603,"message":""#),
        "{text}"
    );
    assert!(pool.node.share_calls().is_empty());
    assert_eq!(pool.handler.stats().rejected_invalid, 1);
    pool.stop().await.1.unwrap();
}

/// Announcements on blocks of which nothing is known here: the node is asked only for a share with
/// work, and never for blocks on which no announcement is usable.
#[tokio::test]
async fn a_share_without_work_asks_nothing_of_the_node() {
    let pool = pool_with_work(|config| config.own_check = true).await;
    for height in (0..HEIGHT).rev().take(300) {
        pool.node.script().hashes.insert(height, packetcrypt_core::bytes::Hash32([4; 32]));
    }
    for parent in [195_000, 199_740] {
        let answer = pool.share(&Share { parent, ..SHARE }.body()).await;
        let text = format!("announcement parent block [{parent}] out of range");
        assert_eq!(error_of(&answer), (400, text));
    }
    for parent in [199_741, 199_990, 199_997] {
        let answer = pool.share(&Share { parent, ..SHARE }.body()).await;
        assert_eq!(error_of(&answer).0, 400, "{answer:?}");
    }
    let calls = pool.node.script().calls.clone();
    assert!(calls.is_empty(), "{calls:?}");
    assert_conserved(&pool);
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn a_node_that_is_away_costs_no_accepted_share() {
    let pool = pool_with_work(|_| {}).await;
    pool.node.script().share = Err(pool::away("checkpcshare"));
    let (status, text) = error_of(&pool.share(&SHARE.body()).await);
    assert_eq!(status, 503);
    assert!(text.starts_with("Unable to check share ["), "{text}");
    pool.node.script().share = Ok(ShareVerdict::Ok);
    // It was not accepted, so it is not a duplicate.
    assert!(event_of(&pool.share(&SHARE.body()).await).1.is_empty());
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn a_node_that_hangs_takes_no_share_with_it() {
    let pool = pool_with_work(|config| config.node_wait_ms = 200).await;
    pool.node.script().check_time = Duration::from_secs(3600);
    let asked = Instant::now();
    let (status, text) = error_of(&pool.share(&SHARE.body()).await);
    assert_eq!(status, 503);
    assert!(text.starts_with("Unable to check share ["), "{text}");
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_conserved(&pool);
    pool.stop().await.1.unwrap();
    // It is a block, and the node hangs then: the share is paid, the block goes on by itself. The
    // check, which is answered, has time enough on a busy machine.
    let pool = pool_with_work(|config| config.node_wait_ms = 3000).await;
    pool.node.script().share = Ok(ShareVerdict::ResubmitAsBlock);
    pool.node.script().holds_submissions = true;
    let (event, warnings) = event_of(&pool.share(&SHARE.body()).await);
    assert!(!event.block && warnings[0].contains("pending"), "{warnings:?}");
    pool.node.script().holds_submissions = false;
    pool.until("taken", |stats| stats.blocks_taken == 1).await;
    let submissions = pool.node.share_calls().into_iter();
    assert_eq!(submissions.filter(|call| matches!(call, Call::SubmitBlock(_))).count(), 1);
    let lines = pool.pay_log();
    assert_eq!(lines.len(), 2);
    let late: ShareEvent = serde_json::from_str(&lines[1]).unwrap();
    assert!(late.block && late.without_block() == event);
    assert_conserved(&pool);
    pool.stop().await.1.unwrap();
}

/// The head of a share, and one byte of its body.
const CRAWLING: &[u8] =
    b"POST /submit HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\n{";

async fn crawl(pool: &Pool) -> TcpStream {
    let mut stream = TcpStream::connect(pool.addr).await.unwrap();
    stream.write_all(CRAWLING).await.unwrap();
    stream
}

#[tokio::test]
async fn bodies_that_crawl_keep_no_share_out() {
    let change = |config: &mut Config| {
        config.max_connections = 2;
        config.body_timeout_ms = 600_000;
    };
    let pool = pool_with_work(change).await;
    let mut slow = Vec::new();
    for _ in 0..60 {
        slow.push(crawl(&pool).await);
    }
    pool.until("in flight", |stats| stats.in_flight == 60).await;
    event_of(&pool.share(&SHARE.body()).await);
    drop(slow);
    pool.until("the end of all", |stats| stats.in_flight == 0).await;
    assert_conserved(&pool);
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn too_many_shares_at_once_are_told_so() {
    let change = |config: &mut Config| {
        config.max_connections = 2;
        config.node_wait_ms = 60_000;
    };
    let pool = pool_with_work(change).await;
    pool.node.script().check_time = Duration::from_secs(3600);
    for nonce in [1, 2] {
        let (addr, body) = (pool.addr, Share { nonce, ..SHARE }.body());
        tokio::spawn(async move {
            pool::send(addr, "POST", "/submit", SHARE_HEADERS, body.as_bytes()).await
        });
    }
    let deadline = Instant::now() + WAIT_MAX;
    while pool.node.share_calls().len() < 2 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = pool.share(&Share { nonce: 3, ..SHARE }.body()).await;
    assert_eq!((answer.status, &answer.body[..]), (501, "overloaded"));
    assert_eq!(pool.handler.stats().overloaded, 1);
    assert_conserved(&pool);
}

#[tokio::test]
async fn a_body_comes_in_time_and_is_not_too_long() {
    let pool = pool_with_work(|config| config.body_timeout_ms = 700).await;
    let answer = pool::read_answer(crawl(&pool).await).await;
    assert_eq!(error_of(&answer), (408, "body did not arrive".to_owned()));
    assert_conserved(&pool);
    pool.stop().await.1.unwrap();
    // These come in time.
    let pool = pool_with_work(|_| {}).await;
    event_of(&pool.share(&SHARE.body()).await);
    // Exactly as long as allowed is not too big.
    let most = pool.share(&" ".repeat(65_535)).await;
    assert_eq!(error_of(&most).1, "Upload is not parsable as json");
    assert_eq!(error_of(&pool.share(&" ".repeat(65_536)).await).1, "too big");
    assert_conserved(&pool);
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn a_share_is_taken_to_its_end_when_the_miner_goes_away() {
    let pool = pool_with_work(|_| {}).await;
    {
        let mut script = pool.node.script();
        script.check_time = Duration::from_millis(300);
        script.share = Ok(ShareVerdict::ResubmitAsBlock);
    }
    let body = SHARE.body();
    let mut stream = TcpStream::connect(pool.addr).await.unwrap();
    let head = format!(
        "POST /submit HTTP/1.1\r\nhost: x\r\nx-pc-payto: a\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let deadline = Instant::now() + WAIT_MAX;
    while pool.node.share_calls().is_empty() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    pool.until("block", |stats| stats.blocks_taken == 1).await;
    pool.until("accepted", |stats| stats.accepted == 1).await;
    assert!(pool.pay_log()[0].contains(r#""block":true"#));
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn remembered_shares_are_bounded() {
    let pool = pool_with_work(|config| config.shares_per_work_max = 1).await;
    event_of(&pool.share(&SHARE.body()).await);
    let answer = pool.share(&Share { nonce: 2, ..SHARE }.body()).await;
    assert_eq!(error_of(&answer), (501, "overloaded".to_owned()));
    assert_eq!(event_of(&pool.share(&SHARE.body()).await).1, ["Duplicate share"]);
    assert_conserved(&pool);
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn a_handler_that_is_not_listed_ends_and_says_why() {
    let pool = Pool::start(ScriptedNode::default(), |_| {}).await;
    let file = WorkFile::parse(&work(HEIGHT, 1).0).unwrap();
    pool.publish_config(&file, &["http://127.0.0.1:8/submit"]);
    let error = pool.handler.join().await.unwrap_err();
    assert!(matches!(&error, RunError::NotListed { .. }));
    assert_eq!(
        error.to_string(),
        "public_url http://127.0.0.1:9/submit is not in submitBlockUrls of the master: \
         [http://127.0.0.1:8/submit]"
    );
}

#[tokio::test]
async fn statistics_are_served_and_errors_of_the_start_are_told() {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let pool = pool_with_work(|config| config.metrics_listen = Some(any)).await;
    event_of(&pool.share(&SHARE.body()).await);
    let addr = pool.handler.metrics_addr().unwrap();
    let metrics = pool::send(addr, "GET", "/metrics", &[], b"").await.body;
    assert!(metrics.contains("packetcrypt_blkhandler_shares_accepted_total 1"), "{metrics}");
    let stats = pool::send(addr, "GET", "/stats.json", &[], b"").await.body;
    assert!(stats.contains("\"work_height\": 200000"), "{stats}");
    let taken =
        Config { listen: pool.addr, dir: pool.dir.path().join("second"), ..Config::default() };
    let error = packetcrypt_blkhandler::start(taken, ScriptedNode::default(), Shutdown::new());
    assert!(matches!(error.await.unwrap_err(), StartError::Listen(_)));
    let wrong = Config { max_connections: 0, ..Config::default() };
    let error = packetcrypt_blkhandler::start(wrong, ScriptedNode::default(), Shutdown::new());
    assert!(error.await.unwrap_err().to_string().starts_with("max_connections = 0: "));
    pool.stop().await.1.unwrap();
}
