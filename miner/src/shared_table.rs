//! Two tables for all threads that share a cache, instead of one for each of them.
//!
//! While one table is searched the next one is made, by the same threads: whoever is free takes the
//! next piece, some items of the table that is being made, its tree, or some soft nonces of the one
//! that is ready. So nobody waits for anybody, but at the very beginning. Making comes first: then
//! the next table is there when the present one has no nonces left.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use packetcrypt_core::announcement::{ItemMaker, Preparation, PrepareError, Request};
use packetcrypt_core::bytes::Hash64;
use packetcrypt_core::merkle;
use packetcrypt_core::params::{ITEM_BYTES, TABLE_ITEMS};
use packetcrypt_core::randhash::Execute as _;
use packetcrypt_jit::AnyExecutor;

use crate::memory::TableMemory;
use crate::worker::{WorkerContext, hand_over};

/// Items of a piece: few enough for the nearest caches, from which they are copied to the table.
const PIECE_ITEMS: usize = 128;
/// Soft nonces of a piece, about a millisecond.
const PIECE_NONCES: u32 = 256;
/// How long a thread sleeps at the most when there is no piece for it.
const WAIT: Duration = Duration::from_millis(50);

const _: () = assert!(TABLE_ITEMS.is_multiple_of(PIECE_ITEMS));

/// The tables of one group of threads.
pub(crate) struct SharedTables {
    plan: Mutex<Plan>,
    changed: Condvar,
    /// One is written in pieces while the other is read: no lock is waited for longer than it takes
    /// to copy a piece.
    memories: [RwLock<TableMemory>; 2],
    /// From one hard nonce of this group to the next.
    hard_nonce_step: u32,
}

/// What is done at present, and what comes next.
struct Plan {
    /// Of the request that all of this is for.
    generation: u64,
    hard_nonce: u32,
    /// Tables begun so far: their numbers.
    begun: u64,
    making: Option<Making>,
    searching: Option<Searching>,
    /// Pieces in work in each memory.
    in_work: [usize; 2],
}

/// One pair of tables.
#[derive(Clone)]
struct Job {
    number: u64,
    preparation: Arc<Preparation>,
    /// Which memory it lies in.
    slot: usize,
}

struct Making {
    job: Job,
    stage: Stage,
}

enum Stage {
    /// The program of table 1 is to be generated.
    Begin,
    /// One thread does what can not be divided.
    Alone,
    /// The items of a table are made in pieces.
    Items { table: Which, maker: Arc<ItemMaker>, taken: usize, made: usize },
    /// The items of table 1 and their leaves are made, its tree is not.
    Leaves,
    /// All is made.
    Ready,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    First,
    Second,
}

struct Searching {
    job: Job,
    next: u32,
    end: u32,
}

/// What a thread does next.
enum Piece {
    /// Generate the program of table 1.
    Begin,
    /// Make these items, and their leaves for table 1.
    Items { table: Which, maker: Arc<ItemMaker>, first: usize },
    /// Make the tree of table 1 and generate the program of table 2.
    Tree,
    /// Search these nonces.
    Search(Range<u32>),
}

/// What came of a piece.
enum Outcome {
    /// The program of a table is known: its items can be made.
    Program(Which, Arc<ItemMaker>),
    /// Items were made.
    Items,
    /// Nonces were searched.
    Searched,
    /// This hard nonce gives no table.
    Failed,
}

/// Memory of one thread: a piece of a table.
struct Scratch {
    exec: AnyExecutor,
    /// What `exec` has loaded.
    loaded: Option<(u64, Which)>,
    items: Vec<[u8; ITEM_BYTES]>,
    leaves: Vec<Hash64>,
}

impl SharedTables {
    /// Tables in two memories; the hard nonces begin with `first` and go on in steps.
    pub(crate) fn new(memories: [TableMemory; 2], first: u32, hard_nonce_step: u32) -> Self {
        let plan = Plan {
            generation: 0,
            hard_nonce: first,
            begun: 0,
            making: None,
            searching: None,
            in_work: [0; 2],
        };
        let memories = memories.map(RwLock::new);
        Self { plan: Mutex::new(plan), changed: Condvar::new(), memories, hard_nonce_step }
    }

