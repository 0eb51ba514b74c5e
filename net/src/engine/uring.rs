//! The engine on io_uring that is our own: a thread a core, which waits on one ring for all of its
//! sockets. Tasks and timers are in [`executor`], what the kernel is asked in [`ring`].
//!
//! The ring is used to wait; bytes are received and sent by plain calls into and from the caller's
//! memory. So a future may be dropped at any time.

mod executor;
mod ring;

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use self::executor::Local;
use self::ring::Direction;
use super::refusal::explain;
use super::{Engine, EngineError, EngineKind, Executors, Listener, Placement, Stream, threads};

/// A handle to one executor of this engine.
#[derive(Clone, Debug)]
pub struct Uring {
    index: usize,
    local: Rc<Local>,
}

/// A listening socket of this engine.
#[derive(Debug)]
pub struct UringListener {
    inner: Watched<std::net::TcpListener>,
}

/// A connection of this engine.
#[derive(Debug)]
pub struct UringStream {
    inner: Watched<std::net::TcpStream>,
    peer: SocketAddr,
}

/// A socket that the ring of its executor watches.
#[derive(Debug)]
struct Watched<S: AsRawFd> {
    local: Rc<Local>,
    key: usize,
    /// Closed after `drop` has called the poll back.
    socket: S,
}

impl<S: AsRawFd> Watched<S> {
    /// The socket must not block.
    fn new(local: &Rc<Local>, socket: S) -> Self {
        let key = local.ring.add(socket.as_raw_fd());
        Self { local: Rc::clone(local), key, socket }
    }

    /// Waits until it is worth to try.
    async fn ready(&self, direction: Direction) -> io::Result<()> {
        poll_fn(|cx| self.local.ring.poll_ready(self.key, direction, cx)).await
    }

    fn not_ready(&self, direction: Direction) {
        self.local.ring.not_ready(self.key, direction);
    }

    /// Tries until it need not wait.
    async fn perform<T>(
        &self,
        direction: Direction,
        mut action: impl FnMut(&S) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            self.ready(direction).await?;
            match action(&self.socket) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.not_ready(direction),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }
}

impl<S: AsRawFd> Drop for Watched<S> {
    fn drop(&mut self) {
        self.local.ring.remove(self.key);
    }
}

impl Engine for Uring {
    type Stream = UringStream;
    type Listener = UringListener;

    const NAME: &'static str = EngineKind::Uring.title();

    fn start<B, F>(placement: &Placement, body: B) -> Result<Executors, EngineError>
    where
        B: Fn(Self) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let run = move |local: Rc<Local>, index| {
            let body = body(Self { index, local: Rc::clone(&local) });
            if let Err(error) = local.run(body) {
                // Those who wait for the executors are told that one has failed.
                panic!("the ring of executor {index} takes nothing more: {error}");
            }
        };
        threads::start(Self::NAME, placement, Local::new, run)
    }

    fn index(&self) -> usize {
        self.index
    }

    fn listen(&self, socket: std::net::TcpListener) -> io::Result<UringListener> {
        socket.set_nonblocking(true)?;
        Ok(UringListener { inner: Watched::new(&self.local, socket) })
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<UringStream> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&addr.into()) {
            Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => return Err(e),
            _ => {}
        }
        let inner = Watched::new(&self.local, std::net::TcpStream::from(socket));
        // Nothing is known of a connection that is being made: the ring tells when it is.
        inner.not_ready(Direction::Write);
        inner.ready(Direction::Write).await?;
        if let Some(error) = inner.socket.take_error()? {
            return Err(error);
        }
        // As for accepted ones.
        let _ = inner.socket.set_nodelay(true);
        Ok(UringStream { inner, peer: addr })
    }

    fn spawn_local(&self, task: impl Future<Output = ()> + 'static) {
        self.local.spawn(threads::contained(task));
    }

    async fn sleep(&self, duration: Duration) {
        self.local.sleep(duration).await;
    }

    async fn timeout<F: Future>(&self, duration: Duration, task: F) -> Option<F::Output> {
        let (mut task, mut end) = (pin!(task), pin!(self.local.sleep(duration)));
        poll_fn(|cx| match task.as_mut().poll(cx) {
            std::task::Poll::Ready(outcome) => std::task::Poll::Ready(Some(outcome)),
            std::task::Poll::Pending => end.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    async fn yield_now(&self) {
        let mut has_yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut has_yielded, true) {
                return std::task::Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }
}

/// Why this engine does not work here; None when it does. It is found out by trying.
pub(super) fn why_not() -> Option<String> {
    // On a thread of its own: a ring belongs to the thread that made it.
    let tried = thread::spawn(|| Local::new().and_then(|local| local.run(async {})));
    match tried.join() {
        Ok(Ok(())) => None,
        Ok(Err(error)) if error.raw_os_error() == Some(libc::EINVAL) => {
            Some("this kernel's io_uring is too old (6.1 or newer is needed)".to_owned())
        }
        Ok(Err(error)) => Some(explain(&error)),
        Err(_) => Some("an executor panicked at its start".to_owned()),
    }
}

impl Listener for UringListener {
    type Stream = UringStream;

    async fn accept(&mut self) -> io::Result<UringStream> {
        let (socket, peer) =
            self.inner.perform(Direction::Read, std::net::TcpListener::accept).await?;
        socket.set_nonblocking(true)?;
        // Without it small replies wait for the peer's delayed acknowledgement. A connection that
        // is gone already will say so when it is read.
        let _ = socket.set_nodelay(true);
        Ok(UringStream { inner: Watched::new(&self.inner.local, socket), peer })
    }
}

impl UringStream {
    /// Receives what is there. What did not fill its place was all: to try again would be in vain.
    async fn receive(
        &self,
        len_max: usize,
        action: impl FnMut(&std::net::TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let len = self.inner.perform(Direction::Read, action).await?;
        if len < len_max {
            self.inner.not_ready(Direction::Read);
        }
        Ok(len)
    }

    async fn send(
        &self,
        action: impl FnMut(&std::net::TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match self.inner.perform(Direction::Write, action).await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            len => Ok(len),
        }
    }
}

impl Stream for UringStream {
    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer.len(), |mut socket| socket.read(buffer)).await
    }

    async fn read_scattered(&mut self, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let len_max = parts.iter().map(|part| part.len()).sum();
        self.receive(len_max, |mut socket| socket.read_vectored(parts)).await
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = self.send(|mut socket| socket.write(rest)).await?;
            rest = &rest[len..];
        }
        Ok(())
    }

    async fn write_all_two(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < head.len() {
            let parts = [IoSlice::new(&head[sent..]), IoSlice::new(body)];
            sent += self.send(|mut socket| socket.write_vectored(&parts)).await?;
        }
        self.write_all(&body[sent - head.len()..]).await
    }

    async fn shutdown_write(&mut self) -> io::Result<()> {
        self.inner.socket.shutdown(std::net::Shutdown::Write)
    }
}
