use super::*;
use crate::publish::{Record, StoreOptions};

const URL: &str = "http://127.0.0.1:1/submit";

fn block(height: i32, hash: u8) -> BlockInfo {
    let json = format!(
        r#"{{"header":{{"hash":"{}","height":{height},"version":1,"versionHex":"00000001",
        "merkleroot":"{zero}","time":1,"nonce":1,"bits":"1d00ffff","difficulty":1.0,
        "previousblockhash":"{zero}"}},"sigKey":null}}"#,
        hex::encode([hash; 32]),
        zero = "00".repeat(32)
    );
    BlockInfo::parse(json.as_bytes()).unwrap()
}

fn report(urls: &[&str], target: Option<u32>, new_blocks: Vec<BlockInfo>) -> PoolUpdate {
    let config = serde_json::json!({
        "tipHash": "00".repeat(32), "currentHeight": 7, "masterUrl": "", "submitAnnUrls": urls,
        "downloadAnnUrls": [], "submitBlockUrls": [], "paymakerUrl": "", "version": 3,
        "softVersion": 1, "annVersions": [1], "mineOldAnns": 0, "annTarget": target,
    });
    let config = MasterConfig::parse(config.to_string().as_bytes()).unwrap();
    let new_blocks = new_blocks.into_iter().map(Arc::new).collect();
    PoolUpdate { config: Arc::new(config), new_blocks, work: None }
}

fn follower() -> (Arc<Parents>, Follower, Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { dir: dir.path().to_owned(), file_anns: 16, files_to_keep: 2 };
    let store = Store::open(options, |_| false).unwrap();
    let parents = Arc::new(Parents::default());
    let follower = Follower::new(Arc::clone(&parents), URL.to_owned(), 100);
    (parents, follower, store, dir)
}

fn heights(parents: &Parents) -> Vec<i32> {
    parents.stats().iter().map(|parent| parent.height).collect()
}

#[test]
fn six_slots_by_height_and_the_higher_stays() {
    let (parents, mut follower, mut store, _dir) = follower();
    let blocks: Vec<BlockInfo> = (10..=15).rev().map(|height| block(height, 1)).collect();
    follower.apply(&report(&[URL], Some(0x207f_ffff), blocks), &mut store);
    assert_eq!(heights(&parents), [15, 14, 13, 12, 11, 10]);
    follower.apply(&report(&[URL], Some(0x207f_ffff), vec![block(16, 1)]), &mut store);
    assert_eq!(heights(&parents), [16, 15, 14, 13, 12, 11]);
    follower.apply(&report(&[URL], Some(0x207f_ffff), vec![block(10, 1)]), &mut store);
    assert_eq!(heights(&parents), [16, 15, 14, 13, 12, 11]);
}

#[test]
fn a_reorganisation_begins_a_new_table_and_going_back_knows_the_old() {
    let (parents, mut follower, mut store, _dir) = follower();
    follower.apply(&report(&[URL], Some(0x207f_ffff), vec![block(12, 1)]), &mut store);
    let first = parents.slot(0).unwrap();
    let ann = [5; 1024];
    let key = Announcement::from_bytes(&ann).key();
    let record = Record {
        first: 0,
        count: 0,
        parent_height: 12,
        time_ms: 1,
        check: key,
        event_id: [0; 16],
        parent_hash: first.hash.0,
    };
    store.prepare(record, [ann].iter()).unwrap();
    store.commit();
    follower.apply(&report(&[URL], Some(0x207f_ffff), vec![block(12, 2)]), &mut store);
    assert!(!parents.is_current(&first));
    assert!(!parents.slot(0).unwrap().known.is_committed(key));
    follower.apply(&report(&[URL], Some(0x207f_ffff), vec![block(12, 1)]), &mut store);
    assert!(parents.slot(0).unwrap().known.is_committed(key));
    assert!(!parents.is_current(&first), "the old table missed what came between");
}

#[test]
fn the_configuration_holds_at_once_and_keeps_the_tables() {
    let (parents, mut follower, mut store, _dir) = follower();
    follower
        .apply(&report(&["http://b/submit"], Some(0x2000_0fff), vec![block(12, 1)]), &mut store);
    assert!(parents.slot(0).is_none(), "our URL is not in the list");
    follower.apply(&report(&["http://b/submit", URL], Some(0x2000_0fff), vec![]), &mut store);
    let first = parents.slot(0).unwrap();
    assert_eq!((first.handlers, first.own_index), (2, 1));
    follower.apply(&report(&[URL], Some(0x1fff_ffff & 0x1f7f_ffff), vec![]), &mut store);
    let second = parents.slot(0).unwrap();
    assert_eq!((second.handlers, second.own_index), (1, 0));
    assert_eq!(second.min_work, CompactTarget(0x2000_0fff), "the easier of the two");
    assert!(parents.is_current(&first));
    follower.apply(&report(&[URL], None, vec![]), &mut store);
    assert!(parents.slot(0).is_none(), "no annTarget");
}
