//! Which job is mined: follows the pool's work, has trees built, and switches.
//!
//! Trees are built on threads of their own. While one job is mined, the tree for the next height is
//! built; when the next work comes it is put into that tree at once. There are never more than two
//! trees: before another one is built, one that waits is dropped, and the one that is mined with
//! serves as well if a block comes just then, since announcements only lose value.
//!
//! A work that the master refreshes within its block is mined a little later, when block handlers
//! know it too; until then the one before is as good. It goes into the tree at hand.
//!
//! A job is replaced within its block when the announcements at hand are worth more by a factor
//! (`job_gain`), or when it is old and they are worth anything more (spec 05, 9.3 knows only the
//! age of 300 s; in a small network the first announcements after a start would wait that long).
//! Building never takes more than about a tenth of the time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use packetcrypt_core::backend::Backend;
use packetcrypt_core::difficulty;
use packetcrypt_net::Shutdown;
use packetcrypt_net::pool_client::{PoolClient, PoolUpdate};
use packetcrypt_proto::work::WorkFile;
use tokio::task::JoinHandle;

use crate::chain::{Chain, Next};
use crate::choose::{self, Choice, choose};
use crate::class::ClassSummary;
use crate::job::Job;
use crate::peers::Peers;
use crate::search::Workers;
use crate::stats::BuildFigures;
use crate::store::{Keeper, Store};
use crate::tree::{AnnTree, CountRule};

/// How long after it is told a refreshed work is mined: its shares must not reach a block handler
/// before the work does.
const REFRESH_DELAY: Duration = Duration::from_secs(2);
/// How often is looked whether another tree is worth building.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// After a build, at least this many times its duration passes before the next one that is not
/// needed at once.
const BUILD_REST: u32 = 10;
/// A tree for the next height is built when it is worth this factor more than the one at hand.
const PREPARE_GAIN: f64 = 1.01;

/// What the settings say about jobs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobRules {
    /// Announcements in a tree at most.
    pub(crate) count_max: u64,
    /// Threads that build a tree.
    pub(crate) tree_threads: usize,
    /// Factor by which other announcements must be worth more.
    pub(crate) gain: f64,
    /// A job is not replaced within its block before this age.
    pub(crate) age_min: Duration,
    /// A job of this age is replaced for any gain.
    pub(crate) age_max: Duration,
    /// How long shares for the block before are sent.
    pub(crate) grace: Duration,
    /// Kernels.
    pub(crate) backend: Backend,
}

/// What others may know of the jobs.
#[derive(Debug, Default)]
pub(crate) struct JobsStatus {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    not_mining: Option<String>,
    started: Option<Instant>,
    figures: BuildFigures,
}

impl JobsStatus {
    /// Why nothing is mined, the age of the job, the counters.
    pub(crate) fn read(&self) -> (Option<String>, Duration, BuildFigures) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let age = inner.started.map_or(Duration::ZERO, |started| started.elapsed());
        (inner.not_mining.clone(), age, inner.figures)
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A tree that is being built, `None` when the announcements were recycled before they were pinned.
type Building = JoinHandle<Option<AnnTree>>;

/// The one who decides what is mined.
pub(crate) struct Jobs {
    pub(crate) rules: JobRules,
    pub(crate) store: Arc<Store>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) status: Arc<JobsStatus>,
    /// Remembers the blocks for a restart.
    pub(crate) keeper: Option<Arc<Keeper>>,
    pub(crate) state: State,
}

/// What changes while it runs.
#[derive(Default)]
pub(crate) struct State {
    work: Option<Arc<WorkFile>>,
    /// The newest refresh of the work, and when it is mined.
    refreshed: Option<(Arc<WorkFile>, Instant)>,
    /// A tree for the next height.
    ready: Option<Arc<AnnTree>>,
    building: Option<Building>,
    /// When the last build ended, and how long it took.
    last_build: Option<(Instant, Duration)>,
    jobs: u64,
}

