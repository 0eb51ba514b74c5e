//! `GET /anns/index.json`: the announcement files of a handler, for block miners that download.
//!
//! Our addition (spec 05, 6.7 describes what older handlers served). A handler keeps accepted
//! announcements in numbered files of concatenated 1024-byte announcements, `GET /anns/<name>`,
//! which only grow; a file that is `complete` never changes again. The index is the legacy object
//! with more keys, so that a client of the old form still reads it:
//!
//! ```json
//! {
//!   "highestAnnFile": 12,
//!   "files": ["anns_11.bin", "anns_12.bin"],
//!   "store": "5f2dd7378c94254d1aa157819382fb69",
//!   "details": [
//!     {"number": 11, "bytes": 1048576, "parentHeightMin": 7, "parentHeightMax": 9, "complete": true},
//!     {"number": 12, "bytes": 2048, "parentHeightMin": 9, "parentHeightMax": 9, "complete": false}
//!   ]
//! }
//! ```
//!
//! - `highestAnnFile`: number of the newest file, -1 when there is none.
//! - `files`: names, ascending by number, the same files as in `details`. The first one is the
//!   oldest that can still be had: numbers below it are gone for good.
//! - `store`: 32 hex digits, chosen when the handler's store was created and kept over restarts.
//!   When it changes, numbers and offsets that a client remembers mean nothing any more.
//! - `bytes`: published length, a multiple of 1024. What lies below it is immutable, so a client
//!   continues at the offset it has with `Range: bytes=<offset>-<bytes - 1>`.
//! - `parentHeightMin`, `parentHeightMax`: the parent heights that occur in the file; -1 when empty.
//!
//! An index without `store` and `details` is that of an old handler, which we do not download from.

use serde::{Deserialize, Serialize};

use crate::fields::{self, MessageError};
use crate::{ANNOUNCEMENT_BYTES, json};

/// Path of the index.
pub const INDEX_PATH: &str = "/anns/index.json";
/// What the path of a file begins with.
pub const FILE_PATH_PREFIX: &str = "/anns/";
/// Most bytes of an index that a client reads.
pub const INDEX_BYTES_MAX: usize = 4 << 20;
/// Most files of an index.
pub const FILES_LEN_MAX: usize = 16_384;

/// The files of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnsIndex {
    /// Identity of the handler's store.
    pub store: String,
    /// Ascending by number.
    pub files: Vec<AnnFile>,
}

/// One announcement file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnnFile {
    /// Its number, counted up from 0 in the life of a store.
    pub number: u64,
    /// Published bytes, a multiple of 1024.
    pub bytes: u64,
    /// Least parent height of its announcements, -1 when it is empty.
    pub parent_height_min: i64,
    /// Greatest parent height of its announcements, -1 when it is empty.
    pub parent_height_max: i64,
    /// Whether the file will not grow any more.
    pub complete: bool,
}

impl AnnFile {
    /// The name, `anns_<number>.bin`.
    #[must_use]
    pub fn name(&self) -> String {
        file_name(self.number)
    }
}

/// The name of the file with a number: `anns_<number>.bin`.
#[must_use]
pub fn file_name(number: u64) -> String {
    format!("anns_{number}.bin")
}

/// The number of a file from its path, `/anns/anns_<number>.bin`; `None` for any other path.
#[must_use]
pub fn number_of_path(path: &str) -> Option<u64> {
    let number =
        path.strip_prefix(FILE_PATH_PREFIX)?.strip_prefix("anns_")?.strip_suffix(".bin")?;
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit())
        && (number == "0" || !number.starts_with('0'));
    number.parse().ok().filter(|_| is_plain)
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    highest_ann_file: i64,
    files: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    #[serde(default)]
    details: Option<Vec<AnnFile>>,
}

