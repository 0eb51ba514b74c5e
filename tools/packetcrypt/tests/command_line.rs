//! The command line as a user meets it: settings, explanations, exit codes, signals.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const ADDRESS: &str = "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2";

/// The command, in an empty directory and without variables of ours.
fn packetcrypt(dir: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetcrypt"));
    command.current_dir(dir);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PACKETCRYPT_") {
            command.env_remove(name);
        }
    }
    command
}

fn outcome(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the command runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

#[test]
fn every_command_has_help() {
    let dir = tempfile::tempdir().unwrap();
    let (code, output, _) = outcome(packetcrypt(dir.path()).arg("--help"));
    assert_eq!(code, 0);
    let commands: Vec<&str> = output
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    for wanted in
        ["ann", "blk", "ah", "bh", "master", "paymaker", "sprayer", "devnet", "check", "bench"]
    {
        assert!(commands.contains(&wanted), "{wanted} is missing in {commands:?}");
        let (code, output, _) = outcome(packetcrypt(dir.path()).args([wanted, "--help"]));
        assert_eq!(code, 0);
        assert!(output.contains("Usage:"), "{output}");
    }
    for (kind, line) in [
        ("ann", "The announcement miner: jobs"),
        ("blk", "The block miner: trees"),
        ("ingest", "Announcements into the block miner"),
        ("dump-program", "Print the random program"),
    ] {
        let (_, output, _) = outcome(packetcrypt(dir.path()).args(["bench", kind, "--help"]));
        assert!(output.starts_with(line), "{output}");
    }
    assert_eq!(outcome(packetcrypt(dir.path()).arg("--nonsense")).0, 2);
    assert_eq!(outcome(&mut packetcrypt(dir.path())).0, 2);
}

/// What is not understood may be a secret under another name, and addresses may hold one.
#[test]
fn errors_and_printed_settings_show_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let shown = |command: &mut Command| {
        let (code, output, error) = outcome(command);
        assert!(!(output.clone() + &error).contains("HUNTER2"), "{output}{error}");
        (code, output, error)
    };
    let write = |text: &str| fs::write(dir.path().join("pool.toml"), text).unwrap();
    write("paymakerHttpPasswd = \"HUNTER2\"");
    let (code, _, error) = shown(packetcrypt(dir.path()).arg("master"));
    assert!(code == 2 && error.contains("paymakerHttpPasswd: unknown"), "{error}");
    write("[master]\nhttp = \"HUNTER2\"");
    let (code, _, error) = shown(packetcrypt(dir.path()).arg("master"));
    assert!(code == 2 && error.contains("unknown field `http`"), "{error}");
    write("[node]\nurls = [\"https://u:HUNTER2@host\"]");
    let (code, _, error) = shown(packetcrypt(dir.path()).arg("master"));
    assert!(code == 2 && error.contains("https://(hidden)@host"), "{error}");
    write("[node]\nurls = [\"http://u:HUNTER2@host\"]");
    let (_, output, _) = shown(packetcrypt(dir.path()).args(["master", "--print-config"]));
    assert!(output.contains("http://(hidden)@host"), "{output}");
    // The variable of --node is no key.
    let mut command = packetcrypt(dir.path());
    command.env("PACKETCRYPT_BLK_NODE", "http://u:HUNTER2@host");
    let (code, _, error) =
        shown(command.args(["blk", "-p", ADDRESS, "http://p", "--print-config"]));
    assert_eq!(code, 0, "{error}");
}

#[test]
fn miners_have_no_silent_address_and_pool() {
    let dir = tempfile::tempdir().unwrap();
    for role in ["ann", "blk"] {
        let (code, _, error) = outcome(packetcrypt(dir.path()).args([role, "http://pool.example"]));
        assert_eq!(code, 2);
        assert!(error.contains("no address to be paid") && error.contains("-p"), "{error}");
        let (code, _, error) = outcome(packetcrypt(dir.path()).args([role, "-p", ADDRESS]));
        assert_eq!(code, 2);
        assert!(error.contains("no pool"), "{error}");
        let arguments = [role, "-p", "pkt1qwrong", "http://pool.example"];
        let (code, _, error) = outcome(packetcrypt(dir.path()).args(arguments));
        assert_eq!(code, 2);
        assert!(error.contains("-p: payment_address = pkt1qwrong: "), "{error}");
    }
}

