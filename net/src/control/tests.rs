use super::*;
use crate::engine::ReservedPort;
use axum::body::Bytes;
use axum::routing::post;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn router() -> Router {
    let who = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
    Router::new()
        .route("/who", get(who))
        .route("/echo", post(|body: Bytes| async move { body }))
        .route("/slow", get(std::future::pending::<()>))
        .merge(observation_routes(|| "# EOF\n".to_owned(), || serde_json::json!({"a": 1})))
}

async fn exchange(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    // A reset after the reply is an end as well.
    let _ = stream.read_to_end(&mut reply).await;
    String::from_utf8_lossy(&reply).into_owned()
}

fn get_once(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn routes_limits_and_a_graceful_end() {
    let shutdown = Shutdown::new();
    let limits = ControlLimits { body_bytes_max: 10, ..Default::default() };
    let port = ReservedPort::on(LOCAL.ip()).unwrap();
    let addr = port.addr();
    let server = serve(addr, router(), limits, shutdown.clone()).await.unwrap();
    assert_eq!(server.local_addr(), addr);
    assert!(exchange(addr, &get_once("/who")).await.ends_with("127.0.0.1"));
    let stats = exchange(addr, &get_once("/stats.json")).await;
    assert!(stats.contains("application/json") && stats.contains("\"a\": 1"), "{stats}");
    assert!(exchange(addr, &get_once("/metrics")).await.contains("openmetrics"));
    let long = "POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 11\r\n\r\n";
    let long = exchange(addr, &format!("{long}01234567890")).await;
    assert!(long.starts_with("HTTP/1.1 413"), "{long}");
    shutdown.trigger();
    server.join().await;
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn what_takes_too_long_is_cut_and_counted() {
    let shutdown = Shutdown::new();
    let counters = ControlCounters::default();
    // A server for each limit, so that none is hit by chance.
    let start = |limits| serve_counted(LOCAL, router(), limits, &counters, shutdown.clone());
    let requests =
        start(ControlLimits { request_ms_max: 100, ..Default::default() }).await.unwrap();
    let late = exchange(requests.local_addr(), &get_once("/slow")).await;
    assert!(late.starts_with("HTTP/1.1 408"), "{late}");
    assert_eq!(counters.figures().requests_timed_out, 1);
    // A head that never ends.
    let heads = start(ControlLimits { head_ms_max: 200, ..Default::default() }).await.unwrap();
    let slow = exchange(heads.local_addr(), "GET /who HTTP/1.1\r\nhost:").await;
    assert!(!slow.contains("127.0.0.1"));
    shutdown.trigger();
    requests.join().await;
    heads.join().await;
    let failed = counters.figures().connections_failed;
    assert!(failed >= 1, "the head that never ended");
    let mut metrics = Metrics::new("role");
    counters.register(&mut metrics);
    let text = metrics.encode();
    let line = format!("packetcrypt_role_control_connections_failed_total {failed}\n");
    assert!(text.contains(&line), "{text}");
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_counted() {
    let shutdown = Shutdown::new();
    let limits = ControlLimits { connections_max: 1, ..Default::default() };
    let counters = ControlCounters::default();
    let server = serve_counted(LOCAL, router(), limits, &counters, shutdown.clone()).await.unwrap();
    let mut kept = TcpStream::connect(server.local_addr()).await.unwrap();
    kept.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    kept.read_exact(&mut first).await.unwrap();
    assert_eq!(exchange(server.local_addr(), &get_once("/who")).await, "");
    assert_eq!(counters.figures().connections_refused, 1);
    drop(kept);
    // The place is free when the server has seen the end.
    let end = Instant::now() + Duration::from_secs(60);
    while !exchange(server.local_addr(), &get_once("/who")).await.contains("200 OK") {
        assert!(Instant::now() < end, "the place does not come back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shutdown.trigger();
    server.join().await;
}

#[test]
fn private_networks_are_near() {
    for near in ["127.0.0.1", "::1", "10.1.2.3", "172.17.0.1", "::ffff:192.168.0.1", "fd00::1"] {
        assert!(is_near(near.parse().unwrap()), "{near}");
    }
    for far in ["192.0.2.1", "172.32.0.1", "2001:db8::1", "::ffff:198.51.100.1"] {
        assert!(!is_near(far.parse().unwrap()), "{far}");
    }
}

#[tokio::test]
async fn connections_of_this_machine_are_bounded_in_total_only() {
    let shutdown = Shutdown::new();
    let limits =
        ControlLimits { connections_max: 3, connections_per_source_max: 1, ..Default::default() };
    let server = serve(LOCAL, router(), limits, shutdown.clone()).await.unwrap();
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        stream.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        kept.push(stream);
    }
    assert!(exchange(server.local_addr(), &get_once("/who")).await.contains("200 OK"));
    shutdown.trigger();
    server.join().await;
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let shutdown = Shutdown::new();
    let server = serve(LOCAL, router(), ControlLimits::default(), shutdown.clone()).await.unwrap();
    let addr = server.local_addr();
    let error = serve(addr, router(), ControlLimits::default(), shutdown).await.unwrap_err();
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}
