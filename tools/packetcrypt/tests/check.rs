//! `packetcrypt check` gives the verdicts of the vectors.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;

use packetcrypt_core::Backend;
use packetcrypt_jit::{Executor, require};
use packetcrypt_vectors::{VectorFile, chain, files, own};
use serde_json::{Value, json};

/// Runs the command with this input and gives exit code and standard output.
fn packetcrypt(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_packetcrypt"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // It may end before it has read everything.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    writer.join().expect("written");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

fn verdicts(output: &str) -> Vec<Value> {
    output.lines().map(|line| serde_json::from_str(line).expect("a verdict")).collect()
}

fn lines(objects: &[Value]) -> Vec<u8> {
    objects.iter().flat_map(|object| format!("{object}\n").into_bytes()).collect()
}

fn records(file: &VectorFile) -> Vec<Value> {
    file.json().as_array().expect("a list").clone()
}

fn announcement<'b>(bytes: &'b [u8], record: &Value) -> &'b [u8] {
    let at = record["at"].as_u64().expect("an offset") as usize;
    &bytes[at..at + 1024]
}

/// Every engine of this machine, forced by option or environment, gives the same verdicts; one that
/// it lacks is refused and named.
#[test]
fn announcements_with_forced_engines() {
    let file = own("announcements", "invalid.json");
    let bytes = file.companion("bin").bytes();
    let object = |record: &Value| {
        json!({
            "ann": hex::encode(announcement(&bytes, record)),
            "parent_block_hash": record["parent_block_hash"],
        })
    };
    let input = lines(&records(&file).iter().map(object).collect::<Vec<_>>());
    let check = ["check", "ann", "--ndjson"];
    let (_, wanted, _) = packetcrypt(&check, &input);
    for backend in Backend::ALL {
        for executor in Executor::ALL {
            let forced = ["--backend", backend.name(), "--executor", executor.name()];
            let (code, output, error) = packetcrypt(&[&check[..], &forced].concat(), &input);
            if require(Some(executor), Some(backend)).is_ok() {
                assert_eq!((code, &output), (1, &wanted), "{backend}, {executor}");
            } else {
                let missing = if backend.is_available() { "executor jit" } else { backend.name() };
                assert!(code == 2 && error.contains(missing), "{backend}, {executor}: {error}");
            }
        }
    }
}

#[test]
fn announcements() {
    let forms = ["valid", "invalid", "v0_consensus", "v0_reference_miner"];
    for file in forms.into_iter().flat_map(|prefix| files("announcements", prefix, "json")) {
        let bytes = file.companion("bin").bytes();
        let records = records(&file);
        let object = |record: &Value| {
            json!({
                "name": record["name"],
                "ann": hex::encode(announcement(&bytes, record)),
                "parent_block_hash": record["parent_block_hash"],
            })
        };
        let objects: Vec<Value> = records.iter().map(object).collect();
        let (code, output, _) = packetcrypt(&["check", "ann", "--ndjson"], &lines(&objects));
        let verdicts = verdicts(&output);
        assert_eq!(verdicts.len(), records.len(), "{}", file.name);
        for (verdict, record) in verdicts.iter().zip(&records) {
            assert_eq!(verdict["name"], record["name"]);
            // Of other version 0 records any rejection is right.
            let is_loose = announcement(&bytes, record)[0] == 0 && !file.name.starts_with("v0_c");
            if is_loose {
                assert_ne!(verdict["result"], "OK", "{record}");
                continue;
            }
            assert_eq!(verdict["result"], record["result"], "{record}");
            if record["work_hash"].is_string() {
                assert_eq!(verdict["work_hash"], record["work_hash"], "{record}");
            }
        }
        let are_all_ok = records.iter().all(|record| record["result"] == "OK");
        assert_eq!(code, i32::from(!are_all_ok), "{}", file.name);
        file.report(records.len());
    }
}