#[test]
fn command_line_beats_environment_beats_file() {
    let dir = tempfile::tempdir().unwrap();
    let json = format!(r#"{{"threads":3,"uploaders":5,"payment_addr":"{ADDRESS}"}}"#);
    fs::write(dir.path().join("m.json"), json).unwrap();
    let mut command = packetcrypt(dir.path());
    command.args(["ann", "-c", "m.json", "-t", "9", "--print-config", "http://p"]);
    command.env("PACKETCRYPT_ANN_UPLOADERS", "7").env("PACKETCRYPT_ANN_THREADS", "8");
    // A handler's variable is none of the miner.
    command.env("PACKETCRYPT_ANN_HANDLER_EAST_MSS", "1472");
    let (code, output, error) = outcome(&mut command);
    assert_eq!(code, 0, "{error}");
    for line in [
        "pools = [\"http://p\"]  # command line",
        "threads = 9  # -t",
        "uploaders = 7  # environment variable PACKETCRYPT_ANN_UPLOADERS",
        "nice = 0  # default",
        &format!("payment_address = \"{ADDRESS}\"  # m.json"),
    ] {
        assert!(output.lines().any(|have| have == line), "{line}: {output}");
    }
    assert!(output.parse::<toml::Table>().is_ok(), "{output}");
}

#[test]
fn engines_are_forced_by_option_and_environment() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = packetcrypt(dir.path());
    command.args(["ann", "--backend", "soft", "--set", "backend=avx2", "--print-config"]);
    command.env("PACKETCRYPT_EXECUTOR", "lanes").env("PACKETCRYPT_ANN_EXECUTOR", "interpreter");
    let (code, output, error) = outcome(&mut command);
    assert_eq!(code, 0, "{error}");
    for line in [
        "backend = \"soft\"  # --backend",
        "executor = \"lanes\"  # environment variable PACKETCRYPT_EXECUTOR",
    ] {
        assert!(output.lines().any(|have| have == line), "{line}: {output}");
    }
    // The environment is below everything that the command line says.
    let mut command = packetcrypt(dir.path());
    command.args(["ann", "--set", "executor=interpreter", "--print-config"]);
    command.env("PACKETCRYPT_EXECUTOR", "lanes").env("PACKETCRYPT_BACKEND", "soft");
    let (_, output, _) = outcome(&mut command);
    assert!(output.contains("executor = \"interpreter\"  # --set executor\n"), "{output}");
    assert!(output.contains("# environment variable PACKETCRYPT_BACKEND\n"), "{output}");
    for role in ["ann", "blk", "ah", "bh", "devnet", "check", "bench"] {
        let mut command = packetcrypt(dir.path());
        let forced = ["--backend", "soft", "--executor", "jit"];
        let (code, _, error) = outcome(command.arg(role).args(forced).args(match role {
            "ah" | "bh" => &["x"][..],
            "check" => &["address", ADDRESS],
            _ => &[],
        }));
        assert!(code == 2 && error.contains("executor jit was asked for"), "{role}: {error}");
    }
}

