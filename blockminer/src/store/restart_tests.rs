//! Restarts: what was published is found again, whatever ended the process, and nothing else.

use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use super::tests::{announcement, arrival, insert_from};
use super::*;
use crate::choose::choose;
use crate::class::ClassKey;
use packetcrypt_core::primitives::compress32;
use state::Header;

/// Names the arena's file of a child process that ingests until it is killed.
const CHILD_VARIABLE: &str = "PACKETCRYPT_TEST_INGEST_INTO";
/// Tells it how many such processes there were before.
const CHILD_ROUND_VARIABLE: &str = "PACKETCRYPT_TEST_INGEST_ROUND";
/// Small, so that slots are recycled all the time.
const CHILD_SLOTS: u32 = 500;
/// Announcements that it puts in at a time.
const CHILD_BATCH: u64 = 40;
/// What it prints when the store is full, and after each batch then.
const CHILD_FULL: &str = "the store is full";
const CHILD_BATCH_DONE: &str = "one batch more";

fn options(path: &Path, slots: u32) -> StoreOptions {
    StoreOptions { slots, file: Some(path.to_owned()), threads: 2, ..StoreOptions::default() }
}

fn open(path: &Path, slots: u32) -> (Arc<Store>, Restored, Keeper, Snapshot) {
    let (store, restored, kept) = Store::open(&options(path, slots)).unwrap();
    let (keeper, snapshot) = kept.unwrap();
    (Arc::new(store), restored, keeper, snapshot)
}

fn with_sources(path: &Path, slots: u32) -> Arc<Store> {
    let (store, _, keeper, _) = open(path, slots);
    keeper.change(|snapshot| snapshot.sources = vec!["a".to_owned(), "b".to_owned()]);
    store
}

/// Every announcement of the store by hash; each is what its hash, mark and class say.
fn content(store: &Arc<Store>) -> Vec<(Hash32, ClassKey)> {
    let mut content = Vec::new();
    for class in store.classes() {
        let set = store.pin(&[(class.id, class.count)]).unwrap();
        for number in 0..set.len() {
            let bytes = set.announcement(number);
            assert_eq!(*set.hash(number), compress32(bytes), "torn");
            assert_eq!(arrival(bytes).parent_height, class.key.parent_height);
            assert_eq!(set.source_of(number), class.key.source);
            content.push((*set.hash(number), class.key));
        }
    }
    content.sort_by_key(|(hash, _)| *hash);
    content
}

#[test]
fn what_was_published_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("arena");
    let store = with_sources(&path, 100);
    insert_from(&store, SourceId(0), 0..30, 100, 103);
    insert_from(&store, SourceId(1), 30..60, 101, 103);
    insert_from(&store, SourceId(1), 60..70, 102, 103);
    store.retire_from_height(102);
    let before = content(&store);
    assert_eq!(before.len(), 60);
    assert!(matches!(Store::open(&options(&path, 100)), Err(StoreError::InUse(_))));
    drop(store);

    let (store, restored, _, snapshot) = open(&path, 100);
    assert_eq!(restored, Restored { announcements: 60, ..Restored::default() });
    assert_eq!(snapshot.sources, ["a", "b"]);
    assert_eq!(content(&store), before);
    // They are known as duplicates, can be mined with, and are recycled as before.
    let again = insert_from(&store, SourceId(1), 0..70, 101, 103);
    assert_eq!((again.stored, again.duplicate), (40, 30));
    assert_eq!(choose(&store.classes(), 104, 1000).unwrap().count, 100);
    assert_eq!(insert_from(&store, SourceId(0), 200..220, 103, 108).stored, 20);
    assert_eq!(store.figures().held, 100);
}

#[test]
fn what_is_given_up_while_a_job_refers_to_it_stays_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("arena");
    let store = with_sources(&path, 100);
    insert_from(&store, SourceId(0), 0..30, 100, 103);
    insert_from(&store, SourceId(1), 30..40, 100, 103);
    let members: Vec<_> = store.classes().iter().map(|class| (class.id, class.count)).collect();
    let set = store.pin(&members).unwrap();
    store.retire_source(SourceId(0));
    // The process ends here, with the set still pinned.
    let mapping = Arc::new((store, set));
    std::mem::forget(mapping.clone());
    // Its lock must go, as it does when a process ends.
    let copy = dir.path().join("copy");
    std::fs::copy(&path, &copy).unwrap();
    std::fs::copy(Snapshot::path_of(&path), Snapshot::path_of(&copy)).unwrap();
    let (store, restored, ..) = open(&copy, 100);
    assert_eq!((restored.announcements, restored.dropped), (10, 0));
    assert!(content(&store).iter().all(|(_, class)| class.source == SourceId(1)));
}

