//! Recorded requests to the reference block handler, each posted to a fresh handler of ours: status,
//! reply and the calls to the node must be the same, but where ours differs on purpose.

#[path = "support/pool.rs"]
mod pool;

use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_node::{ShareToCheck, ShareVerdict, SubmitVerdict};
use packetcrypt_proto::events::ShareEvent;
use packetcrypt_proto::json;
use packetcrypt_proto::template::BlockTemplate;
use packetcrypt_proto::work::WorkFile;
use packetcrypt_vectors as vectors;
use pool::{Answer, Call, NOW_MS, Pool, ScriptedNode};
use serde_json::Value;

/// Where the first announcement begins in header and proof: header, type, length of three bytes,
/// low nonce.
const ANNOUNCEMENTS_AT: usize = 80 + 1 + 3 + 4;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is no text"))
}

/// The body of a case: given, or that of `ok` changed as the name says.
fn body_of(run: &Value, case: &Value) -> Vec<u8> {
    if let Some(body) = case["body"].as_str() {
        return body.as_bytes().to_vec();
    }
    let name = text(case, "name");
    if let Some(kilobytes) = name.strip_prefix("too_big_").and_then(|n| n.strip_suffix('k')) {
        return vec![b'a'; kilobytes.parse::<usize>().unwrap() * 1000];
    }
    let ok = run["cases"].as_array().unwrap().iter().find(|case| case["name"] == "ok").unwrap();
    let mut upload: Value = serde_json::from_str(text(ok, "body")).unwrap();
    let mut proof = vectors::unhex(text(&upload, "header_and_proof"));
    change(name, &mut proof);
    upload["header_and_proof"] = hex::encode(proof).into();
    upload.to_string().into_bytes()
}

fn change(name: &str, proof: &mut [u8]) {
    for prefix in ["wrong_prev_hash_byte", "wrong_merkle_byte"] {
        if let Some((at, xor)) = name.strip_prefix(prefix).and_then(|rest| rest.split_once("_xor"))
        {
            proof[at.parse::<usize>().unwrap()] ^= xor.parse::<u8>().unwrap();
        }
    }
    if let Some(kind) = name.strip_prefix("first_element_type_") {
        proof[80] = kind.parse().unwrap();
    }
    for index in 0..4 {
        let announcement = &mut proof[ANNOUNCEMENTS_AT + 1024 * index..][..1024];
        if let Some(height) = name.strip_prefix("parent_too_new_") {
            let height: u32 = height.parse().unwrap();
            announcement[12..16].copy_from_slice(&height.to_le_bytes());
        }
        if let Some(key) = name.strip_prefix("signed_by_unknown_key_") {
            announcement[56..88].fill(u8::from_str_radix(key, 16).unwrap());
        }
    }
}

/// The node answers so that the recorded reply comes out.
fn script_node(node: &ScriptedNode, case: &Value) {
    let Ok(reply) = serde_json::from_str::<Value>(text(case, "reply")) else { return };
    let error = reply["error"][0].as_str().unwrap_or_default();
    let within = |prefix: &str| {
        error.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(']')).map(str::to_owned)
    };
    let mut script = node.script();
    if let Some(error) = within("Failed validation of share [") {
        let error: Value = serde_json::from_str(&error).unwrap();
        script.share = Err(pool::refused(error["code"].as_i64().unwrap(), text(&error, "message")));
    } else if let Some(other) = within("Unexpected result from btcd [") {
        script.share = Ok(ShareVerdict::Other(other));
    } else if let Some(refused) = within("error submitting block [") {
        script.share = Ok(ShareVerdict::ResubmitAsBlock);
        script.submit = Ok(SubmitVerdict::Refused(refused));
    } else if reply["result"]["block"] == true || text(case, "name").starts_with("block_again") {
        script.share = Ok(ShareVerdict::ResubmitAsBlock);
    }
}

/// The reply that ours gives: the recorded one at our clock, with ours for the reference's where
/// they differ on purpose.
fn expected_reply(run: &Value, case: &Value) -> String {
    let Ok(mut reply) = serde_json::from_str::<Value>(text(case, "reply")) else {
        return text(case, "reply").to_owned();
    };
    if !reply["result"].is_object() {
        return text(case, "reply").to_owned();
    }
    reply["result"]["time"] = NOW_MS.into();
    if text(case, "name") == "header_version_and_time_altered" {
        let cases = run["cases"].as_array().unwrap();
        let ok = cases.iter().find(|case| case["name"] == "ok").unwrap();
        let ok: Value = serde_json::from_str(text(ok, "reply")).unwrap();
        // Spec 05, 16.1: the id is that of the effective header.
        assert_ne!(reply["result"]["eventId"], ok["result"]["eventId"]);
        reply["result"]["eventId"] = ok["result"]["eventId"].clone();
    }
    json::to_line(&reply)
}

fn share_to_check(params: &Value) -> ShareToCheck {
    let hash = |hash: &Value| Hash32(vectors::unhex_array(hash.as_str().unwrap()));
    let number = |key: &str| params[key].as_u64().unwrap();
    ShareToCheck {
        share_target: CompactTarget(u32::try_from(number("sharetarget")).unwrap()),
        height: i32::try_from(number("height")).unwrap(),
        block: vectors::unhex(text(params, "hexblock")),
        coinbase: vectors::unhex(text(params, "coinbase")),
        merkle_branch: params["merklebranch"].as_array().unwrap().iter().map(hash).collect(),
    }
}

