use std::collections::HashSet;
use std::sync::Mutex;

use super::*;
use crate::admit::{Head, Parent};
use crate::body::{Body, BodyMemory};
use crate::dedup::DedupTable;
use crate::overload::{Budgets, Limits};
use crate::parents::Parents;
use crate::post::{Answer, Post};
use crate::publish::StoreOptions;
use crate::queue::PostQueue;
use crate::stats::Counters;
use packetcrypt_core::bytes::Hash32;
use packetcrypt_net::metrics::Metrics;
use packetcrypt_net::{Shutdown, TestClock};
use tokio::sync::oneshot;

const SOURCE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[derive(Clone, Default)]
struct TestLog {
    lines: Arc<Mutex<Vec<String>>>,
    is_broken: Arc<std::sync::atomic::AtomicBool>,
}

impl EventLog for TestLog {
    fn append(&mut self, lines: Vec<String>) -> Result<(), String> {
        if self.is_broken.load(std::sync::atomic::Ordering::SeqCst) {
            return Err("no space left on device".to_owned());
        }
        self.lines.lock().unwrap().extend(lines);
        Ok(())
    }
}

#[derive(Clone, Default)]
struct TestSpray(Arc<Mutex<Vec<u64>>>);

impl Spray for TestSpray {
    fn spray(&mut self, anns: &mut dyn Iterator<Item = &Announcement>) {
        self.0.lock().unwrap().extend(anns.map(Announcement::key));
    }
}

struct Bench {
    committer: Committer,
    log: TestLog,
    sprayed: TestSpray,
    parent: Arc<Parent>,
    budget: Arc<BodyMemory>,
    dir: tempfile::TempDir,
}

fn options(dir: &std::path::Path) -> StoreOptions {
    StoreOptions { dir: dir.to_owned(), file_anns: 8, files_to_keep: 2 }
}

fn bench(capacity: usize) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path()), |_| false).unwrap();
    let parent = Arc::new(Parent::sample(capacity));
    let parents = Arc::new(Parents::default());
    parents.set_for_test(Arc::clone(&parent));
    let (log, sprayed) = (TestLog::default(), TestSpray::default());
    let limits = Limits { ratio_max: 1.0, free_cost: 0, allow: HashSet::new() };
    let front = Arc::new(Front {
        parents: Arc::clone(&parents),
        counters: Arc::new(Counters::new(&mut Metrics::new("handler"))),
        queue: PostQueue::new(1),
        bodies: BodyMemory::new(1 << 20, 1 << 20, 1 << 20),
        budgets: Budgets::new(limits),
        downloaders: HashSet::new(),
        reader: store.reader(),
        clock: Arc::new(TestClock::new(1_700_000_000_000)),
        post_anns_max: 8,
        shutdown: Shutdown::new(),
    });
    let committer = Committer {
        store,
        follower: Follower::new(parents, String::new(), capacity),
        log: Box::new(log.clone()),
        spray: Some(Box::new(sprayed.clone())),
        front,
        errors: packetcrypt_net::seldom::Seldom::default(),
        damaged_runs: Arc::default(),
    };
    let budget = Arc::clone(&committer.front.bodies);
    Bench { committer, log, sprayed, parent, budget, dir }
}

fn ann(seed: u8) -> [u8; 1024] {
    let mut ann = [0; 1024];
    ann[0] = 1;
    ann[4] = seed;
    ann[8..12].copy_from_slice(&0x2000_0fff_u32.to_le_bytes());
    ann
}

impl Bench {
    /// A post of the announcements with these seeds, all of which looked new to the worker.
    fn post(&self, seeds: &[u8]) -> (Verified, oneshot::Receiver<Answer>) {
        let mut bytes = Vec::new();
        let mut candidates = Vec::new();
        for (index, &seed) in seeds.iter().enumerate() {
            let ann = ann(seed);
            bytes.extend_from_slice(&ann);
            let key = Announcement::from_bytes(&ann).key();
            if seeds[..index].iter().all(|&earlier| earlier != seed) {
                candidates.push((index as u32, key));
            }
        }
        let body = Body::holding(&self.budget, &bytes);
        let head = Head { sver: 1, worknum: 13, pay_to: "abc".to_owned() };
        let counters = Arc::clone(&self.committer.front.counters);
        let (post, answer) = Post::new(head, Arc::clone(&self.parent), body, SOURCE, counters);
        let event_id = [seeds.len() as u8; 16];
        (Verified { post, candidates, event_id, work_bits_max: 0x2000_0fff }, answer)
    }

    fn commit(&mut self, posts: &[&[u8]]) -> Vec<Result<(u32, u32), Refusal>> {
        let (posts, answers): (Vec<_>, Vec<_>) = posts.iter().map(|post| self.post(post)).unzip();
        self.committer.commit(posts);
        let answer = |mut answer: oneshot::Receiver<Answer>| {
            answer.try_recv().unwrap().map(|event| (event.accepted, event.dup))
        };
        answers.into_iter().map(answer).collect()
    }

    fn stored(&self) -> Vec<u8> {
        let files = self.committer.store.reader().files();
        files.iter().flat_map(|f| f.bytes(0..f.len).unwrap().as_ref().to_vec()).collect()
    }

    fn logged(&self) -> Vec<String> {
        self.log.lines.lock().unwrap().clone()
    }
}

fn stored_seeds(bench: &Bench) -> Vec<u8> {
    bench.stored().chunks(1024).map(|ann| ann[4]).collect()
}

