//! The engine on glommio: one of its executors a core, on io_uring.
//!
//! Bytes that are there are received and sent by plain calls into and from the caller's memory;
//! the ring is used to wait. So a future may be dropped at any time: the kernel never holds the
//! caller's memory.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use futures_io::{AsyncRead as _, AsyncWrite as _};
use glommio::net::{TcpListener, TcpStream};
use glommio::timer::Timer;
use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder};
use tokio_util::sync::CancellationToken;

use super::refusal::{explain, memlock_limit};
use super::{
    Engine, EngineError, EngineKind, Executors, FOREVER, Listener, Placement, Stream, threads,
};

/// Memory that an executor registers with its rings: none of ours goes through it, and this is the
/// least that glommio takes.
const IO_MEMORY_BYTES: usize = 64 << 10;
/// Entries of each of an executor's rings; more operations than that wait in a queue of glommio.
const RING_ENTRIES: usize = 512;
/// What glommio demands of the limit for locked memory, whatever it needs.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;

/// Who asks for this much at a time reads a body.
const BODY_BYTES_MIN: usize = 32 << 10;

/// A handle to one executor of this engine.
#[derive(Clone, Debug)]
pub struct Glommio {
    index: usize,
    tasks: Rc<Tasks>,
}

/// The local tasks of an executor, which end with it.
#[derive(Debug, Default)]
struct Tasks {
    end: CancellationToken,
    open: Cell<usize>,
}

/// A listening socket of this engine.
#[derive(Debug)]
pub struct GlommioListener {
    inner: TcpListener,
}

/// A connection of this engine.
#[derive(Debug)]
pub struct GlommioStream {
    inner: TcpStream,
    peer: SocketAddr,
    /// Whether the last read took all there was.
    is_drained: bool,
}

impl Engine for Glommio {
    type Stream = GlommioStream;
    type Listener = GlommioListener;

    const NAME: &'static str = EngineKind::Glommio.title();

    fn start<B, F>(placement: &Placement, body: B) -> Result<Executors, EngineError>
    where
        B: Fn(Self) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let run = move |executor: LocalExecutor, index| run(&executor, index, &body);
        threads::start(Self::NAME, placement, make, run)
    }

    fn index(&self) -> usize {
        self.index
    }

    fn listen(&self, socket: std::net::TcpListener) -> io::Result<GlommioListener> {
        // The ring answers at once instead of waiting when a socket does not block.
        socket.set_nonblocking(false)?;
        // SAFETY: the descriptor is a listening socket that nobody else owns any more.
        Ok(GlommioListener { inner: unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) } })
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<GlommioStream> {
        let inner = TcpStream::connect(addr).await.map_err(io_error)?;
        // As for accepted ones.
        let _ = inner.set_nodelay(true);
        Ok(GlommioStream { inner, peer: addr, is_drained: false })
    }

    fn spawn_local(&self, task: impl Future<Output = ()> + 'static) {
        let tasks = Rc::clone(&self.tasks);
        tasks.open.set(tasks.open.get() + 1);
        let task = async move {
            {
                tokio::select! {
                    biased;
                    () = tasks.end.cancelled() => {}
                    () = threads::contained(task) => {}
                }
            }
            tasks.open.set(tasks.open.get() - 1);
        };
        glommio::spawn_local(task).detach();
    }

    async fn sleep(&self, duration: Duration) {
        Timer::new(duration.min(FOREVER)).await;
    }

    async fn timeout<F: Future>(&self, duration: Duration, task: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            outcome = task => Some(outcome),
            _ = Timer::new(duration.min(FOREVER)) => None,
        }
    }

    async fn yield_now(&self) {
        glommio::executor().yield_task_queue_now().await;
    }
}

/// Runs the body on its executor, then drops the tasks that are left.
fn run<B, F>(executor: &LocalExecutor, index: usize, body: &B)
where
    B: Fn(Glommio) -> F,
    F: Future<Output = ()> + 'static,
{
    let tasks = Rc::<Tasks>::default();
    let body = body(Glommio { index, tasks: Rc::clone(&tasks) });
    executor.run(async move {
        body.await;
        tasks.end.cancel();
        while tasks.open.get() > 0 {
            glommio::executor().yield_task_queue_now().await;
        }
    });
}

fn make() -> io::Result<LocalExecutor> {
    LocalExecutorBuilder::default()
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_ENTRIES)
        .make()
        .map_err(io_error)
}

fn io_error(error: GlommioError<()>) -> io::Error {
    error.into()
}

