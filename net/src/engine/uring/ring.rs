//! The ring of one executor: it tells which sockets can be read or written.
//!
//! Each socket has one poll that stays armed for its life ("multishot") and tells every change,
//! as an edge. The ring works off what happened when its thread asks for it and not before
//! (`DEFER_TASKRUN`): rings without that interrupt the thread's processor for each event, which is
//! what most of a small request costs then. The kernel is never given memory of a caller.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::mem;
use std::os::fd::{AsRawFd as _, RawFd};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use slab::Slab;

/// Entries for what the kernel is told in one turn; what is more waits for the next.
const SUBMISSION_ENTRIES: u32 = 512;
/// Entries for what the kernel tells in one turn; it keeps what is more until there is room.
const COMPLETION_ENTRIES: u32 = 4_096;
/// What a poll asks for; errors and hang-ups are told anyway.
const POLL_EVENTS: i16 = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP;
const READ_EVENTS: i16 = libc::POLLIN | libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;
const WRITE_EVENTS: i16 = libc::POLLOUT | libc::POLLHUP | libc::POLLERR;
/// After these, reading or writing never has to wait again.
const READ_END_EVENTS: i16 = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;
const WRITE_END_EVENTS: i16 = libc::POLLHUP | libc::POLLERR;

/// Marks the answers to polls that were called back; the rest is the source's key.
const CANCELLED: u64 = 1 << 63;
/// The answers of the event's poll.
const EVENT: u64 = CANCELLED - 1;

/// What a task wants to do with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// See the module.
pub(super) struct Ring {
    inner: RefCell<Inner>,
}

struct Inner {
    ring: IoUring,
    /// What did not fit the submission queue, in order: at most two entries a source, which are as
    /// many as there may be connections.
    backlog: VecDeque<squeue::Entry>,
    sources: Slab<Source>,
    /// Wakes the thread out of the ring, see [`Ring::new`].
    event: File,
    wait_flags: EnterFlags,
    /// Whom a turn wakes; kept for its memory.
    woken: Vec<Waker>,
}

/// A socket that is polled.
#[derive(Debug)]
struct Source {
    fd: RawFd,
    read: Side,
    write: Side,
    /// The poll is in the kernel, or on its way there.
    is_armed: bool,
    /// Nobody has it any more; it is here until the kernel has let go of it.
    is_given_up: bool,
    /// Why it can not be polled.
    error: Option<i32>,
}

/// One direction of a socket.
#[derive(Debug)]
struct Side {
    /// Nothing is known against trying.
    is_ready: bool,
    is_at_end: bool,
    waker: Option<Waker>,
}

impl Ring {
    /// Makes a ring for this thread, which ends its waiting also when `event` (an eventfd) is
    /// written to.
    ///
    /// # Errors
    /// What the system says. `EINVAL`: the kernel is older than 6.1.
    pub(super) fn new(event: File) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETION_ENTRIES)
            .dontfork()
            .build(SUBMISSION_ENTRIES)?;
        // A thread that waits for the network is idle, not waiting for a disk.
        let wait_flags = if ring.params().is_feature_no_iowait() {
            EnterFlags::NO_IOWAIT
        } else {
            EnterFlags::empty()
        };
        let (sources, backlog) = (Slab::new(), VecDeque::new());
        let mut inner = Inner { ring, backlog, sources, event, wait_flags, woken: Vec::new() };
        inner.arm_event();
        Ok(Self { inner: RefCell::new(inner) })
    }

    /// Begins to watch a socket, which must live until [`remove`](Self::remove). Its key.
    pub(super) fn add(&self, fd: RawFd) -> usize {
        let mut inner = self.inner.borrow_mut();
        let key = inner.sources.insert(Source {
            fd,
            read: Side::new(),
            write: Side::new(),
            is_armed: false,
            is_given_up: false,
            error: None,
        });
        inner.arm(key);
        key
    }

    /// Stops watching a socket, which may then be closed.
    pub(super) fn remove(&self, key: usize) {
        let mut inner = self.inner.borrow_mut();
        let Some(source) = inner.sources.get_mut(key) else { return };
        if source.is_armed {
            source.is_given_up = true;
            (source.read.waker, source.write.waker) = (None, None);
            inner.cancel(key);
        } else {
            inner.sources.remove(key);
        }
    }

    /// Waits until it is worth to try. One task may wait for each direction.
    pub(super) fn poll_ready(
        &self,
        key: usize,
        direction: Direction,
        cx: &Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.inner.borrow_mut();
        let Some(source) = inner.sources.get_mut(key) else { return Poll::Ready(Ok(())) };
        if let Some(errno) = source.error {
            return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
        }
        let side = source.side(direction);
        if side.is_ready {
            return Poll::Ready(Ok(()));
        }
        side.waker = Some(cx.waker().clone());
        if !source.is_armed {
            inner.arm(key);
        }
        Poll::Pending
    }

    /// It was tried and had to wait, or took all there was.
    pub(super) fn not_ready(&self, key: usize, direction: Direction) {
        if let Some(source) = self.inner.borrow_mut().sources.get_mut(key) {
            let side = source.side(direction);
            side.is_ready = side.is_at_end;
        }
    }

    /// Tells the kernel what there is to tell, waits up to `longest` (None: as long as it takes)
    /// for something to happen, and wakes whom it concerns.
    ///
    /// # Errors
    /// The kernel does not take the ring's entries.
    pub(super) fn turn(&self, longest: Option<Duration>) -> io::Result<()> {
        let mut inner = self.inner.borrow_mut();
        let entered = inner.enter(longest);
        inner.collect();
        // Who is woken may want the ring.
        let mut woken = mem::take(&mut inner.woken);
        drop(inner);
        for waker in woken.drain(..) {
            waker.wake();
        }
        self.inner.borrow_mut().woken = woken;
        entered
    }

    /// Lets the kernel take back the polls of sockets that were closed, so that it closes them too.
    pub(super) fn settle(&self) {
        // What it answers to the calls comes with the second turn.
        for _ in 0..2 {
            if self.turn(Some(Duration::ZERO)).is_err() {
                return;
            }
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.inner.borrow();
        f.debug_struct("Ring").field("sources", &inner.sources.len()).finish_non_exhaustive()
    }
}