    /// Works until the end of mining, as one of several threads.
    pub(crate) fn run(&self, context: &WorkerContext) {
        let mut scratch = Scratch {
            exec: AnyExecutor::new(context.executor, context.backend),
            loaded: None,
            items: vec![[0; ITEM_BYTES]; PIECE_ITEMS],
            leaves: vec![Hash64::ZERO; PIECE_ITEMS],
        };
        while let Some((generation, request)) = context.board.wait() {
            while !context.board.is_stale(generation) {
                let Some((job, piece)) = self.take(context, generation, &request) else { continue };
                let outcome = self.work(context, &request, &job, piece, &mut scratch);
                self.done(context, &job, outcome);
            }
        }
    }

    /// The next piece; `None` when there was none for a while.
    fn take(
        &self,
        context: &WorkerContext,
        generation: u64,
        request: &Request,
    ) -> Option<(Job, Piece)> {
        let mut plan = self.plan();
        if let Some(found) = plan.take(context, generation, request, self.hard_nonce_step) {
            return Some(found);
        }
        drop(self.changed.wait_timeout(plan, WAIT).unwrap_or_else(PoisonError::into_inner));
        None
    }

    fn work(
        &self,
        context: &WorkerContext,
        request: &Request,
        job: &Job,
        piece: Piece,
        scratch: &mut Scratch,
    ) -> Outcome {
        match piece {
            Piece::Begin => program(Which::First, job.preparation.first_table()),
            Piece::Items { table, maker, first } => {
                self.make_items(context, job, table, &maker, first, scratch)
            }
            Piece::Tree => {
                let mut memory = write(&self.memories[job.slot]);
                let (_, nodes) = memory.items_and_nodes_mut();
                merkle::build_on_leaves(nodes, context.backend);
                let root = *merkle::root(nodes);
                drop(memory);
                program(Which::Second, job.preparation.second_table(&root))
            }
            Piece::Search(nonces) => {
                let memory = self.memories[job.slot].read().unwrap_or_else(PoisonError::into_inner);
                let (items, nodes) = memory.items_and_nodes();
                let prepared = job.preparation.ready(items, nodes, context.backend);
                let count = nonces.end - nonces.start;
                prepared.search(nonces, &mut |found| hand_over(context, request, found));
                context.counters.nonces.fetch_add(u64::from(count), Relaxed);
                Outcome::Searched
            }
        }
    }

    fn make_items(
        &self,
        context: &WorkerContext,
        job: &Job,
        table: Which,
        maker: &ItemMaker,
        first: usize,
        scratch: &mut Scratch,
    ) -> Outcome {
        let Scratch { exec, loaded, items, leaves } = scratch;
        if *loaded != Some((job.number, table)) {
            exec.load(maker.program());
            *loaded = Some((job.number, table));
        }
        let wanted = (table == Which::First).then_some(&mut leaves[..]);
        let made = maker.make(first, items, wanted, exec, context.backend, &|| false);
        if made.is_err() {
            return Outcome::Failed;
        }
        let mut memory = write(&self.memories[job.slot]);
        let (all_items, nodes) = memory.items_and_nodes_mut();
        all_items[first..first + PIECE_ITEMS].copy_from_slice(items);
        if table == Which::First {
            nodes[first..first + PIECE_ITEMS].copy_from_slice(leaves);
        }
        Outcome::Items
    }

