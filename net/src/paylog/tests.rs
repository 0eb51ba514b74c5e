use super::*;
use crate::Shutdown;
use crate::control::{ControlLimits, ControlServer, serve};
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use packetcrypt_proto::ids;
use std::sync::Mutex;
use tokio::sync::watch;

type Posts = Arc<Mutex<Vec<Bytes>>>;

fn options(dir: &Path) -> PayLogOptions {
    PayLogOptions { rotate_ms: 50, ..PayLogOptions::new(dir) }
}

/// A paymaker that answers by `answer` (how many posts came before, the body) and keeps what it
/// confirmed.
async fn paymaker(
    answer: impl Fn(usize, &Bytes) -> (StatusCode, String) + Clone + Send + Sync + 'static,
    shutdown: &Shutdown,
) -> (ControlServer, Posts, String) {
    let posts = Posts::default();
    let kept = posts.clone();
    let count = Arc::new(AtomicU64::new(0));
    let events = move |headers: HeaderMap, body: Bytes| {
        assert_eq!(headers["authorization"], "Basic eDpzZWNyZXQ=");
        let before = usize::try_from(count.fetch_add(1, Ordering::SeqCst)).unwrap();
        let (status, text) = answer(before, &body);
        if status == StatusCode::OK && text == confirmed(&body) {
            kept.lock().unwrap().push(body);
        }
        async move { (status, text) }
    };
    let router = Router::new().route("/pool/events", post(events));
    let any = "127.0.0.1:0".parse().unwrap();
    let server = serve(any, router, ControlLimits::default(), shutdown.clone()).await.unwrap();
    let url = format!("http://{}/pool/", server.local_addr());
    (server, posts, url)
}

fn confirmed(body: &Bytes) -> String {
    format!("{{\"result\":{{\"eventId\":\"{}\"}},\"warn\":[],\"error\":[]}}", ids::file_id(body))
}

fn uploader(log: &PayLog, url: watch::Receiver<Option<String>>, shutdown: &Shutdown) -> Uploader {
    let password = PaymakerPassword::new("secret");
    assert!(!format!("{password:?}").contains("secret"));
    let options = UploaderOptions { retry_ms: (20, 40), ..UploaderOptions::new(url, password) };
    Uploader::start(log, options, shutdown.clone()).unwrap()
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..6000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not come true in a minute");
}

fn lines(posts: &Posts) -> Vec<String> {
    let all = posts.lock().unwrap().concat();
    String::from_utf8(all).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_batch_is_in_the_log_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let log = PayLog::open(options(dir.path())).unwrap();
    let batch = |lines: &[&str]| {
        log.append_all_blocking(lines.iter().map(|line| line.as_bytes().to_vec()).collect())
    };
    assert_eq!(batch(&["1", "2\n", "3"]), Err(AppendError::NotOneLine));
    assert_eq!(batch(&[]), Ok(()));
    assert_eq!(batch(&["4", "5"]), Ok(()));
    assert_eq!((log.stats().appended, log.stats().refused, log.stats().commits), (2, 3, 1));
    drop(log);
    // What a crash left is cut at the next start, and what is whole is shown then.
    let path = files::path(dir.path(), 0);
    std::fs::write(&path, "4\n5\n6").unwrap();
    let log = PayLog::open(options(dir.path())).unwrap();
    log.append_all_blocking(vec![b"7".to_vec()]).unwrap();
    let mut kept = Vec::new();
    log.read_lines(|line| kept.push(String::from_utf8_lossy(line).into_owned())).unwrap();
    assert_eq!(kept, ["4", "5", "7"]);
}

#[cfg(unix)]
#[test]
fn a_directory_has_one_log_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let log = PayLog::open(options(dir.path())).unwrap();
    log.append_all_blocking(vec![b"1".to_vec()]).unwrap();
    let error = PayLog::open(options(dir.path())).unwrap_err();
    assert!(error.to_string().contains("another pay log is open"), "{error}");
    assert_eq!(std::fs::read(files::path(dir.path(), 0)).unwrap(), b"1\n");
    let other = log.clone();
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(other);
    });
    drop(log);
    PayLog::open(options(dir.path())).unwrap();
    late.join().unwrap();
}

