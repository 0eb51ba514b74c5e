//! The recordings of the reference pool, as far as its formats and pure functions go.

use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_proto::blkinfo::BlockInfo;
use packetcrypt_proto::config::MasterConfig;
use packetcrypt_proto::datagram::{Datagram, RECORDS_LEN_MAX, Tail};
use packetcrypt_proto::events::{AnnsEvent, BlockEvent, ShareEvent};
use packetcrypt_proto::reply::Reply;
use packetcrypt_proto::share::ShareUpload;
use packetcrypt_proto::signing::SigningSeed;
use packetcrypt_proto::template::BlockTemplate;
use packetcrypt_proto::work::WorkFile;
use packetcrypt_proto::{ANNOUNCEMENT_BYTES, address, compact, ids, varint, work};
use packetcrypt_vectors::{files, named, unhex, unhex_array};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {value}"))
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {value}"))
}

fn target(value: &Value, key: &str) -> CompactTarget {
    CompactTarget(u32::from_str_radix(text(value, key), 16).unwrap())
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// A section of the file and the check of one of its cases.
type Section = (&'static str, fn(&Value));

#[test]
fn units() {
    for file in files("pool", "units", "json") {
        let units = file.json();
        let sections: [Section; 9] = [
            ("annWorkToTarget", ann_work_to_target),
            ("getWorkMultiple", work_multiple),
            ("computeShareTarget", share_target),
            ("encryptions", encryptions),
            ("shareId", share_id),
            ("keypair", key_pair),
            ("varint", var_int),
            ("rawTemplate", raw_template),
            ("isValidPayTo", valid_pay_to),
        ];
        for key in units.as_object().unwrap().keys() {
            assert!(sections.iter().any(|(name, _)| name == key), "no test for section {key}");
        }
        let mut cases = 0;
        for (name, check) in sections {
            list(&units, name).iter().for_each(check);
            cases += list(&units, name).len();
        }
        file.report(cases);
    }
}

fn ann_work_to_target(case: &Value) {
    let found = compact::ann_work_to_target(number(case, "work"));
    assert_eq!(found, target(case, "target"), "{case}");
}

fn work_multiple(case: &Value) {
    let found = compact::work_multiple(target(case, "target"));
    assert_eq!(found.to_bits(), number(case, "multiple").to_bits(), "{case}: {found}");
}

fn share_target(case: &Value) {
    let found = compact::share_target(target(case, "blockTarget"), number(case, "divisor"));
    assert_eq!(found, target(case, "shareTarget"), "{case}");
}

fn encryptions(case: &Value) {
    let (share, ann) = (target(case, "shareTarget"), target(case, "annMinWork"));
    let found = compact::encryptions(share, ann, text(case, "annCount").parse().unwrap()).unwrap();
    assert_eq!(found.to_bits(), number(case, "encryptions").to_bits(), "{case}: {found}");
}

fn share_id(case: &Value) {
    let header = unhex_array(text(case, "header"));
    let low_nonce = u32::from_le_bytes(unhex_array(text(case, "lowNonceLE")));
    let id = ids::share_event_id(&header, low_nonce);
    assert_eq!(id, text(case, "eventId"));
    let number = u32::from_str_radix(&id[..8], 16).unwrap().swap_bytes();
    assert_eq!(ids::share_number(&header, low_nonce), number);
}

fn key_pair(case: &Value) {
    let height = case["height"].as_i64().unwrap() as i32;
    let key = SigningSeed::new(case["privateSeed"].as_str()).unwrap().key(height);
    assert_eq!(key.public().hex().to_string(), text(case, "publicKey"));
    if let Some(announcement) = case["ann"].as_str() {
        let signature = key.sign(&unhex_array(announcement));
        assert_eq!(hex::encode(signature), text(case, "signature"));
    }
}

fn var_int(case: &Value) {
    let value = case["n"].as_u64().unwrap();
    let mut bytes = Vec::new();
    varint::write(value, &mut bytes);
    assert_eq!(hex::encode(&bytes), text(case, "hex"));
    assert_eq!(varint::read(&mut &bytes[..]), Ok(value));
}

/// The template as the node gives it, then both files made of it.
fn raw_template(case: &Value) {
    let raw = &case["template"];
    let hexes = |key| list(raw, key).iter().map(|text| unhex(text.as_str().unwrap()));
    let template = BlockTemplate {
        height: raw["height"].as_i64().unwrap() as i32,
        header: unhex_array(text(raw, "header")),
        coinbase_no_witness: unhex(text(raw, "coinbase_no_witness")),
        merkle_branch: hexes("merklebranch").map(|hash| Hash32(hash.try_into().unwrap())).collect(),
        transactions: hexes("transactions").collect(),
    };
    let bt = unhex(text(case, "bt"));
    assert_eq!(template.to_bytes(), bt);
    assert_eq!(BlockTemplate::parse(&bt), Ok(template.clone()));

    let key = case["signingKey"].as_str().map(|key| Hash32::from_hex(key).unwrap());
    let (share, ann) = (target(case, "shareTarget"), target(case, "annTarget"));
    let made = WorkFile::from_template(&template, key, share, ann);
    let bytes = unhex(text(case, "work"));
    assert_eq!(made.to_bytes(), bytes);
    assert_eq!(made.signing_key, key.unwrap_or(Hash32::ZERO));
    assert_eq!(WorkFile::parse(&bytes), Ok(made));
}

fn valid_pay_to(case: &Value) {
    let address = text(case, "address");
    let valid = case["valid"].as_bool().unwrap();
    assert_eq!(address::is_valid_pay_to(address), valid, "{address}");
    // What a user may type is a part of what is credited.
    assert!(valid || address::check(address).is_err(), "{address}");
}

/// Every body that a master served, read and written again.
#[test]
fn master_files() {
    for file in files("pool", "master", "json") {
        let recording = file.json();
        let mut cases = 0;
        for exchange in list(&recording, "exchanges") {
            if exchange["status"] != 200 {
                continue;
            }
            let path = text(exchange, "path");
            let name = path.rsplit('/').next().unwrap();
            if name.starts_with("config") {
                let body = text(exchange, "body");
                assert_eq!(MasterConfig::parse(body.as_bytes()).unwrap().to_json(), body);
            } else if name.starts_with("blkinfo") {
                let body = text(exchange, "body");
                let info = BlockInfo::parse(body.as_bytes()).unwrap();
                assert_eq!(info.to_json(), body);
                assert_eq!(name, format!("blkinfo_{}.json", info.header.hash.display()));
            } else if name.starts_with("work") {
                let bytes = unhex(text(exchange, "body_hex"));
                let work = WorkFile::parse(&bytes).unwrap();
                assert_eq!(work.to_bytes(), bytes);
                assert_eq!(name, format!("work_{}.bin", work.height));
                check_merkle_root(&work);
            } else if name.starts_with("bt") {
                let bytes = unhex(text(exchange, "body_hex"));
                let template = BlockTemplate::parse(&bytes).unwrap();
                assert_eq!(template.to_bytes(), bytes);
                assert_eq!(name, format!("bt_{}.bin", template.height));
            } else {
                panic!("{path} is a form without a test");
            }
            cases += 1;
        }
        file.report(cases);
    }
}

fn check_merkle_root(work: &WorkFile) {
    let txid = Hash32(Sha256::digest(Sha256::digest(&work.coinbase)).into());
    assert_eq!(work.merkle_root(txid).0, work.header[36..68]);
}

/// Requests and replies of a block handler, and its pay log.
#[test]
fn block_handler_messages() {
    for file in files("pool", "blkhandler", "json") {
        let recording = file.json();
        let mut cases = 0;
        for case in list(&recording, "cases") {
            let reply = text(case, "reply");
            if reply.contains("\"warn\"") {
                let parsed = Reply::<ShareEvent>::parse(reply.as_bytes()).unwrap();
                assert_eq!(parsed.to_json(), reply);
                cases += 1;
            }
            if case["status"] == 200 && case["body"].is_string() {
                check_upload(case, &recording);
            }
        }
        for line in text(&recording, "paylog").lines() {
            let share = serde_json::from_str::<ShareEvent>(line).map(|event| event.to_line());
            let block = serde_json::from_str::<BlockEvent>(line).map(|event| event.to_line());
            assert_eq!(share.or(block).unwrap(), line);
            cases += 1;
        }
        file.report(cases);
    }
}

/// What the reply tells about a share follows from the upload and the work.
fn check_upload(case: &Value, recording: &Value) {
    let upload = ShareUpload::parse(text(case, "body").as_bytes()).unwrap();
    let reply = Reply::<ShareEvent>::parse(text(case, "reply").as_bytes()).unwrap();
    let event = reply.result.unwrap();
    assert_eq!(event.ann_count, upload.ann_count());
    assert_eq!(event.ann_min_work, upload.ann_min_work());
    let encryptions = compact::encryptions(event.target, upload.ann_min_work(), upload.ann_count());
    assert_eq!(encryptions, Some(event.encryptions));
    // The reference takes the id of the header as uploaded (spec 05, 16.1).
    assert_eq!(event.event_id, upload.event_id(upload.header()));
    let work =
        ["work", "work_next"].map(|key| WorkFile::parse(&unhex(text(recording, key))).unwrap());
    let work = work.iter().find(|work| work.previous_hash() == upload.previous_hash()).unwrap();
    assert_eq!(event.target, work.share_target);
}

#[test]
fn announcement_handler_replies() {
    for file in files("pool", "annhandler_replies", "json") {
        let recording = file.json();
        let replies = list(&recording, "replies");
        for case in replies {
            let reply = text(case, "reply");
            let parsed = Reply::<AnnsEvent>::parse(reply.as_bytes()).unwrap();
            assert_eq!(parsed.to_ann_json(), reply);
            assert_eq!(parsed.is_ok(), case["status"] == 200);
        }
        let announcement = unhex(text(&recording, "ann"));
        if let Some(seen) = replies.iter().find(|case| case["name"] == "one_already_seen") {
            let event = Reply::<AnnsEvent>::parse(text(seen, "reply").as_bytes()).unwrap().result;
            assert_eq!(event.unwrap().event_id, ids::ann_post_id(&announcement));
        }
        file.report(replies.len());
    }
}

#[test]
fn real_shares() {
    for file in files("pool", "real_shares", "json") {
        let recording = file.json();
        let work = WorkFile::parse(&unhex(text(&recording, "work"))).unwrap();
        check_merkle_root(&work);
        let shares = list(&recording, "shares");
        for share in shares {
            let upload = ShareUpload::parse(share["upload"].to_string().as_bytes()).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&upload.to_json()).unwrap(), share["upload"]);
            assert_eq!(upload.previous_hash(), work.previous_hash());
            let header = upload.effective_header(&work.header);
            assert_eq!(&header, upload.header());
            assert_eq!(upload.event_id(&header), text(share, "event_id"));
            let heights = list(share, "ann_parent_heights");
            assert_eq!(heights.len(), upload.announcements().len());
            for (announcement, height) in upload.announcements().iter().zip(heights) {
                let parent = u32::from_le_bytes(announcement[12..16].try_into().unwrap());
                assert_eq!(u64::from(parent), height.as_u64().unwrap());
            }
            let checked = unhex(text(&share["checkpcshare"], "hexblock"));
            let made = [upload.header_and_proof(), &[0, 0, 0]].concat();
            assert_eq!(checked, made);
        }
        file.report(shares.len());
    }
}

