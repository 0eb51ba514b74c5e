//! Recorded calls of a real node, played to our client over loopback.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_node::{
    Node, NodeError, RpcConfig, RpcNode, ShareToCheck, ShareVerdict, SubmitVerdict, first_paragraph,
};
use packetcrypt_vectors::{VectorFile, files};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A node that answers every request alike and remembers the bodies.
struct Player {
    node: RpcNode,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl Player {
    async fn start(recording: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let reply = reply_bytes(recording);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                seen.lock().unwrap().push(request);
                // Without a reply the connection is simply closed, as the node does.
                let _ = stream.write_all(&reply).await;
                let _ = stream.shutdown().await;
            }
        });
        let config = RpcConfig { urls: vec![url], user: "u".into(), ..RpcConfig::default() };
        Self { node: RpcNode::new(&config).unwrap(), requests }
    }
}

fn reply_bytes(recording: &Value) -> Vec<u8> {
    let Some(status) = recording["http_status"].as_u64() else { return Vec::new() };
    let body = match recording["reply"]["not_json"].as_str() {
        Some(text) => text.to_owned(),
        None => format!("{}\n", recording["reply"]),
    };
    let mut head = format!("HTTP/1.1 {status} Recorded\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in recording["http_headers"].as_object().unwrap() {
        head += &format!("{name}: {}\r\n", value.as_str().unwrap());
    }
    format!("{head}\r\n{body}").into_bytes()
}

async fn read_request(stream: &mut TcpStream) -> Value {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 16384];
        let len = stream.read(&mut chunk).await.unwrap();
        bytes.extend_from_slice(&chunk[..len]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            assert!(head.starts_with("post / http/1.1\r\n"), "{head}");
            assert!(head.contains("\r\nauthorization: basic "), "{head}");
            let user_agent = format!("\r\nuser-agent: {}\r\n", packetcrypt_proto::USER_AGENT);
            assert!(head.contains(&user_agent), "{head}");
            let want = head.split("content-length: ").nth(1).unwrap();
            let want: usize = want.split("\r\n").next().unwrap().parse().unwrap();
            if body.len() >= want {
                return serde_json::from_str(body).unwrap();
            }
        }
        assert!(len > 0, "request ends early");
    }
}

fn recordings() -> Vec<(VectorFile, Value)> {
    // The hashes of the recorded chain are used, and reported, by the test of the verdicts.
    let calls = |file: &VectorFile| !file.name.starts_with("chain-hashes");
    let all = files("pktd-rpc", "", "json").into_iter().filter(calls).map(|file| {
        let json = file.json();
        if json.get("request").is_none() {
            file.report(0);
        }
        (file, json)
    });
    all.collect()
}

/// Makes the recorded call by the typed method of our client and compares its result with the
/// recorded one. `None` when the recorded request is none that our client makes.
async fn call_typed(
    node: &RpcNode,
    method: &str,
    recording: &Value,
) -> Option<Result<(), NodeError>> {
    let params = recording["request"]["params"].as_array()?;
    let result = &recording["reply"]["result"];
    let display = |hash: Hash32| json!(hash.display().to_string());
    let hash = |index: usize| Hash32::from_display_hex(params.get(index)?.as_str()?).ok();
    let equal = |found: Value| assert_eq!(&found, result);
    Some(match (method, params.len()) {
        ("getrawblocktemplate", 0) => node.raw_block_template().await.map(|template| {
            let hexes = |list: &[Vec<u8>]| list.iter().map(hex::encode).collect::<Vec<_>>();
            let branch: Vec<Vec<u8>> =
                template.merkle_branch.iter().map(|h| h.0.to_vec()).collect();
            equal(json!({
                "height": template.height,
                "header": hex::encode(template.header),
                "coinbase_no_witness": hex::encode(&template.coinbase_no_witness),
                "merklebranch": hexes(&branch),
                "transactions": hexes(&template.transactions),
            }));
        }),
        ("getbestblockhash", 0) => node.best_block_hash().await.map(|hash| equal(display(hash))),
        ("getblockhash", 1) => {
            let height = i32::try_from(params[0].as_i64()?).ok()?;
            node.block_hash(height).await.map(|hash| equal(display(hash)))
        }
        ("getblockheader", 2) if params[1] == true => {
            node.block_header(&hash(0)?).await.map(|reply| {
                assert_eq!(display(reply.header.hash), result["hash"]);
                assert_eq!(display(reply.header.previous_hash), result["previousblockhash"]);
                assert_eq!(json!(reply.confirmations), result["confirmations"]);
                let next = reply.next_hash.map_or(Value::Null, display);
                assert_eq!(next, result["nextblockhash"]);
            })
        }
        ("getblock", 2) if params[1] == true => node.block(&hash(0)?).await.map(|reply| {
            assert_eq!(display(reply.hash), result["hash"]);
            assert_eq!(json!(reply.height), result["height"]);
            assert_eq!(Some(reply.difficulty), result["difficulty"].as_f64());
            let ids: Vec<Value> = reply.transaction_ids.into_iter().map(display).collect();
            assert_eq!(json!(ids), result["tx"]);
            assert_eq!(json!(reply.ann_count), result["packetcryptanncount"]);
        }),
        ("checkpcshare", 1) => {
            let share = share_of(&params[0])?;
            node.check_share(&share).await.map(|verdict| match verdict {
                ShareVerdict::Ok => equal(json!("OK")),
                ShareVerdict::ResubmitAsBlock => equal(json!("RESUBMIT_AS_BLOCK")),
                ShareVerdict::Other(text) => panic!("{text}"),
            })
        }
        ("submitblock", 1) => {
            let block = hex::decode(params[0].as_str()?).ok()?;
            node.submit_block(&block).await.map(|verdict| check_submitted(&verdict, result))
        }
        ("configureminingpayouts", 1) => {
            let weights = params[0].as_object()?.iter();
            let weights: Vec<(String, f64)> =
                weights.map(|(a, w)| (a.clone(), w.as_f64().unwrap())).collect();
            node.configure_mining_payouts(&weights).await
        }
        ("getminingpayouts", 0) => node.mining_payouts().await.map(|payouts| {
            let map: serde_json::Map<_, _> =
                payouts.into_iter().map(|(a, c)| (a, json!(c))).collect();
            equal(Value::Object(map));
        }),
        ("getinfo", 0) => node.info().await.map(|info| {
            assert_eq!(json!(info.blocks), result["blocks"]);
            assert_eq!(json!(info.connections), result["connections"]);
        }),
        ("checkpcann", 2 | 3) => {
            let announcement = hex::decode(params[0].as_str()?).ok()?.try_into().ok()?;
            let version = u32::try_from(params[1].as_u64()?).ok()?;
            node.check_ann(&announcement, version, hash(2).as_ref()).await.map(|hash| {
                equal(json!({"workhash": hash.display().to_string()}));
            })
        }
        _ => return None,
    })
}

