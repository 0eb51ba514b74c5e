//! A handler that is killed fifty times at random moments while posts come, and one whose disk is
//! full for a while.

#[path = "support/pool.rs"]
mod pool;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use packetcrypt_handler::Config;
use pool::{Chain, Handler, Master, PAY_TO, config_in, counts, logged, post_head};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// How often the handler is killed.
const ROUNDS: u64 = 50;
/// Announcements in a post.
const POST_ANNS: usize = 24;
/// Clients that post at the same time.
const CLIENTS: usize = 4;
/// Posts of a client in a round, which the kill cuts short: what the handler is able to take, on
/// whatever machine, is what this bounds.
const ROUND_POSTS: usize = 50;
/// A round's kill comes after fewer acknowledged posts than this: they are posts that the clients
/// have, however slow the handler is.
const KILLED_AFTER: u64 = 60;
const _: () = assert!(KILLED_AFTER as usize <= CLIENTS * ROUND_POSTS);
/// Announcements in a file, and files: room for all that can be posted, and for void runs, which are
/// posts that were under way when the handler was killed.
const FILE_ANNS: u32 = 4096;
const FILES: usize = 64;
const _: () =
    assert!(ROUNDS as usize * CLIENTS * (ROUND_POSTS + 1) * POST_ANNS < FILES * FILE_ANNS as usize);
/// For what comes by itself, however busy the machine is.
const WAIT_MAX: Duration = Duration::from_secs(120);
const HEIGHT: i64 = 122_621;
/// Names master and directory to the child process.
const CHILD_VARIABLE: &str = "PACKETCRYPT_TEST_HANDLER_CHILD";

/// Proofs are not looked at here, so that load is cheap to make.
fn config(master: &str, dir: &Path) -> Config {
    Config {
        master_url: master.to_owned(),
        skip_check_chance: 1.0,
        file_anns: FILE_ANNS,
        files_to_keep: FILES,
        dedup_capacity: FILES * FILE_ANNS as usize,
        pay_log_switch_ms: 500,
        ..config_in(dir)
    }
}

/// An announcement that passes all checks but that of its proof.
fn announcement(number: u64) -> [u8; 1024] {
    let mut ann = [0; 1024];
    ann[0] = 1;
    ann[8..12].copy_from_slice(&0x2000_0fff_u32.to_le_bytes());
    ann[12..16].copy_from_slice(&(HEIGHT as u32).to_le_bytes());
    for (at, word) in ann[88..].chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(number * 1_000_003 + at as u64).to_le_bytes());
    }
    ann
}

fn post(number: u64) -> Vec<u8> {
    let first = number * POST_ANNS as u64;
    (first..first + POST_ANNS as u64).flat_map(announcement).collect()
}

/// Not a test by itself: the process that is killed. It ends with the one that started it, too.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(told) = std::env::var(CHILD_VARIABLE) else { return };
    let (master, dir) = told.split_once('|').unwrap();
    let handler = Handler::start(config(master, Path::new(dir)), HEIGHT).await;
    let file = Path::new(dir).join("address");
    std::fs::write(file.with_extension("new"), handler.addr.to_string()).unwrap();
    std::fs::rename(file.with_extension("new"), file).unwrap();
    let input = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    let _ = tokio::task::spawn_blocking(input).await;
}

