//! What the client does when the node misbehaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use packetcrypt_node::{Node, NodeError, RpcConfig, RpcNode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

/// A node that answers each connection with these bytes after `delay`; counts how many at once.
async fn serve(reply: Vec<u8>, delay: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let at_once = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let seen = most.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (reply, at_once, seen) = (reply.clone(), at_once.clone(), seen.clone());
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !is_whole(&request) && stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
                seen.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(delay).await;
                at_once.fetch_sub(1, Ordering::SeqCst);
                let _ = stream.write_all(&reply).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (url, most)
}

/// Whether this is a request with all of its body. What is closed with bytes unread is reset.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn client(urls: &[&str]) -> RpcConfig {
    let urls = urls.iter().map(|url| (*url).to_owned()).collect();
    RpcConfig { urls, user: "u".into(), password: "s3cret".into(), ..RpcConfig::default() }
}

async fn outcome(reply: Vec<u8>, change: fn(&mut RpcConfig)) -> NodeError {
    let (url, _) = serve(reply, Duration::ZERO).await;
    let mut config = client(&[&url]);
    change(&mut config);
    RpcNode::new(&config).unwrap().best_block_hash().await.unwrap_err()
}

#[tokio::test]
async fn each_misbehaviour_has_its_error() {
    let busy = outcome(http("503 x", "503 Too busy.  Try again later."), |_| ()).await;
    assert!(matches!(busy, NodeError::Busy { .. }) && busy.is_retryable());
    let denied = outcome(http("401 x", "401 Unauthorized."), |_| ()).await;
    assert!(matches!(denied, NodeError::Unauthorized { .. }) && !denied.is_retryable());
    let closed = outcome(Vec::new(), |_| ()).await;
    assert!(matches!(closed, NodeError::ClosedWithoutReply { .. }) && !closed.is_retryable());
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec();
    let cut = outcome(cut, |_| ()).await;
    assert!(matches!(cut, NodeError::ClosedWithoutReply { .. }), "{cut:?}");
    let long =
        outcome(http("200 OK", &"x".repeat(2000)), |config| config.reply_bytes_max = 1000).await;
    assert!(matches!(long, NodeError::TooLong { bytes_max: 1000, .. }));
    let status = outcome(http("500 x", "oops\n\nstack"), |_| ()).await;
    assert!(matches!(&status, NodeError::Status { status: 500, text, .. } if text == "oops"));
    for body in ["", "nonsense", "[]", "{}", "{\"result\":7}", "{\"result\":\"zz\"}"] {
        let error = outcome(http("200 OK", body), |_| ()).await;
        assert!(matches!(error, NodeError::NotUnderstood { .. }), "{body}: {error:?}");
    }
}

#[tokio::test]
async fn a_silent_node_times_out() {
    let (url, _) = serve(Vec::new(), Duration::from_secs(60)).await;
    let config = RpcConfig { call_ms_max: 100, ..client(&[&url]) };
    let error = RpcNode::new(&config).unwrap().info().await.unwrap_err();
    assert!(matches!(error, NodeError::Timeout { ms: 100, .. }) && error.is_retryable());
}

#[tokio::test]
async fn calls_in_progress_are_bounded() {
    let body = http("200 OK", "{\"result\":3,\"error\":null}");
    let (url, most) = serve(body, Duration::from_millis(20)).await;
    let node = Arc::new(RpcNode::new(&client(&[&url])).unwrap());
    let calls = (0..20).map(|_| {
        let node = node.clone();
        tokio::spawn(async move { node.call("getblockcount", serde_json::json!([])).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), Ok(serde_json::json!(3)));
    }
    assert!(most.load(Ordering::SeqCst) <= 4);
    assert_eq!(node.stats().calls, 20);
}

#[tokio::test]
async fn a_block_waits_for_no_other_call() {
    let (url, most) = serve(Vec::new(), Duration::from_secs(60)).await;
    let node = Arc::new(RpcNode::new(&client(&[&url])).unwrap());
    let until = async |most: &AtomicUsize, calls: usize| {
        let reached = async {
            while most.load(Ordering::SeqCst) < calls {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(55), reached).await.expect("the calls");
    };
    let submit = |node: &Arc<RpcNode>| {
        let node = node.clone();
        tokio::spawn(async move { node.submit_block(&[0; 100]).await });
    };
    // The first takes the place that blocks have, the second one of the four of all.
    submit(&node);
    submit(&node);
    until(&most, 2).await;
    for _ in 0..6 {
        let node = node.clone();
        tokio::spawn(async move { node.call("getblockcount", serde_json::json!([])).await });
    }
    until(&most, 5).await;
    let (url, most) = serve(Vec::new(), Duration::from_secs(60)).await;
    let node = Arc::new(RpcNode::new(&client(&[&url])).unwrap());
    for _ in 0..6 {
        let node = node.clone();
        tokio::spawn(async move { node.call("getblockcount", serde_json::json!([])).await });
    }
    until(&most, 4).await;
    submit(&node);
    until(&most, 5).await;
}

#[tokio::test]
async fn the_next_node_is_taken_when_one_is_away() {
    // A port that is taken and on which nobody listens.
    let gone = TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone_url = format!("http://{}", gone.local_addr().unwrap());
    let (url, _) = serve(http("200 OK", "{\"result\":3}"), Duration::ZERO).await;
    let node = RpcNode::new(&client(&[&gone_url, &url])).unwrap();
    for _ in 0..2 {
        assert_eq!(node.call("x", serde_json::json!([])).await, Ok(serde_json::json!(3)));
    }
    let stats = node.stats();
    assert_eq!((stats.calls, stats.failovers, stats.failed), (2, 1, 0));
    let error = RpcNode::new(&client(&[&gone_url])).unwrap().info().await.unwrap_err();
    assert!(matches!(error, NodeError::Unreachable { .. }) && error.is_retryable());
}

#[tokio::test]
async fn negative_weights_are_never_sent() {
    let (url, _) = serve(Vec::new(), Duration::ZERO).await;
    let node = RpcNode::new(&client(&[&url])).unwrap();
    for weight in [-1.0, f64::NAN, f64::INFINITY] {
        let error = node.configure_mining_payouts(&[("a".into(), weight)]).await.unwrap_err();
        assert!(matches!(error, NodeError::Config { key: "payouts", .. }));
    }
    assert_eq!(node.stats().calls, 0);
}

#[test]
fn secrets_are_not_shown_and_nonsense_is_refused() {
    let shown = format!("{:?}", client(&["http://x:s3cret@h"]));
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(!format!("{:?}", RpcNode::new(&client(&["http://h"]))).contains("s3cret"));
    for url in ["h", "https://h", "ftp://h", "http://", "http://x:s3cret@h", "file://x:s3cret@h"] {
        let error = RpcNode::new(&client(&[url])).unwrap_err();
        assert!(matches!(error, NodeError::Config { key: "url", .. }), "{url}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    assert!(RpcNode::new(&client(&[])).is_err());
    let none = RpcConfig { calls_max: 0, ..RpcConfig::default() };
    assert!(RpcNode::new(&none).is_err());
}
