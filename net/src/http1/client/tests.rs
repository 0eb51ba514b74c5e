//! The client against servers that are right, slow, or talk nonsense.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

use super::*;
use crate::engine::{Epoll, Placement};

/// A server that answers one request after the other with these bytes; an empty answer closes the
/// connection. Returns the requests.
fn server(answers: Vec<Vec<u8>>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/base/", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut requests = Vec::new();
        let mut connection = listener.accept().unwrap().0;
        for answer in answers {
            if answer.is_empty() {
                drop(connection);
                connection = listener.accept().unwrap().0;
                continue;
            }
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if connection.read(&mut byte).unwrap() == 0 {
                    connection = listener.accept().unwrap().0;
                    request.clear();
                    continue;
                }
                request.extend_from_slice(&byte);
            }
            requests.push(String::from_utf8(request).unwrap());
            // In two parts, so that a head and a body may be cut anywhere.
            let (first, second) = answer.split_at(answer.len() / 3);
            connection.write_all(first).unwrap();
            std::thread::sleep(Duration::from_millis(2));
            connection.write_all(second).unwrap();
        }
        requests
    });
    (url, thread)
}

/// Fetches ranges one after the other: each in steps, and each step into parts of these lengths.
/// Returns what came of each.
fn fetch(url: &str, wanted: Vec<(u64, Vec<Vec<usize>>)>) -> Vec<Result<Vec<u8>, DownloadError>> {
    let (send, receive) = std::sync::mpsc::channel();
    let placement = Placement { name: "test".to_owned(), executors: 1, cpus: None };
    let url = url.to_owned();
    let body = move |engine: Epoll| {
        let (url, wanted, send) = (url.clone(), wanted.clone(), send.clone());
        async move {
            let mut client = RangeClient::new(engine, &url).unwrap();
            for (first_byte, steps) in wanted {
                send.send(fetch_in_steps(&mut client, first_byte, steps).await).unwrap();
            }
        }
    };
    let executors = Epoll::start(&placement, body).unwrap();
    let outcomes = receive.iter().collect();
    drop(executors);
    outcomes
}

async fn fetch_in_steps(
    client: &mut RangeClient<Epoll>,
    first_byte: u64,
    steps: Vec<Vec<usize>>,
) -> Result<Vec<u8>, DownloadError> {
    let len = steps.iter().flatten().sum();
    let mut download = client.open("/anns/a.bin", first_byte, len).await?;
    let (total, mut came) = (download.missing(), Vec::new());
    for lens in steps {
        let mut memory: Vec<Vec<u8>> = lens.iter().map(|len| vec![0; *len]).collect();
        let mut parts: Vec<_> = memory.iter_mut().map(|part| IoSliceMut::new(part)).collect();
        let filled = download.read(&mut parts).await?;
        came.extend_from_slice(&memory.concat()[..filled]);
        assert_eq!(came.len() + download.missing(), total);
    }
    Ok(came)
}