impl Jobs {
    /// Follows the pool until the signal.
    pub(crate) async fn run(mut self, pool: Arc<PoolClient>, shutdown: Shutdown) {
        self.stop("the pool has given no work yet");
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let peers = self.peers.clone();
        loop {
            let built = async {
                match &mut self.state.building {
                    Some(building) => building.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                update = pool.next() => match update {
                    Some(update) => self.learn(&update),
                    None => break,
                },
                built = built => {
                    self.state.building = None;
                    self.built(built.unwrap_or_else(|error| {
                        tracing::error!("a tree could not be built: {error}");
                        None
                    }));
                }
                () = peers.given_up.notified() => {}
                _ = looks.tick() => {}
            }
            self.refresh();
            self.look();
        }
        self.workers.set_job(None);
    }

    /// Takes over what the pool tells, and mines its work.
    fn learn(&mut self, update: &PoolUpdate) {
        let mut replaced: Option<u32> = None;
        let mut note = |height: Option<u32>| {
            replaced = [replaced, height].into_iter().flatten().min();
        };
        for block in &update.new_blocks {
            let header = &block.header;
            note(self.chain.learn_block(header.height.cast_unsigned(), header.hash, block.sig_key));
        }
        if let Some(work) = &update.work {
            let next =
                Next { height: work.height.cast_unsigned(), previous_block: work.previous_hash() };
            note(self.chain.learn_work(next, self.rules.grace));
        }
        if let Some(height) = replaced {
            let count = self.store.retire_from_height(height);
            tracing::warn!(
                "reorganisation: block {height} was replaced, {count} announcements are given up"
            );
        }
        if let Some(work) = &update.work {
            self.take(work.clone());
        }
        if let Some(keeper) = self.keeper.clone() {
            let blocks = self.chain.blocks();
            // Waits for the disk, which mining must not.
            drop(tokio::task::spawn_blocking(move || {
                keeper.change(|snapshot| snapshot.blocks = blocks);
            }));
        }
    }

    /// Mines a work at once when it is on another block, a refreshed one a little later.
    fn take(&mut self, work: Arc<WorkFile>) {
        let present = self.state.work.as_ref();
        if present == Some(&work) {
            self.state.refreshed = None;
        } else if present.is_some_and(|present| present.previous_hash() == work.previous_hash()) {
            let at = self.state.refreshed.take().map(|(_, at)| at);
            self.state.refreshed = Some((work, at.unwrap_or(Instant::now() + REFRESH_DELAY)));
        } else {
            self.state.refreshed = None;
            self.state.work = Some(work);
            self.switch();
        }
    }

    /// Mines a refreshed work when it is time.
    fn refresh(&mut self) {
        if let Some((work, _)) = self.state.refreshed.take_if(|(_, at)| *at <= Instant::now()) {
            self.state.work = Some(work);
            self.switch();
        }
    }

    /// Mines the present work with the best tree there is.
    fn switch(&mut self) {
        let Some(work) = self.state.work.clone() else { return };
        let height = work.height.cast_unsigned();
        let running = self.workers.job().map(|job| job.tree().clone());
        let value = |tree: &Arc<AnnTree>| self.value(tree, height);
        let ready_value = self.state.ready.as_ref().and_then(value);
        let running_value = running.as_ref().and_then(value);
        if ready_value.is_some() && ready_value >= running_value {
            if let Some(tree) = self.state.ready.take() {
                self.start(work, tree, true);
            }
        } else if let Some(tree) = running.filter(|_| running_value.is_some()) {
            self.start(work, tree, false);
        } else {
            self.stop("the tree for this height is not ready");
        }
    }

    /// What a tree is worth at a height, `None` when it can not be mined with there.
    fn value(&self, tree: &AnnTree, height: u32) -> Option<u64> {
        if !self.store.is_sound(tree.set()) {
            return None;
        }
        let least_work = choose::least_work(tree.classes(), height)?;
        Some(difficulty::hashrate_multiplier(least_work, tree.count()))
    }

    /// Makes a job and gives it to the threads.
    fn start(&mut self, work: Arc<WorkFile>, tree: Arc<AnnTree>, was_ready: bool) {
        // A refreshed work makes the tree of a block no younger.
        let goes_on = self.workers.job().is_some_and(|job| {
            job.previous_block() == work.previous_hash() && Arc::ptr_eq(job.tree(), &tree)
        });
        self.state.jobs += 1;
        let job = Job::assemble(self.state.jobs, work, tree).map(Arc::new);
        let tested = job.and_then(|job| job.self_test(self.rules.backend).map(|_| job));
        match tested {
            Ok(job) => {
                tracing::info!(
                    "job {}: height {}, {} announcements of least work {}, target {}",
                    job.number(),
                    job.height(),
                    job.tree().count(),
                    job.commitment().least_work(),
                    job.mining_target()
                );
                self.workers.set_job(Some(job));
                self.status.change(|inner| {
                    inner.not_mining = None;
                    inner.started = inner.started.filter(|_| goes_on).or(Some(Instant::now()));
                    inner.figures.jobs += 1;
                    inner.figures.jobs_with_ready_tree += u64::from(was_ready);
                });
            }
            Err(error) => {
                tracing::error!("{error}");
                self.status.change(|inner| inner.figures.failed += 1);
                self.stop(&error.to_string());
            }
        }
    }

    fn stop(&self, why: &str) {
        self.workers.set_job(None);
        self.status.change(|inner| {
            inner.not_mining = Some(why.to_owned());
            inner.started = None;
        });
    }

    /// Uses a tree that was built.
    fn built(&mut self, tree: Option<AnnTree>) {
        let Some(tree) = tree else { return };
        let times = tree.times();
        self.state.last_build = Some((Instant::now(), times.total()));
        self.status.change(|inner| {
            inner.figures.trees += 1;
            inner.figures.last_announcements = tree.count();
            inner.figures.last_index_ms = times.index.as_secs_f64() * 1000.0;
            inner.figures.last_layers_ms = times.layers.as_secs_f64() * 1000.0;
        });
        let Some(work) = self.state.work.clone() else { return };
        let height = work.height.cast_unsigned();
        let running = self.workers.job().and_then(|job| self.value(job.tree(), height));
        let now = self.value(&tree, height);
        let tree = Arc::new(tree);
        if now.is_some() && now > running {
            self.start(work, tree, false);
        } else if self.value(&tree, height + 1).is_some() {
            self.state.ready = Some(tree);
        }
    }

    /// Decides whether a tree should be built.
    fn look(&mut self) {
        let Some(work) = self.state.work.clone() else { return };
        let height = work.height.cast_unsigned();
        let mut running = self.workers.job();
        if running.as_ref().is_some_and(|job| !self.store.is_sound(job.tree().set())) {
            self.stop("announcements of the job were given up");
            running = None;
        }
        if self.state.ready.as_ref().is_some_and(|tree| !self.store.is_sound(tree.set())) {
            self.state.ready = None;
        }
        if self.state.building.is_some() {
            return;
        }
        let classes = self.store.classes();
        let choice = choose(&classes, height, self.rules.count_max);
        match (running, choice) {
            (None, Some(choice)) => self.build(&choice),
            (None, None) => self.stop(&nothing_usable(&classes, height)),
            (Some(job), choice) => {
                let rested = self.rested();
                match choice.filter(|choice| rested && self.is_better(&job, choice)) {
                    Some(choice) => self.build(&choice),
                    None if rested => self.prepare(&job, &classes, height + 1),
                    None => {}
                }
            }
        }
    }

    fn rested(&self) -> bool {
        self.state
            .last_build
            .is_none_or(|(ended, took)| ended.elapsed() >= took.saturating_mul(BUILD_REST))
    }

    /// Whether a choice is worth replacing a job within its block.
    fn is_better(&self, job: &Job, choice: &Choice) -> bool {
        let (_, age, _) = self.status.read();
        let gain = multiplier_of(choice) as f64 / job.multiplier().max(1) as f64;
        age >= self.rules.age_min && gain >= self.rules.gain
            || age >= self.rules.age_max && gain > 1.0
    }

    /// Builds the tree for the next height when it is worth it.
    fn prepare(&mut self, job: &Job, classes: &[ClassSummary], height: u32) {
        let Some(choice) = choose(classes, height, self.rules.count_max) else { return };
        let (at_hand, gain) = match &self.state.ready {
            Some(tree) => (self.value(tree, height), self.rules.gain),
            None => (self.value(job.tree(), height), PREPARE_GAIN),
        };
        let at_hand = at_hand.unwrap_or(0) as f64;
        if multiplier_of(&choice) as f64 > at_hand * gain {
            self.build(&choice);
        }
    }

    fn build(&mut self, choice: &Choice) {
        // Two trees at most: the one that is mined with and the one that is built.
        self.state.ready = None;
        let (store, members, threads) =
            (self.store.clone(), choice.members.clone(), self.rules.tree_threads);
        // What the new tree has in common with the one that is mined with is in order already.
        let base = self.workers.job();
        self.state.building = Some(tokio::task::spawn_blocking(move || {
            // The classes may have changed since the choice: then the next look chooses anew.
            let set = store.pin(&members)?;
            let base = base.as_ref().map(|job| job.tree().set());
            AnnTree::build(set, base, CountRule::Odd, threads)
                .inspect_err(|error| tracing::error!("no tree: {error}"))
                .ok()
        }));
    }
}

/// The multiplier that a tree of this choice has: its count is made odd.
fn multiplier_of(choice: &Choice) -> u64 {
    let count = packetcrypt_core::block::tree::odd_count(choice.count);
    difficulty::hashrate_multiplier(choice.least_work, count)
}

/// Says why there is nothing to mine with.
fn nothing_usable(classes: &[ClassSummary], height: u32) -> String {
    let count: u64 = classes.iter().map(|class| u64::from(class.count)).sum();
    if count == 0 {
        return "there are no announcements".to_owned();
    }
    let first = classes
        .iter()
        .filter(|class| class.key.age(height) < packetcrypt_core::params::ANN_WAIT_BLOCKS)
        .map(|class| class.key.parent_height + packetcrypt_core::params::ANN_WAIT_BLOCKS)
        .min();
    match first {
        Some(first) => format!("{count} announcements wait, the first for block {first}"),
        None => format!("all {count} announcements are too old for block {height}"),
    }
}