/// Why this engine does not work here; None when it does. It is found out by trying.
pub(super) fn why_not() -> Option<String> {
    if let Some(limit) = memlock_limit()
        && limit < MEMLOCK_BYTES_MIN
    {
        return Some(format!(
            "the limit for locked memory is {limit} bytes and {MEMLOCK_BYTES_MIN} are needed \
             (ulimit -l {}, LimitMEMLOCK=)",
            MEMLOCK_BYTES_MIN >> 10
        ));
    }
    // On a thread of its own: closing a ring interrupts system calls of the thread that made it, a
    // thread has one executor, and a fault of glommio ends there.
    let tried = thread::spawn(|| {
        try_ring().map_err(|error| explain(&error))?;
        let executor = make().map_err(|e| format!("an executor can not be made: {e}"))?;
        executor.run(async {});
        Ok(())
    });
    match tried.join() {
        Ok(outcome) => outcome.err(),
        Err(_) => Some("an executor panicked at its start".to_owned()),
    }
}

/// Asks the kernel for a small ring and gives it back.
fn try_ring() -> io::Result<()> {
    /// The length of `struct io_uring_params`.
    const PARAMS_BYTES: usize = 120;
    let mut params = [0u64; PARAMS_BYTES / 8];
    // SAFETY: the kernel reads and writes PARAMS_BYTES at the address, which is aligned to 8; it
    // returns a descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2, params.as_mut_ptr()) };
    match i32::try_from(fd) {
        Ok(fd) if fd >= 0 => {
            // SAFETY: the descriptor was made above and nobody else has it.
            drop(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) });
            Ok(())
        }
        _ => Err(io::Error::last_os_error()),
    }
}

impl Listener for GlommioListener {
    type Stream = GlommioStream;

    async fn accept(&mut self) -> io::Result<GlommioStream> {
        let accepted = self.inner.shared_accept().await.map_err(io_error)?;
        let peer = accepted.peer_addr().map_err(io_error)?;
        let inner = accepted.bind_to_executor();
        // Without it small replies wait for the peer's delayed acknowledgement. A connection that
        // is gone already will say so when it is read.
        let _ = inner.set_nodelay(true);
        Ok(GlommioStream { inner, peer, is_drained: false })
    }
}

impl Stream for GlommioStream {
    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Of a body the next bytes are there most often: a plain call is cheaper than the ring.
        // Behind a request nothing is there, and the ring already waits for the next one.
        let len = if buffer.len() >= BODY_BYTES_MIN || !self.is_drained {
            match receive_now(&self.inner, &mut [IoSliceMut::new(buffer)]) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    receive(&mut self.inner, buffer).await?
                }
                outcome => outcome?,
            }
        } else {
            receive(&mut self.inner, buffer).await?
        };
        self.is_drained = len < buffer.len();
        Ok(len)
    }

    async fn read_scattered(&mut self, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match receive_now(&self.inner, parts) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
        // What fits the first part; the rest comes with the next call.
        match parts.iter_mut().find(|part| !part.is_empty()) {
            Some(first) => receive(&mut self.inner, first).await,
            None => Ok(0),
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match poll_fn(|cx| Pin::new(&mut self.inner).poll_write(cx, rest)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                len => rest = &rest[len..],
            }
        }
        Ok(())
    }

    async fn write_all_two(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let sent = match send_now(&self.inner, &[IoSlice::new(head), IoSlice::new(body)]) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            outcome => outcome?,
        };
        let from_body = sent.saturating_sub(head.len());
        self.write_all(&head[sent.min(head.len())..]).await?;
        self.write_all(&body[from_body..]).await
    }

    async fn shutdown_write(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut self.inner).poll_close(cx)).await
    }
}

/// Waits for bytes and receives them.
async fn receive(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, buffer)).await
}

/// Receives what is there into the parts; `WouldBlock` when nothing is.
fn receive_now(stream: &TcpStream, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let mut message = message(parts.as_mut_ptr().cast(), parts.len());
    // SAFETY: `IoSliceMut` is an `iovec` that may be written; the parts outlive the call.
    let len = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    usize::try_from(len).map_err(|_| io::Error::last_os_error())
}

/// Sends as much of the parts as fits the socket's buffer.
fn send_now(stream: &TcpStream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let message = message(parts.as_ptr().cast_mut().cast(), parts.len());
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `IoSlice` is an `iovec`; sending only reads what it points to, which outlives the
    // call.
    let len = unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const message, flags) };
    usize::try_from(len).map_err(|_| io::Error::last_os_error())
}

fn message(parts: *mut libc::iovec, len: usize) -> libc::msghdr {
    // SAFETY: all of its fields may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts;
    // The field is narrower with some libraries; the callers have a handful of parts.
    message.msg_iovlen = len as _;
    message
}
