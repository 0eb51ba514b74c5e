use super::*;
use crate::engine::ReservedPort;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers every connection with `reply` and hands back what it was asked.
async fn answering(reply: Vec<u8>) -> (SocketAddr, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (asked, receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !is_whole(&request) && stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
            let _ = asked.send(String::from_utf8_lossy(&request).into_owned()).await;
            let _ = stream.write_all(&reply).await;
        }
    });
    (addr, receiver)
}

/// Whether this is a request with all of its body. What is closed with bytes unread is reset.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

fn client() -> HttpClient {
    let options =
        ClientOptions { request_ms_max: 60_000, reply_bytes_max: 100, ..Default::default() };
    HttpClient::new(options).unwrap()
}

#[tokio::test]
async fn gets_carry_the_session_and_posts_do_not() {
    let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}".to_vec();
    let (addr, mut asked) = answering(reply).await;
    let client = client();
    assert_eq!(client.session_id().len(), 32);
    let url = format!("http://{addr}/config.json");
    assert_eq!(client.fetch(Request::get(&url)).await.unwrap()[..1], *b"{");
    let request = asked.recv().await.unwrap();
    assert!(request.contains(&format!("x-pc-sid: {}", client.session_id())), "{request}");
    assert!(request.contains(&format!("user-agent: {USER_AGENT}")), "{request}");
    let post = Request::post(&url, "line\n").basic_auth("x", "pass").headers(&[("x-pc-sver", "1")]);
    assert_eq!(client.send(post).await.unwrap().status, 200);
    let request = asked.recv().await.unwrap();
    assert!(!request.contains("x-pc-sid") && request.contains("content-length: 5"), "{request}");
    assert!(request.contains("authorization: Basic eDpwYXNz"), "{request}");
    assert!(request.contains("x-pc-sver: 1"), "{request}");
}

#[tokio::test]
async fn replies_are_bounded_whatever_they_claim() {
    let claims = b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n".to_vec();
    let mut chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n65\r\n".to_vec();
    chunked.extend([b'x'; 101]);
    for reply in [claims, chunked] {
        let (addr, _asked) = answering(reply).await;
        let error = client().fetch(Request::get(&format!("http://{addr}/"))).await.unwrap_err();
        assert!(matches!(error, ClientError::TooLong { limit_bytes: 100, .. }), "{error}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let error = client().fetch(Request::get(&url).request_ms_max(300)).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { limit_ms: 300, .. }), "{error}");
}

#[tokio::test]
async fn other_statuses_are_values_or_named_errors() {
    let reply =
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\nconnection: close\r\n\r\nNot found";
    let (addr, _asked) = answering(reply.to_vec()).await;
    let url = format!("http://user:secret@{addr}/x?token=1");
    let response = client().send(Request::get(&url)).await.unwrap();
    assert_eq!((response.status, &response.body[..]), (404, &b"Not found"[..]));
    let error = client().fetch(Request::get(&url)).await.unwrap_err();
    assert_eq!(error.status(), Some(404));
    let text = error.to_string();
    assert!(text.contains("404 instead of 200: Not found") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn addresses_that_are_none_and_peers_that_are_not_there() {
    for bad in ["", "pool", "https://pool/", "file:///etc/passwd", "http://"] {
        let error = client().send(Request::get(bad)).await.unwrap_err();
        assert!(matches!(error, ClientError::BadUrl { .. }), "{bad}: {error}");
    }
    let nobody = ReservedPort::on(Ipv4Addr::LOCALHOST.into()).unwrap();
    let url = format!("http://{}/", nobody.addr());
    let error = client().send(Request::get(&url)).await.unwrap_err();
    assert!(matches!(error, ClientError::Transport { .. }), "{error}");
    assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
}