#[test]
fn after_a_start_of_the_machine_torn_slots_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("arena");
    drop({
        let store = with_sources(&path, 100);
        insert_from(&store, SourceId(0), 0..30, 100, 103);
        store
    });
    // Another start, and a page that did not reach the disk: three whole slots of it and one more.
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut header = Header::read(&mut file).unwrap().unwrap();
    header.boot = "another".to_owned();
    header.write(&mut file).unwrap();
    let slots = 100 + landing_slots(100);
    let announcements = arena::Layout::of(slots).announcements as u64;
    file.seek(SeekFrom::Start(announcements + 4096 * 2 + 1023)).unwrap();
    file.write_all(&[9; 1024 * 3]).unwrap();
    drop(file);
    let (store, restored, ..) = open(&path, 100);
    assert_eq!((restored.dropped, restored.hashed), (4, 26));
    assert_eq!(content(&store).len(), 26);
    drop(store);
    // From now on the seals are good again.
    let (_, restored, ..) = open(&path, 100);
    assert_eq!((restored.announcements, restored.hashed), (26, 0));
}

#[test]
fn what_does_not_fit_together_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("arena");
    let fill = || {
        let store = with_sources(&path, 100);
        insert_from(&store, SourceId(0), 0..30, 100, 103);
    };
    fill();
    assert_eq!(open(&path, 120).1.announcements, 0, "another size");
    fill();
    std::fs::remove_file(Snapshot::path_of(&path)).unwrap();
    assert_eq!(open(&path, 100).1.announcements, 0, "no names of sources");
    fill();
    std::fs::write(&path, b"something else").unwrap();
    assert_eq!(open(&path, 100).1.announcements, 0, "no arena");
    // A source without a name is nobody's.
    let (store, ..) = open(&path, 100);
    insert_from(&store, SourceId(0), 0..30, 100, 103);
    drop(store);
    assert_eq!(open(&path, 100).1, Restored { dropped: 30, ..Restored::default() });
}

/// Not a test of its own: what the child process does that the next test starts. It tells when the
/// store is full, and each batch from then on.
#[test]
fn child_ingests_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD_VARIABLE) else { return };
    let round: u64 = std::env::var(CHILD_ROUND_VARIABLE).unwrap().parse().unwrap();
    let store = with_sources(Path::new(&path), CHILD_SLOTS);
    // Newer than all of the rounds before.
    let ingest = |source, batch: u64| {
        let first = (round << 24) + batch * CHILD_BATCH;
        let parent = 100 + (round << 16) as u32 + batch as u32 / 8;
        let numbers = first..first + CHILD_BATCH;
        insert_from(&store, SourceId(source), numbers, parent, parent + 3);
    };
    let mut filling = 0;
    while store.figures().held < u64::from(CHILD_SLOTS) {
        ingest(0, filling);
        filling += 1;
    }
    println!("{CHILD_FULL}");
    // Batches from two threads, ever newer, so that all slots are recycled again and again.
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let ingest = &ingest;
            scope.spawn(move || {
                for batch in 0.. {
                    ingest(thread as u32, filling + 2 * batch + thread);
                    println!("{CHILD_BATCH_DONE}");
                }
            });
        }
    });
}

/// Kills a process that ingests, again and again, always on the same file: index and arena agree
/// after each restart, and no torn announcement is ever there.
#[test]
fn a_process_killed_while_ingesting_leaves_whole_announcements_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("arena");
    for round in 0..6_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::restart_tests::child_ingests_until_it_is_killed",
                "--nocapture",
            ])
            .env(CHILD_VARIABLE, &path)
            .env(CHILD_ROUND_VARIABLE, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut lines = lines.skip_while(|line| !line.contains(CHILD_FULL)).skip(1);
        // In the middle of some batch, however fast it is.
        for _ in 0..=17 * round {
            assert!(lines.next().expect("the child goes on").contains(CHILD_BATCH_DONE));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let (store, restored, ..) = open(&path, CHILD_SLOTS);
        assert_eq!((restored.hashed, restored.dropped), (0, 0));
        let content = content(&store);
        assert_eq!(content.len() as u64, restored.announcements);
        // Of a full store one batch at most is given up before what comes instead is published.
        let least = CHILD_SLOTS as usize - CHILD_BATCH as usize;
        assert!((least..=CHILD_SLOTS as usize).contains(&content.len()), "{}", content.len());
        let mut hashes: Vec<_> = content.iter().map(|(hash, _)| hash).collect();
        hashes.dedup();
        assert_eq!(hashes.len(), content.len(), "one announcement in two slots");
        // All of it can be mined with and recycled.
        let bytes = announcement(u64::MAX / 2000 - round, 1 << 20, 0x2000_ffff);
        let fresh = [arrival(&bytes)];
        let inserted = store.insert(&fresh, SourceId(0), (1 << 20) + 3, store.epoch());
        assert_eq!(inserted.stored, 1);
    }
}
