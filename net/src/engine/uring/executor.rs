//! Tasks and timers of one thread, which waits on its ring.
//!
//! A turn polls the tasks that were ready at its beginning, then gives the ring what the tasks
//! want to wait for and takes what happened. So each task that is ready gets its share, and the
//! sockets theirs, whatever a task does short of blocking.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::future::Future;
use std::io::{self, Write as _};
use std::mem;
use std::os::fd::FromRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use super::super::FOREVER;
use super::ring::Ring;

/// Owner of the ready tasks of a thread without an executor.
const NOBODY: usize = 0;

thread_local! {
    static READY: RefCell<Ready> =
        const { RefCell::new(Ready { owner: NOBODY, keys: VecDeque::new() }) };
}

/// The tasks of this thread that are to be polled, in this order.
#[derive(Debug)]
struct Ready {
    /// [`Inbox::id`] of the thread's executor.
    owner: usize,
    keys: VecDeque<usize>,
}

/// An executor. It stays on the thread that made it.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) ring: Ring,
    timers: Timers,
    /// None while it is polled.
    tasks: RefCell<Slab<Option<Task>>>,
    inbox: Arc<Inbox>,
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    wake: Arc<TaskWake>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("wake", &self.wake).finish_non_exhaustive()
    }
}

/// Wakes one task, from any thread.
#[derive(Debug)]
struct TaskWake {
    key: usize,
    is_queued: AtomicBool,
    inbox: Arc<Inbox>,
}

/// Tasks that other threads woke.
#[derive(Debug)]
struct Inbox {
    keys: Mutex<Vec<usize>>,
    /// Whether the executor waits, or is about to, and wants the event.
    is_waiting: AtomicBool,
    /// An eventfd that the ring watches.
    event: File,
}

impl Local {
    /// Makes an executor for this thread.
    ///
    /// # Errors
    /// What the system says to a ring or an event.
    pub(super) fn new() -> io::Result<Rc<Self>> {
        // SAFETY: no pointer is passed; it returns a descriptor or an error.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was made above and nobody else has it.
        let event = unsafe { File::from_raw_fd(fd) };
        let ring = Ring::new(event.try_clone()?)?;
        let inbox = Inbox { keys: Mutex::default(), is_waiting: AtomicBool::new(false), event };
        Ok(Rc::new(Self {
            ring,
            timers: Timers::default(),
            tasks: RefCell::default(),
            inbox: Arc::new(inbox),
        }))
    }

    /// Runs `body` to its end, and the tasks that are spawned until then; those left are dropped.
    ///
    /// # Errors
    /// The system takes nothing from the ring any more.
    pub(super) fn run(&self, body: impl Future<Output = ()> + 'static) -> io::Result<()> {
        let _end = Running::begin(self);
        let is_done = Rc::new(Cell::new(false));
        let done = Rc::clone(&is_done);
        self.spawn(async move {
            body.await;
            done.set(true);
        });
        loop {
            self.poll_ready();
            if is_done.get() {
                return Ok(());
            }
            self.wait()?;
        }
    }

    /// Takes a task, which is polled in the next turn.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        let entry = tasks.vacant_entry();
        let wake = Arc::new(TaskWake {
            key: entry.key(),
            is_queued: AtomicBool::new(false),
            inbox: Arc::clone(&self.inbox),
        });
        wake.wake_by_ref();
        entry.insert(Some(Task { future: Box::pin(task), wake }));
    }

    /// Waits; the time begins when it is first polled.
    pub(super) fn sleep(self: &Rc<Self>, duration: Duration) -> Sleep {
        Sleep { local: Rc::clone(self), duration, timer: None }
    }

    /// Polls each task that is ready now once.
    fn poll_ready(&self) {
        for _ in 0..READY.with_borrow(|ready| ready.keys.len()) {
            let Some(key) = READY.with_borrow_mut(|ready| ready.keys.pop_front()) else { return };
            // A task that has ended may have been woken since, and another may have its key.
            let Some(Some(mut task)) = self.tasks.borrow_mut().get_mut(key).map(Option::take)
            else {
                continue;
            };
            task.wake.is_queued.store(false, Ordering::Release);
            let waker = Waker::from(Arc::clone(&task.wake));
            let is_done = task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
            let mut tasks = self.tasks.borrow_mut();
            if is_done {
                tasks.remove(key);
                // Its drop may spawn.
                drop(tasks);
            } else if let Some(place) = tasks.get_mut(key) {
                *place = Some(task);
            }
        }
    }

    /// Waits until a task is ready, and not at all when one is.
    fn wait(&self) -> io::Result<()> {
        let is_ready = READY.with_borrow(|ready| !ready.keys.is_empty());
        // Who wakes a task from here on either is seen below or sees this and makes the event.
        self.inbox.is_waiting.store(!is_ready, Ordering::SeqCst);
        let longest = if is_ready || self.inbox.take() {
            Some(Duration::ZERO)
        } else {
            self.timers.until_next()
        };
        let turned = self.ring.turn(longest);
        self.inbox.is_waiting.store(false, Ordering::SeqCst);
        self.inbox.take();
        self.timers.fire();
        turned
    }
}

