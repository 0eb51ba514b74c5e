//! Every bound, hit on purpose: the answer, the counter, and a server that goes on.

use super::*;

on_each_engine! {
    ten_thousand_connections,
    requests_that_are_refused_and_their_statuses,
    a_refusal_arrives_while_megabytes_are_under_way,
    slow_clients_are_given_up,
    idle_clients_are_given_up,
    a_reset_in_the_middle_is_counted_and_survived,
    too_many_connections_are_told_and_places_come_back,
}

fn requests_that_are_refused_and_their_statuses(engine: EngineKind) {
    let server = Server::start(
        engine,
        Http1Limits {
            head_bytes_max: 1,
            fields_max: 5,
            body_bytes_max: 1000,
            ..Default::default()
        },
    );
    assert_eq!(server.shared.limits.head_bytes_max, limits::HTTP1_HEAD_BYTES_MIN);
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(limits::HTTP1_HEAD_BYTES_MIN));
    let fields = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(6));
    let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
    let chunks = format!("1f4\r\n{}\r\n", "x".repeat(500)).repeat(3) + "0\r\n\r\n";
    let cases = [
        (long, 431),
        (fields, 431),
        (post("/echo", "", &"x".repeat(1001)), 413),
        (post("/early", "", &"x".repeat(1001)), 413),
        (post_chunked("/echo", "", &chunk), 413),
        (post_chunked("/pieces", "", &chunks), 413),
        ("POST /echo HTTP/1.1\r\ncontent-length: 18446744073709551615\r\n\r\n".to_owned(), 413),
        ("POST /echo HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n".to_owned(), 501),
        ("POST /echo HTTP/1.1\r\nexpect: a-miracle\r\n\r\n".to_owned(), 417),
        (post("/echo", "content-length: 1\r\n", "hello"), 400),
        (post("/echo", "transfer-encoding: chunked\r\n", "0\r\n\r\n"), 400),
        (post_chunked("/echo", "", "zz\r\n"), 400),
        (post_chunked("/echo", "", "1\r\nabc\r\n"), 400),
        (post_chunked("/echo", "", "ffffffffffffffff\r\n"), 413),
        ("nonsense\r\n\r\n".to_owned(), 400),
    ];
    for (request, status) in &cases {
        let mut client = server.connect();
        let answer = client.ask(request);
        assert_eq!(answer.status, *status, "{}", &request[..request.len().min(200)]);
        assert!(answer.head.contains("connection: close"), "{answer:?}");
        assert!(client.is_at_end());
    }
    // Exactly at the bounds.
    let mut client = server.connect();
    assert_eq!(client.ask(post("/echo", "", &"x".repeat(1000))).status, 200);
    let chunk = format!("3e8\r\n{}\r\n0\r\n\r\n", "x".repeat(1000));
    assert_eq!(client.ask(post_chunked("/pieces", "", &chunk)).body.len(), 1000);
    let five = format!("GET /peer HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5));
    assert_eq!(client.ask(five).status, 200);
    let counters = server.stop();
    assert_eq!((counters.heads_too_large, counters.heads_malformed), (1, 6));
    assert_eq!((counters.bodies_too_long, counters.bodies_malformed), (6, 2));
}

fn a_refusal_arrives_while_megabytes_are_under_way(engine: EngineKind) {
    let server = Server::start(engine, Http1Limits { body_bytes_max: 1000, ..Default::default() });
    let body = "x".repeat(3 << 20);
    let chunked = format!("300000\r\n{body}\r\n0\r\n\r\n");
    for _ in 0..10 {
        for wire in [post("/echo", "", &body), post_chunked("/echo", "", &chunked)] {
            // The whole body is sent before the answer is looked at.
            let answer = server.connect().ask(&wire);
            assert_eq!(
                (answer.status, answer.body),
                (413, b"body is longer than 1000 bytes".to_vec())
            );
        }
    }
    server.stop();
}