impl Inner {
    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: the entries of this module name a descriptor or another entry, and no memory.
        if !self.backlog.is_empty() || unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }

    fn arm(&mut self, key: usize) {
        if let Some(source) = self.sources.get_mut(key) {
            source.is_armed = true;
            let fd = source.fd;
            self.push(poll(fd, POLL_EVENTS).user_data(key as u64));
        }
    }

    fn arm_event(&mut self) {
        self.push(poll(self.event.as_raw_fd(), libc::POLLIN).user_data(EVENT));
    }

    /// Calls a source's poll back. (To remove a poll fails while it is just telling something.)
    fn cancel(&mut self, key: usize) {
        let key = key as u64;
        self.push(opcode::AsyncCancel::new(key).build().user_data(CANCELLED | key));
    }

    fn enter(&mut self, longest: Option<Duration>) -> io::Result<()> {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: as in `push`.
            if unsafe { self.ring.submission().push(entry) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
        let entered = if longest == Some(Duration::ZERO) || !self.backlog.is_empty() {
            let submission = self.ring.submission();
            if submission.is_empty() && !submission.taskrun() && !submission.cq_overflow() {
                return Ok(());
            }
            drop(submission);
            self.ring.submit()
        } else {
            let time = longest.map(Timespec::from);
            let mut args = SubmitArgs::new();
            if let Some(time) = &time {
                args = args.timespec(time);
            }
            self.ring.submitter().submit_with_args_and_flags(1, &args, self.wait_flags)
        };
        match entered {
            Ok(_) => Ok(()),
            Err(e) => match e.raw_os_error() {
                // The time is over, a signal came, or the kernel wants its answers taken first or
                // has no memory now.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(e),
            },
        }
    }

    /// Takes what the kernel tells.
    fn collect(&mut self) {
        loop {
            let Some(entry) = self.ring.completion().next() else { return };
            let (user_data, result) = (entry.user_data(), entry.result());
            let is_over = !cqueue::more(entry.flags());
            if user_data == EVENT {
                // It only has to end the wait, and must not fill up.
                let _ = self.event.read(&mut [0; 8]);
                if is_over {
                    self.arm_event();
                }
            } else if user_data & CANCELLED != 0 {
                self.called_back((user_data & !CANCELLED) as usize, result);
            } else {
                self.polled(user_data as usize, result, is_over);
            }
        }
    }

    /// The kernel's answer to a call back.
    fn called_back(&mut self, key: usize, result: i32) {
        // Not found: it has ended by itself, and says so. Anything else: it goes on.
        if result < 0
            && result != -libc::ENOENT
            && self.sources.get(key).is_some_and(|source| source.is_given_up)
        {
            self.cancel(key);
        }
    }

    /// What a source's poll tells.
    fn polled(&mut self, key: usize, result: i32, is_over: bool) {
        let Some(source) = self.sources.get_mut(key) else { return };
        source.is_armed &= !is_over;
        if source.is_given_up {
            if is_over {
                self.sources.remove(key);
            }
            return;
        }
        let events = match i16::try_from(result) {
            Ok(events) if events >= 0 => events,
            _ => {
                source.error = (result != -libc::ECANCELED).then_some(-result);
                0
            }
        };
        // One that is over is armed again by the next who has to wait.
        source.read.told(is_over || events & READ_EVENTS != 0, events & READ_END_EVENTS != 0);
        source.write.told(is_over || events & WRITE_EVENTS != 0, events & WRITE_END_EVENTS != 0);
        for side in [&mut source.read, &mut source.write] {
            if side.is_ready {
                self.woken.extend(side.waker.take());
            }
        }
    }
}

/// A poll that stays.
fn poll(fd: RawFd, events: i16) -> squeue::Entry {
    // The bits are those of poll(2), which are few and positive.
    opcode::PollAdd::new(Fd(fd), u32::from(events.unsigned_abs())).multi(true).build()
}

impl Source {
    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

impl Side {
    fn new() -> Self {
        Self { is_ready: true, is_at_end: false, waker: None }
    }

    fn told(&mut self, is_ready: bool, is_at_end: bool) {
        self.is_ready |= is_ready;
        self.is_at_end |= is_at_end;
    }
}
