//! Figures of the miner's own parts: `cargo test --release -p packetcrypt-blockminer --test measure -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use packetcrypt_blockminer::class::SourceId;
use packetcrypt_blockminer::store::{Arrival, Store};
use packetcrypt_blockminer::tree::{AnnTree, CountRule};
use packetcrypt_core::announcement::Announcement;
use packetcrypt_core::backend::Backend;
use packetcrypt_core::block::{BlockHeader, HeaderSearch};
use packetcrypt_core::bytes::CompactTarget;

const COUNT: u64 = 1 << 18;
const BATCH: u64 = 1024;

#[test]
#[ignore = "a measurement"]
fn intake_tree_and_search_over_a_quarter_million() {
    let store = Arc::new(Store::new(COUNT as u32, true).unwrap());
    let started = Instant::now();
    for batch in 0..COUNT / BATCH {
        let bytes: Vec<[u8; 1024]> = (0..BATCH)
            .map(|number| {
                let mut bytes = [7; 1024];
                bytes[..8].copy_from_slice(&(batch * BATCH + number).to_le_bytes());
                bytes
            })
            .collect();
        let arrivals: Vec<_> = bytes
            .iter()
            .map(|bytes| Arrival {
                bytes,
                hash: Announcement::from_bytes(bytes).hash(),
                parent_height: 100,
                work_bits: CompactTarget(0x2000_ffff),
            })
            .collect();
        assert_eq!(store.insert(&arrivals, SourceId(0), 103).stored, BATCH);
    }
    println!("intake: {:.0} announcements/s", COUNT as f64 / started.elapsed().as_secs_f64());
    let members: Vec<_> = store.classes().iter().map(|class| (class.id, class.count)).collect();
    for threads in [1, 2] {
        let tree = AnnTree::build(store.pin(&members).unwrap(), CountRule::Odd, threads).unwrap();
        let times = tree.times();
        println!("{threads} threads: index {:?}, layers {:?}", times.index, times.layers);
        assert_eq!(tree.count(), COUNT - 1);
        let mut search = HeaderSearch::new(&BlockHeader([1; 80]), Backend::best());
        let (started, mut nonces) = (Instant::now(), 0_u32);
        while started.elapsed() < Duration::from_secs(2) {
            let found = search.search(nonces, 32, CompactTarget(0x0300_0001), tree.count(), |n| {
                tree.announcement(n)
            });
            assert!(found.is_none());
            nonces += 32;
        }
        println!("{:.0} nonces/s a thread", f64::from(nonces) / started.elapsed().as_secs_f64());
    }
}