#[test]
fn blocks() {
    for file in ["blocks_valid", "blocks_invalid"]
        .into_iter()
        .flat_map(|prefix| files("blocks", prefix, "json"))
    {
        let records = records(&file);
        let (code, output, _) = packetcrypt(&["check", "block", "--ndjson"], &lines(&records));
        let verdicts = verdicts(&output);
        assert_eq!(verdicts.len(), records.len(), "{}", file.name);
        for (verdict, record) in verdicts.iter().zip(&records) {
            assert_eq!(verdict["name"], record["name"]);
            assert_eq!(verdict["result"], record["expected"], "{record}");
            if record["lib"] == record["expected"] {
                assert_eq!(verdict["code"], record["lib_code"], "{record}");
            }
            if ["OK", "SHARE_OK"].iter().any(|ok| record["expected"] == *ok) {
                assert_eq!(verdict["work_hash"], record["work_hash"], "{record}");
            }
        }
        let is_ok = |record: &Value| ["OK", "SHARE_OK"].iter().any(|ok| record["expected"] == *ok);
        assert_eq!(code, i32::from(!records.iter().all(is_ok)), "{}", file.name);
        file.report(records.len());
    }
}

#[test]
fn a_block_file_as_object_and_as_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let record = &records(&own("blocks", "blocks_valid_1.json"))[0];
    fs::write(path("block.json"), record.to_string()).unwrap();
    let (code, output, _) = packetcrypt(&["check", "block", &path("block.json")], b"");
    let want = format!("OK, work hash {}\n", record["work_hash"].as_str().unwrap());
    assert_eq!((code, output.as_str()), (0, want.as_str()));

    let text = |key: &str| record[key].as_str().unwrap().to_owned();
    let whole = [text("header"), text("pcp"), "01".to_owned(), text("coinbase")].concat();
    fs::write(path("block.hex"), &whole).unwrap();
    fs::write(path("block.bin"), hex::decode(&whole).unwrap()).unwrap();
    let display = |parent: &Value| {
        let mut bytes = hex::decode(parent.as_str().unwrap()).unwrap();
        bytes.reverse();
        hex::encode(bytes)
    };
    let parents: Vec<String> =
        record["parent_hashes"].as_array().unwrap().iter().map(display).collect();
    let (height, parents) = (record["height"].to_string(), parents.join(","));
    for name in ["block.hex", "block.bin"] {
        let arguments = ["check", "block", &path(name), "--height", &height, "--parent", &parents];
        let (code, output, error) = packetcrypt(&arguments, b"");
        assert_eq!((code, output.as_str()), (0, want.as_str()), "{error}");
    }
    let (code, _, error) = packetcrypt(&["check", "block", &path("block.bin")], b"");
    assert_eq!(code, 2);
    assert!(error.contains("--height"), "{error}");

    // What is not checked is said, and an option comes before the file.
    let arguments = ["check", "block", &path("block.bin"), "--height", &height];
    let (code, output, _) = packetcrypt(&arguments, b"");
    assert_eq!(code, 0);
    assert!(output.contains("the announcements were not checked"), "{output}");
    let zeros = vec!["00".repeat(32); 4].join(",");
    let arguments = ["check", "block", &path("block.json"), "--parent", &zeros];
    let (code, output, _) = packetcrypt(&arguments, b"");
    assert!(code == 1 && output.contains("(0)"), "{output}");
    let arguments = ["check", "block", "--ndjson", "--parent", &zeros];
    assert_eq!(packetcrypt(&arguments, b"").0, 2);
}

