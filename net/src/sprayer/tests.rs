use super::*;
use std::time::{Duration, Instant};

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn announcements(first: u32, count: u32) -> Vec<AnnouncementBytes> {
    let one = |n: u32| {
        let mut bytes = [0x5a; 1024];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        bytes
    };
    (first..first + count).map(one).collect()
}

fn number(bytes: &AnnouncementBytes) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn start(password: &str, subscribe_to: &[SocketAddr]) -> Sprayer {
    let options = SprayerOptions {
        subscribe_to: subscribe_to.to_vec(),
        ..SprayerOptions::new(LOCAL, password)
    };
    Sprayer::start(options, &Shutdown::new()).unwrap()
}

/// Also when the process is stopped for a while meanwhile: that ends a wait with a time-out.
fn recv_from(socket: &UdpSocket, buffer: &mut [u8]) -> (usize, SocketAddr) {
    loop {
        match socket.recv_from(buffer) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            outcome => return outcome.unwrap(),
        }
    }
}

fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(60), "did not come true in a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn subscribers(sprayer: &Sprayer) -> usize {
    sprayer.stats().peers.iter().filter(|peer| peer.is_subscriber).count()
}

fn collect(sprayer: &Sprayer, count: usize) -> Vec<u32> {
    let start = Instant::now();
    let mut seen = Vec::new();
    while seen.len() < count && start.elapsed() < Duration::from_secs(60) {
        let batch = sprayer.received().pop_timeout(Duration::from_millis(100));
        seen.extend(batch.into_iter().flat_map(|b| b.announcements).map(|a| number(&a)));
    }
    seen.sort_unstable();
    seen
}

#[test]
fn a_subscriber_gets_everything_and_its_subscriber_too() {
    let source = start("pass", &[]);
    let relay = start("pass", &[source.local_addr()]);
    let stranger = start("wrong", &[source.local_addr()]);
    until(|| subscribers(&source) == 1);
    until(|| source.stats().wrong_passwords == 1);
    // One alone comes by the flush; many come in chunks.
    assert_eq!(source.send(announcements(0, 1)), 0);
    assert_eq!(collect(&relay, 1), [0]);
    // No more at once than the smallest receive buffer holds: what overruns it is lost.
    for first in (1..1501).step_by(50) {
        assert_eq!(source.send(announcements(first, 50)), 0);
        let arrived = u64::from(first) + 50;
        until(|| relay.stats().received == arrived);
    }
    assert_eq!(collect(&relay, 1500), (1..1501).collect::<Vec<_>>());
    let last = start("pass", &[relay.local_addr()]);
    until(|| subscribers(&relay) == 1);
    // The relay sends on what came together, and waits for it a moment each time.
    for first in (1501..3001).step_by(100) {
        assert_eq!(source.send(announcements(first, 100)), 0);
        until(|| last.stats().received == u64::from(first) - 1501 + 100);
    }
    assert_eq!(collect(&last, 1500), (1501..3001).collect::<Vec<_>>());
    // What comes a second time is dropped, at the first that knows it.
    source.send(announcements(0, 100));
    until(|| relay.stats().duplicates == 100);
    let stats = relay.stats();
    assert_eq!((stats.received, stats.incoming.pushed), (3101, 3001));
    // The sender counts behind the datagram.
    until(|| source.stats().peers[0].sent == 3101);
    let sent = source.stats().peers[0].clone();
    assert_eq!((sent.dropped, sent.queued), (0, 0));
    assert_eq!(stranger.stats().received, 0);
    assert_eq!(last.stats().duplicates, 0);
}

#[test]
fn relays_in_a_circle_come_to_rest() {
    // Each must know the other's address before it starts; somebody else may take it in between.
    let in_a_circle = || {
        let probe = UdpSocket::bind(LOCAL).unwrap();
        let second_addr = probe.local_addr().unwrap();
        let first = start("", &[second_addr]);
        drop(probe);
        let options = SprayerOptions {
            subscribe_to: vec![first.local_addr()],
            spray_at: vec![first.local_addr()],
            ..SprayerOptions::new(second_addr, "")
        };
        let second = Sprayer::start(options, &Shutdown::new()).ok()?;
        Some((first, second))
    };
    let (first, second) = (0..20).find_map(|_| in_a_circle()).unwrap();
    until(|| subscribers(&first) == 1);
    first.send(announcements(0, 10));
    assert_eq!(collect(&second, 10), (0..10).collect::<Vec<_>>());
    second.send(announcements(10, 5));
    assert_eq!(collect(&first, 5), [10, 11, 12, 13, 14]);
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!((first.stats().received, second.stats().received), (5, 10));
}