/// While it lives the thread's ready tasks are those of an executor; then all tasks are dropped.
struct Running<'a>(&'a Local);

impl<'a> Running<'a> {
    fn begin(local: &'a Local) -> Self {
        READY.with_borrow_mut(|ready| {
            ready.keys.clear();
            ready.owner = local.inbox.id();
        });
        Self(local)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // A drop may spawn.
        loop {
            let tasks = mem::take(&mut *self.0.tasks.borrow_mut());
            if tasks.is_empty() {
                break;
            }
        }
        READY.with_borrow_mut(|ready| {
            ready.keys.clear();
            ready.owner = NOBODY;
        });
        self.0.ring.settle();
    }
}

impl Wake for TaskWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.inbox.put(self.key);
        }
    }
}

impl Inbox {
    /// What tells executors apart.
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Adds a task to those that are ready.
    fn put(&self, key: usize) {
        // The thread may be past its end, when it has no list any more.
        let is_here = READY.try_with(|ready| {
            let mut ready = ready.borrow_mut();
            let is_here = ready.owner == self.id();
            if is_here {
                ready.keys.push_back(key);
            }
            is_here
        });
        if is_here == Ok(true) {
            return;
        }
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).push(key);
        if self.is_waiting.swap(false, Ordering::SeqCst) {
            // It fails only when the counter is full, and then the event is there.
            let _ = (&self.event).write(&1u64.to_ne_bytes());
        }
    }

    /// Moves what other threads put to this thread's list; whether there was something.
    fn take(&self) -> bool {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        READY.with_borrow_mut(|ready| ready.keys.extend(keys.iter()));
        let had_some = !keys.is_empty();
        keys.clear();
        had_some
    }
}

/// Deadlines in their order, and who waits for each.
#[derive(Debug, Default)]
struct Timers {
    waiting: RefCell<BTreeMap<Deadline, Waker>>,
    made: Cell<u64>,
}

/// When, and which of several at that time.
type Deadline = (Instant, u64);

impl Timers {
    fn add(&self, duration: Duration, waker: &Waker) -> Deadline {
        let at = Instant::now() + duration.min(FOREVER);
        self.made.set(self.made.get() + 1);
        let deadline = (at, self.made.get());
        self.waiting.borrow_mut().insert(deadline, waker.clone());
        deadline
    }

    /// How long until the next one; None when there is none.
    fn until_next(&self) -> Option<Duration> {
        let waiting = self.waiting.borrow();
        let ((at, _), _) = waiting.first_key_value()?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    /// Wakes those whose time has come.
    fn fire(&self) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        let now = Instant::now();
        loop {
            let mut waiting = self.waiting.borrow_mut();
            match waiting.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let waker = first.remove();
                    drop(waiting);
                    waker.wake();
                }
                _ => return,
            }
        }
    }
}

/// See [`Local::sleep`].
#[derive(Debug)]
pub(super) struct Sleep {
    local: Rc<Local>,
    duration: Duration,
    timer: Option<Deadline>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.timer else {
            self.timer = Some(self.local.timers.add(self.duration, cx.waker()));
            return Poll::Pending;
        };
        match self.local.timers.waiting.borrow_mut().get_mut(&deadline) {
            Some(waker) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(deadline) = self.timer {
            // What is dropped here may be a task's last waker: not while the list is borrowed.
            let waker = self.local.timers.waiting.borrow_mut().remove(&deadline);
            drop(waker);
        }
    }
}
