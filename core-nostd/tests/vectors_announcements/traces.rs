//! Every step of the check of an announcement, and the limits of its programs.

use packetcrypt_core::announcement::{
    Announcement, BatchScratch, CheckScratch, Limits, check, check_batch, soft_nonce_max,
};
use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::params::{INSNS_MAX, OPS_MAX, TABLE_ITEMS};
use packetcrypt_core::primitives::compress64;
use packetcrypt_core::randhash::Interpreter;
use packetcrypt_core::{AnnError, Backend, Hash32};
use packetcrypt_vectors::{VectorFile, files, own, unhex_array};
use serde_json::Value;

use crate::cryptocycle::check_step;
use crate::items::ItemMaker;
use crate::values::{assert_compress64, list, number, text};

#[test]
fn announcement_traces() {
    files("announcements", "ann_traces", "json").iter().for_each(check_traces);
}

/// All traces of a file.
pub(crate) fn check_traces(file: &VectorFile) {
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
