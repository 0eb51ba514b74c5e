//! Announcement groups, difficulty arithmetic and the index.

use packetcrypt_core::announcement::Announcement;
use packetcrypt_core::block::{Tree, tree, versions};
use packetcrypt_core::difficulty::Natural;
use packetcrypt_core::{CompactTarget, Hash32, announcement, difficulty, primitives};
use packetcrypt_vectors::{files, unhex_array};
use serde_json::Value;

use crate::values::{
    NODE_NEGATIVE_TARGET, announcements, entries_of, hash, list, natural, number, text, word,
};

#[test]
fn announcement_groups() {
    let mut described = Vec::new();
    for file in files("blocks", "anns", "json") {
        let groups = file.json();
        let mut cases = 0;
        let mut are_absent = true;
        for (name, group) in groups["groups"].as_object().expect("groups by name") {
            let height = number(&group["parent_height"]);
            let parent = hash(&groups["parents"][height.to_string()]);
            let Some(all) = announcements(text(&group["file"])) else { continue };
            are_absent = false;
            assert_eq!(all.len() as u64, number(&group["count"]), "{name}");
            let mut scratch = announcement::CheckScratch::new();
            for ann in &all {
                let ann = Announcement::from_bytes(ann);
                assert_eq!(u64::from(ann.version()), number(&group["version"]));
                assert_eq!(ann.work_bits(), word(&group["target"]));
                assert_eq!(u64::from(ann.parent_block_height()), height);
                assert_eq!(u64::from(ann.content_type()), number(&group["content_type"]));
                assert_eq!(u64::from(ann.content_length()), number(&group["content_length"]));
                assert_eq!(*ann.content_hash(), hash(&group["content_hash"]).0);
                assert_eq!(*ann.signing_key(), hash(&group["signing_key"]).0);
                let checked = announcement::check(ann, &parent, &mut scratch);
                assert!(checked.is_ok(), "{name}: {checked:?}");
                cases += 1;
            }
            described.push(text(&group["file"]).to_owned());
        }
        let all_keys = groups["groups"].as_object().unwrap().values();
        let mut signed = all_keys
            .map(|group| text(&group["signing_key"]))
            .filter(|key| key.contains(|c| c != '0'));
        // A set need not have a signed group.
        if let Some(first) = signed.next() {
            let seed = unhex_array(text(&groups["signing_seed"]));
            let key = hex::encode(primitives::ed25519::public_key(&seed));
            let is_used = first == key || signed.any(|of_group| of_group == key);
            assert!(is_used, "a group is signed with the seed's key");
        }
        if !are_absent {
            file.report(cases);
        }
    }
    for file in files("blocks", "anns_", "bin") {
        let all = announcements(&file.name).expect("listed");
        if !described.contains(&file.name) {
            // A set without descriptions: what can be said without the parent blocks.
            for ann in all.iter().map(Announcement::from_bytes) {
                assert!(ann.work_bits().is_well_formed() && ann.version() <= 1, "{}", file.name);
            }
        }
        file.report(all.len());
    }
}

#[test]
fn difficulty_arithmetic() {
    for file in files("blocks", "difficulty", "json") {
        let json = file.json();
        let mut cases = 0;
        let mut each = |form: &str, check: &dyn Fn(&Value)| {
            for case in list(&json[form]) {
                check(case);
                cases += 1;
            }
        };
        each("compact_decode", &decode_case);
        each("compact_encode", &|case| {
            let value = natural(text(&case["value"]));
            assert_eq!(difficulty::encode(&value), word(&case["compact"]), "{case}");
        });
        each("work_for_target", &|case| {
            // Some words here are above the largest admissible one: by value.
            let target = value_of_word(word(&case["compact"]));
            let work = difficulty::work_for_target(&target);
            assert_eq!(work, natural(text(&case["work"])), "{case}");
        });
        each("target_for_work", &|case| {
            let target = difficulty::target_for_work(&natural(text(&case["work"])));
            let node = text(&case["target"]);
            let want = if node == "-1" { Natural::ZERO } else { natural(node) };
            assert_eq!(target, want, "{case}");
        });
        each("effective_target", &effective_target_case);
        each("aged_target", &|case| {
            let age = u32::try_from(number(&case["age"])).unwrap();
            let aged =
                difficulty::aged_target(word(&case["target"]), age, number(&case["version"]));
            assert_eq!(aged, word(&case["aged"]), "{case}");
        });
        each("min_ann_diff_ok", &|case| {
            let ok = difficulty::min_ann_diff_ok(word(&case["target"]));
            assert_eq!(ok, case["ok"].as_bool().unwrap(), "{case}");
        });
        each("hashrate_multiplier", &|case| {
            let have = difficulty::hashrate_multiplier(word(&case["ann"]), number(&case["count"]));
            assert_eq!(have, number(&case["mult"]), "{case}");
        });
        each("work_check", &|case| {
            let ok = difficulty::work_ok(&hash(&case["hash"]), word(&case["target"]));
            assert_eq!(ok, case["ok"].as_bool().unwrap(), "{case}");
        });
        each("version_allowed", &|case| {
            let height = u32::try_from(number(&case["height"])).unwrap();
            let ok = versions::allowed_at(number(&case["version"]), height);
            assert_eq!(ok, case["ok"].as_bool().unwrap(), "{case}");
        });
        file.report(cases);
    }
}

fn decode_case(case: &Value) {
    let compact = word(&case["compact"]);
    let value = text(&case["value"]);
    match difficulty::target(compact) {
        Some(target) => assert_eq!(target, natural(value), "{case}"),
        None => assert!(
            value.starts_with('-') || compact.0 & 0x0080_0000 != 0 || compact > CompactTarget::MAX,
            "{case}"
        ),
    }
}

/// What a word without sign stands for, also above the largest admissible word.
fn value_of_word(word: CompactTarget) -> Natural {
    difficulty::target(word).unwrap_or_else(|| {
        let mut bytes = vec![0; word.exponent() as usize - 3];
        bytes.extend(&word.mantissa().to_le_bytes()[..3]);
        Natural::from_le_bytes(&bytes).unwrap()
    })
}

fn effective_target_case(case: &Value) {
    let version = number(&case["version"]);
    let have = difficulty::effective_target(
        word(&case["block"]),
        word(&case["ann"]),
        number(&case["count"]),
        version,
    );
    let node = word(&case["target"]);
    let want = match case.get("target_lib") {
        Some(library) if !library.is_null() => word(library),
        _ if node.0 == NODE_NEGATIVE_TARGET => CompactTarget(0),
        _ => node,
    };
    assert_eq!(have, want, "{case}");
}

#[test]
fn index() {
    for file in files("blocks", "index", "json") {
        let json = file.json();
        for case in list(&json) {
            let mut have: Vec<Hash32> = list(&case["raw"]).iter().map(hash).collect();
            let keys: Vec<u64> = have.iter().map(tree::key).collect();
            let want_keys: Vec<u64> = list(&case["keys"]).iter().map(number).collect();
            assert_eq!(keys, want_keys);
            let kept = tree::index(&mut have);
            have.truncate(kept);
            let want: Vec<Hash32> = list(&case["index"]).iter().map(hash).collect();
            let keys = |hashes: &[Hash32]| hashes.iter().map(tree::key).collect::<Vec<u64>>();
            assert_eq!(keys(&have), keys(&want));
            let mut entries = entries_of(want.len() as u64);
            let tree = Tree::build(want.len() as u64, &mut entries, |i| want[i as usize]).unwrap();
            assert_eq!(tree.root(), hash(&case["root"]));
        }
        file.report(list(&json).len());
    }
}
