//! A handler over real sockets: hostile clients, duplicates, restarts, downloads.

#[path = "support/pool.rs"]
mod pool;
#[cfg(target_os = "linux")]
#[path = "support/seccomp.rs"]
mod seccomp;

use std::time::{Duration, Instant};

use packetcrypt_handler::Config;
use packetcrypt_net::Shutdown;
use packetcrypt_net::sprayer::{Sprayer, SprayerOptions};
use packetcrypt_proto::anns_index::AnnsIndex;
use packetcrypt_vectors as vectors;
use pool::{Chain, Handler, Master, PAY_TO, config, counts, error, logged, post_head};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// 48 valid announcements and what they are bound to.
struct Anns {
    bytes: Vec<u8>,
    height: i64,
    chain: Chain,
}

fn anns() -> Anns {
    let file = vectors::own("pool", "anns.json");
    let json = file.json();
    let height = json["parent_height"].as_i64().unwrap();
    let chain = Chain::to(json["parent_hash_display"].as_str().unwrap(), height);
    Anns { bytes: file.companion("bin").bytes(), height, chain }
}

struct Scene {
    anns: Anns,
    master: Master,
    handler: Handler,
    dir: tempfile::TempDir,
}

async fn scene(change: impl FnOnce(&mut Config)) -> Scene {
    let anns = anns();
    let master = Master::start(anns.chain.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&master, dir.path());
    change(&mut config);
    let handler = Handler::start(config, anns.height).await;
    Scene { anns, master, handler, dir }
}

impl Scene {
    fn worknum(&self) -> i64 {
        self.anns.height + 1
    }

    async fn post(&self, body: &[u8]) -> (u16, String) {
        self.handler.post(1, self.worknum(), body).await
    }

    async fn index(&self, query: &str) -> AnnsIndex {
        let (_, body) = self.handler.get(&format!("/anns/index.json{query}"), "").await;
        AnnsIndex::parse(&body).unwrap()
    }

    /// Sum of the figures of announcements, after the posts are answered.
    fn assert_conserved(&self) {
        let stats = self.handler.running.stats();
        let anns = &stats.announcements;
        let ends = anns.accepted + anns.duplicate + anns.rejected + anns.overloaded + anns.lost;
        assert_eq!((anns.received, anns.in_flight), (ends, 0), "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_posts_downloads_and_restart() {
    let mut scene = scene(|_| {}).await;
    let (bytes, count) = (scene.anns.bytes.clone(), scene.anns.bytes.len() as u64 / 1024);
    let (first, rest) = bytes.split_at(7 * 1024);
    let worknum = scene.worknum();
    let reply = scene.handler.post_chunked(worknum, first, &[1, 2, 1021, 4096, 3]).await;
    assert_eq!(counts(&reply), (7, 0));
    // The long poll of the index waits for the second post.
    let waiting = Instant::now();
    let (index, reply) = tokio::join!(scene.index("?wait=30&number=0&bytes=7168"), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        scene.handler.post_chunked(worknum, rest, &[65_536]).await
    });
    assert_eq!(counts(&reply), (count - 7, 0));
    assert_eq!(index.files[0].bytes, count * 1024);
    assert!(waiting.elapsed() < Duration::from_secs(29));
    assert_eq!(index.files[0].parent_height_min, scene.anns.height);

    let (head, body) = scene.handler.get("/anns/anns_0.bin", "").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, bytes, "in order of the posts");
    let (head, body) = scene.handler.get("/anns/anns_0.bin", "range: bytes=1000-3071\r\n").await;
    assert!(head.starts_with("HTTP/1.1 206 ") && head.contains("content-range: bytes 1000-3071/"));
    assert_eq!(body, &bytes[1000..3072]);
    let beyond = format!("range: bytes={}-\r\n", bytes.len());
    let (head, _) = scene.handler.get("/anns/anns_0.bin", &beyond).await;
    assert!(head.starts_with("HTTP/1.1 416 "), "{head}");