fn slow_clients_are_given_up(engine: EngineKind) {
    // A byte now and then does not help: the time is that of the whole.
    let drip = |server: &Server, first: &str| {
        let mut client = server.connect();
        client.send(first);
        let started = Instant::now();
        client.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut piece = [0; 1000];
        loop {
            assert!(started.elapsed() < PATIENCE);
            match client.stream.read(&mut piece) {
                Ok(len) => break String::from_utf8_lossy(&piece[..len]).into_owned(),
                // The server may have given it up just now; then the answer is there.
                Err(_) => drop(client.stream.write_all(b"x")),
            }
        }
    };
    // A server for each limit: on a busy machine another one could be hit before.
    let server = Server::start(engine, Http1Limits { head_ms_max: 200, ..Default::default() });
    assert!(drip(&server, "GET /peer HTTP/1.1\r\na: ").starts_with("HTTP/1.1 408 "));
    assert_eq!(server.stop().heads_too_slow, 1);
    let server = Server::start(engine, Http1Limits { body_ms_max: 200, ..Default::default() });
    let sized = drip(&server, "POST /echo HTTP/1.1\r\ncontent-length: 1000\r\n\r\n");
    assert!(sized.starts_with("HTTP/1.1 408 "), "{sized}");
    let chunked = "POST /pieces HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n100\r\n";
    assert!(drip(&server, chunked).starts_with("HTTP/1.1 408 "));
    // A service that takes longer than the limits of the client is not cut.
    assert_eq!(server.connect().ask(get("/slow")).status, 200);
    assert_eq!(server.stop().bodies_too_slow, 2);
    // An answer that nobody takes.
    let write_limits =
        Http1Limits { write_ms_max: 200, write_bytes_per_ms_min: u64::MAX, ..Default::default() };
    let server = Server::start(engine, write_limits);
    assert_eq!(server.connect().ask(get("/slow")).status, 200);
    let mut deaf = server.connect();
    deaf.send(get("/big"));
    server.until(|counters| counters.writes_failed == 1);
    drop(deaf);
    server.until(|counters| counters.connections_open == 0);
    server.stop();
}

fn idle_clients_are_given_up(engine: EngineKind) {
    let server = Server::start(engine, Http1Limits { idle_ms_max: 200, ..Default::default() });
    // Nothing asked for at all.
    let mut silent = server.connect();
    assert!(silent.is_at_end());
    // Nothing after an answer. On a busy machine a request can itself come too late: once more.
    let ask = || {
        let mut client = server.connect();
        client.stream.write_all(get("/peer").as_bytes()).ok()?;
        let len = client.stream.read(&mut [0; 4096]).ok()?;
        (len > 0).then_some(client)
    };
    let mut idle = std::iter::repeat_with(ask).take(100).flatten().next().unwrap();
    assert!(idle.is_at_end());
    assert!(server.snapshot().idle_closed >= 2);
    server.stop();
}