#[test]
fn real_announcements() {
    for file in files("pool", "anns", "json") {
        let recording = file.json();
        let Some(binary) = named("pool", &file.companion("bin").name) else { continue };
        let body = binary.bytes();
        assert_eq!(ids::ann_post_id(&body), text(&recording, "event_id_of_whole_file"));
        let cases = list(&recording, "anns");
        let announcements = body.as_chunks::<ANNOUNCEMENT_BYTES>().0;
        assert_eq!(announcements.len(), cases.len());
        for (announcement, case) in announcements.iter().zip(cases) {
            let hash = ids::dedup_hash(announcement);
            assert_eq!(hash.to_string(), text(case, "dedup_hash"));
            let hard_nonce = u32::from_le_bytes(announcement[4..8].try_into().unwrap());
            assert_eq!(u64::from(hard_nonce), case["hard_nonce"].as_u64().unwrap());
            for (handlers, owner) in case["owner_sver1"].as_object().unwrap() {
                let owner = owner.as_u64().unwrap() as usize;
                let handlers = handlers.parse().unwrap();
                assert_eq!(ids::owner_by_dedup_hash(hash, handlers), owner);
                assert_eq!(
                    ids::owner_by_hard_nonce(hard_nonce, handlers),
                    hard_nonce as usize % handlers
                );
            }
        }
        file.report(cases.len());
    }
}

