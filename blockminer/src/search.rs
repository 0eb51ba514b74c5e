//! Mining: threads that hash the current job (spec 04, 13.2).
//!
//! Each thread has a header nonce of its own and counts the low nonce up, over all jobs; after 2^32
//! of them it takes the next header nonce that no other thread has. The first header nonce is
//! random, so that two miners which hold the same announcements do not hash the same.
//!
//! Between two batches of nonces a thread looks at one number: whether the job has changed. A
//! solution is sent on with its job. When solutions are found faster than they are checked the
//! threads wait instead of dropping them.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use packetcrypt_core::backend::Backend;
use packetcrypt_core::block::BlockHeader;
use packetcrypt_core::block::search::{HeaderSearch, Solution};
use packetcrypt_core::bytes::CompactTarget;
use packetcrypt_core::primitives::x25519::{FixedBaseTable, TableEntry};
use packetcrypt_net::hw;

use crate::job::Job;
use crate::stats::{ShareCounters, ShareOutcome, Ticket};

/// Nonces between two looks at the job: about 3 ms on a slow core. A multiple of those that are in
/// flight together.
const NONCES_PER_STEP: u32 = 256;
/// Low nonces of a header nonce.
const LOW_NONCES: u64 = 1 << 32;
/// How long a thread waits before it looks again whether solutions are taken.
const FULL_WAIT: Duration = Duration::from_millis(2);
/// How long an idle thread sleeps at most.
const IDLE_WAIT: Duration = Duration::from_millis(500);

/// A solution with what it was found in.
pub(crate) struct Found {
    pub(crate) job: Arc<Job>,
    pub(crate) header_nonce: u32,
    pub(crate) solution: Solution,
    /// Counts what becomes of it.
    pub(crate) ticket: Ticket,
}

/// The mining threads.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    job: ArcSwapOption<Job>,
    /// Grows with each change of the job.
    changes: AtomicU64,
    stop: AtomicBool,
    idle: Mutex<()>,
    wake: Condvar,
    /// What each thread did.
    counters: Vec<Counter>,
}

/// Written by one thread, so alone in its cache lines.
#[derive(Default)]
#[repr(align(128))]
struct Counter {
    /// Nonces tried.
    nonces: AtomicU64,
    /// Solutions that these nonces should have found on average: the bits of an `f64`.
    expected: AtomicU64,
}

/// Where a mining thread runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The CPU that it is pinned to.
    pub(crate) cpu: Option<usize>,
    /// Which of the machine's memory nodes that CPU belongs to, counted from 0.
    pub(crate) node: usize,
}

/// Places for so many threads: the CPUs in turn. More threads than CPUs are not pinned, nor is any
/// where the operator does not want it.
pub(crate) fn places(threads: usize, pin: bool) -> Vec<Place> {
    let cpus = hw::available_cpus();
    let nodes = hw::memory_nodes();
    let node_of = |cpu| nodes.iter().position(|node| node.cpus.contains(cpu)).unwrap_or(0);
    (0..threads)
        .map(|number| {
            let Some(&cpu) = cpus.cpus().get(number % cpus.len().max(1)) else {
                return Place::default();
            };
            let pinned = pin && threads <= cpus.len();
            Place { cpu: pinned.then_some(cpu), node: node_of(cpu) }
        })
        .collect()
}

