//! The runtimes of the data plane: one executor a core, each with its own listening socket.
//!
//! Programs of the data plane are generic over [`Engine`], because the best one differs: io_uring
//! makes a core cheap and is often forbidden, epoll runs everywhere. The trait asks for no `Send`:
//! a task never leaves its executor. Reading goes into the caller's memory, so that a body lands
//! in its final place.
//!
//! An engine that hands the caller's memory to the kernel must make dropping the future safe by
//! itself: either it waits for readiness and then reads (as those here do), or the drop waits until
//! the kernel let go of the memory.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::hw::CpuSet;
use crate::shutdown::Shutdown;

mod choice;
mod epoll;
#[cfg(all(target_os = "linux", feature = "glommio"))]
mod glommio;
#[cfg(target_os = "linux")]
mod refusal;
mod reserved;
mod threads;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod uring;

pub use choice::{Body, EngineKind, UnknownEngineError, start};
pub use epoll::{Epoll, EpollListener, EpollStream};
#[cfg(all(target_os = "linux", feature = "glommio"))]
pub use glommio::{Glommio, GlommioListener, GlommioStream};
pub use reserved::ReservedPort;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub use uring::{Uring, UringListener, UringStream};

/// Connections that the kernel holds for an executor that has not accepted them yet.
pub const BACKLOG_LEN: i32 = 1_024;
/// Longest wait for an address that is taken at the start.
pub const BIND_WAIT_MS: u64 = 10_000;
const BIND_PAUSE_MS: u64 = 100;
/// Most executors that are started: above the cores of any machine of today.
pub const EXECUTORS_MAX: usize = 1_024;

/// The longest wait, 30 years: what is longer does not fit a clock's time on every system.
#[cfg(target_os = "linux")]
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// A connection of an engine. It belongs to one executor.
pub trait Stream: std::fmt::Debug + 'static {
    /// The other side.
    fn peer_addr(&self) -> SocketAddr;

    /// Reads what is there into `buffer`, waiting for at least one byte; 0 is the peer's end.
    fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>>;

    /// As [`read`](Self::read) into several places, the first one first. The system may fill fewer
    /// than the bytes that are there.
    fn read_scattered(
        &mut self,
        parts: &mut [IoSliceMut<'_>],
    ) -> impl Future<Output = io::Result<usize>>;

    /// As [`read`](Self::read) into two places: the rest of a chunk into its final place and what
    /// follows it into the connection's buffer.
    fn read_two(
        &mut self,
        first: &mut [u8],
        second: &mut [u8],
    ) -> impl Future<Output = io::Result<usize>> {
        async move {
            if second.is_empty() {
                return self.read(first).await;
            }
            self.read_scattered(&mut [IoSliceMut::new(first), IoSliceMut::new(second)]).await
        }
    }

    /// Writes all of `bytes`.
    fn write_all(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>>;

    /// Writes a head and a body without joining them.
    fn write_all_two(&mut self, head: &[u8], body: &[u8]) -> impl Future<Output = io::Result<()>>;

    /// Says that nothing more will be written; reading goes on.
    fn shutdown_write(&mut self) -> impl Future<Output = io::Result<()>>;
}

/// A listening socket of an engine.
pub trait Listener: 'static {
    /// What it accepts.
    type Stream: Stream;

    /// The next connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Stream>>;
}

/// A thread-per-core runtime; a value is a handle to the executor it was given on.
pub trait Engine: Clone + std::fmt::Debug + 'static {
    /// Its connections.
    type Stream: Stream;
    /// Its listening sockets.
    type Listener: Listener<Stream = Self::Stream>;

    /// What a program says it runs on.
    const NAME: &'static str;

    /// Starts the executors and runs `body` on each; an executor ends with its body.
    ///
    /// # Errors
    /// An executor can not be made; those already made are ended.
    fn start<B, F>(placement: &Placement, body: B) -> Result<Executors, EngineError>
    where
        B: Fn(Self) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static;

    /// Which executor this is, from 0.
    fn index(&self) -> usize;

    /// Takes over a listening socket, one of [`bind`].
    ///
    /// # Errors
    /// What the system says.
    fn listen(&self, socket: TcpListener) -> io::Result<Self::Listener>;

    /// Opens a connection. How long that may take is for [`timeout`](Self::timeout) to say.
    ///
    /// # Errors
    /// What the system says.
    fn connect(&self, addr: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>>;

    /// Runs a task on this executor. It is dropped when the executor ends.
    fn spawn_local(&self, task: impl Future<Output = ()> + 'static);

    /// Waits.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Runs `task` for at most `duration`; None when it took longer.
    fn timeout<F: Future>(
        &self,
        duration: Duration,
        task: F,
    ) -> impl Future<Output = Option<F::Output>>;

    /// Lets the other tasks of this executor run: between two batches of long work.
    fn yield_now(&self) -> impl Future<Output = ()>;
}

/// How many executors, and where.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Names of the threads begin with this.
    pub name: String,
    /// How many executors, at least one.
    pub executors: usize,
    /// The CPUs to pin them to, in turn; None leaves it to the system.
    pub cpus: Option<CpuSet>,
}