    assert_eq!(counts(&scene.post(&bytes).await), (0, count));
    scene.assert_conserved();
    let log = logged(scene.dir.path());
    assert_eq!(log.len(), 2);
    assert_eq!(log[1]["payTo"], PAY_TO);

    // Ended and started again: everything is known, served, and logged once.
    scene.handler.stop().await;
    let config = config(&scene.master, scene.dir.path());
    scene.handler = Handler::start(config, scene.anns.height).await;
    assert_eq!(counts(&scene.post(&bytes).await), (0, count));
    let (_, body) = scene.handler.get("/anns/anns_0.bin", "").await;
    assert_eq!(body, bytes);
    assert_eq!(scene.index("").await.store, index.store);
    assert_eq!(logged(scene.dir.path()).len(), 2);
    scene.handler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_posts_of_the_same_are_accepted_once() {
    let scene = scene(|_| {}).await;
    let count = scene.anns.bytes.len() as u64 / 1024;
    let mut reversed: Vec<&[u8]> = scene.anns.bytes.chunks(1024).collect();
    reversed.reverse();
    let reversed = reversed.concat();
    let posts = (0..8).map(|i| scene.post(if i % 2 == 0 { &scene.anns.bytes } else { &reversed }));
    let replies = futures_util::future::join_all(posts).await;
    let (accepted, dup) =
        replies.iter().map(counts).fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    assert_eq!((accepted, dup), (count, 7 * count));
    let logged: u64 =
        logged(scene.dir.path()).iter().map(|line| line["accepted"].as_u64().unwrap()).sum();
    assert_eq!(logged, count);
    let (_, body) = scene.handler.get("/anns/anns_0.bin", "").await;
    assert_eq!(body.len(), scene.anns.bytes.len());
    scene.assert_conserved();
    scene.handler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_are_refused_and_the_handler_goes_on() {
    let scene = scene(|config| config.post_anns_max = 16).await;
    let (handler, worknum) = (&scene.handler, scene.worknum());
    let request = |text: String| async move { handler.exchange(text.as_bytes()).await };
    let bare = "host: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let missing = request(format!("POST /submit HTTP/1.1\r\n{bare}")).await;
    assert_eq!(missing, (400, "Missing request header \"x-pc-sver\"".to_owned()));
    let invalid = request(format!("POST /submit HTTP/1.1\r\nx-pc-sver: x\r\n{bare}")).await;
    assert_eq!(invalid, (400, "Invalid request header \"x-pc-sver\"".to_owned()));
    for target in ["GET /submit", "GET /", "PUT /submit", "DELETE /anns/index.json"] {
        let reply = request(format!("{target} HTTP/1.1\r\n{bare}")).await;
        assert_eq!(reply, (405, "HTTP method not allowed".to_owned()), "{target}");
    }
    assert_eq!(request(format!("POST /else HTTP/1.1\r\n{bare}")).await.0, 404);
    assert_eq!(request("\u{0}\u{1}garbage\r\n\r\n".to_owned()).await.0, 400);

    let junk = vec![0xa5; 17 * 1024];
    let too_big = "post too big, at most 16 announcements";
    assert_eq!(error(&scene.post(&junk).await), too_big);
    let chunked = handler.post_chunked(worknum, &junk, &[1000]).await;
    assert_eq!((chunked.0, error(&chunked).as_str()), (413, too_big));
    assert_eq!(error(&scene.post(&junk[..1000]).await), "size not an even multiple of 1024");
    assert_eq!(error(&scene.post(&junk[..1024]).await), "unexpected signed ann");
    let other = handler.post(1, worknum + 6, &junk[..1024]).await;
    let height = scene.anns.height;
    let want = format!("block number out of range, expect {height} got {}", height + 6);
    assert_eq!(error(&other), want);

    // A client that ends within its body, and one that only opens a connection.
    let mut cut = TcpStream::connect(handler.addr).await.unwrap();
    let head = format!("{}content-length: 2048\r\n\r\n", post_head(1, worknum, PAY_TO));
    cut.write_all(&[head.as_bytes(), &junk[..500]].concat()).await.unwrap();
    cut.shutdown().await.unwrap();
    let mut reply = String::new();
    let _ = cut.read_to_string(&mut reply).await;
    assert!(!reply.starts_with("HTTP/1.1 200"), "{reply}");
    let _silent = TcpStream::connect(handler.addr).await.unwrap();

    assert_eq!(counts(&scene.post(&scene.anns.bytes[..16 * 1024]).await), (16, 0));
    scene.assert_conserved();
    // Memory is given back a moment after the answer.
    wait_until(|| scene.handler.running.stats().body_bytes == 0).await;
    scene.handler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_a_typing_error_is_told_and_bad_characters_refused() {
    let scene = scene(|_| {}).await;
    let body = &scene.anns.bytes[..1024];
    let (handler, worknum) = (&scene.handler, scene.worknum());
    let post = |pay_to: String| {
        let head = post_head(1, worknum, &pay_to);
        let head = format!("{head}content-length: 1024\r\n\r\n");
        let request = [head.as_bytes(), body].concat();
        async move { handler.exchange(&request).await }
    };
    let reply = post("pkt1abc".to_owned()).await;
    assert_eq!(counts(&reply), (1, 0));
    let warning = "Address [pkt1abc] is not a valid pkt address, WORK WILL NOT BE CREDITED";
    assert!(reply.1.contains(warning), "{}", reply.1);
    assert_eq!(error(&post("a_b".to_owned()).await), "invalid payto a_b");
    assert_eq!(error(&post("a".repeat(64)).await), "payto too long");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_for_bodies_is_bounded_and_overload_is_said_at_once() {
    let scene = scene(|config| {
        config.post_anns_max = 512;
        config.body_memory_mib = 1;
    })
    .await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(scene.handler.addr).await.unwrap();
        let head = post_head(1, scene.worknum(), PAY_TO);
        let head = format!("{head}content-length: {}\r\n\r\n", 512 * 1024);
        stream.write_all(&[head.as_bytes(), &vec![1; 300 << 10]].concat()).await.unwrap();
        slow.push(stream);
    }
    wait_until(|| scene.handler.running.stats().body_bytes == 1 << 20).await;
    let reply = scene.post(&scene.anns.bytes).await;
    assert_eq!((reply.0, error(&reply).as_str()), (503, "overloaded"));
    assert_eq!(scene.handler.running.stats().overloads, 1);
    drop(slow);
    wait_until(|| scene.handler.running.stats().body_bytes == 0).await;
    assert_eq!(counts(&scene.post(&scene.anns.bytes).await).0, 48);
    scene.handler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_invalid_work_is_turned_away() {
    let scene = scene(|config| {
        // What is left of the budget when all posts are made, however slow: it is halved every minute.
        config.invalid_free_proofs = 1;
        config.metrics_listen = Some(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    })
    .await;
    let mut bad = scene.anns.bytes[..3072].to_vec();
    for ann in bad.chunks_mut(1024) {
        ann[500] ^= 1;
    }
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(scene.post(&bad).await.0);
    }
    assert_eq!(statuses, [400, 429, 429, 429, 429]);
    let stats = scene.handler.running.stats();
    assert!(stats.sources[0].is_over_budget);
    assert_eq!(stats.refusals["over_budget"], 4);
    let addr = scene.handler.running.metrics_addr().unwrap();
    let mut metrics = TcpStream::connect(addr).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    metrics.write_all(request).await.unwrap();
    let mut text = String::new();
    metrics.read_to_string(&mut text).await.unwrap();
    let named = "packetcrypt_handler_source_over_budget{source=\"127.0.0.1\"} 1\n";
    assert!(text.contains(named) && text.ends_with("# EOF\n"), "{text}");
    scene.handler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_come_and_the_list_of_handlers_changes() {
    let scene = scene(|_| {}).await;
    let body = &scene.anns.bytes[..1024];
    assert_eq!(counts(&scene.post(body).await), (1, 0));
    let set = |change: &dyn Fn(&mut Chain)| change(&mut scene.master.chain.lock().unwrap());
    let tips = |count: usize| {
        let stats = scene.handler.running.stats();
        (stats.parents.len() == count).then(|| stats.parents.first().map(|parent| parent.height))
    };
    set(&|chain| chain.handlers = vec!["http://other.invalid/submit".to_owned()]);
    wait_until(|| tips(0).is_some()).await;
    assert_eq!(error(&scene.post(body).await), "server not ready");
    let tip = scene.anns.height + 5;
    set(&|chain| {
        chain.handlers = vec![pool::PUBLIC_URL.to_owned()];
        for height in scene.anns.height + 1..=tip {
            chain.blocks.insert(0, (hex::encode([height as u8; 32]), height));
        }
    });
    wait_until(|| tips(6).is_some_and(|of| of.map(i64::from) == Some(tip))).await;
    // Five blocks later it is still taken, and still known.
    assert_eq!(counts(&scene.post(&scene.anns.bytes[..2048]).await), (1, 1));
    set(&|chain| chain.blocks.insert(0, (hex::encode([0x77; 32]), tip + 1)));
    wait_until(|| tips(6).is_some_and(|of| of.map(i64::from) == Some(tip + 1))).await;
    let want = format!("block number out of range, expect {} got {}", tip + 1, scene.anns.height);
    assert_eq!(error(&scene.post(body).await), want);
    scene.handler.stop().await;
}

/// The block of the tip is replaced by another one and comes back, again and again, while posts are
/// received and checked: each is accepted or refused as a whole, and nothing is there twice.
#[tokio::test(flavor = "multi_thread")]
async fn reorganisations_under_load() {
    const ROUNDS: usize = 6;
    // Proofs for the other block are wrong: the budget is not what is tried here.
    let scene = scene(|config| config.invalid_ratio_max = 1.0).await;
    let own = scene.master.chain.lock().unwrap().blocks[0].0.clone();
    let other = hex::encode([0x77; 32]);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let poster = |part: usize| {
        let (scene, is_over) = (&scene, &is_over);
        let anns = &scene.anns.bytes[part * 8 * 1024..][..8 * 1024];
        async move {
            let mut accepted = 0;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                for ann in anns.chunks(1024) {
                    let reply = scene.post(ann).await;
                    match reply.0 {
                        200 => accepted += counts(&reply).0,
                        _ => assert!(
                            matches!(
                                error(&reply).as_str(),
                                "check_ann() -> INVAL"
                                    | "check_ann() -> INVAL_ITEM4"
                                    | "check_ann() -> INSUF_POW"
                                    | "block number out of range"
                                    | "server not ready"
                            ),
                            "{reply:?}"
                        ),
                    }
                }
            }
            accepted
        }
    };
    let reorganise = async {
        for hash in std::iter::repeat_n([&other, &own], ROUNDS).flatten() {
            scene.master.chain.lock().unwrap().blocks[0].0.clone_from(hash);
            let tip = || scene.handler.running.stats().parents[0].hash.clone();
            wait_until(|| tip() == *hash).await;
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let posters = futures_util::future::join_all((0..6).map(poster));
    let (accepted, ()) = tokio::join!(posters, reorganise);
    // What the last round left out comes now: all are known, each was accepted once.
    let (last, dup) = counts(&scene.post(&scene.anns.bytes).await);
    assert_eq!((accepted.iter().sum::<u64>() + last, last + dup), (48, 48));
    let log = logged(scene.dir.path());
    assert_eq!(log.iter().map(|line| line["accepted"].as_u64().unwrap()).sum::<u64>(), 48);
    let (_, mut stored) = scene.handler.get("/anns/anns_0.bin", "").await;
    let mut sent = scene.anns.bytes.clone();
    stored.as_chunks_mut::<1024>().0.sort_unstable();
    sent.as_chunks_mut::<1024>().0.sort_unstable();
    assert!(stored == sent);
    scene.assert_conserved();
    scene.handler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_talks_nonsense_or_is_away_changes_nothing() {
    let scene = scene(|_| {}).await;
    assert_eq!(counts(&scene.post(&scene.anns.bytes[..1024]).await), (1, 0));
    let asked = || scene.handler.running.stats().pool.unwrap();
    let (hash, height) = scene.master.chain.lock().unwrap().blocks[0].clone();
    for (hash, height) in [("zz", height + 1), (&hash[..63], height + 1), ("", height + 1)] {
        scene.master.chain.lock().unwrap().blocks.insert(0, (hash.to_owned(), height));
        let before = asked().failures;
        wait_until(|| asked().failures > before).await;
        scene.master.chain.lock().unwrap().blocks.remove(0);
    }
    assert_eq!(counts(&scene.post(&scene.anns.bytes[..2048]).await), (1, 1));
    let Scene { anns, master, handler, dir } = scene;
    drop(master);
    let before = handler.running.stats().pool.unwrap().failures;
    wait_until(|| handler.running.stats().pool.unwrap().failures > before).await;
    assert_eq!(counts(&handler.post(1, anns.height + 1, &anns.bytes).await), (46, 2));
    handler.stop().await;
    assert_eq!(logged(dir.path()).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_get_what_is_accepted() {
    let local: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    let scene = scene(|config| {
        config.bind_pvt = Some(local);
        config.block_miner_passwd = "secret".into();
    })
    .await;
    let source = scene.handler.running.sprayer_addr().unwrap();
    let options =
        SprayerOptions { subscribe_to: vec![source], ..SprayerOptions::new(local, "secret") };
    let subscriber = Sprayer::start(options, &Shutdown::new()).unwrap();
    wait_until(|| {
        let sprayer = scene.handler.running.stats().sprayer.unwrap();
        sprayer.peers.iter().any(|peer| peer.is_subscriber)
    })
    .await;
    assert_eq!(counts(&scene.post(&scene.anns.bytes).await), (48, 0));
    assert_eq!(counts(&scene.post(&scene.anns.bytes).await), (0, 48));
    let mut received = std::collections::BTreeSet::new();
    while received.len() < 48 {
        let next = tokio::time::timeout(Duration::from_secs(60), subscriber.receive()).await;
        received.extend(next.unwrap().unwrap().announcements);
    }
    let sent: std::collections::BTreeSet<[u8; 1024]> =
        scene.anns.bytes.as_chunks().0.iter().copied().collect();
    assert!(received == sent);
    let outgoing = scene.handler.running.stats().sprayer.unwrap().outgoing;
    assert_eq!((outgoing.popped, outgoing.dropped), (48, 0));
    scene.handler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_are_for_those_who_may() {
    for (allowed, status) in [("127.0.0.2", "403"), ("127.0.0.1", "200")] {
        let scene = scene(|config| config.downloaders_allow = vec![allowed.parse().unwrap()]).await;
        counts(&scene.post(&scene.anns.bytes).await);
        for target in ["/anns/index.json", "/anns/anns_0.bin"] {
            let (head, _) = scene.handler.get(target, "").await;
            assert_eq!(head.split(' ').nth(1), Some(status), "{target} {allowed}: {head}");
        }
        let refused = scene.handler.running.stats().downloads_refused;
        assert_eq!(refused, if status == "403" { 2 } else { 0 });
        scene.handler.stop().await;
    }
}

async fn wait_until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not become so within a minute");
}

/// All other tests of this file once more, in a process that may not use io_uring.
#[cfg(target_os = "linux")]
#[test]
fn io_uring_forbidden() {
    let mut tests = std::process::Command::new(std::env::current_exe().unwrap());
    tests.args(["--skip", "io_uring_forbidden"]).env(pool::ENGINE_VARIABLE, "epoll (tokio)");
    let outcome = seccomp::without_io_uring(&mut tests).output().unwrap();
    let told = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success() && told.contains("test result: ok. 11 passed"), "{outcome:?}");
}