#[test]
fn datagrams_are_those_of_the_protocol() {
    let source = start("", &[]);
    let plain = UdpSocket::bind(LOCAL).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let subscription = br#"{"yes_please_dos_me_passwd":"","num":0,"count":1}"#;
    plain.send_to(subscription, source.local_addr()).unwrap();
    until(|| subscribers(&source) == 1);
    source.send(announcements(0, 70));
    let mut buffer = vec![0; 70_000];
    let mut sequence = 0u64;
    for records in [63, 7] {
        let (len, from) = recv_from(&plain, &mut buffer);
        assert_eq!((len, from), (records * 1032, source.local_addr()));
        for record in buffer[..len].chunks(1032) {
            assert_eq!(record[..8], sequence.to_le_bytes());
            assert_eq!(record[8..12], u32::try_from(sequence).unwrap().to_le_bytes());
            sequence += 1;
        }
    }
}

#[test]
fn the_recorded_datagram_is_taken_from_those_subscribed_to_only() {
    let sender = UdpSocket::bind(LOCAL).unwrap();
    let stranger = UdpSocket::bind(LOCAL).unwrap();
    let sprayer = start("", &[sender.local_addr().unwrap()]);
    let of_set = packetcrypt_vectors::files("pool", "sprayer_datagram", "bin");
    of_set.iter().for_each(|file| file.report(1));
    // A set without datagrams leaves the project's own.
    let own = || packetcrypt_vectors::own("pool", "sprayer_datagram.bin");
    let recorded = if of_set.is_empty() { vec![own()] } else { of_set };
    let mut records = 0;
    for file in &recorded {
        let bytes = file.bytes();
        sender.send_to(&bytes, sprayer.local_addr()).unwrap();
        stranger.send_to(&bytes, sprayer.local_addr()).unwrap();
        records += (bytes.len() / 1032) as u64;
    }
    until(|| sprayer.stats().stranger_datagrams == recorded.len() as u64);
    until(|| sprayer.stats().received == records);
    let batch = sprayer.received().pop_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(batch.from, sender.local_addr().unwrap());
    let stats = sprayer.stats();
    assert_eq!(stats.received, stats.duplicates + stats.incoming.pushed);
}

/// Who does not know the password gets nothing, and can not make anybody else get anything.
#[test]
fn wrong_passwords_and_records_in_the_name_of_others() {
    let source = UdpSocket::bind(LOCAL).unwrap();
    let sprayer = start("right", &[source.local_addr().unwrap()]);
    let stranger = UdpSocket::bind(LOCAL).unwrap();
    let subscription = |password: &str| {
        packetcrypt_proto::datagram::Subscription::new(password).to_bytes().unwrap()
    };
    for password in ["wrong", "", "right ", "Right"] {
        stranger.send_to(&subscription(password), sprayer.local_addr()).unwrap();
    }
    until(|| sprayer.stats().wrong_passwords == 4);
    assert_eq!(subscribers(&sprayer), 0);
    // Records of one who is not subscribed to are not taken.
    stranger.send_to(&[7; 1032], sprayer.local_addr()).unwrap();
    until(|| sprayer.stats().stranger_datagrams == 1);
    assert_eq!((sprayer.stats().received, sprayer.stats().incoming.pushed), (0, 0));
    // With the password it is a subscriber, and nobody else is.
    stranger.send_to(&subscription("right"), sprayer.local_addr()).unwrap();
    until(|| subscribers(&sprayer) == 1);
    let peers = sprayer.stats().peers;
    let subscriber = peers.iter().find(|peer| peer.is_subscriber).unwrap();
    assert_eq!(subscriber.addr, stranger.local_addr().unwrap());
}

#[test]
fn garbage_is_counted_and_survived() {
    let sender = UdpSocket::bind(LOCAL).unwrap();
    let sprayer = start("pass", &[sender.local_addr().unwrap()]);
    let tails: [&[u8]; 5] = [b"", b"{", b"{}", b"\xff\xff", b"[1,2]"];
    for tail in tails {
        sender.send_to(tail, sprayer.local_addr()).unwrap();
        sender.send_to(&[&[0; 1032], tail, b"x"].concat(), sprayer.local_addr()).unwrap();
    }
    until(|| sprayer.stats().garbage_datagrams == 10);
    sender.send_to(&[1; 2064], sprayer.local_addr()).unwrap();
    until(|| sprayer.stats().received == 2);
    assert_eq!(sprayer.stats().peers[0].received, 2);
}

