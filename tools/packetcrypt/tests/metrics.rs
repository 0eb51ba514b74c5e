//! Every metric of every role against `docs/metrics.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use packetcrypt_net::engine::ReservedPort;

const ADDRESS: &str = "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2";
/// Nobody is there: port 9 of loopback, "discard".
const NOBODY: &str = "http://127.0.0.1:9";
/// How long a role may take to serve its metrics.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// Each role with its name in metrics and the options that it needs to run without a pool.
fn roles() -> Vec<(&'static str, Vec<String>)> {
    let set = |pairs: &[(&str, &str)]| -> Vec<String> {
        pairs.iter().flat_map(|(key, value)| ["--set".into(), format!("{key}={value}")]).collect()
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let listen = ("listen", "127.0.0.1:0");
    let node = ("node.urls", NOBODY);
    vec![
        ("ann", words(&format!("ann -t 1 -p {ADDRESS} {NOBODY}"))),
        ("blockminer", words(&format!("blk -t 1 -m 16 -p {ADDRESS} {NOBODY}"))),
        ("sprayer", words("sprayer -b 127.0.0.1:0 -s 127.0.0.1:9")),
        ("master", [words("master"), set(&[listen, node, ("dir", "master")])].concat()),
        (
            "paymaker",
            [
                words("paymaker"),
                set(&[listen, node, ("dir", "paymaker"), ("paymaker_http_password", "x")]),
                set(&[("default_address", ADDRESS), ("error_address", ADDRESS)]),
            ]
            .concat(),
        ),
        (
            "blkhandler",
            [words("bh x"), set(&[listen, node, ("dir", "bh"), ("master_url", NOBODY)])].concat(),
        ),
        (
            "handler",
            [
                words("ah x"),
                set(&[("master_url", NOBODY), ("public_url", "http://h/submit")]),
                set(&[("root_workdir", "ah"), ("bind_pub", "127.0.0.1:0")]),
                set(&[("files_to_keep", "2"), ("file_anns", "4096")]),
            ]
            .concat(),
        ),
    ]
}

/// A process that is killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path, arguments: &[String], metrics: SocketAddr) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetcrypt"));
    command.current_dir(dir).args(arguments).stderr(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PACKETCRYPT_") {
            command.env_remove(name);
        }
    }
    if ["ann", "blk", "sprayer"].contains(&&*arguments[0]) {
        command.args(["--metrics-listen", &metrics.to_string()]);
    } else {
        command.args(["--set", &format!("metrics_listen={metrics}")]);
    }
    Running(command.spawn().expect("it starts"))
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    Some(reply.split_once("\r\n\r\n")?.1.to_owned())
}

/// What `/metrics` of a role says; every reason of a refusal included.
fn exposition(dir: &Path, arguments: &[String]) -> String {
    let reserved = ReservedPort::on(Ipv4Addr::LOCALHOST.into()).expect("a port");
    let port = reserved.addr();
    let mut role = start(dir, arguments, port);
    let end = Instant::now() + WAIT_MAX;
    loop {
        let ended = role.0.try_wait().expect("it can be asked");
        assert!(ended.is_none() && Instant::now() < end, "{arguments:?}: no metrics, {ended:?}");
        // Counters of reasons come to be when they are first looked at.
        if get(port, "/stats.json").is_some()
            && let Some(text) = get(port, "/metrics")
        {
            return text;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Names without the prefix of the role, with their kind.
fn metrics(text: &str, role: &str) -> BTreeMap<String, String> {
    let prefix = format!("packetcrypt_{role}_");
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| {
            let (name, kind) = line.split_once(' ').expect("a name and its kind");
            let name = name.strip_prefix(&prefix).unwrap_or_else(|| panic!("{name}: no {prefix}"));
            (name.to_owned(), kind.to_owned())
        })
        .collect()
}

/// The rows `` | `name` | kind | meaning | `` below a heading, and the text there.
fn documented(document: &str, heading: &str) -> (BTreeMap<String, String>, String) {
    let section: Vec<&str> = document
        .lines()
        .skip_while(|line| *line != format!("## {heading}"))
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .collect();
    let rows = section.iter().filter(|line| line.starts_with("| `")).filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, meaning, _] = cells[..] else { return None };
        assert!(!meaning.is_empty(), "no meaning: {line}");
        Some((name.trim_matches('`').to_owned(), kind.to_owned()))
    });
    (rows.collect(), section.join("\n"))
}

/// Values of the labels that say what became of something.
fn outcomes(text: &str) -> BTreeSet<String> {
    let labels = ["reason=\"", "outcome=\""];
    let values = labels.into_iter().flat_map(|label| text.split(label).skip(1));
    values.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

#[test]
fn every_metric_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let document = fs::read_to_string(path).expect("docs/metrics.md");
    let (of_all, _) = documented(&document, "Every role");
    assert!(!of_all.is_empty());
    for (role, arguments) in roles() {
        let dir = tempfile::tempdir().unwrap();
        let text = exposition(dir.path(), &arguments);
        let (of_role, section) = documented(&document, &format!("`packetcrypt_{role}_`"));
        let both: BTreeMap<String, String> = of_all
            .iter()
            .chain(&of_role)
            .map(|(name, kind)| (name.clone(), kind.clone()))
            .collect();
        assert_eq!(both, metrics(&text, role), "docs/metrics.md, {role}\n{text}");
        for outcome in outcomes(&text) {
            assert!(
                section.contains(&format!("`{outcome}`")),
                "docs/metrics.md, {role}: {outcome}"
            );
        }
    }
}
