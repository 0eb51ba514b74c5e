//! The mining threads.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use packetcrypt_core::announcement::{self, Announcement, PrepareError, Prepared, Request};
use packetcrypt_core::backend::Backend;
use packetcrypt_core::difficulty;
use packetcrypt_jit::{AnyExecutor, Executor};
use packetcrypt_net::hw;
use tokio::sync::mpsc;

use crate::memory::TableMemory;
use crate::shared_table::SharedTables;
use crate::stats::MiningCounters;

/// Nonces between two looks at the job.
const NONCES_PER_LOOK: u32 = 64;
/// How long a thread sleeps at the most when there is nothing to mine.
const IDLE_WAIT_MS: u64 = 500;

/// An announcement that was found. Boxed, because it waits in a queue.
pub(crate) type Found = Box<Announcement>;

/// The present job, shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct JobBoard {
    /// Counts the changes of the job; threads look at it between groups of nonces.
    generation: AtomicU64,
    request: Mutex<Option<Request>>,
    changed: Condvar,
    stop: AtomicBool,
}

impl JobBoard {
    /// Sets what is mined from now on; the same job again changes nothing, so that nonces go on.
    pub(crate) fn set(&self, request: Option<Request>) {
        let mut present = self.request.lock().unwrap_or_else(PoisonError::into_inner);
        if *present == request {
            return;
        }
        *present = request;
        self.generation.fetch_add(1, Release);
        self.changed.notify_all();
    }

    /// Ends the threads.
    pub(crate) fn stop(&self) {
        let _present = self.request.lock().unwrap_or_else(PoisonError::into_inner);
        self.stop.store(true, Release);
        self.generation.fetch_add(1, Release);
        self.changed.notify_all();
    }

    /// Waits for a job; `None` = the end.
    pub(crate) fn wait(&self) -> Option<(u64, Request)> {
        let mut present = self.request.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.stop.load(Acquire) {
                return None;
            }
            if let Some(request) = present.as_ref() {
                return Some((self.generation.load(Acquire), *request));
            }
            let wait = Duration::from_millis(IDLE_WAIT_MS);
            present = match self.changed.wait_timeout(present, wait) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Whether another job is mined now than the one with this number.
    pub(crate) fn is_stale(&self, generation: u64) -> bool {
        self.generation.load(Relaxed) != generation
    }
}

/// What every thread is given.
#[derive(Debug)]
pub(crate) struct WorkerContext {
    pub(crate) board: Arc<JobBoard>,
    pub(crate) counters: Arc<MiningCounters>,
    pub(crate) found: mpsc::Sender<Found>,
    pub(crate) threads: u32,
    /// First hard nonce of thread 0; random, so that two miners of one address differ.
    pub(crate) first_hard_nonce: u32,
    pub(crate) nice: u8,
    pub(crate) backend: Backend,
    pub(crate) executor: Executor,
}

/// What a thread searches.
pub(crate) enum ThreadTables {
    /// A table of its own.
    Own(TableMemory),
    /// Those of a group of threads.
    Shared(Arc<SharedTables>),
}

/// Starts thread `index`, on `cpu` if one is given, with its tables.
pub(crate) fn spawn(
    context: Arc<WorkerContext>,
    index: u32,
    cpu: Option<usize>,
    tables: ThreadTables,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(format!("ann-{index}")).spawn(move || {
        if let Some(cpu) = cpu
            && let Err(error) = hw::pin_thread(cpu)
        {
            tracing::warn!(cpu, %error, "mining thread not pinned");
        }
        if let Err(error) = hw::lower_thread_priority(context.nice) {
            tracing::warn!(nice = context.nice, %error, "priority not lowered");
        }
        match tables {
            ThreadTables::Own(mut memory) => run(&context, index, &mut memory),
            ThreadTables::Shared(tables) => tables.run(&context),
        }
    })
}

fn run(context: &WorkerContext, index: u32, memory: &mut TableMemory) {
    // First touched here, on the thread that uses it.
    let Ok(mut table) = memory.table() else { return };
    let mut exec = AnyExecutor::new(context.executor, context.backend);
    let mut hard_nonce = context.first_hard_nonce.wrapping_add(index);
    while let Some((generation, request)) = context.board.wait() {
        let stop = || context.board.is_stale(generation);
        let prepared = announcement::prepare(
            &request,
            hard_nonce,
            &mut table,
            &mut exec,
            context.backend,
            &stop,
        );
        match prepared {
            Ok(prepared) => {
                context.counters.tables.fetch_add(1, Relaxed);
                search(context, generation, &request, &prepared);
            }
            Err(PrepareError::Stopped) => continue,
            Err(_) => {
                context.counters.tables_failed.fetch_add(1, Relaxed);
            }
        }
        hard_nonce = hard_nonce.wrapping_add(context.threads);
    }
}

fn search(context: &WorkerContext, generation: u64, request: &Request, prepared: &Prepared<'_>) {
    let end = prepared.soft_nonce_max() + 1;
    let mut next = 0;
    while next < end && !context.board.is_stale(generation) {
        let upper = (next + NONCES_PER_LOOK).min(end);
        prepared.search(next..upper, &mut |found| hand_over(context, request, found));
        context.counters.nonces.fetch_add(u64::from(upper - next), Relaxed);
        next = upper;
    }
}

/// Counts an announcement and puts it into the queue.
pub(crate) fn hand_over(context: &WorkerContext, request: &Request, found: &Announcement) {
    let work = difficulty::target(request.work_bits)
        .map_or(0, |target| difficulty::work_for_target(&target).saturating_u64());
    context.counters.made.fetch_add(1, Relaxed);
    context.counters.work.fetch_add(work, Relaxed);
    // A full queue holds the thread back: better than to make what can not be sent. The receiver
    // lives until the threads have ended.
    let _ = context.found.blocking_send(Box::new(*found));
}
