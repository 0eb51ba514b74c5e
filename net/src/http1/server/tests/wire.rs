//! What a well-behaved client may do on a connection.

use super::*;

on_each_engine! {
    cut_anywhere_pipelined_requests_are_answered_in_order,
    leave_is_given_when_the_body_is_wanted_and_not_before,
    an_early_answer_comes_before_the_body_and_the_connection_is_kept,
    versions_methods_and_ends,
    half_closed_clients_get_their_answers,
}

fn cut_anywhere_pipelined_requests_are_answered_in_order(engine: EngineKind) {
    let server = Server::start(engine, Http1Limits::default());
    let chunks = "3\r\nabc\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\nA: b\r\n\r\n";
    let wire = [
        post("/echo", "", "hello\r\n\r\n"),
        post_chunked("/echo", "", chunks),
        get("/nothing"),
        post_chunked("/pieces", "", chunks),
        post("/pieces", "", "hello"),
    ]
    .concat();
    let expected = [
        (200, "hello\r\n\r\n"),
        (200, "abc0123456789"),
        (404, "no such thing"),
        (200, "abc0123456789"),
        (200, "hello"),
    ];
    let check = |client: &mut Client, what: &str| {
        for (status, body) in expected {
            let answer = client.answer();
            assert_eq!((answer.status, &answer.body[..]), (status, body.as_bytes()), "{what}");
        }
    };
    let mut clients: Vec<Client> = (0..wire.len()).map(|_| server.connect()).collect();
    for (cut, client) in clients.iter_mut().enumerate() {
        client.send(&wire[..cut]);
    }
    // Everything before the cut has been read when the rest comes.
    std::thread::sleep(Duration::from_millis(100));
    for (cut, client) in clients.iter_mut().enumerate() {
        client.send(&wire[cut..]);
        check(client, &format!("cut at {cut}"));
    }
    let mut slow = server.connect();
    for byte in wire.bytes() {
        slow.send([byte]);
        std::thread::sleep(Duration::from_micros(200));
    }
    check(&mut slow, "byte by byte");
    drop((slow, clients));
    let counters = server.stop();
    assert_eq!(counters.requests, 5 * (wire.len() as u64 + 1));
    assert_eq!(
        (counters.heads_malformed, counters.bodies_malformed, counters.bodies_cut),
        (0, 0, 0)
    );
}

fn leave_is_given_when_the_body_is_wanted_and_not_before(engine: EngineKind) {
    let server = Server::start(engine, Http1Limits { body_bytes_max: 100, ..Default::default() });
    let expects = |path: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n")
    };
    let mut client = server.connect();
    for path in ["/echo", "/pieces"] {
        let leave = client.ask(expects(path, 5));
        assert_eq!((leave.status, leave.head.as_str()), (100, "HTTP/1.1 100 Continue\r\n\r\n"));
        assert_eq!(client.ask("hello").body, b"hello");
        let leave = client.ask(format!(
            "POST {path} HTTP/1.1\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n"
        ));
        assert_eq!(leave.status, 100);
        assert_eq!(client.ask("2\r\nhi\r\n0\r\n\r\n").body, b"hi");
        // Who does not wait is not made to, and an empty body needs no leave.
        assert_eq!(client.ask(expects(path, 5) + "hello").body, b"hello");
        assert_eq!(client.ask(expects(path, 0)).status, 200);
        // HTTP/1.0 does not know it.
        let old = expects(path, 5).replace("HTTP/1.1", "HTTP/1.0");
        assert_eq!(server.connect().ask(old + "hello").status, 200);
    }
    // Refused without leave: whether the body still comes nobody knows, so the connection ends.
    for (request, status) in [(expects("/early", 5), 403), (expects("/echo", 101), 413)] {
        let mut client = server.connect();
        let answer = client.ask(request);
        assert_eq!(answer.status, status);
        assert!(answer.head.contains("connection: close") && client.is_at_end());
    }
    server.stop();
}

fn an_early_answer_comes_before_the_body_and_the_connection_is_kept(engine: EngineKind) {
    let server = Server::start(engine, Http1Limits::default());
    let mut client = server.connect();
    let body = "x".repeat(1 << 20);
    let wire = post("/early", "", &body);
    let (first, rest) = wire.split_at(wire.len() / 2);
    assert_eq!(client.ask(first).status, 403);
    client.send(rest);
    let wire = post_chunked("/early", "", &format!("100000\r\n{body}\r\n0\r\n\r\n"));
    let (first, rest) = wire.split_at(wire.len() - 3);
    assert_eq!(client.ask(first).status, 403);
    client.send(rest);
    assert_eq!(client.ask(get("/peer")).body, b"127.0.0.1");
    // A service may also end the connection; the answer arrives although the body is under way.
    for _ in 0..20 {
        let mut client = server.connect();
        let answer = client.ask(post("/close", "", &body));
        assert_eq!((answer.status, &answer.body[..]), (403, &b"not read"[..]));
        assert!(client.is_at_end());
    }
    server.stop();
}

fn versions_methods_and_ends(engine: EngineKind) {
    let server = Server::start(engine, Http1Limits::default());
    let mut client = server.connect();
    let head = client.ask("HEAD /peer HTTP/1.1\r\n\r\n".to_owned() + &get("/peer")).head;
    // The length is that of the body which a GET has; the body itself is not there.
    assert!(head.contains("content-length: 9\r\n"), "{head}");
    let mut client = server.connect();
    client.send("HEAD /peer HTTP/1.1\r\n\r\n");
    while !client.received.ends_with(b"\r\n\r\n") {
        assert!(client.more() > 0);
    }
    client.received.clear();
    assert_eq!(client.ask(get("/peer")).body, b"127.0.0.1");
    // Line ends before a request are none of its bytes (RFC 9112, 2.2).
    assert_eq!(client.ask("\r\n\r\n".to_owned() + &get("/peer")).status, 200);
    let mut old = server.connect();
    assert_eq!(old.ask("GET /peer HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").status, 200);
    assert_eq!(old.ask("GET /peer HTTP/1.0\r\n\r\n").status, 200);
    assert!(old.is_at_end());
    // What is pipelined behind the last request does not destroy its answer.
    for _ in 0..20 {
        let mut last = server.connect();
        let wire = "GET /big HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned();
        let answer = last.ask(wire + &get("/peer").repeat(1000));
        assert_eq!(answer.body.len(), BIG_BYTES);
        assert!(last.is_at_end());
    }
    server.stop();
}

fn half_closed_clients_get_their_answers(engine: EngineKind) {
    let server = Server::start(engine, Http1Limits::default());
    let mut client = server.connect();
    client.send(get("/slow") + &post("/echo", "", "hello"));
    client.stream.shutdown(End::Write).unwrap();
    assert_eq!(client.answer().body, b"at last");
    assert_eq!(client.answer().body, b"hello");
    assert!(client.is_at_end());
    // In the middle of a body there is nothing to wait for.
    for wire in ["content-length: 5\r\n\r\nhell", "transfer-encoding: chunked\r\n\r\n5\r\nhell"] {
        let mut client = server.connect();
        client.send(format!("POST /echo HTTP/1.1\r\n{wire}"));
        client.stream.shutdown(End::Write).unwrap();
        assert_eq!(client.answer().status, 400);
        assert!(client.is_at_end());
    }
    let mut client = server.connect();
    client.send("GET /peer HTT");
    client.stream.shutdown(End::Write).unwrap();
    assert!(client.is_at_end());
    assert_eq!(server.stop().bodies_cut, 2);
}
