//! The vectors of the announcement handler, over real HTTP.

#[path = "support/pool.rs"]
mod pool;

use packetcrypt_core::announcement::Announcement;
use packetcrypt_proto::ids;
use packetcrypt_vectors as vectors;
use pool::{Chain, Handler, Master, config, counts};
use serde_json::Value;

/// Parent hash of the announcements of the recordings, which `annhandler_replies` names only.
fn parent_hash(height: i64) -> String {
    // A set that has the recordings only is of the chain of the project's own copy.
    let own = vectors::own("pool", "anns.json");
    for file in vectors::files("pool", "anns", "json").into_iter().chain([own]) {
        let json = file.json();
        if json["parent_height"].as_i64() == Some(height) {
            return json["parent_hash_display"].as_str().unwrap().to_owned();
        }
    }
    panic!("no anns*.json of the set names the parent block of height {height}");
}

/// The recorded request of this name (README of the vectors): `x-pc-sver` and body.
fn request(name: &str, ann: &[u8]) -> (u32, Vec<u8>) {
    let with = |at: usize, bytes: &[u8]| {
        let mut ann = ann.to_vec();
        ann[at..at + bytes.len()].copy_from_slice(bytes);
        ann
    };
    let bad = with(500, &[ann[500] ^ 1]);
    match name {
        "one_already_seen" => (1, ann.to_vec()),
        "sver2_zero_content" => (2, ann.to_vec()),
        "one_invalid" => (1, bad),
        "seen_twice" => (1, ann.repeat(2)),
        "seen_twice_plus_invalid" => (1, [ann, ann, &bad].concat()),
        "seen_x9_plus_8_invalid" => {
            let invalid: Vec<u8> = (0..8u8).flat_map(|byte| with(700, &[byte])).collect();
            (1, [ann.repeat(9), invalid].concat())
        }
        "work_bits_too_easy" => (1, with(8, &0x2100_ffffu32.to_le_bytes())),
        "version0" => (1, with(0, &[0])),
        "signed" => (1, with(56, &[7; 32])),
        "wrong_height" => {
            let height = u32::from_le_bytes(ann[12..16].try_into().unwrap());
            (1, with(12, &(height - 1).to_le_bytes()))
        }
        "content_nonzero_sver1" => (1, with(24, &[1; 32])),
        "content_nonzero_sver2" => (2, with(24, &[1; 32])),
        "empty" => (1, Vec::new()),
        other => panic!("no body is known for case {other}"),
    }
}

/// What ours answers where the reference has a defect or a quirk; else what was recorded.
fn expected(name: &str, recorded: &Value) -> (u64, Value) {
    let status = recorded["status"].as_u64().unwrap();
    let mut reply: Value = serde_json::from_str(recorded["reply"].as_str().unwrap()).unwrap();
    let refused = |text: &str| (400, serde_json::json!({"warn":[],"error":[text],"result":null}));
    match name {
        // Spec 05, 6.3: ours counts accepted ones only.
        "one_already_seen" => reply["result"]["unsigned"] = 0.into(),
        // Spec 05, 16.2: each occurrence of a known one is a duplicate.
        "seen_twice" => {
            reply["result"]["unsigned"] = 0.into();
            reply["result"]["dup"] = 2.into();
        }
        // Spec 05, 16.2: every announcement is checked.
        "seen_twice_plus_invalid" | "seen_x9_plus_8_invalid" => {
            return refused("check_ann() -> INVAL");
        }
        // Spec 05, 6.1.
        "empty" => return refused("size not an even multiple of 1024"),
        _ => {}
    }
    (status, reply)
}

