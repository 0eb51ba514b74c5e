//! The server on real sockets: clients that are right, slow, rude, or gone.

use super::*;
use crate::engine::{self, Body, EngineKind, Executors, Placement, ReservedPort};
use std::io::{self, Read, Write};
use std::net::{Shutdown as End, SocketAddr, TcpStream};

/// Makes a test of each function for each engine that works here.
macro_rules! on_each_engine {
    ($($name:ident,)*) => {
        on_each_engine!(@ epoll Epoll $($name)*);
        on_each_engine!(@ glommio Glommio $($name)*);
        on_each_engine!(@ uring Uring $($name)*);
    };
    (@ $module:ident $kind:ident $($name:ident)*) => {
        mod $module {
            $(#[test]
            fn $name() {
                let kind = crate::engine::EngineKind::$kind;
                match kind.why_not() {
                    None => super::$name(kind),
                    Some(why) => eprintln!("not tried: {why}"),
                }
            })*
        }
    };
}

mod bounds;
mod wire;

const LOCAL: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const BIG_BYTES: usize = 8 << 20;

/// What the tests ask: a path for each way of treating a body.
struct Echo<E>(E);

impl<E: Engine> Service<E> for Echo<E> {
    async fn call(&self, request: &mut Request<'_, E>) -> Response {
        let path = request.head.path().to_owned();
        match path.as_str() {
            "/echo" => echo(request).await,
            "/pieces" => pieces(request).await,
            "/early" => Response::text(403, "not read"),
            "/close" => Response::text(403, "not read").and_close(),
            "/slow" => {
                self.0.sleep(Duration::from_millis(300)).await;
                Response::text(200, "at last")
            }
            "/big" => Response::new(200).with_body(vec![7; BIG_BYTES]),
            "/peer" => Response::text(200, request.peer.ip().to_string()),
            "/panic" => panic!("on purpose"),
            _ => Response::text(404, "no such thing"),
        }
    }
}

/// The body in one go, as long as it is.
async fn echo<E: Engine>(request: &mut Request<'_, E>) -> Response {
    let mut body = Vec::new();
    loop {
        let filled = body.len();
        body.resize(filled + 700, 0);
        match request.body.read(&mut body[filled..]).await {
            Ok(len) => body.truncate(filled + len),
            Err(e) => return e.response(),
        }
        if body.len() < filled + 700 {
            return Response::new(200).with_body(body);
        }
    }
}

/// The body in pieces of three bytes, with a look at the end between them.
async fn pieces<E: Engine>(request: &mut Request<'_, E>) -> Response {
    let mut body = Vec::new();
    loop {
        match request.body.is_at_end().await {
            Ok(true) => return Response::new(200).with_body(body),
            Ok(false) => {}
            Err(e) => return e.response(),
        }
        let mut piece = [0; 3];
        match request.body.read(&mut piece).await {
            Ok(len) => body.extend_from_slice(&piece[..len]),
            Err(e) => return e.response(),
        }
    }
}

/// A server on two executors.
struct Server {
    addr: SocketAddr,
    shared: Arc<Http1Shared>,
    shutdown: Shutdown,
    executors: Option<Executors>,
    /// So that nobody else listens there when the server has ended.
    port: Arc<ReservedPort>,
}

/// How long something that must come is waited for; a machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// What runs on each executor of a server.
#[derive(Clone)]
struct Serve {
    sockets: Arc<Vec<TcpListener>>,
    shared: Arc<Http1Shared>,
    shutdown: Shutdown,
}

impl Body for Serve {
    async fn run<E: Engine>(self, engine: E) {
        let socket = self.sockets[engine.index()].try_clone().unwrap();
        let service = Rc::new(Echo(engine.clone()));
        serve(engine, socket, service, self.shared, self.shutdown).await.unwrap();
    }
}

impl Server {
    fn start(engine: EngineKind, limits: Http1Limits) -> Self {
        let (shared, shutdown) = (Http1Shared::new(limits), Shutdown::new());
        let port = ReservedPort::on(LOCAL).unwrap();
        let addr = port.addr();
        let sockets = Arc::new(engine::bind(addr, 2).unwrap());
        let placement = Placement { name: "test".to_owned(), executors: 2, cpus: None };
        let body = Serve { sockets, shared: shared.clone(), shutdown: shutdown.clone() };
        let executors = engine::start(engine, &placement, body);
        Self { addr, shared, shutdown, executors: Some(executors.unwrap()), port: Arc::new(port) }
    }

    fn connect(&self) -> Client {
        Client::over(TcpStream::connect(self.addr).unwrap())
    }

    fn snapshot(&self) -> Http1Snapshot {
        self.shared.snapshot()
    }

    /// Waits until the counters are as they should be.
    fn until(&self, what: impl Fn(&Http1Snapshot) -> bool) {
        let start = Instant::now();
        while !what(&self.snapshot()) {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.snapshot());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the server; an executor that panicked fails the test.
    fn stop(mut self) -> Http1Snapshot {
        self.shutdown.trigger();
        let executors = self.executors.take().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(executors.join()), Ok(()));
        self.snapshot()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

/// A client that sends bytes and reads replies.
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

/// A reply as it came.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Client {
    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, received: Vec::new() }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    fn more(&mut self) -> usize {
        let mut piece = [0; 64 << 10];
        let len = read(&mut self.stream, &mut piece).unwrap();
        self.received.extend_from_slice(&piece[..len]);
        len
    }

