use super::*;
use crate::publish::{Record, Store, StoreOptions};
use packetcrypt_core::announcement::Announcement;

fn store(dir: &std::path::Path) -> Store {
    let options = StoreOptions { dir: dir.to_owned(), file_anns: 2, files_to_keep: 8 };
    Store::open(options, |_| false).unwrap()
}

fn add(store: &mut Store, seed: u8, parent_height: u32) {
    let ann = [seed; 1024];
    let record = Record {
        first: 0,
        count: 0,
        parent_height,
        time_ms: 1,
        check: Announcement::from_bytes(&ann).key(),
        event_id: [0; 16],
        parent_hash: [0; 32],
    };
    store.prepare(record, [ann].iter()).unwrap();
    store.commit();
}

fn body(served: &Served) -> Vec<u8> {
    match &served.body {
        ServedBody::Text(text) => text.to_vec(),
        ServedBody::Bytes(bytes) => bytes.as_ref().to_vec(),
    }
}

fn header<'a>(served: &'a Served, name: &str) -> Option<&'a str> {
    served.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| &**value)
}

fn ranged(reader: &Reader, number: u64, range: &str) -> Served {
    let conditions = Conditions { range: Some(range), ..Conditions::default() };
    Download::File { number, wait: Duration::ZERO }.serve(reader, &IndexText::default(), conditions)
}

#[test]
fn targets() {
    let wait = Duration::from_secs;
    let parse = Download::parse;
    let index = |seconds, seen| Some(Download::Index { wait: wait(seconds), seen });
    assert_eq!(parse("/anns/index.json"), index(0, None));
    assert_eq!(parse("/anns/index.json?wait=7&number=3&bytes=1024"), index(7, Some((3, 1024))));
    assert_eq!(parse("/anns/index.json?wait=9999&number=x"), index(30, None));
    let file = |number, seconds| Some(Download::File { number, wait: wait(seconds) });
    assert_eq!(parse("/anns/anns_12.bin"), file(12, 0));
    assert_eq!(parse("/anns/anns_12.bin?wait=1"), file(12, 1));
    for target in ["/anns/", "/anns/anns_-1.bin", "/anns/anns_01.bin", "/submit", "", "/anns/x"] {
        assert_eq!(parse(target), None, "{target}");
    }
}

#[test]
fn ranges() {
    let cases = [
        ("bytes=0-9", Some(0..10)),
        ("bytes=90-", Some(90..100)),
        ("bytes=90-99999999999999999999999", Some(90..100)),
        ("bytes=-10", Some(90..100)),
        ("bytes=-1000", Some(0..100)),
        ("bytes=100-", None),
        ("bytes=-0", None),
        ("bytes=18446744073709551615-18446744073709551615", None),
    ];
    for (text, want) in cases {
        assert_eq!(Range::parse(text).unwrap().of(100), want, "{text}");
    }
    for ignored in ["bytes=9-1", "bytes=1-2,4-5", "bytes=+1-2", "lines=1-2", "bytes", "bytes=-"] {
        assert_eq!(Range::parse(ignored), None, "{ignored}");
    }
}

#[test]
fn whole_files_ranges_and_conditions() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    for seed in 1..=3 {
        add(&mut store, seed, u32::from(seed) + 10);
    }
    let reader = store.reader();
    let whole = Download::File { number: 0, wait: Duration::ZERO };
    let served = whole.serve(&reader, &IndexText::default(), Conditions::default());
    assert_eq!((served.status, body(&served).len()), (200, 2048));
    let tag = header(&served, "etag").unwrap().to_owned();
    let part = ranged(&reader, 0, "bytes=1023-1024");
    assert_eq!((part.status, body(&part)), (206, vec![1, 2]));
    assert_eq!(header(&part, "content-range"), Some("bytes 1023-1024/2048"));
    let beyond = ranged(&reader, 0, "bytes=2048-");
    assert_eq!((beyond.status, header(&beyond, "content-range")), (416, Some("bytes */2048")));
    assert_eq!(ranged(&reader, 9, "bytes=0-").status, 404);
    let known = Conditions { if_none_match: Some(&tag), ..Conditions::default() };
    assert_eq!(whole.serve(&reader, &IndexText::default(), known).status, 304);
    let open = Download::File { number: 1, wait: Duration::ZERO };
    let open_tag = anns_index::entity_tag(&reader.store_id, 1);
    let known = Conditions { if_none_match: Some(&open_tag), ..Conditions::default() };
    assert_eq!(open.serve(&reader, &IndexText::default(), known).status, 200, "it may have grown");
    let other = Conditions { range: Some("bytes=0-0"), if_range: Some("\"x\""), ..known };
    assert_eq!(whole.serve(&reader, &IndexText::default(), other).status, 200);
    let same = Conditions { range: Some("bytes=0-0"), if_range: Some(&tag), ..known };
    assert_eq!(whole.serve(&reader, &IndexText::default(), same).status, 206);
}

#[test]
fn the_index_lists_what_is_there() {
    // One text for all of it: it must not be kept longer than it is right.
    let text = IndexText::default();
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let reader = store.reader();
    let get = || {
        let index = Download::parse("/anns/index.json").unwrap();
        AnnsIndex::parse(&body(&index.serve(&reader, &text, Conditions::default()))).unwrap()
    };
    let empty = AnnFile {
        number: 0,
        bytes: 0,
        parent_height_min: -1,
        parent_height_max: -1,
        complete: false,
    };
    assert_eq!(get().files, [empty]);
    for (seed, height) in [(1, 12), (2, 11), (3, 13)] {
        add(&mut store, seed, height);
    }
    let index = get();
    let first = AnnFile {
        number: 0,
        bytes: 2048,
        parent_height_min: 11,
        parent_height_max: 12,
        complete: true,
    };
    assert_eq!(index.files[0], first);
    assert_eq!((index.files[1].bytes, index.files[1].complete), (1024, false));
    let id = index.store;
    drop(store);
    assert_eq!(*self::store(dir.path()).reader().store_id, *id, "kept over restarts");
}

#[test]
fn who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    add(&mut store, 1, 10);
    let reader = store.reader();
    let waits = |target: &str, range: Option<&str>| {
        let conditions = Conditions { range, ..Conditions::default() };
        Download::parse(target).unwrap().should_wait(&reader, conditions)
    };
    assert!(!waits("/anns/index.json?wait=5", None));
    assert!(waits("/anns/index.json?wait=5&number=0&bytes=1024", None));
    assert!(!waits("/anns/index.json?wait=5&number=0&bytes=0", None));
    assert!(waits("/anns/anns_0.bin?wait=5", Some("bytes=1024-")));
    assert!(!waits("/anns/anns_0.bin?wait=5", Some("bytes=0-")));
    assert!(!waits("/anns/anns_1.bin?wait=5", Some("bytes=0-")));
    add(&mut store, 2, 10);
    add(&mut store, 3, 10);
    assert!(!waits("/anns/anns_0.bin?wait=5", Some("bytes=2048-")), "it is full");
    assert!(!waits("/anns/index.json?wait=5&number=0&bytes=2048", None));
}
