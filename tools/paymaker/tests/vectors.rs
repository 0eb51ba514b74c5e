//! Paymaker vectors: the reference's answers bit for bit (spec 05, 12 and 18).

use std::fs;

use jiff::tz::TimeZone;
use packetcrypt_paymaker::event;
use packetcrypt_paymaker::history::{History, HistoryRules};
use packetcrypt_paymaker::ledger::{Arrival, Files, Ledger};
use packetcrypt_paymaker::read_history;
use packetcrypt_paymaker::whotopay::{PayRules, who_to_pay};
use packetcrypt_proto::{ids, json};
use serde_json::Value;

fn history_rules(case: &Value, is_reference: bool) -> HistoryRules {
    let config = &case["config"];
    let compressor = &config["annCompressor"];
    HistoryRules {
        depth_ms: config["historyDepth"].as_f64().expect("historyDepth") * 1000.0,
        timespan_ms: compressor["timespanMs"].as_f64().unwrap_or(60_000.0),
        slots_to_keep_events: compressor["slotsToKeepEvents"].as_f64().unwrap_or(10.0),
        is_signing: !case["privateSeed"].is_null(),
        reference_slots: is_reference,
        // The recorded hours are the reference's in every case.
        reference_hours: true,
        zone: TimeZone::UTC,
    }
}

fn pay_rules(case: &Value, is_reference: bool) -> PayRules {
    let config = &case["config"];
    let text = |key: &str| config[key].as_str().unwrap_or_default().into();
    let fraction = config["blockPayoutFraction"].as_f64().filter(|f| (0.0..=1.0).contains(f));
    PayRules {
        block_payout_fraction: fraction.unwrap_or(0.5),
        pplns_blk_constant_x: config["pplnsBlkConstantX"].as_f64().expect("blk x"),
        pplns_ann_constant_x: config["pplnsAnnConstantX"].as_f64().expect("ann x"),
        default_address: text("defaultAddress"),
        pool_fee: config["poolFee"].as_f64(),
        pool_fee_address: text("poolFeeAddress"),
        zero_credit_hides_slot: is_reference,
    }
}

/// Equal to the bit, with the same order of keys.
fn same(at: &str, have: &Value, want: &Value) {
    match (have, want) {
        (Value::Object(a), Value::Object(b)) => {
            let (have, want): (Vec<_>, Vec<_>) = (a.keys().collect(), b.keys().collect());
            assert_eq!(have, want, "keys of {at}");
            a.iter().for_each(|(key, value)| same(&format!("{at}.{key}"), value, &b[key]));
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "length of {at}: {have} {want}");
            a.iter().zip(b).for_each(|(a, b)| same(&format!("{at}[]"), a, b));
        }
        (Value::Number(a), Value::Number(b)) => {
            assert_eq!(a.as_f64().map(f64::to_bits), b.as_f64().map(f64::to_bits), "{at} {a} {b}");
        }
        _ => assert_eq!(have, want, "{at}"),
    }
}

fn check(name: &str, case: &Value, history: &History, is_reference: bool, want: &Value, max: f64) {
    let now = case["now"].as_f64().expect("now");
    let answer = who_to_pay(history, &pay_rules(case, is_reference), now, max);
    let have: Value = serde_json::from_str(&json::to_tabbed(&answer)).expect("JSON");
    same(name, &have, want);
}

fn run(case: &Value, is_reference: bool) {
    let name = case["name"].as_str().expect("name");
    let now_ms = case["now"].as_f64().expect("now");
    let dir = tempfile::tempdir().expect("dir");
    let mut files = Files::open(dir.path()).expect("open");
    let mut history = History::new(history_rules(case, is_reference));
    let replies = case["replies"].as_array().expect("replies");
    for (body, reply) in case["batches"].as_array().expect("batches").iter().zip(replies) {
        let body = body.as_str().expect("body");
        match event::newest_time(body, now_ms) {
            Ok(newest_ms) => {
                assert_eq!(reply["status"], 200, "{name}");
                let id = ids::file_id(body.as_bytes());
                assert_eq!(reply["body"]["result"]["eventId"], id.as_str(), "{name}");
                let arrival = Arrival { now_ms, known_ms: history.newest_ms(), newest_ms };
                files.store(&arrival, &id, body).expect("store");
                history.take_log(body, newest_ms, now_ms);
            }
            Err(error) => {
                assert_eq!(reply["status"], 400, "{name}");
                assert_eq!(reply["body"]["error"][0], error.to_string(), "{name}");
            }
        }
    }
    let all = f64::INFINITY;
    check(name, case, &history, is_reference, &case["expected"], all);
    for at in case["expected_maxtime"].as_array().into_iter().flatten() {
        let max = at["maxtime"].as_f64().expect("maxtime");
        check(name, case, &history, is_reference, &at["result"], max);
    }
    drop(files);
    if case["restart"] == true {
        restart(name, case, is_reference, dir.path());
    }
}

fn restart(name: &str, case: &Value, is_reference: bool, dir: &std::path::Path) {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("dir")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("name"))
        .filter(|name| name.starts_with("paylog_"))
        .collect();
    names.sort();
    assert_eq!(serde_json::to_value(&names).expect("names"), case["log_files"], "{name}");
    // As the reference leaves it, and so read by name.
    fs::remove_file(dir.join("arrivals.log")).expect("journal");
    let mut files = Files::open(dir).expect("open");
    let mut history = History::new(history_rules(case, is_reference));
    let now_ms = case["now"].as_f64().expect("now");
    read_history(&mut files, &mut history, now_ms).expect("read");
    check(name, case, &history, is_reference, &case["expected2"], f64::INFINITY);
}

fn has_anns(case: &Value) -> bool {
    let batches = case["batches"].as_array().expect("batches");
    let mut lines = batches.iter().filter_map(Value::as_str).flat_map(str::lines);
    lines.any(|line| event::parse(line).is_some_and(|it| matches!(it.kind, event::Kind::Anns(_))))
}

#[test]
fn with_both_switches_every_case_is_met() {
    for file in packetcrypt_vectors::files("pool", "paymaker", "json") {
        let data = file.json();
        let cases = data["cases"].as_array().expect("cases");
        cases.iter().for_each(|case| run(case, true));
        file.report(cases.len());
    }
}

#[test]
fn without_switches_cases_without_announcements_are_met() {
    for file in packetcrypt_vectors::files("pool", "paymaker", "json") {
        let data = file.json();
        let cases = data["cases"].as_array().expect("cases");
        let comparable: Vec<_> = cases.iter().filter(|case| !has_anns(case)).collect();
        comparable.iter().for_each(|case| run(case, false));
        // A file of announcements alone is present and has no such case.
        if !comparable.is_empty() || cases.is_empty() {
            file.report(comparable.len());
        }
    }
}