#[tokio::test]
async fn every_line_arrives_once_whatever_the_paymaker_does_first() {
    let dir = tempfile::tempdir().unwrap();
    let shutdown = Shutdown::new();
    let answer = |before: usize, body: &Bytes| match before {
        0 => (StatusCode::TOO_EARLY, r#"{"result":"","error":["no"],"warn":[]}"#.to_owned()),
        1 => (StatusCode::OK, r#"{"result":{"eventId":"00"},"warn":[],"error":[]}"#.to_owned()),
        2 => (StatusCode::OK, "nonsense".to_owned()),
        3 => (StatusCode::OK, r#"{"result":"","error":["no"],"warn":[]}"#.to_owned()),
        _ => (StatusCode::OK, confirmed(body)),
    };
    let (server, posts, url) = paymaker(answer, &shutdown).await;
    let log = PayLog::open(options(dir.path())).unwrap();
    // At first the address is not known, then nobody is there.
    let (address, watched) = watch::channel(None);
    let uploader = uploader(&log, watched, &shutdown);
    let appends = (0..300).map(|i| {
        let log = log.clone();
        tokio::spawn(async move { log.append(format!("{{\"n\":{i}}}")).await })
    });
    for append in appends.collect::<Vec<_>>() {
        append.await.unwrap().unwrap();
    }
    let stats = log.stats();
    assert_eq!(stats.appended, 300);
    assert!(stats.commits < 300, "no group commit: {} commits", stats.commits);
    address.send_replace(Some("http://127.0.0.1:9".to_owned()));
    until(|| log.stats().uploads_failed > 0).await;
    address.send_replace(Some(url));
    until(|| log.stats().uploads_failed >= 5 && log.stats().files_waiting == 0).await;
    let mut seen = lines(&posts);
    seen.sort_by_key(|line| (line.len(), line.clone()));
    assert_eq!(seen, (0..300).map(|i| format!("{{\"n\":{i}}}")).collect::<Vec<_>>());
    shutdown.trigger();
    uploader.join().await;
    server.join().await;
}

/// What the paymaker sees late it may take as lost: after it was away or busy the oldest file
/// comes first, however often each was tried.
#[tokio::test]
async fn the_oldest_file_comes_first_after_the_paymaker_was_away() {
    let dir = tempfile::tempdir().unwrap();
    let shutdown = Shutdown::new();
    let busy = |before: usize, body: &Bytes| match before {
        0..8 => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
        _ => (StatusCode::OK, confirmed(body)),
    };
    let (server, posts, url) = paymaker(busy, &shutdown).await;
    let log = PayLog::open(options(dir.path())).unwrap();
    let (address, watched) = watch::channel(Some("http://127.0.0.1:9".to_owned()));
    let uploader = uploader(&log, watched, &shutdown);
    for i in 0..6u64 {
        // A file of its own for each.
        log.append(format!("{i}")).await.unwrap();
        until(|| log.stats().files_waiting > i).await;
    }
    until(|| log.stats().uploads_failed > 2).await;
    address.send_replace(Some(url));
    until(|| log.stats().files_waiting == 0).await;
    assert!(log.stats().uploads_failed >= 8 + 2);
    assert_eq!(lines(&posts), (0..6).map(|i| i.to_string()).collect::<Vec<_>>());
    shutdown.trigger();
    uploader.join().await;
    server.join().await;
}

/// Spec 05, 16.21: what is refused for good is not posted for ever, is not lost, and holds nobody up.
#[tokio::test]
async fn a_file_that_is_refused_for_good_is_set_aside_and_the_next_ones_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let shutdown = Shutdown::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let statuses = seen.clone();
    let own = |text: &str| format!("{{\"result\":\"\",\"error\":[\"{text}\"],\"warn\":[]}}");
    let answer = move |_: usize, body: &Bytes| {
        let line = String::from_utf8_lossy(body).trim_end().to_owned();
        let mut seen = seen.lock().unwrap();
        let times = seen.iter().filter(|other| **other == line).count();
        seen.push(line.clone());
        match line.as_str() {
            "no time" => (StatusCode::BAD_REQUEST, own("could not get most recent timestamp")),
            "too long" => (StatusCode::PAYLOAD_TOO_LARGE, own("longer than 5 bytes")),
            // Not the paymaker's word, or no word about the file: all of them go through later.
            "proxy" if times == 0 => (StatusCode::BAD_REQUEST, "<html>".to_owned()),
            "early" if times == 0 => (StatusCode::TOO_EARLY, own("ahead")),
            "slow" if times == 0 => (StatusCode::REQUEST_TIMEOUT, String::new()),
            "many" if times == 0 => (StatusCode::TOO_MANY_REQUESTS, own("later")),
            "password" if times == 0 => (StatusCode::UNAUTHORIZED, "401 Unauthorized".to_owned()),
            "away" if times == 0 => (StatusCode::INTERNAL_SERVER_ERROR, own("disk")),
            _ => (StatusCode::OK, confirmed(body)),
        }
    };
    let (server, posts, url) = paymaker(answer, &shutdown).await;
    let log = PayLog::open(options(dir.path())).unwrap();
    let all = ["no time", "proxy", "early", "slow", "too long", "many", "password", "away", "good"];
    for (i, line) in (1u64..).zip(all) {
        log.append(line).await.unwrap();
        until(|| log.stats().files_waiting >= i).await;
    }
    let uploader = uploader(&log, watch::channel(Some(url)).1, &shutdown);
    until(|| log.stats().files_waiting == 0).await;
    let stats = log.stats();
    assert_eq!((stats.files_uploaded, stats.files_refused, stats.uploads_failed), (7, 2, 6));
    let refused = |n| std::fs::read_to_string(files::path_refused(dir.path(), n)).unwrap();
    assert_eq!((refused(0).as_str(), refused(4).as_str()), ("no time\n", "too long\n"));
    let times = |line: &str| statuses.lock().unwrap().iter().filter(|it| *it == line).count();
    assert_eq!((times("no time"), times("too long"), times("proxy")), (1, 1, 2));
    let mut arrived = lines(&posts);
    arrived.sort();
    assert_eq!(arrived, ["away", "early", "good", "many", "password", "proxy", "slow"]);
    let mut metrics = crate::metrics::Metrics::new("handler");
    log.figures().register(&mut metrics);
    assert_eq!(stats.to_string(), "pay log: 9 events, files 7 sent 0 waiting 2 REFUSED");
    let text = metrics.encode();
    assert!(text.contains("packetcrypt_handler_paylog_files_refused 2\n"), "{text}");
    assert!(text.contains("packetcrypt_handler_paylog_files_uploaded_total 7\n"), "{text}");
    shutdown.trigger();
    uploader.join().await;
    server.join().await;
    drop(log);
    // Numbers are not used again, and who takes the ending away sends the file once more.
    std::fs::rename(files::path_refused(dir.path(), 4), files::path_refused(dir.path(), 40))
        .unwrap();
    let log = PayLog::open(options(dir.path())).unwrap();
    assert!(files::path(dir.path(), 41).exists());
    std::fs::rename(files::path_refused(dir.path(), 40), files::path(dir.path(), 40)).unwrap();
    assert_eq!((log.stats().files_waiting, log.stats().files_refused), (1, 1));
}

#[tokio::test]
async fn a_restart_cuts_the_torn_line_and_uploads_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let log = PayLog::open(options(dir.path())).unwrap();
    log.append("{\"time\":1}").await.unwrap();
    drop(log);
    let path = files::path(dir.path(), 0);
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(whole, b"{\"time\":1}\n");
    // As kill -9 leaves it: a line that was being written.
    std::fs::write(&path, [&whole[..], b"{\"time\":2,\"pay"].concat()).unwrap();
    let shutdown = Shutdown::new();
    let (_server, posts, url) =
        paymaker(|_, body| (StatusCode::OK, confirmed(body)), &shutdown).await;
    let log = PayLog::open(options(dir.path())).unwrap();
    assert_eq!(log.stats().torn_bytes, 14);
    log.append("{\"time\":3}").await.unwrap();
    assert!(files::path(dir.path(), 1).exists());
    let uploader = uploader(&log, watch::channel(Some(url)).1, &shutdown);
    until(|| log.stats().files_uploaded == 2).await;
    assert_eq!(lines(&posts), ["{\"time\":1}", "{\"time\":3}"]);
    shutdown.trigger();
    uploader.join().await;
    drop(log);
    assert_eq!(files::list(dir.path()).unwrap(), Vec::<u64>::new());
}

#[tokio::test]
async fn what_is_no_line_is_refused_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let log = PayLog::open(options(dir.path())).unwrap();
    assert_eq!(log.append("").await, Err(AppendError::NotOneLine));
    assert_eq!(log.append("a\nb").await, Err(AppendError::NotOneLine));
    let long = "x".repeat(limits::PAYLOG_LINE_BYTES_MAX);
    assert!(matches!(log.append(long).await, Err(AppendError::TooLong { .. })));
    log.append("{}").await.unwrap();
    assert_eq!((log.stats().refused, log.stats().appended), (3, 1));
    assert_eq!(std::fs::read(files::path(log.dir(), 0)).unwrap(), b"{}\n");
}

#[tokio::test]
async fn long_files_are_closed_before_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let options = PayLogOptions { file_bytes_max: 100, ..PayLogOptions::new(dir.path()) };
    let log = PayLog::open(options).unwrap();
    for i in 0..30 {
        log.append(format!("{{\"number\":{i:05}}}")).await.unwrap();
    }
    let listed = files::list(dir.path()).unwrap();
    assert!(listed.len() >= 5, "{listed:?}");
    let lengths = listed.iter().map(|n| std::fs::metadata(files::path(dir.path(), *n)).unwrap());
    assert!(lengths.map(|m| m.len()).all(|len| len < 200));
}

#[test]
fn a_directory_that_can_not_be_is_named() {
    let error = PayLog::open(PayLogOptions::new("/dev/null/paylog")).unwrap_err();
    assert!(error.to_string().contains("/dev/null/paylog"), "{error}");
}
