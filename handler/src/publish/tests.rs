use std::path::Path;

use super::*;
use packetcrypt_core::announcement::Announcement;

const PARENT: [u8; 32] = [9; 32];

fn options(dir: &Path) -> StoreOptions {
    StoreOptions { dir: dir.to_owned(), file_anns: 8, files_to_keep: 3 }
}

fn open(dir: &Path) -> Store {
    Store::open(options(dir), |_| false).unwrap()
}

fn ann(seed: u64) -> AnnBytes {
    let mut bytes = [0; ANN_BYTES];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes
}

fn anns(seeds: std::ops::Range<u64>) -> Vec<AnnBytes> {
    seeds.map(ann).collect()
}

fn record(parent_height: u32, event: u8, run: &[AnnBytes]) -> Record {
    Record {
        first: 0,
        count: 0,
        parent_height,
        time_ms: 1000 + u64::from(event),
        check: run.iter().fold(0, |check, ann| check ^ Announcement::from_bytes(ann).key()),
        event_id: [event; 16],
        parent_hash: PARENT,
    }
}

fn prepare(store: &mut Store, height: u32, event: u8, run: &[AnnBytes]) -> Result<(), StoreError> {
    store.prepare(record(height, event, run), run.iter())
}

fn add(store: &mut Store, height: u32, event: u8, run: &[AnnBytes]) {
    prepare(store, height, event, run).unwrap();
    store.commit();
}

fn known(store: &mut Store, height: u32) -> Vec<AnnBytes> {
    let mut known = Vec::new();
    store.announcements_of(height, &PARENT, |ann| known.push(*ann));
    known
}

fn published(store: &Store) -> Vec<(u64, Vec<u8>, bool)> {
    let files = store.reader().files();
    let content = |file: &FileView| file.bytes(0..file.len).unwrap().as_ref().to_vec();
    files.iter().map(|file| (file.number, content(file), file.is_full)).collect()
}

#[test]
fn only_what_is_committed_is_seen_and_it_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    add(&mut store, 7, 1, &anns(0..3));
    prepare(&mut store, 7, 2, &anns(3..5)).unwrap();
    assert_eq!(published(&store), [(0, anns(0..3).concat(), false)]);
    assert!(store.reader().file(0).unwrap().bytes(0..3 * ANN_BYTES + 1).is_none());
    drop(store);
    let mut store = open(dir.path());
    assert_eq!(known(&mut store, 7), anns(0..3));
    assert_eq!(known(&mut store, 8), anns(0..0));
    add(&mut store, 8, 3, &anns(5..6));
    assert_eq!(published(&store), [(0, [anns(0..3), anns(5..6)].concat().concat(), false)]);
    assert_eq!(known(&mut store, 8), anns(5..6));
}

#[test]
fn a_prepared_record_whose_event_is_logged_is_committed_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    add(&mut store, 7, 1, &anns(0..2));
    prepare(&mut store, 7, 2, &anns(2..4)).unwrap();
    prepare(&mut store, 7, 3, &anns(4..5)).unwrap();
    drop(store);
    let logged = |record: &Record| record.event_id == [2; 16] && record.time_ms == 1002;
    let mut store = Store::open(options(dir.path()), logged).unwrap();
    assert_eq!(known(&mut store, 7), anns(0..4));
    drop(store);
    // The answer of the first start is kept.
    assert_eq!(known(&mut open(dir.path()), 7), anns(0..4));
}

#[test]
fn a_hole_in_the_log_becomes_a_void_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    prepare(&mut store, 7, 1, &anns(1..3)).unwrap();
    prepare(&mut store, 7, 2, &anns(3..4)).unwrap();
    drop(store);
    let mut store = Store::open(options(dir.path()), |r| r.event_id == [2; 16]).unwrap();
    assert_eq!(known(&mut store, 7), anns(3..4));
    let void = vec![[0; ANN_BYTES]; 2];
    assert_eq!(published(&store), [(0, [void, anns(3..4)].concat().concat(), false)]);
    drop(store);
    assert_eq!(known(&mut open(dir.path()), 7), anns(3..4));
}