/// A forged source is sent nothing, neither with a password nor to an open sprayer.
#[cfg(target_os = "linux")]
#[test]
fn only_listed_addresses_subscribe_and_only_this_machine_without_a_password() {
    let from = |address: &str| address.parse::<std::net::IpAddr>().unwrap();
    let mut options = SprayerOptions::new(LOCAL, "");
    assert!(options.may_subscribe(from("127.0.0.9")) && options.may_subscribe(from("::1")));
    assert!(!options.may_subscribe(from("192.0.2.1")));
    options.password = "pass".to_owned();
    assert!(options.may_subscribe(from("192.0.2.1")));
    options.subscribers_allow = vec![from("127.0.0.2")];
    assert!(options.may_subscribe(from("::ffff:127.0.0.2")));
    assert!(!options.may_subscribe(from("127.0.0.1")));

    let source = Sprayer::start(options, &Shutdown::new()).unwrap();
    let unlisted = start("pass", &[source.local_addr()]);
    let listed = Sprayer::start(
        SprayerOptions {
            subscribe_to: vec![source.local_addr()],
            ..SprayerOptions::new("127.0.0.2:0".parse().unwrap(), "pass")
        },
        &Shutdown::new(),
    )
    .unwrap();
    until(|| subscribers(&source) == 1 && source.stats().unlisted_subscriptions > 0);
    source.send(announcements(0, 10));
    assert_eq!(collect(&listed, 10), (0..10).collect::<Vec<_>>());
    let peers = source.stats().peers;
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].addr, listed.local_addr());
    assert_eq!(unlisted.stats().received, 0);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let with = |change: fn(&mut SprayerOptions)| {
        let mut options = SprayerOptions::new(LOCAL, "secret");
        change(&mut options);
        assert!(!format!("{options:?}").contains("secret"));
        Sprayer::start(options, &Shutdown::new()).map(|_| ()).unwrap_err()
    };
    let mss = with(|o| o.mss_bytes = 1031);
    assert_eq!(mss.to_string(), "mss is 1031 bytes but a record has 1032");
    let long = with(|o| o.password = "x".repeat(1000));
    assert!(matches!(long, SprayerError::PasswordTooLong(1000)));
    let group = with(|o| o.multicast = Some(Ipv4Addr::new(10, 0, 0, 1)));
    assert!(matches!(group, SprayerError::NotMulticast { .. }));
    let bind = with(|o| o.bind = "192.0.2.1:1".parse().unwrap());
    assert!(bind.to_string().contains("192.0.2.1:1"), "{bind}");
}

/// Datagrams to another address than the sprayer's own: cut by the kernel where it can.
#[cfg(target_os = "linux")]
#[test]
fn datagrams_of_records_that_fit_reach_other_addresses() {
    for (mss_bytes, records) in [(1472, 1), (2100, 2), (9000, 8)] {
        let plain = UdpSocket::bind("127.0.0.2:0").unwrap();
        plain.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let options = SprayerOptions {
            mss_bytes,
            spray_at: vec![plain.local_addr().unwrap()],
            ..SprayerOptions::new(LOCAL, "")
        };
        let source = Sprayer::start(options, &Shutdown::new()).unwrap();
        // More than a message holds, and no more than the smallest receive buffer.
        assert_eq!(source.send(announcements(0, 70)), 0);
        let (mut seen, mut buffer) = (0u32, [0; 65_536]);
        while seen < 70 {
            let (len, _) = recv_from(&plain, &mut buffer);
            assert!(
                len == records * 1032 || seen as usize + len / 1032 == 70,
                "{mss_bytes}: {len}"
            );
            for record in buffer[..len].chunks(1032) {
                assert_eq!(record[..8], u64::from(seen).to_le_bytes());
                assert_eq!(record[8..], announcements(seen, 1)[0]);
                seen += 1;
            }
        }
        until(|| source.stats().peers[0].sent == 70);
    }
}

/// The same between two sprayers, where several datagrams may come at a time.
#[cfg(target_os = "linux")]
#[test]
fn sprayers_of_different_addresses_understand_each_other() {
    let source = start("pass", &[]);
    let options = SprayerOptions {
        subscribe_to: vec![source.local_addr()],
        ..SprayerOptions::new("127.0.0.2:0".parse().unwrap(), "pass")
    };
    let other = Sprayer::start(options, &Shutdown::new()).unwrap();
    until(|| subscribers(&source) == 1);
    for first in (0..3000).step_by(100) {
        assert_eq!(source.send(announcements(first, 100)), 0);
        until(|| other.stats().received == u64::from(first) + 100);
    }
    assert_eq!(collect(&other, 3000), (0..3000).collect::<Vec<_>>());
    assert_eq!(other.stats().garbage_datagrams, 0);
}