#[test]
fn sprayer_datagrams() {
    let known: Vec<u64> = files("pool", "anns", "bin")
        .iter()
        .flat_map(|file| {
            let bytes = file.bytes();
            let announcements = bytes.as_chunks::<ANNOUNCEMENT_BYTES>().0;
            announcements.iter().map(|it| ids::dedup_hash(it)).collect::<Vec<_>>()
        })
        .collect();
    for file in files("pool", "sprayer_datagram", "bin") {
        let bytes = file.bytes();
        let datagram = Datagram::parse(&bytes);
        assert_eq!(datagram.tail, Tail::None);
        assert!(!datagram.records.is_empty() && datagram.records.len() <= RECORDS_LEN_MAX);
        let mut sequence: Vec<u64> = datagram.records.iter().map(|it| it.sequence.get()).collect();
        sequence.sort_unstable();
        let expected: Vec<u64> = (sequence[0]..).take(datagram.records.len()).collect();
        assert_eq!(sequence, expected);
        let sprayed: Vec<u64> =
            datagram.records.iter().map(|it| ids::dedup_hash(&it.announcement)).collect();
        // Of the project's own set it is known that the two belong together.
        if std::env::var_os(packetcrypt_vectors::VECTORS_VARIABLE).is_none() {
            assert!(known.iter().all(|hash| sprayed.contains(hash)));
        }
        file.report(datagram.records.len());
    }
}

/// A header's fields are where the node's own JSON says they are.
#[test]
fn headers_of_templates() {
    for file in files("pool", "units", "json") {
        for case in list(&file.json(), "rawTemplate") {
            let header: [u8; 80] = unhex_array(text(&case["template"], "header"));
            assert_eq!(work::previous_hash(&header).0, header[4..36]);
            assert_eq!(work::block_target(&header).0.to_le_bytes(), header[72..76]);
        }
    }
}