#[test]
fn an_announcement_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ann.bin");
    let path = path.to_str().unwrap();
    let file = own("announcements", "valid.json");
    let bytes = file.companion("bin").bytes();
    let record = &records(&file)[0];
    let internal = record["parent_block_hash"].as_str().unwrap();
    let mut display = hex::decode(internal).unwrap();
    display.reverse();
    let display = hex::encode(display);
    fs::write(path, announcement(&bytes, record)).unwrap();
    let want = format!("OK, work hash {}\n", record["work_hash"].as_str().unwrap());
    for arguments in [
        &["check", "ann", path, "--parent", &display][..],
        &["check", "ann", path, "--parent", internal],
        &["check", "ann", path, "--parent", internal, "--internal"],
    ] {
        let (code, output, _) = packetcrypt(arguments, b"");
        assert_eq!((code, &output), (0, &want), "{arguments:?}");
    }
    let (code, output, _) =
        packetcrypt(&["check", "ann", path, "--parent", &display, "--internal"], b"");
    assert_eq!(code, 1, "{output}");

    // Two announcements, the second one damaged.
    let mut two = announcement(&bytes, record).repeat(2);
    two[1024 + 900] ^= 1;
    fs::write(path, &two).unwrap();
    let (code, output, _) = packetcrypt(&["check", "ann", path, "--parent", &display], b"");
    assert_eq!(code, 1);
    assert!(output.starts_with(&format!("0: {want}1: INVAL")), "{output}");

    for (bytes, parent) in [(&b""[..], &display), (&two[..1500], &display), (&two, &"12".into())] {
        fs::write(path, bytes).unwrap();
        let (code, _, error) = packetcrypt(&["check", "ann", path, "--parent", parent], b"");
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("1024") || error.contains("64 hex digits"), "{error}");
    }
    let (code, ..) = packetcrypt(&["check", "ann", "/nowhere", "--parent", &display], b"");
    assert_eq!(code, 2);
}

#[test]
fn the_main_network_announcement() {
    for (name, want_code) in [("mainnet_announcement", 0), ("mainnet_announcement_invalid", 1)] {
        let Some(file) = chain(&format!("{name}.json")) else {
            println!("{name}: skipped, no chain data");
            continue;
        };
        let bytes = file.companion("bin");
        let records = records(&file);
        let parent = records[0]["parent_block_hash"].as_str().unwrap();
        let path = bytes.path.to_str().unwrap();
        let (code, output, _) = packetcrypt(&["check", "ann", path, "--parent", parent], b"");
        assert_eq!((code, output.lines().count()), (want_code, records.len()), "{output}");
        for (line, record) in output.lines().zip(&records) {
            let line = line.split_once(": ").filter(|(n, _)| n.len() == 1).map_or(line, |it| it.1);
            assert!(line.starts_with(record["result"].as_str().unwrap()), "{line} {record}");
        }
        file.report(records.len());
    }
}

#[test]
fn a_line_that_can_not_be_read_does_not_end_the_stream() {
    let file = own("announcements", "valid.json");
    let bytes = file.companion("bin").bytes();
    let record = &records(&file)[0];
    let parent = record["parent_block_hash"].as_str().unwrap();
    let good =
        json!({"ann": hex::encode(announcement(&bytes, record)), "parent_block_hash": parent});
    let mut input = Vec::new();
    let mut put = |line: &[u8]| {
        input.extend_from_slice(line);
        input.push(b'\n');
    };
    put(b"no json");
    put(b"");
    put(br#"{"name":"half","ann":"00","parent_block_hash":"11"}"#);
    put(&[b'['; 100_000]);
    put(b"\xff\xfe");
    put(&vec![b'x'; 5 << 20]);
    put(&lines(std::slice::from_ref(&good)));
    input.extend_from_slice(good.to_string().as_bytes());
    let (code, output, _) = packetcrypt(&["check", "ann", "--ndjson"], &input);
    let verdicts = verdicts(&output);
    assert_eq!((code, verdicts.len()), (1, 7), "{output}");
    assert!(verdicts[..5].iter().all(|verdict| verdict["error"].is_string()));
    assert_eq!((&verdicts[1]["name"], &verdicts[1]["line"]), (&json!("half"), &json!(3)));
    assert!(verdicts[1]["error"].as_str().unwrap().contains("1 bytes, must be 1024"));
    assert!(verdicts[5..].iter().all(|verdict| verdict["result"] == "OK"), "{output}");
}

#[test]
fn addresses() {
    let good = "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2";
    let (code, output, _) = packetcrypt(&["check", "address", good], b"");
    assert_eq!((code, output), (0, format!("OK {good}\n")));
    let typing_error = good.replace("6hq", "6hp");
    let (code, output, _) = packetcrypt(&["check", "address", &typing_error], b"");
    assert_eq!(code, 1);
    assert!(output.contains("typing error"), "{output}");
    let bitcoin = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    let (code, output, _) = packetcrypt(&["check", "address", bitcoin], b"");
    assert_eq!(code, 1);
    assert!(output.contains("another network"), "{output}");
}
