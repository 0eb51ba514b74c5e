//! The engine that runs everywhere: a tokio current-thread runtime a core.

use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::{Engine, EngineError, Executors, Listener, Placement, Stream};
use crate::hw;

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

    const NAME: &'static str = "epoll (tokio)";

    fn start<B, F>(placement: &Placement, body: B) -> Result<Executors, EngineError>
    where
        B: Fn(Self) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        placement.check()?;
        let failed = |index, cause| EngineError::Executor { index, cause };
        // All runtimes first: an error then leaves no executor running.
        let runtimes = (0..placement.executors).map(|index| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|cause| failed(index, cause))
        });
        let runtimes = runtimes.collect::<Result<Vec<_>, _>>()?;
        let (alive, ended) = tokio::sync::mpsc::channel(1);
        let mut threads = Vec::with_capacity(runtimes.len());
        for (index, runtime) in runtimes.into_iter().enumerate() {
            let (body, alive, cpu) = (body.clone(), alive.clone(), placement.cpu(index));
            let thread = thread::Builder::new().name(format!("{}-{index}", placement.name));
            let spawned = thread.spawn(move || {
                let _alive = alive;
                if let Some(Err(e)) = cpu.map(hw::pin_thread) {
                    tracing::warn!("{e}");
                }
                let tasks = LocalSet::new();
                tasks.block_on(&runtime, async move { body(Epoll { index }).await });
            });
            threads.push(spawned.map_err(|cause| failed(index, cause))?);
        }
        Ok(Executors { engine: Self::NAME, threads, ended })
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn placement(executors: usize) -> Placement {
        Placement { name: "test".to_owned(), executors, cpus: Some(hw::available_cpus()) }
    }

    #[tokio::test]
    async fn each_executor_runs_its_body_and_its_local_tasks() {
        let (sender, receiver) = mpsc::channel();
        let executors = Epoll::start(&placement(3), move |engine| {
            let sender = sender.clone();
            async move {
                let (done, wait) = tokio::sync::oneshot::channel();
                let index = engine.index();
                // Not Send: stays on its executor.
                let local = std::rc::Rc::new(index);
                engine.spawn_local(async move {
                    let _ = done.send(*local);
                });
                let seen = engine.timeout(Duration::from_secs(5), wait).await;
                let _ = sender.send(seen.and_then(Result::ok));
                engine.yield_now().await;
                engine.sleep(Duration::from_millis(1)).await;
            }
        })
        .unwrap();
        assert_eq!((executors.len(), executors.is_empty()), (3, false));
        assert_eq!(executors.to_string(), "engine: epoll (tokio), 3 executors");
        assert_eq!(executors.join().await, Ok(()));
        let mut seen: Vec<_> = receiver.iter().map(Option::unwrap).collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
    }

    #[tokio::test]
    async fn a_panic_is_counted_and_zero_executors_refused() {
        assert!(matches!(Epoll::start(&placement(0), |_| async {}), Err(EngineError::Count(0))));
        let executors = Epoll::start(&placement(2), |engine| async move {
            assert_eq!(engine.index(), 0, "the second one panics on purpose");
        });
        assert_eq!(executors.unwrap().join().await, Err(1));
    }

    #[tokio::test]
    async fn a_long_wait_is_cut() {
        let engine = Epoll { index: 0 };
        let wait = std::future::pending::<()>();
        assert_eq!(engine.timeout(Duration::from_millis(5), wait).await, None);
    }
}
