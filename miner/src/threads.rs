//! The mining threads with what they need: processors, engines, tables.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;

use packetcrypt_core::Backend;
use packetcrypt_jit::{AnyExecutor, Executor};
use packetcrypt_net::hw::{self, CpuSet};
use tokio::sync::mpsc;

use crate::memory::{self, Pages, TableMemory};
use crate::shared_table::SharedTables;
use crate::stats::MiningCounters;
use crate::worker::{self, Found, JobBoard, ThreadTables, WorkerContext};
use crate::{Config, StartError};

/// Threads that mine what the board says.
#[derive(Debug)]
pub(crate) struct Threads {
    /// What mines here, for the log.
    pub(crate) line: String,
    pub(crate) board: Arc<JobBoard>,
    pub(crate) handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts the threads of a valid configuration.
    pub(crate) fn start(
        config: &Config,
        counters: Arc<MiningCounters>,
        found: mpsc::Sender<Found>,
    ) -> Result<Threads, StartError> {
        let (threads, cpus) = threads_and_cpus(config)?;
        let backend = config.backend.unwrap_or_else(Backend::best);
        let exec = AnyExecutor::wanted(config.executor, Some(backend));
        if let Some(reason) = exec.refused() {
            tracing::info!("random programs are not compiled: {reason}");
        }
        let executor = exec.executor();
        let first_hard_nonce = rand::random();
        let cpu_of = |thread: usize| cpus.cpus().get(thread % cpus.len().max(1)).copied();
        let threads_cpus: Vec<_> = (0..threads).map(cpu_of).collect();
        let groups = config.table.groups(&threads_cpus, &hw::l3_domains());
        let (tables, pages) = tables_of(&groups, first_hard_nonce)
            .map_err(|error| StartError::Memory { threads, error })?;
        let pages = memory::pages_line(&pages);
        let line = engine_line(backend, executor, &cpus, &groups, &pages);
        let board = Arc::new(JobBoard::default());
        let context = Arc::new(WorkerContext {
            board: Arc::clone(&board),
            counters,
            found,
            threads: threads as u32,
            first_hard_nonce,
            nice: config.nice,
            backend,
            executor,
        });
        let mut handles = Vec::with_capacity(threads);
        for (index, (tables, cpu)) in (0..).zip(tables.into_iter().zip(threads_cpus)) {
            match worker::spawn(Arc::clone(&context), index, cpu, tables) {
                Ok(handle) => handles.push(handle),
                Err(error) => {
                    board.stop();
                    return Err(StartError::Thread { index, error });
                }
            }
        }
        Ok(Threads { line, board, handles })
    }
}

/// Waits for the end of threads; how many ended by a panic.
pub(crate) fn join(handles: Vec<JoinHandle<()>>) -> usize {
    handles.into_iter().filter_map(|handle| handle.join().err()).count()
}

/// How many threads mine, and the processors to pin them to; none = not pinned.
///
/// Where nothing is said there is a thread for each processor, and then each has its own: none is
/// moved away from the caches with its table.
fn threads_and_cpus(config: &Config) -> Result<(usize, CpuSet), StartError> {
    if config.cpus.is_empty() {
        let threads = if config.threads == 0 { hw::available_cores() } else { config.threads };
        let all = hw::available_cpus();
        let pinned = if threads == all.len() { all } else { CpuSet::default() };
        return Ok((threads, pinned));
    }
    let bad = |error| StartError::Cpus(config.cpus.clone(), error);
    let set: CpuSet = config.cpus.parse().map_err(bad)?;
    set.check_available().map_err(bad)?;
    Ok((if config.threads == 0 { set.len() } else { config.threads }, set))
}

/// The tables of threads in these groups, and the pages they lie in. Each group has two tables and
/// begins with the hard nonce of its first thread, each other thread has one.
fn tables_of(
    groups: &[Option<usize>],
    first_hard_nonce: u32,
) -> std::io::Result<(Vec<ThreadTables>, Vec<Pages>)> {
    let mut pages = Vec::new();
    let mut memory = || {
        let (memory, got) = TableMemory::new()?;
        pages.push(got);
        Ok::<_, std::io::Error>(memory)
    };
    let mut tables = Vec::with_capacity(groups.len());
    let mut shared: BTreeMap<usize, Arc<SharedTables>> = BTreeMap::new();
    for (thread, group) in (0..).zip(groups) {
        let Some(group) = group else {
            tables.push(ThreadTables::Own(memory()?));
            continue;
        };
        let group = match shared.entry(*group) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(place) => {
                let first = first_hard_nonce.wrapping_add(thread);
                let memories = [memory()?, memory()?];
                let step = groups.len() as u32;
                Arc::clone(place.insert(Arc::new(SharedTables::new(memories, first, step))))
            }
        };
        tables.push(ThreadTables::Shared(group));
    }
    Ok((tables, pages))
}

/// What mines here, for the log.
fn engine_line(
    backend: Backend,
    executor: Executor,
    cpus: &CpuSet,
    groups: &[Option<usize>],
    pages: &str,
) -> String {
    let pinned =
        if cpus.is_empty() { "not pinned".to_owned() } else { format!("pinned to CPUs {cpus}") };
    let threads = groups.len();
    let shared: BTreeSet<usize> = groups.iter().copied().flatten().collect();
    let tables = match shared.len() {
        0 => "a table each".to_owned(),
        1 => "tables shared by one group".to_owned(),
        count => format!("tables shared by each of {count} groups"),
    };
    format!(
        "back end {backend}, executor {executor}, threads {threads}, {pinned}, {tables} in {pages}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(threads: usize, cpus: &str) -> (usize, CpuSet) {
        let config = Config { threads, cpus: cpus.to_owned(), ..Config::default() };
        threads_and_cpus(&config).unwrap()
    }

    #[test]
    fn a_thread_for_each_processor_has_its_own() {
        let all = hw::available_cpus();
        let first = all.cpus()[0].to_string();
        assert_eq!(chosen(all.len(), ""), (all.len(), all.clone()));
        assert!(chosen(all.len() + 1, "").1.is_empty());
        assert_eq!(chosen(0, &first), (1, first.parse().unwrap()));
        assert_eq!(chosen(3, &first).0, 3);
    }

    #[test]
    fn the_engine_is_said() {
        let line = |groups: &[Option<usize>]| {
            engine_line(Backend::Soft, Executor::best(), &CpuSet::new([0]), groups, "x")
        };
        let own = line(&[None]);
        assert!(own.contains("back end soft, executor "), "{own}");
        assert!(own.contains("threads 1, pinned to CPUs 0, a table each in x"), "{own}");
        assert!(
            line(&[Some(0), Some(0), Some(5)]).contains("tables shared by each of 2 groups in x")
        );
    }
}