    /// Takes note of a piece, unless its job was given up meanwhile.
    fn done(&self, context: &WorkerContext, job: &Job, outcome: Outcome) {
        let mut plan = self.plan();
        plan.in_work[job.slot] -= 1;
        let making = plan.making.as_mut().filter(|making| making.job.number == job.number);
        if let Some(making) = making {
            match outcome {
                Outcome::Program(table, maker) => {
                    making.stage = Stage::Items { table, maker, taken: 0, made: 0 };
                }
                Outcome::Items => making.items_made(context),
                Outcome::Failed => {
                    context.counters.tables_failed.fetch_add(1, Relaxed);
                    plan.making = None;
                }
                Outcome::Searched => {}
            }
        }
        drop(plan);
        self.changed.notify_all();
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    /// Chooses a piece; `None` when all that can be done is in work.
    fn take(
        &mut self,
        context: &WorkerContext,
        generation: u64,
        request: &Request,
        hard_nonce_step: u32,
    ) -> Option<(Job, Piece)> {
        if self.generation != generation {
            self.generation = generation;
            (self.making, self.searching) = (None, None);
        }
        let exhausted = self.searching.as_ref().is_none_or(|search| search.next >= search.end);
        let is_ready = |making: &mut Making| matches!(making.stage, Stage::Ready);
        if exhausted && let Some(Making { job, .. }) = self.making.take_if(is_ready) {
            let end = job.preparation.soft_nonce_max() + 1;
            self.searching = Some(Searching { job, next: 0, end });
        }
        if self.making.is_none() {
            self.begin(context, request, hard_nonce_step);
        }
        let found = self.making.as_mut().and_then(Making::take);
        let found = found.or_else(|| self.searching.as_mut().and_then(Searching::take));
        if let Some((job, _)) = &found {
            self.in_work[job.slot] += 1;
        }
        found
    }

    /// Begins another table where there is memory that nobody uses.
    fn begin(&mut self, context: &WorkerContext, request: &Request, hard_nonce_step: u32) {
        let searched = self.searching.as_ref().map(|search| search.job.slot);
        let free = |slot: &usize| Some(*slot) != searched && self.in_work[*slot] == 0;
        let Some(slot) = (0..2).find(free) else { return };
        let hard_nonce = self.hard_nonce;
        self.hard_nonce = hard_nonce.wrapping_add(hard_nonce_step);
        match Preparation::new(request, hard_nonce) {
            Ok(preparation) => {
                self.begun += 1;
                let preparation = Arc::new(preparation);
                let job = Job { number: self.begun, preparation, slot };
                self.making = Some(Making { job, stage: Stage::Begin });
            }
            Err(_) => {
                context.counters.tables_failed.fetch_add(1, Relaxed);
            }
        }
    }
}

impl Making {
    fn take(&mut self) -> Option<(Job, Piece)> {
        let piece = match &mut self.stage {
            Stage::Begin => {
                self.stage = Stage::Alone;
                Piece::Begin
            }
            Stage::Leaves => {
                self.stage = Stage::Alone;
                Piece::Tree
            }
            Stage::Items { table, maker, taken, .. } if *taken < TABLE_ITEMS => {
                let first = *taken;
                *taken += PIECE_ITEMS;
                Piece::Items { table: *table, maker: maker.clone(), first }
            }
            Stage::Items { .. } | Stage::Alone | Stage::Ready => return None,
        };
        Some((self.job.clone(), piece))
    }

    fn items_made(&mut self, context: &WorkerContext) {
        let Stage::Items { table, made, .. } = &mut self.stage else { return };
        *made += PIECE_ITEMS;
        if *made == TABLE_ITEMS {
            self.stage = match table {
                Which::First => Stage::Leaves,
                Which::Second => Stage::Ready,
            };
            if matches!(self.stage, Stage::Ready) {
                context.counters.tables.fetch_add(1, Relaxed);
            }
        }
    }
}

impl Searching {
    fn take(&mut self) -> Option<(Job, Piece)> {
        let nonces = self.next..(self.next + PIECE_NONCES).min(self.end);
        self.next = nonces.end;
        (!nonces.is_empty()).then(|| (self.job.clone(), Piece::Search(nonces)))
    }
}

fn program(table: Which, maker: Result<ItemMaker, PrepareError>) -> Outcome {
    match maker {
        Ok(maker) => Outcome::Program(table, Arc::new(maker)),
        Err(_) => Outcome::Failed,
    }
}

fn write(memory: &RwLock<TableMemory>) -> std::sync::RwLockWriteGuard<'_, TableMemory> {
    memory.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use packetcrypt_core::announcement::{Announcement, prepare};
    use packetcrypt_core::backend::Backend;
    use packetcrypt_core::bytes::{CompactTarget, Hash32};
    use packetcrypt_jit::Executor;
    use tokio::sync::mpsc;

    use super::*;
    use crate::stats::MiningCounters;
    use crate::worker::{Found, JobBoard};

    const FIRST_NONCE: u32 = 70;
    const STEP: u32 = 5;