/// An engine can not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The number of executors is out of range.
    #[error("{0} executors asked for, 1 to {EXECUTORS_MAX} are possible")]
    Count(usize),
    /// The runtime of an executor can not be made.
    #[error("executor {index} can not be made: {cause}")]
    Executor {
        /// Which.
        index: usize,
        /// What the system says.
        cause: io::Error,
    },
    /// The engine that was asked for does not work here.
    #[error("engine {engine} was asked for: {why}")]
    Unavailable {
        /// The engine.
        engine: EngineKind,
        /// Why not.
        why: String,
    },
}

impl Placement {
    /// The CPU of an executor, in turn.
    fn cpu(&self, index: usize) -> Option<usize> {
        let cpus = self.cpus.as_ref()?.cpus();
        cpus.get(index % cpus.len().max(1)).copied()
    }

    /// Whether the number of executors is in range.
    fn check(&self) -> Result<(), EngineError> {
        if (1..=EXECUTORS_MAX).contains(&self.executors) {
            Ok(())
        } else {
            Err(EngineError::Count(self.executors))
        }
    }
}

/// The running executors. Shown as what a program says at its start:
/// `engine: epoll (tokio), 4 executors`.
#[derive(Debug)]
pub struct Executors {
    engine: &'static str,
    threads: Vec<JoinHandle<()>>,
    /// Closed when the last executor has ended.
    ended: tokio::sync::mpsc::Receiver<std::convert::Infallible>,
}

impl Executors {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.threads.len()
    }

    /// The name of their engine.
    pub fn engine(&self) -> &'static str {
        self.engine
    }

    /// Whether there is none; never so.
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// Returns when all have ended. An error is the number of those that panicked.
    ///
    /// # Errors
    /// At least one executor panicked.
    pub async fn join(mut self) -> Result<(), usize> {
        // Nothing is ever sent: the end of the channel is the message.
        let _ = self.ended.recv().await;
        let panicked = self.threads.drain(..).filter_map(|thread| thread.join().err()).count();
        if panicked == 0 { Ok(()) } else { Err(panicked) }
    }
}

impl fmt::Display for Executors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.len() == 1 { "" } else { "s" };
        write!(f, "engine: {}, {} executor{plural}", self.engine, self.len())
    }
}

/// Opens one listening socket for each of `count` executors on the same address; port 0 is chosen
/// once. The kernel spreads connections over them.
///
/// # Errors
/// The address is taken, also by another process that would share it, or not ours.
pub fn bind(addr: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    if addr.port() != 0 {
        // With SO_REUSEPORT two programs would silently share the connections.
        drop(listener(addr, false)?);
    }
    let share_port = cfg!(target_os = "linux");
    let first = listener(addr, share_port)?;
    let addr = first.local_addr()?;
    let mut sockets = vec![first];
    while sockets.len() < count.max(1) {
        // Elsewhere SO_REUSEPORT does not spread connections: the executors share one socket.
        let next = if share_port { listener(addr, true)? } else { sockets[0].try_clone()? };
        sockets.push(next);
    }
    Ok(sockets)
}

/// As [`bind`], but waits up to [`BIND_WAIT_MS`] for an address that is taken: the kernel ends the
/// io_uring instances of a killed process some time after the process is gone, and their listening
/// sockets with them, so that a handler that is started again at once would find its own port taken.
///
/// # Errors
/// As [`bind`]; that the address is taken only when it still is at the end or at the shutdown.
pub async fn bind_when_free(
    addr: SocketAddr,
    count: usize,
    shutdown: &Shutdown,
) -> io::Result<Vec<TcpListener>> {
    for tried in 0..BIND_WAIT_MS / BIND_PAUSE_MS {
        match bind(addr, count) {
            Err(taken) if taken.kind() == io::ErrorKind::AddrInUse => {
                if tried == 0 {
                    tracing::warn!("{addr} is taken, waiting up to {BIND_WAIT_MS} ms for it");
                }
                if !shutdown.sleep(Duration::from_millis(BIND_PAUSE_MS)).await {
                    return Err(taken);
                }
            }
            done => return done,
        }
    }
    bind(addr, count)
}

fn listener(addr: SocketAddr, share_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a former process in TIME_WAIT must not keep the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(share_port)?;
    #[cfg(not(target_os = "linux"))]
    let _ = share_port;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG_LEN)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests;
