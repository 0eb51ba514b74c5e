//! A pool as an operator runs it: one process for each role, one file, a node. Every role of the
//! pool is killed with SIGKILL under load and started again; what was acknowledged is not lost.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use packetcrypt_core::CompactTarget;
use packetcrypt_devnet::node::rpc::{Credentials, serve};
use packetcrypt_devnet::node::{EmbeddedNode, NodeConfig};
use packetcrypt_net::Shutdown;
use packetcrypt_net::engine::ReservedPort;
use serde_json::Value;

/// How long anything may take before the test fails.
const WAIT_MAX: Duration = Duration::from_secs(180);
const ADDRESS: &str = "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2";
/// About a quarter of a million hashes with the announcements of the first minute.
const FIRST_BITS: CompactTarget = CompactTarget(0x1e7f_ffff);

/// A role's process, killed when it is dropped.
struct Role {
    arguments: Vec<String>,
    dir: PathBuf,
    child: Child,
}

impl Role {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.into()).collect();
        let child = spawn(dir, &arguments);
        Self { arguments, dir: dir.to_owned(), child }
    }

    /// As a crash does, in the middle of everything; then it is started again.
    fn kill_and_restart(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "{:?} has ended", self.arguments);
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
        self.child = spawn(&self.dir, &self.arguments);
    }

    /// Ends it as its supervisor does, and demands success.
    fn end(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg(&id).status().expect("kill runs").success());
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.code(), Some(0), "{:?}", self.arguments);
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command, with its log in the directory.
fn spawn(dir: &Path, arguments: &[String]) -> Child {
    let path = dir.join("log");
    let log = fs::OpenOptions::new().create(true).append(true).open(path).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetcrypt"));
    command.current_dir(dir).args(arguments).stderr(log);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PACKETCRYPT_") {
            command.env_remove(name);
        }
    }
    command.spawn().expect("it starts")
}

/// Ports of loopback, kept for roles that are started again.
fn ports<const N: usize>() -> [ReservedPort; N] {
    [(); N].map(|()| ReservedPort::on(Ipv4Addr::LOCALHOST.into()).expect("a port"))
}

/// A GET of JSON, `None` when nobody answers.
fn json(address: SocketAddr, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    serde_json::from_str(reply.split_once("\r\n\r\n")?.1).ok()
}

