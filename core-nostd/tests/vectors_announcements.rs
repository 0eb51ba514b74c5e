//! The vectors of primitives, CryptoCycle, items, trees and announcements, those of the main
//! network included where they are.

use std::collections::BTreeMap;

use packetcrypt_core::announcement::item::{item_v0, items_v1};
use packetcrypt_core::announcement::{
    Announcement, BatchScratch, CheckScratch, Limits, check, check_batch, check_v0, soft_nonce_max,
};
use packetcrypt_core::cryptocycle::{State, lanes};
use packetcrypt_core::params::{
    ANNOUNCEMENT_BYTES, INSNS_MAX, ITEM_BYTES, OPS_MAX, TABLE_ITEMS, TREE_NODES,
};
use packetcrypt_core::primitives::{compress32, compress64, dsha256, expand};
use packetcrypt_core::randhash::{Execute, Generator, Interpreter, Program};
use packetcrypt_core::{AnnError, Backend, CompactTarget, Hash32, Hash64, merkle};
use packetcrypt_vectors::{VectorFile, chain, files, own, unhex, unhex_array};
use serde_json::Value;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

fn compact(value: &Value) -> CompactTarget {
    CompactTarget(u32::from_str_radix(text(value), 16).expect("a word of 8 hex digits"))
}

fn expanded(seed: &Value, len: usize, num: u32) -> Vec<u8> {
    let mut out = vec![0; len];
    expand(&unhex_array(text(seed)), num, &mut out);
    out
}

#[track_caller]
fn assert_compress64(bytes: &[u8], wanted: &Value) {
    assert_eq!(compress64(bytes).hex().to_string(), text(wanted));
}

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

/// The file of whole states or items that belongs to a JSON file, and how often it was used.
struct Whole {
    file: VectorFile,
    bytes: Vec<u8>,
    cases: usize,
}

impl Whole {
    /// `crypt-1.json` has `crypt_full-1.bin`, `crypt-1_full.bin` or `crypt_full.bin`, if any.
    fn beside(json: &VectorFile) -> Option<Whole> {
        let stem = json.stem().replace("_traces", "");
        let name = stem.trim_end_matches(|c: char| c.is_ascii_digit() || ['-', '_'].contains(&c));
        let tail = &stem[name.len()..];
        let names = [
            format!("{name}_full{tail}.bin"),
            format!("{stem}_full.bin"),
            format!("{name}_full.bin"),
        ];
        names.into_iter().find_map(|name| {
            let path = json.path.with_file_name(&name);
            let file = VectorFile { name, path };
            file.path.is_file().then(|| Whole { bytes: file.bytes(), file, cases: 0 })
        })
    }

    /// The bytes at an offset that a case gives.
    fn at(whole: &mut Option<Whole>, offset: Option<&Value>, len: usize) -> Option<Vec<u8>> {
        let (whole, offset) = (whole.as_mut()?, number(offset?) as usize);
        whole.cases += 1;
        Some(whole.bytes[offset..offset + len].to_vec())
    }

    /// Notes how many of its cases a JSON file used.
    fn note(whole: Option<Whole>, used: &mut BTreeMap<String, usize>) {
        if let Some(whole) = whole {
            *used.entry(whole.file.name).or_default() += whole.cases;
        }
    }
}