fn partial(first: u64, body: &[u8], total: u64) -> Vec<u8> {
    let last = first + body.len() as u64 - 1;
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-length: {}\r\n\
         content-range: bytes {first}-{last}/{total}\r\netag: \"x\"\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn pieces_fill_the_parts_in_order_on_one_connection() {
    let file: Vec<u8> = (0..20_000u32).map(|at| at as u8).collect();
    let answers = vec![partial(0, &file[..9000], 20_000), partial(9000, &file[9000..], 20_000)];
    let (url, server) = server(answers);
    let first = vec![vec![1, 1024, 0, 5000], vec![2000], vec![900, 75]];
    let wanted = vec![(0, first), (9000, vec![vec![3000; 3], vec![3000]])];
    let outcomes = fetch(&url, wanted);
    assert_eq!(outcomes[0].as_ref().unwrap(), &file[..9000]);
    // Fewer came than there was room for: the end of the file.
    assert_eq!(outcomes[1].as_ref().unwrap(), &file[9000..]);
    let requests = server.join().unwrap();
    assert!(requests[0].starts_with("GET /base/anns/a.bin HTTP/1.1\r\n"));
    assert!(requests[0].contains("range: bytes=0-8999\r\n"));
    assert!(requests[1].contains("range: bytes=9000-20999\r\n"));
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_opened_again() {
    let answers = vec![partial(0, &[1; 100], 200), Vec::new(), partial(100, &[2; 100], 200)];
    let (url, server) = server(answers);
    let outcomes = fetch(&url, vec![(0, vec![vec![100]]), (100, vec![vec![100]])]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(server.join().unwrap().len(), 2);
}

#[test]
fn what_was_not_asked_for_is_no_piece() {
    let head = |head: &str| format!("HTTP/1.1 {head}\r\n\r\n0123456789").into_bytes();
    for (answer, what) in [
        (partial(0, &[1; 101], 200), "101 bytes came but 100"),
        (partial(1, &[1; 100], 200), "but those from 0 were asked for"),
        (head("206 X\r\ncontent-length: 10"), "without a content-range"),
        (head("206 X\r\ncontent-length: 10\r\ncontent-range: bytes 0-8/9"), "were asked for"),
        (head("200 OK"), "without a length"),
        (head("200 OK\r\ntransfer-encoding: chunked"), "chunked"),
        (head("200 OK\r\ncontent-length: 10\r\ncontent-length: 11"), "two lengths"),
        (head("404 Not Found\r\ncontent-length: 10"), "status 404"),
        (b"<html>no HTTP at all</html>\r\n\r\n".to_vec(), "malformed"),
        (vec![b'x'; 2 * limits::HTTP1_HEAD_BYTES_MAX], "malformed"),
    ] {
        let (url, server) = server(vec![answer]);
        let outcome = fetch(&url, vec![(0, vec![vec![100]])]).remove(0);
        let error = outcome.expect_err(what).to_string();
        assert!(error.contains(what), "{error:?} instead of {what:?}");
        drop(server);
    }
}

#[test]
fn a_piece_that_was_left_takes_its_connection_with_it() {
    let answers = vec![partial(0, &[1; 100], 200), Vec::new(), partial(100, &[2; 100], 200)];
    let (url, server) = server(answers);
    let placement = Placement { name: "test".to_owned(), executors: 1, cpus: None };
    let (send, receive) = std::sync::mpsc::channel();
    let body = move |engine: Epoll| {
        let (url, send) = (url.clone(), send.clone());
        async move {
            let mut client = RangeClient::new(engine, &url).unwrap();
            let mut memory = [0; 60];
            let mut download = client.open("/anns/a.bin", 0, 100).await.unwrap();
            assert_eq!(download.read(&mut [IoSliceMut::new(&mut memory)]).await.unwrap(), 60);
            drop(download);
            // Not the rest of the first piece.
            let mut download = client.open("/anns/a.bin", 100, 100).await.unwrap();
            assert_eq!(download.read(&mut [IoSliceMut::new(&mut memory)]).await.unwrap(), 60);
            send.send(memory).unwrap();
        }
    };
    let executors = Epoll::start(&placement, body).unwrap();
    assert_eq!(receive.iter().collect::<Vec<_>>(), [[2; 60]]);
    drop(executors);
    server.join().unwrap();
}

#[test]
fn an_end_within_the_piece_is_none() {
    let mut answer = partial(0, &[1; 100], 200);
    answer.truncate(answer.len() - 1);
    let (url, server) = server(vec![answer, Vec::new()]);
    // The second accept of the server is for nobody.
    let outcome = fetch(&url, vec![(0, vec![vec![100]])]).remove(0);
    assert!(outcome.unwrap_err().to_string().contains("ended within the piece"));
    drop(std::net::TcpStream::connect(url[7..].split('/').next().unwrap()));
    server.join().unwrap();
}

#[test]
fn urls_that_are_none_are_told() {
    let urls = ["ftp://a", "http://", "nonsense", "https://a"];
    let (send, receive) = std::sync::mpsc::channel();
    let placement = Placement { name: "test".to_owned(), executors: 1, cpus: None };
    let executors = Epoll::start(&placement, move |engine: Epoll| {
        let send = send.clone();
        async move {
            for url in urls {
                send.send(RangeClient::new(engine.clone(), url).is_err()).unwrap();
            }
        }
    });
    assert_eq!(receive.iter().collect::<Vec<_>>(), [true; 4]);
    drop(executors);
}