#[test]
fn errors_name_the_place_key_value_and_rule() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pool.toml");
    let attempt = |text: &str, arguments: &[&str]| {
        fs::write(&file, text).unwrap();
        let (code, _, error) = outcome(packetcrypt(dir.path()).args(arguments));
        assert_eq!(code, 2, "{error}");
        error
    };
    let error = attempt("[master]\npoll_interval_ms = 1\n", &["master"]);
    assert!(error.contains("pool.toml [master]: poll_interval_ms = 1: must be 10 to"), "{error}");
    let error = attempt("[master]\npol = 1\n", &["master"]);
    assert!(error.contains("pool.toml [master]: pol: unknown field `pol`"), "{error}");
    let error = attempt("[node]\nurls = [\"x\"]\n", &["master"]);
    assert!(error.contains("pool.toml [node]: urls[0] = x: must begin"), "{error}");
    let error = attempt("[block_handler.main]\n", &["bh", "other"]);
    assert!(error.contains("no [block_handler.other]; it has main"), "{error}");
    let error = attempt("[mastr]\n", &["master"]);
    assert!(error.contains("mastr") && error.contains("the tables node, master"), "{error}");
    let error = attempt("[master]\nprivate_seed = \"correct horse\n", &["master"]);
    assert!(error.contains("line 2") && !error.contains("horse"), "{error}");
    let error = attempt("", &["master", "--config", "nowhere.toml"]);
    assert!(error.contains("nowhere.toml"), "{error}");
    let error = attempt("", &["master", "--set", "node.urls=ftp://h"]);
    assert!(error.contains("--set node.urls: urls[0] = ftp://h: must begin"), "{error}");
    let error = attempt("", &["master", "--set", "node.url=x"]);
    assert!(error.contains("--set node.url: url: unknown field `url`"), "{error}");
    let error = attempt("", &["master", "--set", "poll_interval_ms=no"]);
    assert!(error.contains("--set poll_interval_ms: poll_interval_ms = \"no\""), "{error}");
}

/// Wherever a role connects to the address itself: it would only fail later.
#[test]
fn addresses_with_tls_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], want: &str| {
        let (code, _, error) = outcome(packetcrypt(dir.path()).args(arguments));
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(&format!("{want}: must begin with http://: TLS is not")), "{error}");
    };
    for (role, key) in [
        (&["master"][..], "paymaker_url"),
        (&["bh", "x"], "master_url"),
        (&["ah", "x"], "master_url"),
        (&["ann", "-p", ADDRESS], "pools"),
        (&["blk", "-p", ADDRESS], "pool_url"),
    ] {
        let set = format!("{key}=https://h");
        let want = format!("--set {key}: {key} = https://h");
        refused(&[role, &["--set", &set]].concat(), &want);
    }
    let handler = ["blk", "-p", ADDRESS, "http://p", "--handler", "https://h"];
    refused(&handler, "--handler: handlers[0] = https://h");
    refused(&["ann", "-c", "https://h/miner.json"], "https://h/miner.json");
}

/// What could not work is wrong usage, however late it is found out.
#[test]
fn wrong_values_end_with_2() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, want) in [
        (&["ann", "-p", ADDRESS, "http://p", "--cpus", "x"][..], "cpus = \"x\""),
        (&["devnet", "--node", "nonsense"], "nonsense"),
        (&["devnet", "--node", "https://h"], "TLS"),
        (&["devnet", "--yes-real-network"], "--node"),
        (&["check", "ann", "nofile", "--parent", "00"], "64 hex digits"),
    ] {
        let (code, _, error) = outcome(packetcrypt(dir.path()).args(arguments));
        assert!(code == 2 && error.contains(want), "{arguments:?}: {code}, {error}");
    }
}

#[test]
fn a_pool_file_of_the_reference_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"
        paymaker_http_password = "hunter2"
        master_url = "http://localhost:8080"
        root_workdir = "./datastore/pool"
        [ann_handler.ah0]
        block_miner_passwd = "no"
        skip_check_chance = 0.0
        num_workers = 4
        input_queue_len = 256
        public_url = "http://localhost:8081/submit"
        bind_pub = "0.0.0.0:8081"
        bind_pvt = "0.0.0.0:6666"
        spray_workers = 4
        subscribe_to = []
        files_to_keep = 512
        #mss = 1472
        spray_at = ["127.0.0.1:6667"]
    "#;
    fs::write(dir.path().join("pool.toml"), text).unwrap();
    let (code, output, error) =
        outcome(packetcrypt(dir.path()).args(["ah", "ah0", "--print-config"]));
    assert_eq!(code, 0, "{error}");
    assert!(output.contains("root_workdir = \"./datastore/pool\"  # ./pool.toml\n"), "{output}");
    assert!(output.contains("num_workers = 4  # ./pool.toml [ann_handler.ah0]\n"), "{output}");
    assert!(!output.contains("hunter2") && !output.contains("\"no\""), "{output}");
}