fn until(dir: &Path, what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + WAIT_MAX;
    while !holds() {
        let log = || fs::read_to_string(dir.join("log")).unwrap_or_default();
        assert!(Instant::now() < end, "no {what} in {WAIT_MAX:?}:\n{}", log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What the events that the paymaker has stored add up to: announcements, shares. Each event once.
fn credited(dir: &Path) -> (u64, u64) {
    let (mut ids, mut announcements, mut shares) = (std::collections::BTreeSet::new(), 0, 0);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("paylog_") {
            continue;
        }
        let log = fs::read_to_string(entry.path()).unwrap_or_default();
        for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if !ids.insert(event["eventId"].as_str().unwrap_or_default().to_owned()) {
                continue;
            }
            announcements += event["accepted"].as_u64().unwrap_or(0);
            shares += u64::from(event["type"] == "share");
        }
    }
    (announcements, shares)
}

fn pool_file(node: SocketAddr, [master, paymaker, block, east, west]: [SocketAddr; 5]) -> String {
    let handler = |name: &str, address: SocketAddr| {
        format!(
            "[ann_handler.{name}]\npublic_url = \"http://{address}/submit\"\nbind_pub = \"{address}\"\n\
             files_to_keep = 16\nfile_anns = 4096\ndedup_capacity = 262144\nnum_workers = 1\n\
             io_threads = 1\npay_log_switch_ms = 1000\n"
        )
    };
    format!(
        "master_url = \"http://{master}\"\npaymaker_http_password = \"p\"\nroot_workdir = \"data\"\n\
         [node]\nurls = [\"http://{node}\"]\nuser = \"u\"\npassword = \"p\"\n\
         [master]\nlisten = \"{master}\"\npoll_interval_ms = 200\nshare_work_divisor = 2\n\
         [paymaker]\nlisten = \"{paymaker}\"\nurl = \"http://{paymaker}\"\nupdate_cycle_s = 2\n\
         default_address = \"{ADDRESS}\"\nerror_address = \"{ADDRESS}\"\n\
         [block_handler.main]\nlisten = \"{block}\"\npublic_url = \"http://{block}\"\n\
         pay_log_switch_ms = 1000\n{}{}",
        handler("east", east),
        handler("west", west),
    )
}

#[test]
fn roles_that_are_killed_lose_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let node = Arc::new(
        EmbeddedNode::new(NodeConfig {
            first_bits: FIRST_BITS,
            block_time_ms: 1500,
            seed: 8,
            first_payee: ADDRESS.to_owned(),
        })
        .expect("a node"),
    );
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let listener =
        runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a listener");
    let node_address = listener.local_addr().unwrap();
    let credentials = Credentials { user: "u".to_owned(), password: "p".to_owned() };
    runtime.spawn(serve(listener, Arc::clone(&node), credentials, Shutdown::new()));

    let (of_roles, of_figures) = (ports::<5>(), ports::<2>());
    let addresses @ [master, ..] = of_roles.each_ref().map(ReservedPort::addr);
    let [ann_stats, blk_stats] = of_figures.each_ref().map(ReservedPort::addr);
    fs::write(path.join("pool.toml"), pool_file(node_address, addresses)).unwrap();
    let mut pool =
        [&["master"][..], &["paymaker"], &["bh", "main"], &["ah", "east"], &["ah", "west"]]
            .map(|arguments| Role::start(path, arguments));
    let url = format!("http://{master}");
    let (ann_listen, blk_listen) = (ann_stats.to_string(), blk_stats.to_string());
    let ann = Role::start(
        path,
        &["ann", "-p", ADDRESS, &url, "-t", "1", "--metrics-listen", &ann_listen]
            .into_iter()
            .chain(["--set", "batch_age_ms_max=500"])
            .collect::<Vec<_>>(),
    );
    let blk = Role::start(
        path,
        &["blk", "-p", ADDRESS, &url, "-t", "1", "-m", "64", "--metrics-listen", &blk_listen]
            .into_iter()
            .chain(["--set", "job_age_min_ms=1000", "--set", "huge_pages=false"])
            .collect::<Vec<_>>(),
    );

    let blocks =
        || node.with_chain(|chain| chain.main_from(0).filter(|b| !b.is_placeholder()).count());
    let accepted = || {
        let stats = json(ann_stats, "/stats.json")?;
        stats["pools"][0]["accepted"].as_u64()
    };
    until(path, "block", || blocks() >= 1);
    for role in &mut pool {
        let (before, taken) = (blocks(), accepted().expect("the miner's figures"));
        role.kill_and_restart();
        let name = format!("after the restart of {:?}", role.arguments);
        until(path, &format!("block {name}"), || blocks() > before);
        until(path, &format!("announcements {name}"), || accepted().is_some_and(|n| n > taken));
    }

    // What the miners were told is in the paymaker's books.
    let announcements = accepted().expect("the miner's figures");
    let shares = json(blk_stats, "/stats.json").expect("figures")["shares"]["accepted"]
        .as_u64()
        .expect("a number");
    assert!(announcements > 0 && shares > 0);
    let books = path.join("data/paymaker");
    until(path, "credit for all that was acknowledged", || {
        let (credited_announcements, credited_shares) = credited(&books);
        credited_announcements >= announcements && credited_shares >= shares
    });
    // And no more than was found: nothing is paid twice.
    let (credited_announcements, credited_shares) = credited(&books);
    let figures = |address| json(address, "/stats.json").expect("figures");
    let made = figures(ann_stats)["made"].as_u64().expect("a number");
    let found = figures(blk_stats)["shares"]["found"].as_u64().expect("a number");
    assert!(credited_announcements <= made, "{credited_announcements} of {made}");
    assert!(credited_shares <= found, "{credited_shares} of {found}");
    ann.end();
    blk.end();
    for role in pool {
        role.end();
    }
}