fn recorded_calls(case: &Value) -> Option<Vec<Call>> {
    let call = |rpc: &Value| match text(rpc, "method") {
        "checkpcshare" => Call::CheckShare(share_to_check(&rpc["params"][0])),
        "submitblock" => Call::SubmitBlock(vectors::unhex(rpc["params"][0].as_str().unwrap())),
        other => panic!("a block handler does not call {other} for a share"),
    };
    case["rpc"].as_array().map(|calls| calls.iter().map(call).collect())
}

/// What is paid is logged, nothing else is.
fn compare_pay_log(pool: &Pool, answer: &Answer, name: &str) {
    let lines = pool.pay_log();
    let reply: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let error = reply["error"][0].as_str().unwrap_or_default();
    if answer.status == 200 {
        assert_eq!(lines, [json::to_line(&reply["result"])], "{name}");
    } else if error.starts_with("error submitting block") {
        // Spec 05, 16.20: the share behind a refused block is paid.
        assert_eq!(lines.len(), 1, "{name}");
        assert!(!serde_json::from_str::<ShareEvent>(&lines[0]).unwrap().block, "{name}");
    } else {
        assert_eq!(lines, [""; 0], "{name}");
    }
}

async fn run_case(run: &Value, case: &Value, file: &str) {
    let name = format!("{file} {}", text(case, "name"));
    let node = ScriptedNode::default();
    script_node(&node, case);
    let seed = run["privateSeed"].as_str().map(packetcrypt_blkhandler::Secret::new);
    let pool = Pool::start(node, |config| config.private_seed = seed).await;
    let suffix = if name.ends_with("next_height") { "_next" } else { "" };
    let work = vectors::unhex(text(run, &format!("work{suffix}")));
    let template = vectors::unhex(text(run, &format!("bt{suffix}")));
    pool.advance(&work, &template).await;
    let headers: Vec<(&str, &str)> = case["headers"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap()))
        .collect();
    let body = body_of(run, case);
    let answer = pool.send(text(case, "method"), text(case, "path"), &headers, &body).await;
    assert_eq!(u64::from(answer.status), case["status"].as_u64().unwrap(), "{name}: {answer:?}");
    assert!(!answer.has_content_type, "{name}");
    let expected = expected_reply(run, case);
    if text(case, "name").starts_with("block_again") {
        // Spec 05, 16.20: every full block is submitted.
        let reply: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(reply["result"]["block"], true);
        assert_eq!(pool.node.share_calls().len(), 2);
    } else {
        assert_eq!(answer.body, expected, "{name}");
    }
    if let Some(calls) = recorded_calls(case) {
        assert_eq!(pool.node.share_calls(), calls, "{name}");
    }
    compare_pay_log(&pool, &answer, &name);
    pool.stop().await.1.unwrap();
}

#[tokio::test]
async fn recorded_requests() {
    for file in vectors::files("pool", "blkhandler", "json") {
        let run = file.json();
        let cases = run["cases"].as_array().unwrap();
        for case in cases {
            run_case(&run, case, &file.name).await;
        }
        file.report(cases.len());
    }
}

/// The template of a work that the reference's block miner mined shares for: the work's coinbase
/// with a witness of 32 zero bytes before the locktime.
fn template_of(work: &WorkFile) -> Vec<u8> {
    let (head, locktime) = work.coinbase.split_at(work.coinbase.len() - 4);
    let mut coinbase = head[..4].to_vec();
    coinbase.extend([0, 1]);
    coinbase.extend(&head[4..]);
    coinbase.extend([1, 32]);
    coinbase.extend([0; 32]);
    coinbase.extend(locktime);
    BlockTemplate {
        height: work.height,
        header: work.header,
        coinbase_no_witness: work.coinbase.clone(),
        merkle_branch: work.merkle_branch.clone(),
        transactions: vec![coinbase],
    }
    .to_bytes()
}

/// Real shares pass the own check, the node is asked as recorded, and when the node is away or hangs
/// they are accepted all the same.
#[tokio::test]
async fn real_shares() {
    for file in vectors::files("pool", "real_shares", "json") {
        let run = file.json();
        let shares = run["shares"].as_array().unwrap();
        for (index, share) in shares.iter().enumerate() {
            let target = u32::from_str_radix(text(share, "share_target"), 16).unwrap();
            let mut work = vectors::unhex(text(&run, "work"));
            work[112..116].copy_from_slice(&target.to_le_bytes());
            let template = template_of(&WorkFile::parse(&work).unwrap());
            let node = ScriptedNode::default();
            let is_away = index % 3 != 0;
            match index % 3 {
                0 => {}
                1 => node.script().share = Err(pool::away("checkpcshare")),
                _ => node.script().check_time = std::time::Duration::from_secs(3600),
            }
            let heights = share["ann_parent_heights"].as_array().unwrap();
            let hashes = share["ann_parent_hash_display"].as_array().unwrap();
            for (height, hash) in heights.iter().zip(hashes) {
                let height = i32::try_from(height.as_i64().unwrap()).unwrap();
                let hash = Hash32::from_display_hex(hash.as_str().unwrap()).unwrap();
                node.script().hashes.insert(height, hash);
            }
            let pool = Pool::start(node, |config| {
                config.own_check = true;
                config.node_wait_ms = 500;
            })
            .await;
            pool.advance(&work, &template).await;
            let answer = pool.share(&share["upload"].to_string()).await;
            assert_eq!(answer.status, 200, "{} {index}: {answer:?}", file.name);
            let reply: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(reply["result"]["eventId"], share["event_id"]);
            let calls = [Call::CheckShare(share_to_check(&share["checkpcshare"]))];
            assert_eq!(pool.node.share_calls(), calls);
            assert_eq!(pool.handler.stats().accepted_without_node, u64::from(is_away));
            pool.stop().await.1.unwrap();
        }
        file.report(shares.len());
    }
}