#[test]
fn the_sprayer_of_a_block_miner_needs_its_partners() {
    let dir = tempfile::tempdir().unwrap();
    let base = ["blk", "-p", ADDRESS, "http://p", "--print-config"];
    let run = |more: &[&str]| outcome(packetcrypt(dir.path()).args(base).args(more));
    assert_eq!(run(&["-s", "10.0.0.1:1"]).0, 2);
    assert_eq!(run(&["-b", "0.0.0.0:1"]).0, 2);
    assert_eq!(run(&["-s", "10.0.0.1:1", "-b", "0.0.0.0:1"]).0, 2);
    let (code, output, error) =
        run(&["-s", "10.0.0.1:1", "10.0.0.2:1", "-b", "0.0.0.0:1", "-P", "hunter2", "-S", "2"]);
    assert_eq!(code, 0, "{error}");
    assert!(output.contains("subscribe = [\"10.0.0.1:1\", \"10.0.0.2:1\"]"), "{output}");
    assert!(!output.contains("hunter2"), "{output}");
}

/// A role that is told to end does so, and SIGUSR2 gives the reference's status.
#[cfg(unix)]
#[test]
fn signals_end_a_role() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    for (signal, want) in [("-TERM", 0), ("-INT", 0), ("-USR2", 252)] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = packetcrypt(dir.path());
        command.args(["sprayer", "-b", "127.0.0.1:0", "-s", "127.0.0.1:9"]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
        log.read_line(&mut line).expect("a line");
        assert!(line.contains("sprayer"), "{line}");
        let id = child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill runs").success());
        assert_eq!(child.wait().expect("it ends").code(), Some(want), "{signal}");
    }
}

/// A master that does not list the handler: the values that differ, and the reference's status.
#[test]
fn a_block_handler_that_is_not_listed_ends_with_100() {
    use std::io::{Read, Write};

    let master = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", master.local_addr().unwrap());
    std::thread::spawn(move || {
        let config = format!(
            r#"{{"tipHash":"{:064}","currentHeight":10,"masterUrl":"","submitAnnUrls":[],
            "downloadAnnUrls":[],"submitBlockUrls":["http://listed/submit"],"paymakerUrl":"http://p",
            "version":3,"softVersion":1,"annVersions":[1],"mineOldAnns":2,"annTarget":536936448}}"#,
            1
        );
        for mut stream in master.incoming().flatten() {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            let is_config = request[..read].starts_with(b"GET /config.json ");
            let (status, body) = if is_config { ("200 OK", &config[..]) } else { ("404 No", "") };
            let reply = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(reply.as_bytes());
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let set = [format!("master_url={url}"), "listen=127.0.0.1:0".to_owned()];
    let mut command = packetcrypt(dir.path());
    command.args(["bh", "main", "--set", &set[0], "--set", &set[1]]);
    command.args(["--set", "public_url=http://unlisted", "--set", "dir=bh"]);
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let mut child = command.stderr(log).spawn().expect("it starts");
    let end = Instant::now() + Duration::from_secs(120);
    let status = loop {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            break status;
        }
        if Instant::now() > end {
            child.kill().expect("killed");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let error = fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(status.code(), Some(100), "{error}");
    assert!(error.contains("http://unlisted/submit"), "{error}");
    assert!(error.contains("http://listed/submit"), "{error}");
}
