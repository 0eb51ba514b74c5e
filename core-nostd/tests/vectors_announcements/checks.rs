//! Whole announcements and what the check says of them, those of the main network included where
//! they are.

use packetcrypt_core::announcement::{
    Announcement, BatchScratch, CheckScratch, check, check_batch, check_v0,
};
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;
use packetcrypt_core::randhash::Interpreter;
use packetcrypt_core::{AnnError, Backend, Hash32};
use packetcrypt_vectors::{VectorFile, chain, files};
use serde_json::Value;

use crate::traces::check_traces;
use crate::values::{list, number, text};

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
