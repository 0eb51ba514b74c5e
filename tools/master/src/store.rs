//! Work and template files on disk, keyed by height and previous block.
//!
//! The reference names them by height alone: after a reorganisation at the same height the stale
//! pair stays in use (spec 05, 16.10). Here a pair belongs to (height, previous block). The last
//! pair of a key is kept, also over a restart: block miners hold shares made with it and block
//! handlers assemble blocks from it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use packetcrypt_core::bytes::Hash32;
use packetcrypt_net::durable::sync_directory;

/// Which work: the height of the block to be mined and the id of its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkKey {
    /// Height of the block to be mined.
    pub(crate) height: i32,
    /// Id of the block before it, internal form.
    pub(crate) previous: Hash32,
}

/// The two files of a work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// `work_<n>.bin` (spec 05, 4.3).
    pub(crate) work: Vec<u8>,
    /// `bt_<n>.bin` (spec 05, 4.4).
    pub(crate) template: Vec<u8>,
}

/// The kind of a file, also the beginning of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Work for block miners.
    Work,
    /// Block template for block handlers.
    Template,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Template => "bt",
        }
    }
}

/// Which files there are, for readers.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    dir: PathBuf,
    /// For each height the keys whose pairs are complete; the last is the one that is served.
    heights: BTreeMap<i32, Vec<Hash32>>,
}

impl Index {
    /// The path of the file that is served for a height.
    pub(crate) fn path(&self, kind: Kind, height: i32) -> Option<PathBuf> {
        let previous = *self.heights.get(&height)?.last()?;
        Some(self.dir.join(file_name(kind, WorkKey { height, previous })))
    }

    /// Whether more than one work was made for a height, so that copies of its files may differ.
    pub(crate) fn is_ambiguous(&self, height: i32) -> bool {
        self.heights.get(&height).is_some_and(|keys| keys.len() > 1)
    }
}

/// The directory with what is in it.
#[derive(Debug)]
pub(crate) struct Store {
    heights_kept: usize,
    index: Index,
}