impl Workers {
    /// Starts a thread at each of these places, idle at first.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(
        places: &[Place],
        backend: Backend,
        found: &SyncSender<Found>,
        counters: &Arc<ShareCounters>,
    ) -> io::Result<Workers> {
        let shared = Arc::new(Shared {
            job: ArcSwapOption::empty(),
            changes: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            idle: Mutex::new(()),
            wake: Condvar::new(),
            counters: places.iter().map(|_| Counter::default()).collect(),
        });
        let mut workers = Workers { shared, threads: Vec::with_capacity(places.len()) };
        let first: u32 = rand::random();
        for (number, place) in places.iter().enumerate() {
            let worker = Worker {
                shared: workers.shared.clone(),
                number,
                place: *place,
                header_nonce: first.wrapping_add(number as u32),
                step: places.len() as u32,
                low_nonce: 0,
                tried: 0,
                found: found.clone(),
                counters: counters.clone(),
            };
            let name = format!("blk-mine-{number}");
            let thread = thread::Builder::new().name(name).spawn(move || worker.run(backend));
            match thread {
                Ok(thread) => workers.threads.push(thread),
                Err(error) => {
                    workers.stop();
                    return Err(error);
                }
            }
        }
        Ok(workers)
    }

    /// Gives the threads another job; `None` makes them idle.
    pub(crate) fn set_job(&self, job: Option<Arc<Job>>) {
        self.shared.job.store(job);
        self.shared.notify();
    }

    /// The job that is mined.
    pub(crate) fn job(&self) -> Option<Arc<Job>> {
        self.shared.job.load_full()
    }

    /// Number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.shared.counters.len()
    }

    /// Nonces tried by all threads since the start.
    pub(crate) fn nonces(&self) -> u64 {
        self.shared.counters.iter().map(|counter| counter.nonces.load(Ordering::Relaxed)).sum()
    }

    /// Solutions that those nonces should have found on average.
    pub(crate) fn expected(&self) -> f64 {
        let of = |counter: &Counter| f64::from_bits(counter.expected.load(Ordering::Relaxed));
        self.shared.counters.iter().map(of).sum()
    }

    /// Tells the threads to end, without waiting for them.
    pub(crate) fn request_stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.job.store(None);
        self.shared.notify();
    }

    /// Stops the threads and waits for them.
    pub(crate) fn stop(&mut self) {
        self.request_stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a mining thread had ended with a panic");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn notify(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        // Taken so that no thread is between its look at the number and its sleep.
        drop(self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }

    fn wait_for_change(&self, seen: u64) {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if self.changes.load(Ordering::Acquire) == seen {
            let waited = self.wake.wait_timeout(idle, IDLE_WAIT);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    number: usize,
    place: Place,
    header_nonce: u32,
    /// Number of threads.
    step: u32,
    low_nonce: u32,
    /// Low nonces tried with this header nonce.
    tried: u64,
    found: SyncSender<Found>,
    counters: Arc<ShareCounters>,
}

/// The table for the scalar multiplications of all threads, made at the first call and kept.
fn fixed_base_table() -> Option<&'static FixedBaseTable<'static>> {
    static TABLE: OnceLock<Option<FixedBaseTable<'static>>> = OnceLock::new();
    let build = || {
        let bits = FixedBaseTable::WINDOW_BITS;
        let memory = vec![TableEntry::ZERO; FixedBaseTable::entries_len(bits)?].leak();
        FixedBaseTable::build(bits, memory).ok()
    };
    TABLE.get_or_init(build).as_ref()
}

impl Worker {
    fn run(mut self, backend: Backend) {
        if let Some(Err(error)) = self.place.cpu.map(hw::pin_thread) {
            tracing::warn!("mining thread {}: {error}", self.number);
        }
        let mut search =
            Box::new(HeaderSearch::new(&BlockHeader([0; BlockHeader::BYTES]), backend));
        if let Some(table) = fixed_base_table() {
            search.set_table(table);
        }
        while !self.shared.stop.load(Ordering::Acquire) {
            let changes = self.shared.changes.load(Ordering::Acquire);
            match self.shared.job.load_full() {
                Some(job) => self.mine(&mut search, &job, changes),
                None => self.shared.wait_for_change(changes),
            }
        }
    }

    /// Hashes one job until it is no longer the current one.
    fn mine(&mut self, search: &mut HeaderSearch, job: &Arc<Job>, changes: u64) {
        let tree = job.tree();
        let (target, count) = (job.mining_target(), tree.count());
        let (chance, node) = (chance_of(target), self.place.node);
        search.set_header(&job.header().with_nonce(self.header_nonce));
        while self.shared.changes.load(Ordering::Acquire) == changes {
            if self.tried >= LOW_NONCES {
                self.header_nonce = self.header_nonce.wrapping_add(self.step);
                self.tried = 0;
                search.set_header(&job.header().with_nonce(self.header_nonce));
            }
            let nonces = (LOW_NONCES - self.tried).min(u64::from(NONCES_PER_STEP)) as u32;
            let solution = search
                .search(self.low_nonce, nonces, target, count, |n| tree.announcement_on(node, n));
            let tried = match &solution {
                Some(solution) => solution.low_nonce.wrapping_sub(self.low_nonce) + 1,
                None => nonces,
            };
            self.low_nonce = self.low_nonce.wrapping_add(tried);
            self.tried += u64::from(tried);
            self.count(tried, chance);
            if let Some(solution) = solution {
                let ticket = self.counters.found();
                let (job, header_nonce) = (job.clone(), self.header_nonce);
                self.send(Found { job, header_nonce, solution, ticket });
            }
        }
    }

    fn count(&self, tried: u32, chance: f64) {
        let counter = &self.shared.counters[self.number];
        counter.nonces.fetch_add(u64::from(tried), Ordering::Relaxed);
        // This thread alone writes it.
        let expected = f64::from_bits(counter.expected.load(Ordering::Relaxed));
        let expected = expected + f64::from(tried) * chance;
        counter.expected.store(expected.to_bits(), Ordering::Relaxed);
    }

    /// Waits while the queue of solutions is full: what is found is not dropped.
    fn send(&self, found: Found) {
        let mut found = found;
        loop {
            found = match self.found.try_send(found) {
                Ok(()) => return,
                Err(TrySendError::Full(back)) if !self.shared.stop.load(Ordering::Acquire) => back,
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => {
                    return back.ticket.finish(ShareOutcome::Lost);
                }
            };
            thread::sleep(FULL_WAIT);
        }
    }
}

/// The part of all hashes that is below a target.
fn chance_of(target: CompactTarget) -> f64 {
    let exponent = i32::from((target.0 >> 24) as u8) - 3;
    f64::from(target.0 & 0x007f_ffff) * 256_f64.powi(exponent - 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_those_of_the_targets() {
        let close = |have: f64, want: f64| (have / want - 1.0).abs() < 1e-4;
        assert!(close(chance_of(CompactTarget(0x207f_ffff)), 0.5));
        assert!(close(chance_of(CompactTarget(0x2000_ffff)), 1.0 / 256.0));
        // A target of 2^224, but for what the word cuts: one of 2^32 hashes.
        assert!(close(chance_of(CompactTarget(0x1d01_0000)), 2_f64.powi(-32)));
    }

    #[test]
    fn threads_take_the_cpus_in_turn_and_more_of_them_are_free() {
        let cpus = hw::available_cpus();
        let pinned = places(cpus.len(), true);
        let have: Vec<_> = pinned.iter().filter_map(|place| place.cpu).collect();
        assert_eq!(have, cpus.cpus());
        assert!(places(cpus.len() + 1, true).iter().all(|place| place.cpu.is_none()));
        assert!(places(1, false)[0].cpu.is_none());
    }
}