#[test]
fn a_rolled_back_batch_leaves_nothing_also_over_two_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    add(&mut store, 7, 1, &anns(0..5));
    prepare(&mut store, 7, 2, &anns(10..12)).unwrap();
    prepare(&mut store, 7, 3, &anns(12..16)).unwrap();
    store.roll_back();
    add(&mut store, 7, 4, &anns(5..6));
    assert_eq!(
        published(&store),
        [(0, anns(0..5).concat(), true), (1, anns(5..6).concat(), false)]
    );
    drop(store);
    let mut store = Store::open(options(dir.path()), |_| true).unwrap();
    assert_eq!(known(&mut store, 7), anns(0..6));
}

#[test]
fn a_batch_over_two_files_is_published_in_both() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    prepare(&mut store, 7, 1, &anns(0..6)).unwrap();
    prepare(&mut store, 7, 2, &anns(6..10)).unwrap();
    store.commit();
    assert_eq!(
        published(&store),
        [(0, anns(0..6).concat(), true), (1, anns(6..10).concat(), false)]
    );
    assert_eq!(known(&mut store, 7), anns(0..10));
}

#[test]
fn old_files_are_recycled_live_ones_never() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for (file, height) in [7, 7, 8].into_iter().enumerate() {
        let file = file as u64;
        add(&mut store, height, file as u8, &anns(file * 8..file * 8 + 8));
    }
    let full = prepare(&mut store, 8, 9, &anns(24..25)).unwrap_err();
    assert!(matches!(full, StoreError::Full { files: 3, live_height: 0 }), "{full}");
    store.set_live_height(8);
    add(&mut store, 8, 9, &anns(24..25));
    let numbers = |store: &Store| published(store).iter().map(|of| of.0).collect::<Vec<_>>();
    assert_eq!(numbers(&store), [1, 2, 3]);
    // A reader of the oldest keeps its bytes when the file goes.
    let reading = store.reader().file(1).unwrap().bytes(0..8 * ANN_BYTES).unwrap();
    add(&mut store, 9, 10, &anns(25..33));
    assert_eq!(numbers(&store), [2, 3, 4]);
    assert_eq!(reading.as_ref(), anns(8..16).concat());
    drop(store);
    let mut store = open(dir.path());
    assert_eq!(numbers(&store), [2, 3, 4]);
    assert_eq!(known(&mut store, 7), anns(0..0));
    assert_eq!(known(&mut store, 9), anns(25..33));
    let names = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names, 8, "three pairs, the lock and the identity");
}

#[test]
fn halves_are_removed_and_strangers_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    add(&mut open(dir.path()), 7, 1, &anns(0..1));
    fs::write(dir.path().join("anns_5.bin"), b"half").unwrap();
    fs::write(dir.path().join("anns_6.bin"), b"junk").unwrap();
    fs::write(dir.path().join("anns_6.idx"), [0xff; 200]).unwrap();
    fs::write(dir.path().join("recycled.idx"), b"").unwrap();
    fs::write(dir.path().join("anns_07.bin"), b"not a number of ours").unwrap();
    let mut store = open(dir.path());
    assert_eq!(known(&mut store, 7), anns(0..1));
    let has = |name: &str| dir.path().join(name).exists();
    assert!(!has("anns_5.bin") && !has("recycled.idx") && !has("anns_6.bin"));
    assert!(has("anns_6.bin.damaged") && has("anns_6.idx.damaged") && has("anns_07.bin"));
}

#[test]
fn damaged_bytes_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    add(&mut store, 7, 1, &anns(0..2));
    add(&mut store, 7, 2, &anns(2..3));
    drop(store);
    let path = segment::data_path(dir.path(), 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut store = open(dir.path());
    assert_eq!(known(&mut store, 7), anns(2..3));
    assert_eq!(store.damaged_runs(), 1);
}

#[test]
fn a_second_handler_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _store = open(dir.path());
    let second = Store::open(options(dir.path()), |_| false).unwrap_err();
    assert!(matches!(second, StoreError::InUse(_)), "{second}");
}

#[tokio::test]
async fn readers_wait_for_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut reader = store.reader();
    reader.mark_seen();
    let waiting = tokio::spawn(async move { reader.changed().await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    add(&mut store, 7, 1, &anns(0..1));
    assert!(waiting.await.unwrap());
}
