//! A connection on which anything may come, in pieces of any length: the server answers the same
//! however the bytes are cut, and every answer is one.
#![no_main]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use packetcrypt_net::Shutdown;
use packetcrypt_net::engine::{Engine, EngineError, Executors, Listener, Placement, Stream};
use packetcrypt_net::http1::{Http1Limits, Http1Shared, Request, Response, Service, serve};

/// An engine on which one connection comes, from memory.
#[derive(Clone, Debug)]
struct Script {
    wire: Rc<[u8]>,
    /// Lengths of pieces, in turn; 0 is as much as is asked for.
    pieces: Rc<[u8]>,
    written: Rc<RefCell<Vec<u8>>>,
    shutdown: Shutdown,
}

#[derive(Debug)]
struct Connection {
    script: Script,
    at: usize,
    piece: usize,
}

struct Once {
    script: Script,
    is_accepted: Cell<bool>,
}

impl Engine for Script {
    type Stream = Connection;
    type Listener = Once;

    const NAME: &'static str = "script";

    fn start<B, F>(_: &Placement, _: B) -> Result<Executors, EngineError>
    where
        B: Fn(Self) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        Err(EngineError::Count(0))
    }

    fn index(&self) -> usize {
        0
    }

    fn listen(&self, _: TcpListener) -> io::Result<Once> {
        Ok(Once { script: self.clone(), is_accepted: Cell::new(false) })
    }

    async fn connect(&self, _: SocketAddr) -> io::Result<Connection> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn spawn_local(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    async fn sleep(&self, _: Duration) {
        tokio::task::yield_now().await;
    }

    /// Nothing here ever waits, so nothing takes too long.
    async fn timeout<F: Future>(&self, _: Duration, task: F) -> Option<F::Output> {
        Some(task.await)
    }

    async fn yield_now(&self) {
        tokio::task::yield_now().await;
    }
}

impl Listener for Once {
    type Stream = Connection;

    async fn accept(&mut self) -> io::Result<Connection> {
        if self.is_accepted.replace(true) {
            std::future::pending::<()>().await;
        }
        Ok(Connection { script: self.script.clone(), at: 0, piece: 0 })
    }
}

impl Stream for Connection {
    fn peer_addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.script.wire[self.at..];
        let piece = match self.script.pieces.get(self.piece % self.script.pieces.len().max(1)) {
            None | Some(0) => usize::MAX,
            Some(&len) => usize::from(len),
        };
        self.piece += 1;
        let len = rest.len().min(buffer.len()).min(piece);
        buffer[..len].copy_from_slice(&rest[..len]);
        self.at += len;
        Ok(len)
    }

    async fn read_scattered(&mut self, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut filled = 0;
        for part in parts.iter_mut() {
            let len = self.read(part).await?;
            filled += len;
            if len < part.len() {
                break;
            }
        }
        Ok(filled)
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.script.written.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }

    async fn write_all_two(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        self.write_all(head).await?;
        self.write_all(body).await
    }

    async fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.script.shutdown.trigger();
    }
}

/// Answers with what came.
struct Echo;

impl Service<Script> for Echo {
    async fn call(&self, request: &mut Request<'_, Script>) -> Response {
        let mut body = request.head.target().as_bytes().to_vec();
        if request.head.method() == "GET" {
            return Response::text(200, "unread");
        }
        loop {
            let filled = body.len();
            body.resize(filled + 100, 0);
            match request.body.read(&mut body[filled..]).await {
                Ok(len) => body.truncate(filled + len),
                Err(e) => return e.response(),
            }
            if body.len() < filled + 100 {
                return Response::new(200).with_body(body);
            }
        }
    }
}

fn answers(wire: &[u8], pieces: &[u8], socket: &TcpListener) -> Vec<u8> {
    let script = Script {
        wire: wire.into(),
        pieces: pieces.into(),
        written: Rc::default(),
        shutdown: Shutdown::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let limits = Http1Limits { body_bytes_max: 4096, fields_max: 16, ..Http1Limits::default() };
    let (engine, shared) = (script.clone(), Http1Shared::new(limits));
    let socket = socket.try_clone().expect("a descriptor");
    let shutdown = script.shutdown.clone();
    let served = serve(engine, socket, Rc::new(Echo), shared, shutdown);
    tokio::task::LocalSet::new().block_on(&runtime, served).expect("served");
    let mut written = script.written.take();
    // Leave to send a body is given only while the body is not there yet.
    while let Some(at) = written.windows(LEAVE.len()).position(|part| part == LEAVE) {
        written.drain(at..at + LEAVE.len());
    }
    written
}

const LEAVE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

thread_local! {
    /// No connection is ever made to it.
    static SOCKET: TcpListener = TcpListener::bind("127.0.0.1:0").expect("a socket");
}

/// What the bytes follow, so that not every run has to find out what a request looks like.
const BEGINNINGS: [&str; 5] = [
    "",
    "GET / HTTP/1.1\r\n",
    "POST /echo HTTP/1.1\r\ncontent-length: 9\r\n",
    "POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
    "POST /echo HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 20\r\n\r\n",
];

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (beginning, pieces, wire) = input;
    let beginning = BEGINNINGS[usize::from(beginning) % BEGINNINGS.len()];
    let wire = [beginning.as_bytes(), wire].concat();
    SOCKET.with(|socket| {
        let whole = answers(&wire, &[], socket);
        assert!(whole.is_empty() || whole.starts_with(b"HTTP/1.1 "));
        assert_eq!(answers(&wire, pieces, socket), whole);
    });
});
