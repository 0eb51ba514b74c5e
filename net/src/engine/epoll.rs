//! The engine that runs everywhere: a tokio current-thread runtime a core.

use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use super::{Engine, EngineError, EngineKind, Executors, Listener, Placement, Stream, threads};

/// A handle to one executor of this engine.
#[derive(Clone, Debug)]
pub struct Epoll {
    index: usize,
}

/// A listening socket of this engine.
#[derive(Debug)]
pub struct EpollListener {
    inner: TcpListener,
}

/// A connection of this engine.
#[derive(Debug)]
pub struct EpollStream {
    inner: TcpStream,
    peer: SocketAddr,
}

impl Engine for Epoll {
    type Stream = EpollStream;
    type Listener = EpollListener;

    const NAME: &'static str = EngineKind::Epoll.title();

    fn start<B, F>(placement: &Placement, body: B) -> Result<Executors, EngineError>
    where
        B: Fn(Self) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let make = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        let run = move |runtime: Runtime, index| {
            LocalSet::new().block_on(&runtime, body(Self { index }));
        };
        threads::start(Self::NAME, placement, make, run)
    }

    fn index(&self) -> usize {
        self.index
    }

    fn listen(&self, socket: std::net::TcpListener) -> io::Result<EpollListener> {
        socket.set_nonblocking(true)?;
        Ok(EpollListener { inner: TcpListener::from_std(socket)? })
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<EpollStream> {
        let inner = TcpStream::connect(addr).await?;
        // As for accepted ones.
        let _ = inner.set_nodelay(true);
        Ok(EpollStream { inner, peer: addr })
    }

    fn spawn_local(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    async fn timeout<F: Future>(&self, duration: Duration, task: F) -> Option<F::Output> {
        tokio::time::timeout(duration, task).await.ok()
    }

    async fn yield_now(&self) {
        tokio::task::yield_now().await;
    }
}

impl Listener for EpollListener {
    type Stream = EpollStream;

    async fn accept(&mut self) -> io::Result<EpollStream> {
        let (inner, peer) = self.inner.accept().await?;
        // Without it small replies wait for the peer's delayed acknowledgement. A connection that
        // is gone already will say so when it is read.
        let _ = inner.set_nodelay(true);
        Ok(EpollStream { inner, peer })
    }
}

impl Stream for EpollStream {
    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Most often the bytes are there already: ask for them before asking for readiness.
            match self.inner.try_read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.inner.readable().await?,
                outcome => return outcome,
            }
        }
    }

    async fn read_scattered(&mut self, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        loop {
            match self.inner.try_read_vectored(parts) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.inner.readable().await?,
                outcome => return outcome,
            }
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_all(bytes).await
    }

    async fn write_all_two(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < head.len() {
            let parts = [IoSlice::new(&head[written..]), IoSlice::new(body)];
            match self.inner.write_vectored(&parts).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                len => written += len,
            }
        }
        self.inner.write_all(&body[written - head.len()..]).await
    }

    async fn shutdown_write(&mut self) -> io::Result<()> {
        self.inner.shutdown().await
    }
}