    fn answer(&mut self) -> Answer {
        let end = loop {
            match self.received.windows(4).position(|end| end == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => assert!(self.more() > 0, "ended with {:?}", self.received),
            }
        };
        let head = String::from_utf8(self.received.drain(..end).collect()).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |text| text.parse::<usize>().unwrap());
        while self.received.len() < length {
            assert!(self.more() > 0, "ended within the body");
        }
        let body = self.received.drain(..length).collect();
        Answer { status: head[9..12].parse().unwrap(), head, body }
    }

    /// Sends a whole request and reads its answer.
    fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request);
        self.answer()
    }

    /// Whether the server has ended the connection in order, with nothing more to say.
    fn is_at_end(&mut self) -> bool {
        self.received.is_empty() && matches!(read(&mut self.stream, &mut [0; 1]), Ok(0))
    }
}

/// Reads, also when the process is stopped for a while meanwhile: that ends a read with a time-out.
fn read(stream: &mut TcpStream, piece: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(piece) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

fn post(path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{fields}\r\n{body}")
}

fn post_chunked(path: &str, fields: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\ntransfer-encoding: chunked\r\n{fields}\r\n{body}")
}

on_each_engine! {
    two_hundred_connections_at_once,
    a_stop_lets_requests_in_progress_end,
    a_service_that_panics_costs_its_connection_only,
    whatever_is_sent_the_server_goes_on,
}

fn two_hundred_connections_at_once(engine: EngineKind) {
    let server = Server::start(engine, Http1Limits::default());
    let mut clients: Vec<Client> = (0..200).map(|_| server.connect()).collect();
    for round in 0..5 {
        for (n, client) in clients.iter_mut().enumerate() {
            let body = format!("{round}:{n}:").repeat(n);
            let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
            let chunked = if body.is_empty() { "0\r\n\r\n" } else { &chunked };
            client.send(post("/echo", "", &body) + &post_chunked("/pieces", "", chunked));
        }
        for (n, client) in clients.iter_mut().enumerate() {
            let body = format!("{round}:{n}:").repeat(n).into_bytes();
            for _ in 0..2 {
                let answer = client.answer();
                assert_eq!((answer.status, answer.body), (200, body.clone()));
            }
        }
    }
    assert_eq!(server.snapshot().connections_open, 200);
    drop(clients);
    server.until(|counters| counters.connections_open == 0);
    let counters = server.stop();
    assert_eq!((counters.connections, counters.requests), (200, 2000));
}

fn a_stop_lets_requests_in_progress_end(engine: EngineKind) {
    let server = Server::start(engine, Http1Limits::default());
    let (mut idle, mut busy) = (server.connect(), server.connect());
    assert_eq!(idle.ask(get("/peer")).body, b"127.0.0.1");
    busy.send(get("/slow"));
    server.until(|counters| counters.requests == 2);
    let (addr, port) = (server.addr, server.port.clone());
    let started = Instant::now();
    let waiting = std::thread::spawn(move || (busy.answer(), busy.is_at_end()));
    let counters = server.stop();
    assert!(started.elapsed() < Duration::from_millis(GRACE_MS_MAX + 500));
    let (answer, is_at_end) = waiting.join().unwrap();
    assert_eq!((answer.status, answer.body), (200, b"at last".to_vec()));
    assert!(answer.head.contains("connection: close") && is_at_end && idle.is_at_end());
    assert_eq!(counters.connections_open, 0);
    assert!(TcpStream::connect(addr).is_err());
    drop(port);
}

fn a_service_that_panics_costs_its_connection_only(engine: EngineKind) {
    let server = Server::start(engine, Http1Limits::default());
    let mut client = server.connect();
    let mut other = server.connect();
    client.send(get("/panic"));
    assert!(client.is_at_end());
    assert_eq!(other.ask(get("/peer")).status, 200);
    server.until(|counters| counters.connections_open == 1);
    drop(other);
    server.stop();
}

/// Numbers that look random and are the same in every run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        usize::try_from(self.0 >> 33).unwrap() % end.max(1)
    }
}

fn whatever_is_sent_the_server_goes_on(engine: EngineKind) {
    // Longer than a client that writes at once needs on a busy machine.
    let limits = Http1Limits {
        head_ms_max: 1_000,
        body_ms_max: 1_000,
        idle_ms_max: 1_000,
        ..Default::default()
    };
    let server = Server::start(engine, limits);
    let good = [
        get("/peer"),
        post("/echo", "expect: 100-continue\r\n", "hello"),
        post_chunked("/pieces", "", "3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nx: y\r\n\r\n"),
        get("/big"),
    ]
    .concat()
    .into_bytes();
    let mut noise = Noise(1);
    // They wait for what the server says, side by side: where it waits for more, that is the end.
    let mut waiting = Vec::new();
    for _ in 0..400 {
        let mut bytes = good.clone();
        for _ in 0..=noise.below(6) {
            let at = noise.below(bytes.len());
            match noise.below(4) {
                0 => bytes[at] = noise.below(256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"\r\n 0:;,\x00\xff"[noise.below(9)]),
                _ => bytes.truncate(at),
            }
            if bytes.is_empty() {
                break;
            }
        }
        let mut client = server.connect();
        // The server may have ended the connection before it took everything.
        let _ = client.stream.write_all(&bytes);
        match noise.below(3) {
            0 => drop(client.stream.shutdown(End::Write)),
            1 => waiting.push(client.stream),
            _ => {}
        }
    }
    for mut stream in waiting {
        // A reply, an end, or a connection that was reset.
        let _ = stream.read(&mut [0; 100]);
    }
    assert_eq!(server.connect().ask(get("/peer")).status, 200);
    server.until(|counters| counters.connections_open == 0);
    let counters = server.stop();
    assert!(counters.heads_malformed > 20 && counters.requests > 100, "{counters:?}");
}
