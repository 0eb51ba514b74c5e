//! Hashes, the byte expander, targets.

use packetcrypt_core::announcement::soft_nonce_max;
use packetcrypt_core::primitives::{compress32, dsha256};
use packetcrypt_core::{CompactTarget, Hash32};
use packetcrypt_vectors::{files, unhex};
use serde_json::Value;

use crate::values::{assert_compress64, compact, expanded, list, number, text};

#[test]
fn primitives() {
    for file in files("announcements", "primitives", "json") {
        let json = file.json();
        let mut cases = 0;
        for (name, list_of) in json.as_object().expect("an object of lists") {
            for case in list(list_of) {
                check_primitive(name, case);
                cases += 1;
            }
        }
        file.report(cases);
    }
}

fn check_primitive(name: &str, case: &Value) {
    match name {
        "compress" => {
            let message = match case.get("msg") {
                Some(message) => unhex(text(message)),
                None => {
                    let of = &case["msg_expand"];
                    expanded(&of["seed"], number(&of["len"]) as usize, number(&of["num"]) as u32)
                }
            };
            assert_eq!(compress32(&message).hex().to_string(), text(&case["compress32"]));
            assert_compress64(&message, &case["compress64"]);
        }
        "expand" => {
            let len = number(&case["len"]) as usize;
            let out = expanded(&case["seed"], len, number(&case["num"]) as u32);
            match case.get("out") {
                Some(wanted) => assert_eq!(out, unhex(text(wanted))),
                None => assert_compress64(&out, &case["out_compress64"]),
            }
        }
        "work_ok" => {
            let hash = Hash32::from_hex(text(&case["hash"])).unwrap();
            let is_met = compact(&case["target"]).is_met_by(&hash);
            assert_eq!(Some(is_met), case["ok"].as_bool(), "{case}");
        }
        "soft_nonce_max" => {
            let max = soft_nonce_max(compact(&case["work_bits"]));
            assert_eq!(max.map(u64::from), Some(number(&case["max"])), "{case}");
        }
        "compact" => check_compact(case),
        "dsha256" => {
            let hash = dsha256(&unhex(text(&case["msg"])));
            assert_eq!(hash.hex().to_string(), text(&case["out"]));
        }
        _ => panic!("no test for primitive {name}"),
    }
}

fn check_compact(case: &Value) {
    let word = compact(&case["word"]);
    let digits = text(&case["value_hex"]);
    let is_refused = word > CompactTarget::MAX || word.0 & 0x0080_0000 != 0;
    assert_eq!(word.target().is_none(), is_refused, "{case}");
    if let Some(mut target) = word.target() {
        target.reverse();
        let value = hex::encode(target);
        assert_eq!(value.trim_start_matches('0'), digits.trim_start_matches('0'), "{case}");
        target.reverse();
        assert_eq!(CompactTarget::from_target(&target), compact(&case["reencoded"]), "{case}");
    }
}
