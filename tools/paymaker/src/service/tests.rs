use std::path::Path;

use packetcrypt_net::TestClock;
use packetcrypt_net::metrics::Metrics;
use packetcrypt_proto::settings::Secret;

use super::*;
use crate::ledger::Files;

const MINER: &str = "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2";
const DAY: u64 = 86_400_000;
pub(crate) const START: u64 = 20_000 * DAY;

pub(crate) fn service(dir: &Path, clock: &TestClock) -> Service {
    let config = Config {
        paymaker_http_password: Secret::new("hush"),
        default_address: "pkt1default".into(),
        dir: dir.to_owned(),
        ..Config::default()
    };
    let files = Files::open(dir).unwrap();
    let counters = Counters::new(&mut Metrics::new("paymaker"));
    let service = Service::new(config, Arc::new(clock.clone()), Box::new(files), counters);
    service.load().unwrap();
    service
}

fn block(time: u64) -> String {
    format!(
        "{{\"type\":\"block\",\"height\":5,\"difficulty\":1,\"time\":{time},\
         \"eventId\":\"block {time}\"}}\n"
    )
}

pub(crate) fn share(time: u64) -> String {
    format!(
        "{{\"type\":\"share\",\"payTo\":\"{MINER}\",\"target\":{},\"time\":{time},\
         \"eventId\":\"share {time}\"}}\n",
        0x2000_0fff
    )
}

fn post(service: &Service, log: &str) -> Result<String, PostError> {
    service.post(log.as_bytes())
}

fn paid(service: &Service) -> f64 {
    let answer = service.compute(f64::INFINITY).unwrap();
    answer.result.get(MINER).copied().unwrap_or(0.0)
}

fn logs(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("paylog_")).count()
}

/// A handler on the same machine writes its events by the same wrong clock.
#[test]
fn a_clock_that_goes_forward_and_back_takes_nobodys_pay() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::new(START);
    let service = service(dir.path(), &clock);
    post(&service, &(block(START - 10) + &share(START))).unwrap();
    let before = paid(&service);
    assert!(before > 0.0);
    clock.set_ms(START + 30 * DAY);
    for _ in 0..4 {
        let ahead = post(&service, &share(clock.now_ms())).unwrap_err();
        assert!(matches!(ahead, PostError::Newest(NewestError::Ahead { .. })), "{ahead}");
        clock.advance_ms(60_000);
    }
    // What happened before the step is still taken.
    post(&service, &share(START + 1)).unwrap();
    clock.set_ms(START + 300_000);
    post(&service, &share(START + 299_000)).unwrap();
    assert!(paid(&service) >= before);
    let stats = service.stats();
    assert_eq!((stats.shares, stats.blocks, stats.events.old, stats.logs_pruned), (3, 1, 0, 0));
}

/// Events that were taken when the clock was believed although it was wrong.
#[test]
fn what_a_wrong_clock_expired_is_read_again_and_never_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::new(START);
    let service = service(dir.path(), &clock);
    post(&service, &(block(START - 10) + &share(START))).unwrap();
    clock.set_ms(START + 30 * DAY);
    post(&service, &share(clock.now_ms())).unwrap_err();
    clock.advance_ms(300_000);
    post(&service, &share(clock.now_ms())).unwrap();
    assert_eq!((service.stats().shares, service.stats().logs_pruned), (1, 0));
    // Set right: looks are as long after one another as a log would be deleted at the first.
    clock.set_ms(START);
    for time in 1..=2 {
        clock.advance_ms(DAY / 2);
        post(&service, &format!("{{\"time\":{time}}}\n")).unwrap();
    }
    assert_eq!(service.stats().logs_pruned, 2, "those of 1970");
    assert_eq!(logs(dir.path()), 2);
}

#[test]
fn an_answer_is_given_again_while_nothing_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::new(START);
    let service = service(dir.path(), &clock);
    assert!(service.still_good().is_none());
    let first = service.compute(f64::INFINITY).unwrap();
    clock.advance_ms(CACHE_MS - 1);
    assert!(Arc::ptr_eq(&first, &service.compute(f64::INFINITY).unwrap()));
    let of_then = service.compute(START as f64).unwrap();
    assert!(!Arc::ptr_eq(&of_then, &service.compute(START as f64).unwrap()));
    clock.advance_ms(1);
    let second = service.compute(f64::INFINITY).unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    post(&service, &(block(START - 1) + &share(START))).unwrap();
    let third = service.compute(f64::INFINITY).unwrap();
    assert!(!Arc::ptr_eq(&second, &third));
    assert!(third.result[MINER] > 0.0 && !second.result.contains_key(MINER));
}

#[test]
fn logs_are_deleted_by_the_newest_event_that_was_known_at_the_last_look() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::new(START);
    let service = service(dir.path(), &clock);
    post(&service, &share(START)).unwrap();
    // Depth: two days. Looks are a tenth of it apart.
    for (passed, at, left) in
        [(5 * DAY, START + 5 * DAY, 2), (1, START + 5 * DAY + 1, 3), (DAY, START + 6 * DAY, 3)]
    {
        clock.advance_ms(passed);
        post(&service, &share(at)).unwrap();
        assert_eq!(logs(dir.path()), left, "{at}");
    }
    assert_eq!(service.stats().logs_pruned, 1);
    assert_eq!(service.stats().shares, 3);
}
