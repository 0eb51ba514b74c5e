use std::net::SocketAddr;
use std::time::Duration;

use packetcrypt_vectors::{dir, unhex_array};
use serde_json::Value;

use super::*;
use crate::chain::Next;

const HEIGHT: u32 = 300_000;

/// An intake that checks everything and knows the recorded parent blocks.
fn intake() -> Arc<Intake> {
    let bytes = std::fs::read(dir().join("blocks/anns.json")).expect("the vectors");
    let anns: Value = serde_json::from_slice(&bytes).expect("JSON");
    let chain = Arc::new(Chain::default());
    for (height, hash) in anns["parents"].as_object().unwrap() {
        let hash = Hash32(unhex_array(hash.as_str().unwrap()));
        chain.learn_block(height.parse().unwrap(), hash, None);
    }
    chain.learn_work(
        Next { height: HEIGHT, previous_block: Hash32([1; 32]) },
        Duration::from_secs(60),
    );
    Arc::new(Intake {
        store: Arc::new(Store::new(1024, false).unwrap()),
        chain,
        counters: Arc::new(ArrivalCounters::default()),
        peers: Arc::new(Peers::new(Duration::from_secs(3600), None)),
        doubts: Mutex::default(),
        check_chance: 1.0,
    })
}

fn group(name: &str) -> Vec<[u8; ANNOUNCEMENT_BYTES]> {
    let bytes = std::fs::read(dir().join("blocks").join(name)).expect("announcements");
    bytes.chunks_exact(ANNOUNCEMENT_BYTES).map(|bytes| bytes.try_into().unwrap()).collect()
}

fn forged(announcement: &[u8; ANNOUNCEMENT_BYTES]) -> [u8; ANNOUNCEMENT_BYTES] {
    let mut forged = *announcement;
    forged[500] ^= 1;
    forged
}

fn sprayer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 6000))
}

#[test]
fn one_forged_datagram_does_not_cost_an_honest_sender_anything_else() {
    let intake = intake();
    let mut taker = Taker::new(intake.clone());
    let source = intake.peers.source_udp(sprayer());
    let honest = group("anns_g1.bin");
    // The very first one is forged, and further ones come in between.
    taker.take_copies(source, &[forged(&honest[0])]);
    for (at, three) in honest.chunks_exact(3).enumerate() {
        taker.take_copies(source, three);
        if at % 10 == 0 {
            taker.take_copies(source, &[forged(&three[0])]);
        }
    }
    assert_eq!(intake.peers.dropped_for(source), None);
    let figures = intake.counters.figures();
    assert_eq!((figures.stored, figures.dropped["bad_proof"]), (120, 5));
    assert_eq!(intake.store.figures().held, 120);
}

#[test]
fn a_sender_of_mostly_forged_datagrams_is_dropped_and_what_was_good_stays() {
    let intake = intake();
    let mut taker = Taker::new(intake.clone());
    let source = intake.peers.source_udp(sprayer());
    let (good, bad) = (group("anns_g1.bin"), group("anns_g2.bin"));
    taker.take_copies(source, &good[..10]);
    for announcement in &bad[..20] {
        taker.take_copies(source, &[forged(announcement)]);
    }
    assert!(intake.peers.dropped_for(source).is_some());
    assert_eq!(intake.store.figures().held, 10, "the class whose proofs are right");
    let figures = intake.counters.figures();
    // Of 21 checked 11 are bad.
    assert_eq!((figures.dropped["bad_proof"], figures.dropped["dropped_peer"]), (11, 9));
}

#[test]
fn who_is_connected_is_dropped_for_the_first_bad_one_once() {
    let intake = intake();
    let mut taker = Taker::new(intake.clone());
    let source = intake.peers.source("http://192.0.2.1");
    let good = group("anns_g1.bin");
    taker.take_copies(source, &good[..10]);
    taker.take_copies(source, &[forged(&good[10]), forged(&good[11]), good[12]]);
    let left = intake.peers.dropped_for(source).unwrap();
    assert!(left <= Duration::from_secs(3600));
    let figures = intake.counters.figures();
    assert_eq!((figures.dropped["bad_proof"], figures.dropped["dropped_peer"]), (2, 1));
    assert_eq!(intake.store.figures().held, 0, "all it sent is given up");
}