fn share_of(params: &Value) -> Option<ShareToCheck> {
    let bytes = |key: &str| hex::decode(params[key].as_str()?).ok();
    let branch = params["merklebranch"].as_array()?.iter();
    Some(ShareToCheck {
        share_target: CompactTarget(u32::try_from(params["sharetarget"].as_u64()?).ok()?),
        height: i32::try_from(params["height"].as_i64()?).ok()?,
        block: bytes("hexblock")?,
        coinbase: bytes("coinbase")?,
        merkle_branch: branch
            .map(|hash| Hash32::from_hex(hash.as_str()?).ok())
            .collect::<Option<_>>()?,
    })
}

fn check_submitted(verdict: &SubmitVerdict, result: &Value) {
    match verdict {
        SubmitVerdict::Accepted => assert!(result.is_null()),
        SubmitVerdict::Refused(text) => {
            let recorded = result.as_str().unwrap();
            assert!(recorded.starts_with(text.as_str()) && text.starts_with("rejected: "));
            assert!(!text.contains("call stack"), "{text}");
            assert_eq!(verdict.is_duplicate(), recorded.contains("already have block"));
        }
    }
}

/// The outcome is the kind of result or error that was recorded.
fn check_outcome(outcome: &Result<(), NodeError>, recording: &Value) {
    let error = &recording["reply"]["error"];
    match recording["http_status"].as_u64() {
        None => assert!(matches!(outcome, Err(NodeError::ClosedWithoutReply { .. }))),
        Some(401) => assert!(matches!(outcome, Err(NodeError::Unauthorized { .. }))),
        Some(_) if error.is_null() => assert_eq!(*outcome, Ok(())),
        Some(_) => {
            let Err(NodeError::Rpc { error: found, .. }) = outcome else { panic!("{outcome:?}") };
            assert_eq!(found.code, error["code"].as_i64());
            assert_eq!(found.message, first_paragraph(error["message"].as_str().unwrap()));
            assert!(!found.to_json().contains("stack"), "{found}");
            let orphaned = error["message"].as_str().unwrap().contains("not in the main chain");
            assert_eq!(outcome.as_ref().unwrap_err().is_orphaned(), orphaned);
            assert!(!outcome.as_ref().unwrap_err().is_retryable());
        }
    }
}

async fn play(recording: &Value) -> Option<String> {
    let player = Player::start(recording).await;
    let request = &recording["request"];
    if let Some(calls) = request.as_array() {
        let pairs: Vec<(&str, Value)> = calls
            .iter()
            .map(|call| (call["method"].as_str().unwrap(), call["params"].clone()))
            .collect();
        let results = player.node.call_batch(&pairs).await.unwrap();
        for (result, reply) in results.into_iter().zip(recording["reply"].as_array().unwrap()) {
            assert_eq!(result.unwrap(), reply["result"]);
        }
        assert_eq!(player.requests.lock().unwrap()[0], *request);
        return None;
    }
    // A body that is not JSON is none that our client sends; the reply to it is understood all the
    // same.
    let method = request["method"].as_str().unwrap_or("getblockcount");
    let (outcome, typed) = match call_typed(&player.node, method, recording).await {
        Some(outcome) => (outcome, Some(method.to_owned())),
        None => {
            let params = request.get("params").cloned().unwrap_or(json!([]));
            (player.node.call(method, params).await.map(drop), None)
        }
    };
    check_outcome(&outcome, recording);
    let sent = player.requests.lock().unwrap();
    assert_eq!(sent.len(), 1, "a call is one request");
    if request.get("method").is_some() {
        assert_eq!(sent[0]["method"], request["method"]);
        assert_eq!(sent[0]["params"], request["params"]);
    }
    if request.get("jsonrpc").is_some() {
        assert_eq!(sent[0], *request);
    }
    typed
}

#[tokio::test]
async fn every_recorded_call_is_made_alike_and_understood() {
    let mut typed = BTreeSet::new();
    let recordings = recordings();
    for (file, recording) in &recordings {
        typed.extend(play(recording).await);
        file.report(1);
    }
    if std::env::var_os(packetcrypt_vectors::VECTORS_VARIABLE).is_none() {
        assert_eq!(typed.len(), 11, "methods of the trait that were played: {typed:?}");
    }
}