    /// A target that one in 16 nonces meets, of which a job has 4096.
    fn request(parent_block_height: u32) -> Request {
        Request {
            version: 1,
            work_bits: CompactTarget(0x200f_ffff),
            parent_block_height,
            parent_block_hash: Hash32([0x42; 32]),
            content_type: 0,
            content_length: 0,
            content_hash: [0; 32],
            signing_key: [0; 32],
        }
    }

    fn context() -> (Arc<WorkerContext>, mpsc::Receiver<Found>) {
        let (sender, found) = mpsc::channel(64);
        let context = WorkerContext {
            board: Arc::new(JobBoard::default()),
            counters: Arc::new(MiningCounters::default()),
            found: sender,
            threads: 3,
            first_hard_nonce: FIRST_NONCE,
            nice: 0,
            backend: Backend::best(),
            executor: Executor::best(),
        };
        (Arc::new(context), found)
    }

    /// Starts threads on the same tables; they end when the board stops.
    fn start(context: &Arc<WorkerContext>, threads: usize) -> Vec<std::thread::JoinHandle<()>> {
        let memories = [(); 2].map(|()| TableMemory::new().unwrap().0);
        let tables = Arc::new(SharedTables::new(memories, FIRST_NONCE, STEP));
        let spawn = |_| {
            let (context, tables) = (Arc::clone(context), Arc::clone(&tables));
            std::thread::spawn(move || tables.run(&context))
        };
        (0..threads).map(spawn).collect()
    }

    /// What a thread alone finds in a whole job.
    fn found_alone(context: &WorkerContext, request: &Request, hard_nonce: u32) -> Vec<Vec<u8>> {
        let mut memory = TableMemory::new().unwrap().0;
        let mut table = memory.table().unwrap();
        let mut exec = AnyExecutor::new(context.executor, context.backend);
        let prepared =
            prepare(request, hard_nonce, &mut table, &mut exec, context.backend, &|| false)
                .unwrap();
        let mut found = Vec::new();
        let keep = &mut |ann: &Announcement| found.push(ann.to_bytes().to_vec());
        prepared.search(0..prepared.soft_nonce_max() + 1, keep);
        found.sort();
        found
    }

    #[test]
    fn threads_together_find_what_one_alone_finds_and_nothing_twice() {
        for threads in [1, 3] {
            let (context, mut found) = context();
            let handles = start(&context, threads);
            let request = request(100);
            context.board.set(Some(request));
            // All of the second and the third job are found when some of the fifth are.
            let mut of_jobs = std::collections::BTreeMap::<u32, Vec<Vec<u8>>>::new();
            while of_jobs.len() < 5 {
                let announcement = found.blocking_recv().unwrap();
                let hard_nonce = announcement.hard_nonce();
                of_jobs.entry(hard_nonce).or_default().push(announcement.to_bytes().to_vec());
            }
            context.board.stop();
            while let Ok(announcement) = found.try_recv() {
                drop(announcement);
            }
            found.close();
            handles.into_iter().for_each(|handle| handle.join().unwrap());
            let numbers: Vec<u32> = of_jobs.keys().copied().collect();
            assert_eq!(numbers, [0, 1, 2, 3, 4].map(|n| FIRST_NONCE + n * STEP));
            for hard_nonce in &numbers[..3] {
                let mut together = of_jobs.remove(hard_nonce).unwrap();
                together.sort();
                let alone = found_alone(&context, &request, *hard_nonce);
                assert!(together == alone && !alone.is_empty(), "{threads} threads, {hard_nonce}");
            }
        }
    }

    #[test]
    fn another_request_is_mined_at_once() {
        let (context, mut found) = context();
        let handles = start(&context, 2);
        for height in [100, 101, 102] {
            context.board.set(Some(request(height)));
            // Of the request before at most what was in work.
            let found_for = |announcement: &Found| announcement.parent_block_height();
            let mut late = 0;
            while found_for(&found.blocking_recv().unwrap()) != height {
                late += 1;
            }
            assert!(late <= 64 + 2 * PIECE_NONCES, "{late}");
        }
        context.board.set(None);
        context.board.stop();
        found.close();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        assert_eq!(context.counters.tables_failed.load(Relaxed), 0);
    }
}