fn a_reset_in_the_middle_is_counted_and_survived(engine: EngineKind) {
    let server = Server::start(engine, Http1Limits::default());
    let wires = [
        "POST /echo HTTP/1.1\r\ncontent-length: 1000\r\n\r\nhalf",
        "POST /pieces HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhal",
    ];
    for (n, wire) in wires.into_iter().enumerate() {
        let mut client = server.connect();
        client.send(wire);
        server.until(|counters| counters.requests > n as u64);
        let socket = socket2::SockRef::from(&client.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        server.until(|counters| counters.bodies_cut == n as u64 + 1);
    }
    // In an answer, too.
    let mut client = server.connect();
    client.send(get("/big"));
    assert!(client.more() > 0);
    socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    server.until(|counters| counters.writes_failed >= 1 && counters.connections_open == 0);
    assert_eq!(server.connect().ask(get("/peer")).status, 200);
    server.stop();
}

#[cfg(target_os = "linux")]
fn too_many_connections_are_told_and_places_come_back(engine: EngineKind) {
    use socket2::{Domain, Socket, Type};

    let from = |host: u8, server: &Server| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
        socket.connect(&server.addr.into()).unwrap();
        Client::over(socket.into())
    };
    let server = Server::start(
        engine,
        Http1Limits { connections_max: 3, connections_per_source_max: 2, ..Default::default() },
    );
    let mut open = vec![from(1, &server), from(1, &server)];
    server.until(|counters| counters.connections_open == 2);
    for n in 1..=20 {
        // The request is under way when the refusal comes; the refusal is read all the same.
        let mut client = from(1, &server);
        // Unless the server has given it up already, on a busy machine.
        let _ = client.stream.write_all(get("/peer").as_bytes());
        assert_eq!(client.answer().status, 503);
        assert_eq!(server.snapshot().connections_refused_source, n);
    }
    open.push(from(2, &server));
    assert_eq!(open[2].ask(get("/peer")).body, b"127.0.0.2");
    assert_eq!(from(3, &server).answer().status, 503);
    for client in &mut open {
        assert_eq!(client.ask(get("/peer")).status, 200);
    }
    drop(open);
    server.until(|counters| counters.connections_open == 0);
    assert_eq!(from(1, &server).ask(get("/peer")).status, 200);
    let counters = server.stop();
    assert_eq!((counters.connections, counters.connections_refused_total), (4, 1));
}

/// The clients are another process, so that its files and ours need not fit one limit.
#[cfg(target_os = "linux")]
fn ten_thousand_connections(engine: EngineKind) {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    // The other tests of this process need files, too.
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let files = file_limit();
    let count = 10_000.min(files.saturating_sub(2_500));
    if count < 10_000 {
        eprintln!("{count} connections: the limit of open files is {files} (ulimit -n)");
    }
    let limits = Http1Limits {
        connections_per_source_max: count,
        // They are opened one after the other, and wait for each other.
        idle_ms_max: 600_000,
        ..Default::default()
    };
    let server = Server::start(engine, limits);
    let mut clients = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", CLIENTS_TEST])
        .env(CLIENTS_VARIABLE, format!("{} {count}", server.addr))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    server.until(|counters| counters.connections_open == count as u64);
    assert_eq!(server.connect().answer().status, 503);
    // They go on when their input ends.
    drop(clients.stdin.take());
    assert!(clients.wait().unwrap().success());
    server.until(|counters| counters.connections_open == 0);
    let counters = server.stop();
    assert_eq!((counters.connections, counters.connections_refused_source), (count as u64, 1));
}

#[cfg(target_os = "linux")]
const CLIENTS_TEST: &str = "http1::server::tests::bounds::clients_of_ten_thousand_connections";
#[cfg(target_os = "linux")]
const CLIENTS_VARIABLE: &str = "PACKETCRYPT_TEST_CLIENTS";

/// Not a test of its own: the other side of the one above.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "is started by ten_thousand_connections"]
fn clients_of_ten_thousand_connections() {
    let Ok(task) = std::env::var(CLIENTS_VARIABLE) else { return };
    let (addr, count) = task.split_once(' ').unwrap();
    let (addr, count): (SocketAddr, usize) = (addr.parse().unwrap(), count.parse().unwrap());
    file_limit();
    let clients: Vec<Client> =
        (0..count).map(|_| Client::over(TcpStream::connect(addr).unwrap())).collect();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    // Everyone is served, the first and the last alike.
    for (n, mut client) in clients.into_iter().enumerate() {
        if n % 1000 == 0 || n + 1 == count {
            assert_eq!(client.ask(post("/echo", "", "hello")).body, b"hello");
        }
    }
}

/// How many files this process may have open, raised as far as it may.
#[cfg(target_os = "linux")]
fn file_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes, then reads, one `rlimit` at the address.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max.min(13_000);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}
