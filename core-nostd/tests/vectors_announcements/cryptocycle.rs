//! The steps of CryptoCycle.

use std::collections::BTreeMap;

use packetcrypt_core::Backend;
use packetcrypt_core::cryptocycle::{State, lanes};
use packetcrypt_core::params::ITEM_BYTES;
use packetcrypt_vectors::{files, unhex, unhex_array};
use serde_json::Value;

use crate::values::{assert_compress64, compact, expanded, list, text};
use crate::whole::{Whole, report_whole};

#[test]
fn crypt() {
    let mut used = BTreeMap::new();
    for file in files("announcements", "crypt", "json") {
        let json = file.json();
        let mut whole = Whole::beside(&file);
        let mut count = 0;
        for case in list(&json["crypt"]) {
            let mut state = State(expanded(&case["seed"], 2048, 0).try_into().unwrap());
            let word = compact(&case["word"]).0;
            state.0[12..16].copy_from_slice(&word.to_le_bytes());
            let full = Whole::at(&mut whole, case.get("full_at"), 4096);
            if let Some(full) = &full {
                assert_eq!(state.0, full[..2048], "input of {case}");
            }
            let before = state.clone();
            state.crypt();
            for backend in Backend::available() {
                let mut lanes = [before.clone()];
                lanes::crypt(&mut lanes, backend);
                assert_eq!(lanes[0].0, state.0, "{backend}, {case}");
            }
            if let Some(full) = &full {
                assert_eq!(state.0, full[2048..], "output of {case}");
            }
            assert_eq!(state.0[12..16], compact(&case["out_word"]).0.to_le_bytes(), "{case}");
            assert_eq!(hex::encode(&state.0[16..32]), text(&case["out_tag"]), "{case}");
            assert_compress64(&state.0, &case["out_compress64"]);
            count += 1;
        }
        for case in list(&json["make_fuzzable"]) {
            let mut state = State::ZERO;
            state.0[..48].copy_from_slice(&unhex(text(&case["in"])));
            state.make_fuzzable();
            assert_eq!(hex::encode(&state.0[..48]), text(&case["out"]));
            count += 1;
        }
        file.report(count);
        Whole::note(whole, &mut used);
    }
    report_whole("crypt_full", &used);
}

#[test]
fn cryptocycle_traces() {
    let mut used = BTreeMap::new();
    for file in files("announcements", "cryptocycle_traces", "json") {
        let json = file.json();
        let mut whole = Whole::beside(&file);
        for case in list(&json) {
            let mut state = State::ZERO;
            for step in list(&case["steps"]) {
                let op = text(&step["op"]);
                match op {
                    "init" => state.init(
                        &unhex_array(text(&case["seed"])),
                        text(&case["nonce"]).parse().expect("a decimal nonce"),
                    ),
                    "update" => {
                        let item = expanded(&step["item_seed"], ITEM_BYTES, 0);
                        let item = item.as_slice().try_into().unwrap();
                        let before = state.clone();
                        state.update(item);
                        for backend in Backend::available() {
                            let mut lanes = [before.clone(), before.clone()];
                            lanes::update(&mut lanes, &[item, item], backend);
                            assert_eq!(lanes.map(|lane| lane.0), [state.0; 2], "{backend}");
                        }
                    }
                    "smul" => state.smul(),
                    "final" => state.finish(),
                    _ => panic!("no test for step {op}"),
                }
                check_step(&state, step);
                // Whole states after init, each update and final of the first traces.
                if let Some(whole) = whole.as_mut().filter(|_| op != "smul")
                    && let Some(wanted) = whole.bytes.chunks(2048).nth(whole.cases)
                {
                    assert!(state.0 == *wanted, "{}: state {}", whole.file.name, whole.cases);
                    whole.cases += 1;
                }
            }
        }
        file.report(list(&json).len());
        Whole::note(whole, &mut used);
    }
    report_whole("cryptocycle_full", &used);
}

/// The state after a step of a trace.
pub(crate) fn check_step(state: &State, step: &Value) {
    assert_compress64(&state.0, &step["state_compress64"]);
    if let Some(head) = step.get("head") {
        assert_eq!(hex::encode(&state.0[..48]), text(head));
    }
    if let Some(wanted) = step.get("item_number") {
        assert_eq!(state.item_number().to_string(), text(wanted));
    }
    if let Some(out) = step.get("out") {
        let at = if step["op"] == "smul" { 64 } else { 0 };
        assert_eq!(hex::encode(&state.0[at..at + 32]), text(out));
    }
}
