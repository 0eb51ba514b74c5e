//! What came already of a handler's files.

use std::collections::BTreeMap;

use packetcrypt_proto::anns_index::{AnnFile, AnnsIndex};

use crate::store::Download;

/// A stretch of a handler's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Number of the file.
    pub(super) file: u64,
    /// First byte.
    pub(super) from: u64,
    /// The byte behind it.
    pub(super) to: u64,
}

/// How much of which files of a handler's store came already.
#[derive(Debug, Default)]
pub(super) struct Have {
    store: String,
    bytes: BTreeMap<u64, u64>,
    /// Number and length of the newest file of the last index, all of which came.
    pub(super) newest: Option<(u64, u64)>,
}

impl Have {
    /// What an earlier process had.
    pub(super) fn restore(download: &Download) -> Have {
        let bytes = download.files.iter().copied().collect();
        Have { store: download.store.clone(), bytes, newest: None }
    }

    /// For a later process.
    pub(super) fn to_download(&self, source: &str) -> Download {
        Download {
            source: source.to_owned(),
            store: self.store.clone(),
            files: self.bytes.iter().map(|(number, bytes)| (*number, *bytes)).collect(),
        }
    }

    /// Forgets what is no longer in the index: all of it when the store is another one, and a file
    /// that has become shorter, since its content is not what came.
    pub(super) fn keep_to(&mut self, index: &AnnsIndex) {
        if self.store != index.store {
            *self = Have { store: index.store.clone(), ..Have::default() };
        }
        self.bytes.retain(|number, have| {
            index
                .files
                .binary_search_by_key(number, |file| file.number)
                .is_ok_and(|at| *have <= index.files[at].bytes)
        });
    }

    /// The part of a file that has not come.
    pub(super) fn missing(&self, file: &AnnFile) -> Option<Piece> {
        let from = self.bytes.get(&file.number).copied().unwrap_or(0);
        (from < file.bytes).then_some(Piece { file: file.number, from, to: file.bytes })
    }

    /// What of a file came: everything up to this byte.
    pub(super) fn put(&mut self, file: u64, bytes: u64) {
        self.bytes.insert(file, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: u64, bytes: u64) -> AnnFile {
        AnnFile { number, bytes, parent_height_min: 7, parent_height_max: 9, complete: false }
    }

    #[test]
    fn what_came_is_remembered_until_the_store_changes() {
        let mut have = Have::default();
        let mut index =
            AnnsIndex { store: "a".to_owned(), files: vec![file(1, 4096), file(2, 2048)] };
        have.keep_to(&index);
        have.put(1, 4096);
        have.put(2, 1024);
        index.files[1].bytes = 8192;
        have.keep_to(&index);
        assert_eq!(have.missing(&index.files[0]), None);
        let rest = Piece { file: 2, from: 1024, to: 8192 };
        assert_eq!(have.missing(&index.files[1]), Some(rest));
        // A restart knows the same.
        let mut again = Have::restore(&have.to_download("x"));
        again.keep_to(&index);
        assert_eq!(again.missing(&index.files[1]), Some(rest));
        // A file that went, and one that was truncated.
        index.files = vec![file(2, 512), file(3, 1024)];
        have.keep_to(&index);
        assert_eq!(have.missing(&index.files[0]).unwrap().from, 0);
        have.put(3, 1024);
        index.store = "b".to_owned();
        have.keep_to(&index);
        assert_eq!(have.missing(&index.files[1]).unwrap().from, 0);
    }
}
