//! Hostile clients: garbage, oversized, slow and half-closed requests at every port of the pool. It
//! goes on serving honest miners, and in the end everything still adds up.

use std::net::SocketAddr;
use std::time::Duration;

use packetcrypt_tests::{TestPool, accepted};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a reply may take, on a machine that is busy with other things.
const REPLY_MAX: Duration = Duration::from_secs(120);

/// Sends bytes, half-closes, and gives back what came.
async fn send(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the handler listens");
    // The handler may refuse and close before everything is sent.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut reply = Vec::new();
    let read = stream.read_to_end(&mut reply);
    let _ = tokio::time::timeout(REPLY_MAX, read).await;
    reply
}

/// Bytes that are no HTTP.
fn garbage() -> Vec<u8> {
    (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8).collect()
}

fn post(length: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /submit HTTP/1.1\r\nhost: x\r\nx-pc-sver: 1\r\nx-pc-worknum: 1\r\n\
         x-pc-payto: pkt1x\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_do_not_stop_honest_ones() {
    let test = TestPool::start(6).await;
    test.until_blocks(1).await;
    let handlers = test.pool.ann_handler_addresses().to_vec();
    let control = test.pool.control_addresses();

    // Connections that send a byte now and then, for the whole test.
    let slow: Vec<_> = (0..80)
        .map(|i| {
            let all: Vec<_> = handlers.iter().chain(&control).copied().collect();
            let address = all[i % all.len()];
            tokio::spawn(async move {
                let Ok(mut stream) = TcpStream::connect(address).await else { return };
                for byte in post("1048576", &[0; 100]) {
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            })
        })
        .collect();

    let before = accepted(&test.pool);
    for address in &handlers {
        send(*address, &garbage()).await;
        send(*address, &[b'A'; 100_000]).await;
        for (length, status) in
            [("-1", "400"), ("99999999999999999999", "4"), ("1099511627776", "413")]
        {
            let reply =
                String::from_utf8_lossy(&send(*address, &post(length, b"x")).await).into_owned();
            assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{length}: {reply}");
        }
        // Says a kilobyte, sends half of it and half-closes.
        send(*address, &post("1024", &[7; 512])).await;
        // A whole announcement of nonsense is refused with a reason.
        let reply = send(*address, &post("1024", &[7; 1024])).await;
        let reply = String::from_utf8_lossy(&reply).into_owned();
        assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
        assert!(reply.contains("\"error\":["), "{reply}");
        let chunked = b"POST /submit HTTP/1.1\r\nhost: x\r\nx-pc-sver: 1\r\nx-pc-worknum: 1\r\n\
            x-pc-payto: pkt1x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n";
        let reply = String::from_utf8_lossy(&send(*address, chunked).await).into_owned();
        assert!(reply.starts_with("HTTP/1.1 4"), "{reply}");
    }
    for address in control {
        send(address, &garbage()).await;
        send(address, &[b'A'; 100_000]).await;
        send(address, &post("1099511627776", &[b'x'; 100_000])).await;
        // Half a body, then the end: and nobody waits for the rest.
        send(address, &post("1024", &[b'{'; 512])).await;
        let mut stream = TcpStream::connect(address).await.expect("it still listens");
        stream.write_all(&post("2", b"{}")).await.expect("it takes a request");
        let mut reply = [0; 9];
        let read = tokio::time::timeout(REPLY_MAX, stream.read_exact(&mut reply));
        assert!(matches!(read.await, Ok(Ok(_))), "{address} does not answer");
        assert_eq!(&reply, b"HTTP/1.1 ", "{address}");
    }
    let blocks = test.pool.blocks();
    test.until("honest announcements", |pool| accepted(pool) > before + 200).await;
    test.until_blocks(blocks + 1).await;
    for task in slow {
        task.abort();
    }
    test.finish().await;
}