impl AnnsIndex {
    /// The JSON of the index.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::to_line(&Wire {
            highest_ann_file: self.files.last().map_or(-1, |file| file.number as i64),
            files: self.files.iter().map(AnnFile::name).collect(),
            store: Some(self.store.clone()),
            details: Some(self.files.clone()),
        })
    }

    /// Parses the index of a handler of this project.
    ///
    /// # Errors
    /// [`MessageError`]; [`MessageError::Missing`] of `details` or `store` says that it is an old
    /// handler.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let value = fields::parse_json(bytes, INDEX_BYTES_MAX)?;
        let wire: Wire =
            serde_json::from_value(value).map_err(|e| MessageError::NotJson(e.to_string()))?;
        let files = wire.details.ok_or(MessageError::Missing { key: "details" })?;
        let store = wire.store.ok_or(MessageError::Missing { key: "store" })?;
        let index = Self { store, files };
        index.check()?;
        Ok(index)
    }

    fn check(&self) -> Result<(), MessageError> {
        let refuse = |key, want, have: String| Err(MessageError::Invalid { key, want, have });
        if !is_store_id(&self.store) {
            return refuse("store", "32 hex digits", format!("{} characters", self.store.len()));
        }
        if self.files.len() > FILES_LEN_MAX {
            return refuse("details", "at most 16384 files", self.files.len().to_string());
        }
        if !self.files.is_sorted_by(|a, b| a.number < b.number) {
            return refuse("details", "files ascending by number", "another order".to_owned());
        }
        for file in &self.files {
            if file.bytes % ANNOUNCEMENT_BYTES as u64 != 0 {
                return refuse("bytes", "a multiple of 1024", file.bytes.to_string());
            }
            if file.number > i64::MAX as u64 {
                return refuse("number", "at most 2^63-1", file.number.to_string());
            }
        }
        Ok(())
    }
}

fn is_store_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// An identity for a new store, from random bytes.
#[must_use]
pub fn store_id(random: [u8; 16]) -> String {
    hex::encode(random)
}

/// The ETag of a file: it changes with the store, so a cache never mixes two stores.
#[must_use]
pub fn entity_tag(store: &str, number: u64) -> String {
    format!("\"{store}-{number}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> AnnsIndex {
        let file = |number, bytes, complete| AnnFile {
            number,
            bytes,
            parent_height_min: 7,
            parent_height_max: 9,
            complete,
        };
        AnnsIndex {
            store: store_id([9; 16]),
            files: vec![file(11, 4096, true), file(12, 0, false)],
        }
    }

    #[test]
    fn old_clients_find_their_keys_first() {
        let text = sample().to_json();
        let start = r#"{"highestAnnFile":12,"files":["anns_11.bin","anns_12.bin"],"store":"09"#;
        assert!(text.starts_with(start), "{text}");
        assert_eq!(AnnsIndex::parse(text.as_bytes()), Ok(sample()));
        let empty = AnnsIndex { files: Vec::new(), ..sample() };
        assert!(empty.to_json().starts_with(r#"{"highestAnnFile":-1,"files":[],"#));
    }

    #[test]
    fn an_old_handler_is_told_apart() {
        let old = br#"{"highestAnnFile":3,"files":["anns_3.bin"]}"#;
        assert_eq!(AnnsIndex::parse(old), Err(MessageError::Missing { key: "details" }));
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |change: fn(&mut AnnsIndex)| {
            let mut index = sample();
            change(&mut index);
            AnnsIndex::parse(index.to_json().as_bytes()).is_err()
        };
        assert!(!refused(|_| ()));
        assert!(refused(|index| index.store.push('0')));
        assert!(refused(|index| index.files[0].bytes = 1025));
        assert!(refused(|index| index.files[0].number = 12));
        assert!(refused(|index| index.files[1].number = u64::MAX));
    }

    #[test]
    fn only_plain_paths_name_a_file() {
        assert_eq!(number_of_path("/anns/anns_12.bin"), Some(12));
        assert_eq!(number_of_path(&format!("/anns/{}", file_name(0))), Some(0));
        for path in [
            "/anns/anns_.bin",
            "/anns/anns_012.bin",
            "/anns/anns_+1.bin",
            "/anns/anns_1.bin/",
            "/anns/../anns_1.bin",
            "/anns/anns_99999999999999999999999.bin",
            "anns_1.bin",
        ] {
            assert_eq!(number_of_path(path), None, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = AnnsIndex::parse(&bytes);
        }
    }
}