/// A process that is killed at the latest when it is dropped.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn spawn(master: &Master, dir: &Path) -> (Process, SocketAddr) {
    let address = dir.join("address");
    let _ = std::fs::remove_file(&address);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child"])
        .env(CHILD_VARIABLE, format!("{}|{}", master.url, dir.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    #[cfg(unix)]
    ignore_file_size_signal(&mut command);
    let mut process = Process(command.spawn().unwrap());
    let end = Instant::now() + WAIT_MAX;
    loop {
        if let Ok(text) = std::fs::read_to_string(&address) {
            return (process, text.parse().unwrap());
        }
        assert_eq!(process.0.try_wait().unwrap(), None, "the handler ended at its start");
        assert!(Instant::now() < end, "the handler did not start in {WAIT_MAX:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The body of the next reply on a connection that is kept; `None` when it is not whole.
async fn reply_body(stream: &mut TcpStream) -> Option<String> {
    let mut reply = Vec::new();
    loop {
        if stream.read_buf(&mut reply).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&reply);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.expect("a length").parse::<usize>().unwrap() {
            return Some(body.to_owned());
        }
    }
}

/// Posts on one connection until the handler is gone or the round's posts are made: the first
/// number that it did not post, and accepted announcements by event id. Each acknowledgement is a
/// permit.
async fn load(addr: SocketAddr, first: u64, permits: Arc<Semaphore>) -> (u64, Vec<(String, u64)>) {
    let (mut number, mut acknowledged) = (first, Vec::new());
    let Ok(mut stream) = TcpStream::connect(addr).await else { return (number, acknowledged) };
    for _ in 0..ROUND_POSTS {
        let body = post(number);
        number += CLIENTS as u64;
        let head = post_head(1, HEIGHT + 1, PAY_TO).replace("connection: close\r\n", "");
        let head = format!("{head}content-length: {}\r\n\r\n", body.len());
        if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_err() {
            break;
        }
        let Some(body) = reply_body(&mut stream).await else { break };
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        let id = json["result"]["eventId"].as_str().unwrap_or_else(|| panic!("{json}"));
        acknowledged.push((id.to_owned(), json["result"]["accepted"].as_u64().unwrap()));
        permits.add_permits(1);
    }
    (number, acknowledged)
}

/// Numbers that look random and are the same in every run.
fn noise(round: u64) -> u64 {
    (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
}

/// What was acknowledged is in the files and in the pay log exactly once, and nothing is paid
/// twice after everything is posted again.
#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load() {
    let master = Master::start(Chain::to(&"ab".repeat(32), HEIGHT)).await;
    let dir = tempfile::tempdir().unwrap();
    let mut next: [u64; CLIENTS] = std::array::from_fn(|client| client as u64);
    let (mut acknowledged, mut awaited) = (HashMap::new(), 0);
    for round in 0..ROUNDS {
        let (mut child, addr) = spawn(&master, dir.path()).await;
        let permits = Arc::new(Semaphore::new(0));
        let client = |&first: &u64| tokio::spawn(load(addr, first, permits.clone()));
        let clients: Vec<_> = next.iter().map(client).collect();
        let before = u32::try_from(noise(round) % KILLED_AFTER).unwrap();
        let acknowledgements = tokio::time::timeout(WAIT_MAX, permits.acquire_many(before));
        drop(acknowledgements.await.expect("posts are acknowledged"));
        // In the middle of the posts that follow.
        tokio::time::sleep(Duration::from_micros(noise(round + ROUNDS) % 3_000)).await;
        child.kill();
        awaited += before as usize;
        for (client, next) in clients.into_iter().zip(&mut next) {
            let (number, events) = client.await.unwrap();
            *next = number;
            acknowledged.extend(events);
        }
    }
    assert!(acknowledged.len() >= awaited, "{} posts acknowledged", acknowledged.len());
    let handler = Handler::start(config(&master.url, dir.path()), HEIGHT).await;
    let mut posted = 0;
    for (client, &next) in next.iter().enumerate() {
        for number in (client as u64..next).step_by(CLIENTS) {
            let (accepted, dup) = counts(&handler.post(1, HEIGHT + 1, &post(number)).await);
            assert_eq!(accepted + dup, POST_ANNS as u64);
            posted += POST_ANNS as u64;
        }
    }
    let mut paid = 0;
    for line in logged(dir.path()) {
        let (id, accepted) =
            (line["eventId"].as_str().unwrap(), line["accepted"].as_u64().unwrap());
        if let Some(told) = acknowledged.remove(id) {
            assert_eq!(told, accepted, "{id}");
        }
        paid += accepted;
    }
    assert_eq!(acknowledged, HashMap::new(), "acknowledged, but not in the pay log");
    assert_eq!(paid, posted, "each announcement is paid once");
    let mut stored: Vec<[u8; 1024]> = Vec::new();
    for number in 0..handler.running.stats().files {
        let (head, body) = handler.get(&format!("/anns/anns_{number}.bin"), "").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        // A void run is zeros: its announcements were never acknowledged.
        stored.extend(body.as_chunks().0.iter().filter(|ann| ann[0] != 0));
    }
    stored.sort_unstable();
    let len = stored.len();
    stored.dedup();
    assert_eq!((len as u64, stored.len()), (posted, len), "each is stored once");
    handler.stop().await;
}

/// A write beyond the limit for the size of files is an error then, as on a full disk.
#[cfg(unix)]
fn ignore_file_size_signal(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    let ignore = || {
        // SAFETY: the call may be made between fork and exec; no handler is installed.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        Ok(())
    };
    // SAFETY: `ignore` makes one system call and allocates nothing.
    unsafe { command.pre_exec(ignore) };
}

/// Lets a process write files up to this length, or as long as its own limit allows.
#[cfg(target_os = "linux")]
fn limit_files(process: &Process, bytes: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let process = process.0.id() as libc::pid_t;
    // SAFETY: the kernel writes, then reads, one `rlimit`; the process is a child of this one.
    let statuses = unsafe {
        let read = libc::prlimit(process, libc::RLIMIT_FSIZE, std::ptr::null(), &raw mut limit);
        limit.rlim_cur = limit.rlim_max.min(bytes);
        let written =
            libc::prlimit(process, libc::RLIMIT_FSIZE, &raw const limit, std::ptr::null_mut());
        [read, written]
    };
    assert_eq!(statuses, [0, 0], "{}", std::io::Error::last_os_error());
}

/// While the pay log can not be written every post is answered 503; nothing of it is kept, and
/// nothing acknowledged before is lost. When there is room again all is as before.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_disk_is_full_for_a_while() {
    let master = Master::start(Chain::to(&"ab".repeat(32), HEIGHT)).await;
    let dir = tempfile::tempdir().unwrap();
    let (mut child, addr) = spawn(&master, dir.path()).await;
    let ask = |number: u64| async move {
        let body = post(number);
        let head = post_head(1, HEIGHT + 1, PAY_TO);
        let head = format!("{head}content-length: {}\r\n\r\n", body.len());
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    };
    let accepted = format!("\"accepted\":{POST_ANNS},");
    assert!(ask(0).await.contains(&accepted));
    limit_files(&child, 100);
    for _ in 0..3 {
        let reply = ask(1).await;
        assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains("overloaded"), "{reply}");
    }
    limit_files(&child, libc::RLIM_INFINITY);
    assert!(ask(1).await.contains(&accepted));
    assert!(ask(0).await.contains("\"accepted\":0,"));
    child.kill();
    let paid: u64 = logged(dir.path()).iter().map(|line| line["accepted"].as_u64().unwrap()).sum();
    assert_eq!(paid, 2 * POST_ANNS as u64);
    let handler = Handler::start(config(&master.url, dir.path()), HEIGHT).await;
    for number in 0..2 {
        let reply = handler.post(1, HEIGHT + 1, &post(number)).await;
        assert_eq!(counts(&reply), (0, POST_ANNS as u64));
    }
    let (_, body) = handler.get("/anns/anns_0.bin", "").await;
    assert!(body == [post(0), post(1)].concat(), "each is stored once, in order");
    handler.stop().await;
}