/// Says of each file of whole states or items how many of them ran.
fn report_whole(prefix: &str, used: &BTreeMap<String, usize>) {
    for file in files("announcements", prefix, "bin") {
        file.report(used.get(&file.name).copied().unwrap_or(0));
    }
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

fn check_step(state: &State, step: &Value) {
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

/// A version-1 table that makes one item at a time.
struct ItemMaker {
    program: Program,
    interpreter: Interpreter,
    seed: Hash64,
}

impl ItemMaker {
    fn new(seed: Hash64) -> ItemMaker {
        let mut program = Program::EMPTY;
        Generator::new().generate(seed.lo(), &mut program).expect("a program");
        let mut interpreter = Interpreter::new();
        interpreter.load(&program);
        ItemMaker { program, interpreter, seed }
    }

    fn item(&mut self, num: u64) -> [u8; ITEM_BYTES] {
        self.item_on(num, Backend::best())
    }

    fn item_on(&mut self, num: u64, backend: Backend) -> [u8; ITEM_BYTES] {
        let mut state = [State::ZERO];
        let exec = &mut self.interpreter;
        items_v1(&self.program, self.seed.hi(), &[num], &mut state, exec, backend).unwrap();
        *state[0].first_half()
    }
}

#[test]
fn items() {
    let mut used = BTreeMap::new();
    for file in files("announcements", "items", "json") {
        let json = file.json();
        let mut whole = Whole::beside(&file);
        let mut count = 0;
        let mut check_item = |case: &Value, item: [u8; ITEM_BYTES]| {
            assert_eq!(hex::encode(&item[..32]), text(&case["first32"]));
            assert_compress64(&item, &case["item_compress64"]);
            if let Some(full) = Whole::at(&mut whole, case.get("full_at"), ITEM_BYTES) {
                assert_eq!(item, full[..]);
            }
            count += 1;
        };
        for case in list(&json["v0"]) {
            let mut item = [0; ITEM_BYTES];
            item_v0(&unhex_array(text(&case["seed"])), number(&case["num"]) as u32, &mut item);
            check_item(case, item);
        }
        for case in list(&json["v1"]) {
            let mut maker = ItemMaker::new(Hash64::from_hex(text(&case["seed"])).unwrap());
            let len = maker.program.words().len() as u64;
            assert_eq!(len, number(&case["program_len"]));
            let memory: Vec<u8> =
                maker.program.memory().iter().flat_map(|word| word.to_le_bytes()).collect();
            assert_compress64(&memory, &case["memory_compress64"]);
            let item = maker.item(number(&case["num"]));
            for backend in Backend::available() {
                assert_eq!(maker.item_on(number(&case["num"]), backend), item, "{backend}");
            }
            check_item(case, item);
        }
        file.report(count);
        Whole::note(whole, &mut used);
    }
    report_whole("items_full", &used);
}

#[test]
fn merkle_trees() {
    for file in files("announcements", "merkle", "json") {
        let json = file.json();
        for case in list(&json) {
            let mut table = vec![[0; ITEM_BYTES]; TABLE_ITEMS];
            if number(&case["version"]) == 0 {
                let seed = unhex_array(text(&case["seed"]));
                for (num, item) in (0..).zip(&mut table) {
                    item_v0(&seed, num, item);
                }
            } else {
                let mut maker = ItemMaker::new(Hash64::from_hex(text(&case["seed"])).unwrap());
                for (num, item) in (0..).zip(&mut table) {
                    *item = maker.item(num);
                }
            }
            assert_compress64(table.as_flattened(), &case["table_compress64"]);
            let mut nodes = vec![Hash64::ZERO; TREE_NODES];
            for backend in Backend::available() {
                nodes.fill(Hash64::ZERO);
                merkle::build(&table, &mut nodes, backend);
                let root = merkle::root(&nodes);
                assert_eq!(root.hex().to_string(), text(&case["root"]), "{backend}");
            }
            for branch in list(&case["branches"]) {
                check_branch(&nodes, branch);
            }
        }
        file.report(list(&json).len());
    }
}

fn check_branch(nodes: &[Hash64], branch: &Value) {
    let num = number(&branch["num"]) as usize;
    let leaf = Hash64::from_hex(text(&branch["leaf"])).unwrap();
    assert_eq!(nodes[num], leaf);
    let siblings = merkle::branch(nodes, num);
    assert_eq!(hex::encode(siblings), text(&branch["siblings"]));
    let root = merkle::root(nodes);
    assert!(merkle::verify(&siblings, root, &leaf, num));
    assert!(!merkle::verify(&siblings, root, &leaf, num ^ 1));
    for at in [0, siblings.len() - 1] {
        let mut other = siblings;
        other[at] ^= 0x80;
        assert!(!merkle::verify(&other, root, &leaf, num));
    }
}

/// One record of a file of announcements.
struct Record {
    name: String,
    ann: Announcement,
    parent: Hash32,
    /// `None`: any rejection is right.
    wanted: Option<String>,
    work_hash: Option<Hash32>,
}

/// The records that a JSON file describes, which lie in the `.bin` beside it; says how many of
/// these bytes they are.
fn records(file: &VectorFile) -> Vec<Record> {
    let companion = file.companion("bin");
    let bin = companion.bytes();
    let record = |case: &Value| {
        let at = number(&case["at"]) as usize;
        let bytes: [u8; ANNOUNCEMENT_BYTES] = bin[at..at + ANNOUNCEMENT_BYTES].try_into().unwrap();
        Record {
            name: text(&case["name"]).to_owned(),
            ann: *Announcement::from_bytes(&bytes),
            parent: Hash32::from_hex(text(&case["parent_block_hash"])).unwrap(),
            wanted: Some(text(&case["result"]).to_owned()),
            work_hash: case.get("work_hash").map(|hash| Hash32::from_hex(text(hash)).unwrap()),
        }
    };
    let records: Vec<Record> = list(&file.json()).iter().map(record).collect();
    companion.report(records.len());
    records
}

/// Announcements say nothing about themselves: without the JSON beside them none can be judged.
#[test]
fn every_file_of_announcements_is_described() {
    for prefix in ["valid", "invalid", "v0_consensus", "v0_reference_miner"] {
        for file in files("announcements", prefix, "bin") {
            let json = file.companion("json").path;
            assert!(json.is_file(), "{} gave no case: no {}", file.name, json.display());
        }
    }
}

#[track_caller]
fn assert_result(record: &Record, result: Result<Hash32, AnnError>) {
    let (name, work_hash) = match result {
        Ok(hash) => ("OK", Some(hash)),
        Err(AnnError::InsufPow(hash)) => ("INSUF_POW", Some(hash)),
        Err(error) => (error.name(), None),
    };
    match &record.wanted {
        Some(wanted) => {
            assert_eq!(name, wanted, "{}", record.name);
            assert_eq!(work_hash, record.work_hash, "{}", record.name);
        }
        None => assert_ne!(name, "OK", "{}", record.name),
    }
}

/// `check` one by one, twice with one scratch, and `check_batch`.
fn check_file(file: &VectorFile) {
    let mut records = records(file);
    for record in records.iter_mut().filter(|record| record.ann.version() == 0) {
        record.wanted = None;
    }
    let mut scratch = CheckScratch::new();
    for record in records.iter().chain(records.iter().rev()) {
        let before = record.ann;
        let result = check(&record.ann, &record.parent, &mut scratch);
        assert_result(record, result);
        assert!(record.ann == before, "an announcement is not modified");
    }

    let batch: Vec<_> = records.iter().map(|record| (&record.ann, &record.parent)).collect();
    let mut results = vec![Ok(Hash32::ZERO); batch.len()];
    let mut scratch = Box::new(BatchScratch::new());
    let mut exec = Interpreter::new();
    check_batch(&batch, &mut results, &mut scratch, &mut exec, Backend::best());
    for (record, result) in records.iter().zip(results) {
        assert_result(record, result);
    }
    file.report(records.len());
}

#[test]
fn valid_announcements() {
    files("announcements", "valid", "json").iter().for_each(check_file);
}

#[test]
fn invalid_announcements() {
    files("announcements", "invalid", "json").iter().for_each(check_file);
}

#[test]
fn version_0_of_the_reference_miner() {
    files("announcements", "v0_reference_miner", "json").iter().for_each(check_file);
    let mut scratch = CheckScratch::new();
    for file in files("announcements", "v0_reference_miner", "json") {
        for record in records(&file) {
            assert!(check_v0(&record.ann, &record.parent, &mut scratch).is_err());
        }
    }
}

#[test]
fn version_0_of_the_consensus() {
    for file in files("announcements", "v0_consensus", "json") {
        let records = records(&file);
        let mut scratch = CheckScratch::new();
        for record in &records {
            assert_result(record, check_v0(&record.ann, &record.parent, &mut scratch));
            let refused = check(&record.ann, &record.parent, &mut scratch);
            assert_eq!(refused, Err(AnnError::Inval), "version 0 is none of check's");
        }
        file.report(records.len());
    }
}

#[test]
fn main_network_announcement() {
    for name in ["mainnet_announcement.json", "mainnet_announcement_invalid.json"] {
        chain(name).iter().for_each(check_file);
    }
    if let Some(file) = chain("mainnet_announcement_trace.json") {
        check_traces(&file);
    }
}

#[test]
fn announcement_traces() {
    files("announcements", "ann_traces", "json").iter().for_each(check_traces);
}

fn check_traces(file: &VectorFile) {
    let json = file.json();
    list(&json).iter().for_each(check_trace);
    file.report(list(&json).len());
}

fn trace_of(case: &Value) -> (Announcement, Hash32) {
    let bytes = unhex_array(text(&case["ann"]));
    let parent = Hash32::from_hex(text(&case["parent_block_hash"])).unwrap();
    (*Announcement::from_bytes(&bytes), parent)
}

fn check_trace(case: &Value) {
    let (ann, parent) = trace_of(case);
    assert_eq!(u64::from(ann.soft_nonce()), number(&case["soft_nonce"]));
    let max = soft_nonce_max(ann.work_bits()).unwrap();
    assert_eq!(u64::from(max), number(&case["soft_nonce_max"]));
    let ann_hash_0 = ann.header().ann_hash_0(&parent);
    assert_eq!(ann_hash_0.hex().to_string(), text(&case["ann_hash_0"]));
    let ann_hash_1 = ann.header().ann_hash_1(ann.root());
    assert_eq!(ann_hash_1.hex().to_string(), text(&case["ann_hash_1"]));
    let seed_2 = compress64(&[ann.root().0, ann_hash_0.0].concat());
    assert_eq!(seed_2.hex().to_string(), text(&case["seed_2"]));

    let mut table_2 = ItemMaker::new(seed_2);
    assert_eq!(table_2.program.words().len() as u64, number(&case["program_2_len"]));
    let mut state = State::ZERO;
    let mut num = 0;
    for step in list(&case["steps"]) {
        if step["op"] == "init" {
            state.init(ann_hash_1.lo(), u64::from(ann.soft_nonce()));
        } else {
            num = state.item_number() % TABLE_ITEMS as u64;
            assert_eq!(num, number(&step["num"]));
            let item = table_2.item(num);
            assert_compress64(&item, &step["item_compress64"]);
            state.update(&item);
        }
        check_step(&state, step);
    }
    state.finish();
    assert_eq!(hex::encode(state.head()), text(&case["work_hash"]));

    let sealed = [&ann.siblings()[..], ann.item4_prefix()].concat();
    let opened: Vec<u8> = sealed.iter().zip(&state.0).map(|(byte, key)| byte ^ key).collect();
    assert_eq!(hex::encode(&opened[..832]), text(&case["decrypted_siblings"]));
    assert_eq!(hex::encode(&opened[832..]), text(&case["decrypted_prefix"]));
    let mut table_1 = ItemMaker::new(ann_hash_0);
    assert_eq!(table_1.program.words().len() as u64, number(&case["program_1_len"]));
    assert_compress64(&table_1.item(num), &case["table_1_item_compress64"]);
    assert_eq!(ann.hash().hex().to_string(), text(&case["announcement_hash_compress32"]));
    assert!(check(&ann, &parent, &mut CheckScratch::new()).is_ok());
}

/// The failures of programs, which no vector gives, by lower limits: the lengths of the programs
/// are in the traces.
#[test]
fn limits() {
    for file in files("announcements", "ann_traces", "json") {
        let json = file.json();
        for case in list(&json) {
            let (ann, parent) = trace_of(case);
            let len_1 = number(&case["program_1_len"]) as usize;
            let len_2 = number(&case["program_2_len"]) as usize;
            check_lengths(&ann, &parent, len_1, len_2);
        }
    }
}

fn check_with(ann: &Announcement, parent: &Hash32, limits: Limits) -> Result<Hash32, AnnError> {
    check(ann, parent, &mut CheckScratch::with_limits(limits))
}

fn flipped(ann: &Announcement, at: usize) -> Announcement {
    let mut bytes = *ann.to_bytes();
    bytes[at] ^= 1;
    *Announcement::from_bytes(&bytes)
}

fn check_lengths(ann: &Announcement, parent: &Hash32, len_1: usize, len_2: usize) {
    let with_insns = |ann: &Announcement, insns_max| {
        check_with(ann, parent, Limits { insns_max, ops_max: OPS_MAX })
    };
    let bad_prefix = flipped(ann, 1000);
    let longest = len_1.max(len_2);
    assert!(with_insns(ann, longest).is_ok());
    assert_eq!(with_insns(ann, longest - 1), Err(AnnError::BadProgram));
    // Program 2 comes before the prefix is looked at, program 1 behind it.
    assert_eq!(with_insns(&bad_prefix, len_2), Err(AnnError::InvalItem4));
    assert_eq!(with_insns(&bad_prefix, len_2 - 1), Err(AnnError::BadProgram));
    if len_1 > len_2 {
        for insns_max in [len_2, len_1 - 1] {
            assert_eq!(with_insns(ann, insns_max), Err(AnnError::BadProgram));
            assert_eq!(with_insns(&bad_prefix, insns_max), Err(AnnError::InvalItem4));
        }
    }
    for ops_max in [0, 1, 100] {
        let limits = Limits { insns_max: INSNS_MAX, ops_max };
        assert_eq!(check_with(ann, parent, limits), Err(AnnError::BadProgramExec));
        let batch = [(ann, parent); 3];
        let mut results = [Ok(Hash32::ZERO); 3];
        let mut exec = Interpreter::with_limit(ops_max);
        let mut scratch = Box::new(BatchScratch::new());
        check_batch(&batch, &mut results, &mut scratch, &mut exec, Backend::Soft);
        assert_eq!(results, [Err(AnnError::BadProgramExec); 3]);
    }
}

/// The figures that the README of the vectors gives for its first and its last trace.
#[test]
fn limits_of_the_readme() {
    let json = own("announcements", "ann_traces.json").json();
    let first = &list(&json)[0];
    assert_eq!(number(&first["program_2_len"]), 180);
    let (ann, parent) = trace_of(first);
    let limits = |insns_max, ops_max| Limits { insns_max, ops_max };
    assert!(check_with(&ann, &parent, limits(180, OPS_MAX)).is_ok());
    assert_eq!(check_with(&ann, &parent, limits(179, OPS_MAX)), Err(AnnError::BadProgram));
    let flipped = flipped(&ann, 984);
    assert_eq!(check_with(&flipped, &parent, limits(179, OPS_MAX)), Err(AnnError::BadProgram));
    assert_eq!(check_with(&ann, &parent, limits(2048, 3999)), Err(AnnError::BadProgramExec));
}