#[test]
fn duplicates_within_a_post_across_posts_and_batches() {
    let mut bench = bench(100);
    let answers = bench.commit(&[&[1, 2, 1], &[2, 3], &[1]]);
    assert_eq!(answers, [Ok((2, 1)), Ok((1, 1)), Ok((0, 1))]);
    assert_eq!(bench.commit(&[&[3, 3, 3]]), [Ok((0, 3))]);
    assert_eq!(stored_seeds(&bench), [1, 2, 3]);
    assert_eq!(bench.logged().len(), 2, "nothing is logged for nothing accepted");
    assert_eq!(bench.sprayed.0.lock().unwrap().len(), 3);
    let stats = bench.committer.front.counters.snapshot();
    assert_eq!((stats.announcements.accepted, stats.announcements.duplicate), (3, 6));
    assert_eq!((stats.announcements.in_flight, stats.posts.in_flight), (0, 0));
    assert_eq!(bench.budget.used(), 0);
}

#[test]
fn the_event_is_that_of_the_specification() {
    let mut bench = bench(100);
    bench.commit(&[&[1, 1]]);
    assert_eq!(
        bench.logged(),
        [concat!(
            r#"{"type":"anns","accepted":1,"dup":1,"inval":0,"badHash":0,"runt":0,"#,
            r#""internalErr":0,"payTo":"abc","unsigned":1,"totalLen":0,"target":536875007,"#,
            r#""time":1700000000000,"eventId":"02020202020202020202020202020202"}"#
        )]
    );
}

#[test]
fn a_log_that_can_not_be_written_leaves_nothing_that_counts() {
    let mut bench = bench(100);
    bench.commit(&[&[1]]);
    bench.log.is_broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let answers = bench.commit(&[&[1, 2], &[2, 3, 4, 5, 6, 7, 8, 9], &[1]]);
    assert_eq!(answers, vec![Err(Refusal::Overloaded(Overload::Storage)); 3]);
    assert_eq!(stored_seeds(&bench), [1]);
    bench.log.is_broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(bench.commit(&[&[1, 2], &[2, 3]]), [Ok((1, 1)), Ok((1, 1))]);
    assert_eq!(stored_seeds(&bench), [1, 2, 3]);
    let stats = bench.committer.front.counters.snapshot();
    assert_eq!((stats.commit_failures, stats.announcements.overloaded), (1, 11));
}

#[test]
fn a_full_table_and_full_files_are_overload() {
    let mut bench = bench(3);
    assert_eq!(bench.commit(&[&[1, 2]]), [Ok((2, 0))]);
    assert_eq!(
        bench.commit(&[&[3, 4], &[1]]),
        [Err(Refusal::Overloaded(Overload::KnownAnnouncements)), Ok((0, 1))]
    );
    // The released hash 3 keeps its place and is new all the same.
    assert_eq!(bench.commit(&[&[3]]), [Ok((1, 0))]);

    let mut bench = self::bench(1000);
    bench.commit(&[&[1, 2, 3, 4, 5, 6, 7, 8]]);
    bench.commit(&[&[11, 12, 13, 14, 15, 16, 17, 18]]);
    assert_eq!(
        bench.commit(&[&[20], &[1]]),
        [Err(Refusal::Overloaded(Overload::Storage)), Ok((0, 1))]
    );
    assert_eq!(bench.stored().len(), 16 * 1024);
    bench.committer.store.set_live_height(13);
    assert_eq!(bench.commit(&[&[20]]), [Ok((1, 0))]);
}

#[test]
fn a_block_that_changed_while_a_post_was_checked() {
    let mut bench = bench(100);
    let (verified, mut answer) = bench.post(&[1]);
    let other = Parent {
        hash: Hash32([4; 32]),
        known: Arc::new(DedupTable::new(10).unwrap()),
        ..(*bench.parent).clone()
    };
    bench.committer.front.parents.set_for_test(Arc::new(other));
    bench.committer.commit(vec![verified]);
    let refusal = answer.try_recv().unwrap().unwrap_err();
    assert_eq!(
        (refusal.to_string().as_str(), refusal.status()),
        ("block number out of range", 400)
    );
    assert!(bench.stored().is_empty() && bench.logged().is_empty());
}

/// Killed between any two steps: what is in the log is in the files and known, nothing else is.
#[test]
fn killed_at_every_step() {
    for step in 0..3 {
        let mut bench = bench(100);
        bench.commit(&[&[1, 2]]);
        let posts = [bench.post(&[3, 4]).0, bench.post(&[5]).0];
        let mut events = Vec::new();
        for post in &posts {
            let (event, _) = bench.committer.prepare(post).unwrap();
            events.push(event);
        }
        // Step 0: nothing is logged; 1: the first event; 2: both, but the commit is missing.
        let logged: HashSet<(String, u64)> =
            events[..step].iter().map(|event| (event.event_id.clone(), event.time)).collect();
        let Bench { committer, dir, .. } = bench;
        drop(committer);
        let is_logged =
            |record: &Record| logged.contains(&(hex::encode(record.event_id), record.time_ms));
        let mut store = Store::open(options(dir.path()), is_logged).unwrap();
        let mut known = Vec::new();
        store.announcements_of(12, &[3; 32], |ann| known.push(ann[4]));
        let want: &[u8] = [&[1, 2][..], &[1, 2, 3, 4], &[1, 2, 3, 4, 5]][step];
        assert_eq!(known, want, "step {step}");
    }
}