impl Store {
    /// Opens a directory, makes it when it does not exist, and removes what a crash left half-made.
    pub(crate) fn open(dir: &Path, heights_kept: usize) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.ends_with(TEMPORARY) {
                fs::remove_file(entry.path())?;
            } else if let Some(key) = parse_name(Kind::Work, name)
                && dir.join(file_name(Kind::Template, key)).is_file()
            {
                found.push((entry.metadata()?.modified()?, key));
            }
        }
        found.sort_by_key(|(modified, _)| *modified);
        let index = Index { dir: dir.to_owned(), heights: BTreeMap::new() };
        let mut store = Self { heights_kept, index };
        for (_, key) in found {
            store.choose(key);
        }
        Ok(store)
    }

    /// The pair of a key, when it was saved before.
    pub(crate) fn load(&self, key: WorkKey) -> io::Result<Option<Pair>> {
        if !self.index.heights.get(&key.height).is_some_and(|keys| keys.contains(&key.previous)) {
            return Ok(None);
        }
        let read = |kind| fs::read(self.index.dir.join(file_name(kind, key)));
        Ok(Some(Pair { work: read(Kind::Work)?, template: read(Kind::Template)? }))
    }

    /// Writes a pair durably and makes it the one that is served for its height. The work file comes
    /// last: where it exists, the pair is complete.
    pub(crate) fn save(&mut self, key: WorkKey, pair: &Pair) -> io::Result<()> {
        self.write(&file_name(Kind::Template, key), &pair.template)?;
        self.write(&file_name(Kind::Work, key), &pair.work)?;
        sync_directory(&self.index.dir)?;
        self.choose(key);
        Ok(())
    }

    /// Makes a saved pair the one that is served for its height.
    pub(crate) fn choose(&mut self, key: WorkKey) {
        let keys = self.index.heights.entry(key.height).or_default();
        keys.retain(|previous| *previous != key.previous);
        keys.push(key.previous);
    }

    /// Which files there are now.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Removes the lowest heights above the configured number and returns how many files went. The
    /// height `spare` stays whatever its place: a reorganisation may lead to a lower height.
    pub(crate) fn prune(&mut self, spare: i32) -> io::Result<usize> {
        let mut removed = 0;
        while self.index.heights.len() > self.heights_kept {
            let Some(&height) = self.index.heights.keys().find(|&&height| height != spare) else {
                break;
            };
            for previous in self.index.heights.remove(&height).unwrap_or_default() {
                let key = WorkKey { height, previous };
                for kind in [Kind::Work, Kind::Template] {
                    remove_if_there(&self.index.dir.join(file_name(kind, key)))?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.index.dir.join(format!("{name}{TEMPORARY}"));
        let mut file = fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, self.index.dir.join(name))
    }
}

const TEMPORARY: &str = ".tmp";

fn file_name(kind: Kind, key: WorkKey) -> String {
    format!("{}_{}_{}.bin", kind.prefix(), key.height, key.previous.display())
}

fn parse_name(kind: Kind, name: &str) -> Option<WorkKey> {
    let rest = name.strip_prefix(kind.prefix())?.strip_prefix('_')?.strip_suffix(".bin")?;
    let (height, previous) = rest.split_once('_')?;
    let height = height.parse().ok()?;
    let key = WorkKey { height, previous: Hash32::from_display_hex(previous).ok()? };
    // Only the form that we write ourselves, so that one key has one file.
    (file_name(kind, key) == name).then_some(key)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(height: i32, previous: u8) -> WorkKey {
        WorkKey { height, previous: Hash32([previous; 32]) }
    }

    fn pair(byte: u8) -> Pair {
        Pair { work: vec![byte; 3], template: vec![byte; 5] }
    }

    fn served(store: &Store, height: i32) -> Option<u8> {
        let read = |kind| store.index().path(kind, height).map(|path| fs::read(path).unwrap());
        let work = read(Kind::Work)?;
        assert_eq!(read(Kind::Template).unwrap()[0], work[0]);
        Some(work[0])
    }

    #[test]
    fn a_reorganisation_at_the_same_height_has_its_own_pair() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), 10).unwrap();
        assert_eq!(store.load(key(7, 1)).unwrap(), None);
        store.save(key(7, 1), &pair(1)).unwrap();
        assert!(!store.index().is_ambiguous(7));
        assert_eq!(store.load(key(7, 2)).unwrap(), None);
        store.save(key(7, 2), &pair(2)).unwrap();
        assert_eq!(served(&store, 7), Some(2));
        assert!(store.index().is_ambiguous(7));
        // Back to the first branch: its first pair is still the one of its key.
        assert_eq!(store.load(key(7, 1)).unwrap(), Some(pair(1)));
        store.choose(key(7, 1));
        assert_eq!(served(&store, 7), Some(1));
    }

    #[test]
    fn a_restart_finds_complete_pairs_and_removes_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), 10).unwrap();
        store.save(key(7, 1), &pair(1)).unwrap();
        fs::write(dir.path().join(file_name(Kind::Work, key(8, 1))), b"alone").unwrap();
        fs::write(dir.path().join("work_9_x.bin.tmp"), b"half").unwrap();
        fs::write(dir.path().join("work_007_0.bin"), b"foreign").unwrap();
        let store = Store::open(dir.path(), 10).unwrap();
        assert_eq!(store.load(key(7, 1)).unwrap(), Some(pair(1)));
        assert_eq!(store.index().path(Kind::Work, 8), None);
        assert!(!dir.path().join("work_9_x.bin.tmp").exists());
        assert!(dir.path().join("work_007_0.bin").exists());
    }

    #[test]
    fn old_heights_go_and_the_present_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), 2).unwrap();
        for height in 1..=4 {
            store.save(key(height, 1), &pair(1)).unwrap();
        }
        store.save(key(2, 9), &pair(9)).unwrap();
        assert_eq!(store.prune(2).unwrap(), 4);
        assert_eq!(
            (store.index().path(Kind::Work, 1), store.index().path(Kind::Work, 3)),
            (None, None)
        );
        assert_eq!(served(&store, 2), Some(9));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 6);
    }
}