#[tokio::test(flavor = "multi_thread")]
async fn annhandler_replies() {
    for file in vectors::files("pool", "annhandler_replies", "json") {
        let json = file.json();
        let ann = &vectors::unhex(json["ann"].as_str().unwrap())[..1024];
        let worknum = json["worknum"].as_i64().unwrap();
        let height = worknum - 1;
        let master = Master::start(Chain::to(&parent_hash(height), height)).await;
        let dir = tempfile::tempdir().unwrap();
        let handler = Handler::start(config(&master, dir.path()), height).await;
        // The recordings begin with the announcement known.
        assert_eq!(counts(&handler.post(1, worknum, ann).await), (1, 0));
        let cases = json["replies"].as_array().unwrap();
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let (sver, body) = request(name, ann);
            let (status, reply) = handler.post(sver, worknum, &body).await;
            let (want_status, mut want) = expected(name, case);
            let mut have: Value = serde_json::from_str(&reply).unwrap();
            if !want["result"].is_null() {
                want["result"]["time"] = 0.into();
                have["result"]["time"] = 0.into();
            }
            assert_eq!(u64::from(status), want_status, "{name}: {reply}");
            // As text: the order of keys is part of it.
            assert_eq!(have.to_string(), want.to_string(), "{name}");
        }
        let log = pool::logged(dir.path());
        assert_eq!(log.len(), 1, "events with accepted 0 are not logged: {log:?}");
        file.report(cases.len());
        handler.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anns() {
    // Announcements of which no JSON says whose they are give no case.
    for binary in vectors::files("pool", "anns", "bin") {
        if !binary.companion("json").path.is_file() {
            binary.report(0);
        }
    }
    for file in vectors::files("pool", "anns", "json") {
        let json = file.json();
        let Some(binary) = vectors::named("pool", &file.companion("bin").name) else { continue };
        let body = binary.bytes();
        let anns = Announcement::slice_from_bytes(&body).unwrap();
        let listed = json["anns"].as_array().unwrap();
        assert_eq!(anns.len(), listed.len());
        for (ann, listed) in anns.iter().zip(listed) {
            assert_eq!(ann.key().to_string(), listed["dedup_hash"].as_str().unwrap());
            assert_eq!(u64::from(ann.hard_nonce()), listed["hard_nonce"].as_u64().unwrap());
            for (handlers, owner) in listed["owner_sver1"].as_object().unwrap() {
                let owned_by = ids::owner_by_dedup_hash(ann.key(), handlers.parse().unwrap());
                assert_eq!(owned_by as u64, owner.as_u64().unwrap());
            }
        }
        let height = json["parent_height"].as_i64().unwrap();
        let hash = json["parent_hash_display"].as_str().unwrap();
        let master = Master::start(Chain::to(hash, height)).await;
        let dir = tempfile::tempdir().unwrap();
        let handler = Handler::start(config(&master, dir.path()), height).await;
        let reply = handler.post(1, height + 1, &body).await;
        assert_eq!(counts(&reply), (listed.len() as u64, 0), "{}", reply.1);
        let event = &pool::logged(dir.path())[0];
        assert_eq!(event["eventId"], json["event_id_of_whole_file"]);
        file.report(listed.len());
        binary.report(listed.len());
        handler.stop().await;
        owners_over_http(&json, anns).await;
    }
}

/// Two handlers in the list: each announcement is taken by its owner only.
async fn owners_over_http(json: &Value, anns: &[Announcement]) {
    let height = json["parent_height"].as_i64().unwrap();
    let mut chain = Chain::to(json["parent_hash_display"].as_str().unwrap(), height);
    chain.handlers.push("http://other.invalid/submit".to_owned());
    let master = Master::start(chain).await;
    let dir = tempfile::tempdir().unwrap();
    let handler = Handler::start(config(&master, dir.path()), height).await;
    for (ann, listed) in anns.iter().zip(json["anns"].as_array().unwrap()).take(6) {
        let reply = handler.post(1, height + 1, ann.to_bytes()).await;
        if listed["owner_sver1"]["2"] == 0 {
            assert_eq!(counts(&reply), (1, 0));
        } else {
            assert_eq!(pool::error(&reply), "submit elsewhere");
        }
    }
    handler.stop().await;
}
