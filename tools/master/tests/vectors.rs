//! Recorded runs of the reference master, replayed through ours: the node gives what the reference's
//! node gave, every request must get the same status, headers and body.

#[path = "support/node.rs"]
mod node;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use node::{ScriptedNode, previous_of};
use packetcrypt_core::bytes::Hash32;
use packetcrypt_master::{Config, Running, Stats};
use packetcrypt_net::Shutdown;
use packetcrypt_net::client::{ClientOptions, HttpClient, Request, Response};
use packetcrypt_node::BlockHeaderReply;
use packetcrypt_proto::template::BlockTemplate;
use packetcrypt_vectors as vectors;
use serde_json::{Value, json};

/// The example configuration of the reference with the run's changes.
fn config_of(run: &Value, dir: &tempfile::TempDir) -> Config {
    let port = run["port_base"].as_u64().unwrap();
    let url = |port: u64| format!("http://127.0.0.1:{port}");
    let mut config = json!({
        "listen": "127.0.0.1:0",
        "dir": dir.path(),
        "masterUrl": url(port),
        "paymakerUrl": url(port + 3),
        "annHandlers": [{"url": url(port + 4)}],
        "blkHandlers": [{"url": url(port + 2)}],
        "shareWorkDivisor": 4,
        "annVersions": [1],
        "mineOldAnns": 2,
        // The reference keeps the first template of a height.
        "template_refresh_ms": 0,
        "poll_interval_ms": 20,
    });
    for section in ["root", "master"] {
        for (key, value) in run["master_config"][section].as_object().into_iter().flatten() {
            // The reference takes a divisor of null for none.
            let value =
                if key == "shareWorkDivisor" && value.is_null() { json!(0) } else { value.clone() };
            config[key] = value;
        }
    }
    serde_json::from_value(config).unwrap()
}

/// Reads a recorded result of `getrawblocktemplate`.
fn template_of(result: &Value) -> BlockTemplate {
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let list = |key: &str| result[key].as_array().unwrap().iter().map(bytes).collect::<Vec<_>>();
    BlockTemplate {
        height: i32::try_from(result["height"].as_i64().unwrap()).unwrap(),
        header: bytes(&result["header"]).try_into().unwrap(),
        coinbase_no_witness: bytes(&result["coinbase_no_witness"]),
        merkle_branch: list("merklebranch")
            .into_iter()
            .map(|hash| Hash32(hash.try_into().unwrap()))
            .collect(),
        transactions: list("transactions"),
    }
}

fn header_of(mut header: Value) -> BlockHeaderReply {
    let object = header.as_object_mut().unwrap();
    object.entry("confirmations").or_insert(json!(1));
    BlockHeaderReply::from_json(&header).unwrap()
}

/// The node of a run, and the templates it gives one after the other.
fn node_of(run: &Value) -> (ScriptedNode, VecDeque<BlockTemplate>) {
    let node = ScriptedNode::default();
    let mut templates = VecDeque::new();
    for call in run["rpc_log"].as_array().unwrap() {
        match call["request"]["method"].as_str().unwrap() {
            "getrawblocktemplate" => templates.push_back(template_of(&call["result"])),
            "getblockheader" => {
                let header = header_of(call["result"].clone());
                node.script().headers.insert(header.header.hash, header);
            }
            _ => {}
        }
    }
    // The log holds one header only: the others are read from the replies.
    for exchange in run["exchanges"].as_array().unwrap() {
        let is_info = exchange["path"].as_str().unwrap().contains("/blkinfo_");
        if is_info && exchange["status"] == 200 {
            let info: Value = serde_json::from_str(exchange["body"].as_str().unwrap()).unwrap();
            let header = header_of(info["header"].clone());
            node.script().headers.entry(header.header.hash).or_insert(header);
        }
    }
    (node, templates)
}

async fn get(addr: SocketAddr, path: &str) -> Response {
    let client = HttpClient::new(ClientOptions::default()).unwrap();
    let url = format!("http://{addr}{path}");
    client.send(Request::get(&url).request_ms_max(120_000)).await.unwrap()
}

async fn until(what: &str, master: &Running, holds: impl Fn(&Stats) -> bool) {
    for _ in 0..12_000 {
        if holds(&master.stats()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within two minutes");
}

fn compare(exchange: &Value, response: &Response, name: &str) {
    let path = exchange["path"].as_str().unwrap();
    assert_eq!(u64::from(response.status), exchange["status"].as_u64().unwrap(), "{name} {path}");
    for key in ["content-type", "cache-control"] {
        let have = response.headers.get(key).map(|value| value.to_str().unwrap());
        assert_eq!(have, exchange["headers"][key].as_str(), "{name} {path} {key}");
    }
    match (exchange["body"].as_str(), exchange["body_hex"].as_str()) {
        (Some(body), _) => {
            assert_eq!(String::from_utf8_lossy(&response.body), body, "{name} {path}");
        }
        (None, Some(body)) => assert_eq!(hex::encode(&response.body), body, "{name} {path}"),
        (None, None) => panic!("{name} {path}: no body recorded"),
    }
}

async fn replay(file: &vectors::VectorFile) -> usize {
    let run = file.json();
    let dir = tempfile::tempdir().unwrap();
    let (node, mut templates) = node_of(&run);
    let first = templates.pop_front().unwrap();
    let mut tip = previous_of(&first);
    node.script().template = Some(first);
    let shutdown = Shutdown::new();
    let master =
        packetcrypt_master::start(config_of(&run, &dir), node.clone(), shutdown.clone()).await;
    let master = master.unwrap();
    until("the first work", &master, |stats| stats.works > 0).await;
    let addr = master.local_addr();
    let exchanges = run["exchanges"].as_array().unwrap();
    for exchange in exchanges {
        let path = exchange["path"].as_str().unwrap();
        let note = exchange["note"].as_str().unwrap_or_default();
        let response = if note.starts_with("long poll") {
            let waiting = tokio::spawn({
                let path = path.to_owned();
                async move { get(addr, &path).await }
            });
            until("the long poll", &master, |stats| stats.long_polls == 1).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(!waiting.is_finished(), "{} {path} was not held", file.name);
            let next = templates.pop_front().expect("a template for each long poll");
            assert_ne!(previous_of(&next), tip);
            tip = previous_of(&next);
            node.script().template = Some(next);
            waiting.await.unwrap()
        } else {
            get(addr, path).await
        };
        compare(exchange, &response, &file.name);
    }
    // The first template, and one for each block since.
    assert!(node.calls("getrawblocktemplate") as u64 >= master.stats().works);
    shutdown.trigger();
    master.join().await.unwrap();
    exchanges.len()
}

#[tokio::test]
async fn recorded_runs() {
    for file in vectors::files("pool", "master", "json") {
        let cases = replay(&file).await;
        file.report(cases);
    }
}
