//! A paymaker on a socket: what handlers and the public are answered.

use std::path::Path;
use std::time::Duration;

use packetcrypt_net::{Clock as _, Shutdown, SystemClock};
use packetcrypt_node::RpcNode;
use packetcrypt_paymaker::{Config, Running, Secret, start};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const DEFAULT: &str = "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2";
const FIRST: &str = "pkt1qxwlvlvn3nfny68p2f3cn4mtss9u4aqqqpjxzwu";
const SECOND: &str = "pkt1qvwuh8tjl9rr94yvkl8cf9nmf2579qrtqsf2lyy";

struct Paymaker {
    running: Running,
    shutdown: Shutdown,
    http: Client,
}

impl Paymaker {
    async fn start(dir: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            listen: "127.0.0.1:0".parse().expect("address"),
            paymaker_http_password: Secret::new("hush"),
            default_address: DEFAULT.into(),
            error_address: DEFAULT.into(),
            dir: dir.to_owned(),
            ..Config::default()
        };
        change(&mut config);
        let shutdown = Shutdown::new();
        let nodes = Vec::<RpcNode>::new();
        let running = start(config, nodes, SystemClock, shutdown.clone()).await.expect("start");
        let paymaker = Self { running, shutdown, http: Client::new() };
        paymaker.until(|stats| stats.is_ready).await;
        paymaker
    }

    async fn until(&self, what: impl Fn(&packetcrypt_paymaker::Stats) -> bool) {
        for _ in 0..6000 {
            if what(&self.running.stats()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("did not come true in a minute: {:?}", self.running.stats());
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.local_addr())
    }

    fn events(&self, log: impl Into<String>) -> RequestBuilder {
        let request = self.http.post(self.url("/events")).basic_auth("x", Some("hush"));
        request.body(log.into())
    }

    async fn post(&self, log: impl Into<String>) -> (StatusCode, Value) {
        let reply = self.events(log).send().await.expect("reply");
        (reply.status(), json(reply).await)
    }

    async fn read(&self, path: &str) -> Response {
        self.http.get(self.url(path)).send().await.expect("reply")
    }

    async fn until_status(&self, path: &str, wanted: StatusCode) {
        for _ in 0..6000 {
            if self.read(path).await.status() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{path} is not answered {wanted} in a minute");
    }

    async fn who_to_pay(&self) -> Value {
        let reply = self.read("/whotopay").await;
        assert_eq!(reply.status(), StatusCode::OK);
        json(reply).await
    }

    async fn stop(self) {
        self.shutdown.trigger();
        self.running.join().await.expect("end");
    }
}

async fn json(reply: Response) -> Value {
    let text = reply.text().await.expect("text");
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

fn now_ms() -> u64 {
    SystemClock.now_ms()
}

fn block(time: u64, id: &str) -> String {
    format!(
        "{{\"type\":\"block\",\"hash\":\"{id}00\",\"height\":5,\"difficulty\":1000000,\
         \"time\":{time},\"eventId\":\"{id}\"}}\n"
    )
}

fn share(time: u64, pay_to: &str) -> String {
    format!(
        "{{\"type\":\"share\",\"payTo\":\"{pay_to}\",\"target\":536875007,\"time\":{time},\
         \"eventId\":\"share {time}\"}}\n"
    )
}

fn anns(time: u64, pay_to: &str, accepted: u32) -> String {
    format!(
        "{{\"type\":\"anns\",\"accepted\":{accepted},\"unsigned\":0,\"totalLen\":0,\
         \"payTo\":\"{pay_to}\",\"target\":536875007,\"time\":{time},\
         \"eventId\":\"{pay_to} {time}\"}}\n"
    )
}

/// Spec 05, 16.6: the reference dies of such a line at once and at every start.
#[tokio::test]
async fn a_line_null_is_counted_and_a_restart_gets_over_it() {
    let dir = tempfile::tempdir().expect("dir");
    let paymaker = Paymaker::start(dir.path(), |_| ()).await;
    let now = now_ms();
    let log = format!("{}null\n[]\n{}", block(now - 2, "b"), share(now, FIRST));
    let (status, reply) = paymaker.post(log).await;
    assert_eq!((status, &reply["error"]), (StatusCode::OK, &Value::Array(Vec::new())));
    let stats = paymaker.running.stats();
    assert_eq!((stats.events.malformed, stats.shares, stats.blocks), (2, 1, 1));
    let before = paymaker.who_to_pay().await;
    assert!(before["result"][FIRST].as_f64().expect("pay") > 0.0);
    // Nothing but such a line has no time: refused, and not stored.
    let (status, reply) = paymaker.post("null\n").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(reply["error"][0], "could not get most recent timestamp from file");
    paymaker.stop().await;

    let paymaker = Paymaker::start(dir.path(), |_| ()).await;
    assert_eq!(paymaker.running.stats().events_read_back, 4);
    assert_eq!(paymaker.who_to_pay().await["result"], before["result"]);
    paymaker.stop().await;
}

/// Spec 05, 16.3: posted first in its slot, an event that earns nothing.
#[tokio::test]
async fn an_entry_without_credit_hides_nobody_unless_it_is_wished() {
    let dir = tempfile::tempdir().expect("dir");
    // All in one slot, whatever the time is.
    let slot = now_ms() / 60_000 * 60_000 - 60_000;
    let log = [block(slot - 1, "b"), anns(slot, FIRST, 0), anns(slot + 1, SECOND, 8)].concat();
    let paymaker = Paymaker::start(dir.path(), |_| ()).await;
    assert_eq!(paymaker.post(log.as_str()).await.0, StatusCode::OK);
    let result = paymaker.who_to_pay().await["result"].clone();
    assert!(result[SECOND].as_f64().expect("pay") > 0.0 && result[FIRST].is_null(), "{result}");
    paymaker.stop().await;
    // The same books, read by the reference's rule.
    let hiding = |config: &mut Config| config.zero_credit_hides_slot = true;
    let paymaker = Paymaker::start(dir.path(), hiding).await;
    let result = paymaker.who_to_pay().await["result"].clone();
    assert!(result[SECOND].is_null() && result[DEFAULT] == 1.0, "{result}");
    paymaker.stop().await;
}

/// Spec 05, 16.19: two block handlers tell of a block, and one of them twice.
#[tokio::test]
async fn a_block_counts_once_in_the_hours() {
    let dir = tempfile::tempdir().expect("dir");
    for (is_reference, counted) in [(false, 1.0), (true, 3.0)] {
        let dir = dir.path().join(is_reference.to_string());
        let change = |config: &mut Config| config.reference_hours = is_reference;
        let paymaker = Paymaker::start(&dir, change).await;
        let now = now_ms();
        for log in [block(now - 2, "b"), block(now - 1, "b"), block(now - 2, "b")] {
            assert_eq!(paymaker.post(log).await.0, StatusCode::OK);
        }
        let answer = paymaker.who_to_pay().await;
        let hours = answer["blocksPerHour"].as_array().expect("hours");
        let blocks: f64 = hours.iter().filter_map(Value::as_f64).sum();
        assert_eq!(blocks, counted, "{answer}");
        paymaker.stop().await;
    }
}

#[tokio::test]
async fn logs_that_can_not_be_taken_now_are_told_from_those_that_never_can() {
    let dir = tempfile::tempdir().expect("dir");
    let paymaker = Paymaker::start(dir.path(), |config| config.body_bytes_max = 1000).await;
    let (status, reply) = paymaker.post("x".repeat(1001)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(reply["error"][0], "the log is longer than 1000 bytes");
    let (status, _) = paymaker.post("x".repeat(1000)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "long enough to be read");
    let (status, reply) = paymaker.post(share(now_ms() + 3_600_000, FIRST)).await;
    assert_eq!((status, &reply["result"]), (StatusCode::TOO_EARLY, &"".into()));
    let unknown = paymaker.http.post(paymaker.url("/events")).basic_auth("x", Some("guess"));
    assert_eq!(unknown.send().await.expect("reply").status(), StatusCode::UNAUTHORIZED);
    let stats = paymaker.running.stats();
    assert_eq!((stats.posts_refused, stats.unauthorized, stats.posts_accepted), (3, 1, 0));
    paymaker.stop().await;
}

#[tokio::test]
async fn a_log_that_is_cut_off_is_no_refused_one() {
    let dir = tempfile::tempdir().expect("dir");
    let paymaker = Paymaker::start(dir.path(), |_| {}).await;
    let mut cut = TcpStream::connect(paymaker.running.local_addr()).await.expect("connect");
    let head = "POST /events HTTP/1.1\r\nHost: x\r\nAuthorization: Basic eDpodXNo\r\n\
                Content-Length: 10\r\n\r\nhalf";
    cut.write_all(head.as_bytes()).await.expect("write");
    cut.shutdown().await.expect("the end");
    paymaker.until(|stats| stats.posts_cut == 1).await;
    let stats = paymaker.running.stats();
    assert_eq!((stats.posts_refused, stats.posts_failed, stats.posts_accepted), (0, 0, 0));
    paymaker.stop().await;
}

#[tokio::test]
async fn one_more_handler_than_allowed_is_answered_501_and_the_public_is_not_kept_out() {
    let dir = tempfile::tempdir().expect("dir");
    let paymaker = Paymaker::start(dir.path(), |config| config.max_connections = 1).await;
    let mut slow = TcpStream::connect(paymaker.running.local_addr()).await.expect("connect");
    let head = "POST /events HTTP/1.1\r\nHost: x\r\nAuthorization: Basic eDpodXNo\r\n\
                Content-Length: 10\r\n\r\n";
    slow.write_all(head.as_bytes()).await.expect("write");
    paymaker.until(|stats| stats.requests == 1).await;
    // It is counted as in progress a moment after it is counted as a request.
    paymaker.until_status("/nowhere", StatusCode::NOT_IMPLEMENTED).await;
    let refused = paymaker.events(share(now_ms(), FIRST)).send().await.expect("reply");
    assert_eq!(refused.status(), StatusCode::NOT_IMPLEMENTED);
    assert_eq!(refused.text().await.expect("text"), "overloaded");
    paymaker.who_to_pay().await;
    assert_eq!(json(paymaker.read("/stats").await).await["shares"], 0);
    let stats = paymaker.running.stats();
    assert!(stats.overloaded >= 2 && stats.public_overloaded == 0, "{stats:?}");
    slow.write_all(b"{\"time\":1}").await.expect("write");
    paymaker.until(|stats| stats.posts_accepted == 1).await;
    drop(slow);
    paymaker.until_status("/nowhere", StatusCode::NOT_FOUND).await;
    assert_eq!(paymaker.post(share(now_ms(), FIRST)).await.0, StatusCode::OK);
    paymaker.stop().await;
}
