//! A sprayer on loopback to which anything is sent, by the one it subscribes to and by a stranger:
//! it goes on, counts every datagram, and hands on or counts every record.
#![no_main]

use std::net::{SocketAddr, UdpSocket};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use packetcrypt_net::Shutdown;
use packetcrypt_net::sprayer::{Sprayer, SprayerOptions, SprayerStats};
use packetcrypt_proto::datagram::{Datagram, Tail};

const PASSWORD: &str = "pw";

struct Scene {
    sprayer: Sprayer,
    source: UdpSocket,
    stranger: UdpSocket,
}

static SCENE: OnceLock<Scene> = OnceLock::new();

fn scene() -> Scene {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let socket = || UdpSocket::bind(local).expect("a socket");
    let (source, stranger) = (socket(), socket());
    let addr = source.local_addr().expect("an address");
    let options =
        SprayerOptions { subscribe_to: vec![addr], ..SprayerOptions::new(local, PASSWORD) };
    let sprayer = Sprayer::start(options, &Shutdown::new()).expect("a sprayer");
    Scene { sprayer, source, stranger }
}

/// What the counters must come to for a datagram: records received, and all others.
fn expected(bytes: &[u8], is_source: bool) -> (u64, u64) {
    let datagram = Datagram::parse(bytes);
    let is_wrong = |s: &packetcrypt_proto::datagram::Subscription| !s.has_password(PASSWORD);
    let others = match &datagram.tail {
        Tail::Garbage => return (0, 1),
        Tail::Subscription(subscription) if is_wrong(subscription) => 1,
        Tail::Subscription(_) | Tail::None => 0,
    };
    match (datagram.records.len() as u64, is_source) {
        (0, _) => (0, others + u64::from(bytes.is_empty())),
        (records, true) => (records, others),
        (_, false) => (0, others + 1),
    }
}

fn seen(stats: &SprayerStats) -> (u64, u64) {
    let others = stats.garbage_datagrams + stats.stranger_datagrams + stats.wrong_passwords;
    (stats.received, others)
}

fuzz_target!(|input: (bool, &[u8])| {
    let (is_source, bytes) = input;
    if bytes.len() > 65_000 {
        return;
    }
    let Scene { sprayer, source, stranger } = SCENE.get_or_init(scene);
    let before = seen(&sprayer.stats());
    let socket = if is_source { source } else { stranger };
    socket.send_to(bytes, sprayer.local_addr()).expect("loopback takes it");
    let (records, others) = expected(bytes, is_source);
    let want = (before.0 + records, before.1 + others);
    let end = Instant::now() + Duration::from_secs(15);
    while seen(&sprayer.stats()) != want {
        assert!(Instant::now() < end, "{:?} instead of {want:?}", seen(&sprayer.stats()));
        std::hint::spin_loop();
    }
    // What is received is new, or counted as a duplicate.
    while sprayer.received().try_pop().is_some() {}
    let stats = sprayer.stats();
    assert!(stats.received >= stats.duplicates + stats.incoming.pushed);
});
