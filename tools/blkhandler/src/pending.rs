//! Blocks on their way to the node, on disk until the node has said what became of them.
//!
//! A block is worth more than all shares of its height: a node that is away, or a handler that is
//! stopped between the check and the submission, must not cost it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use packetcrypt_core::bytes::Hash32;
use packetcrypt_net::durable::sync_directory;
use packetcrypt_proto::events::ShareEvent;
use serde::{Deserialize, Serialize};

/// Blocks that may wait at once. A pool finds one a minute; a node that is away for an hour leaves
/// at most as many, and only the first of a height can win.
pub(crate) const PENDING_LEN_MAX: usize = 256;

/// A block that was found and the event of the share behind it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PendingBlock {
    /// The whole block.
    pub(crate) block: Vec<u8>,
    /// The event that is logged when the block is taken: `block` true, with the block's hash.
    pub(crate) event: ShareEvent,
}

/// A file of the directory.
#[derive(Serialize, Deserialize)]
struct File {
    /// The block, hex.
    block: String,
    event: ShareEvent,
}

/// The directory of waiting blocks.
#[derive(Clone, Debug)]
pub(crate) struct PendingStore {
    dir: PathBuf,
}

impl PendingStore {
    /// Opens the directory; makes it when it does not exist.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Makes a block durable.
    pub(crate) fn save(&self, hash: Hash32, pending: &PendingBlock) -> io::Result<()> {
        if self.names()?.len() >= PENDING_LEN_MAX {
            return Err(io::Error::other(format!("{PENDING_LEN_MAX} blocks wait already")));
        }
        let content = File { block: hex::encode(&pending.block), event: pending.event.clone() };
        let text = serde_json::to_vec(&content)?;
        let temporary = self.dir.join(format!("{}.tmp", hash.display()));
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, self.path(hash))?;
        sync_directory(&self.dir)
    }

    /// Forgets a block whose fate is known.
    pub(crate) fn remove(&self, hash: Hash32) -> io::Result<()> {
        match fs::remove_file(self.path(hash)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The blocks that wait from an earlier run. Files that are none of ours are left alone.
    pub(crate) fn load(&self) -> io::Result<Vec<(Hash32, PendingBlock)>> {
        let mut found = Vec::new();
        for hash in self.names()? {
            let text = fs::read(self.path(hash))?;
            match parse(&text) {
                Ok(pending) => found.push((hash, pending)),
                Err(e) => tracing::error!("{}: {e}", self.path(hash).display()),
            }
        }
        Ok(found)
    }

    fn names(&self) -> io::Result<Vec<Hash32>> {
        let mut hashes = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let hash = name.to_str().and_then(|name| name.strip_suffix(".json"));
            hashes.extend(hash.and_then(|hash| Hash32::from_display_hex(hash).ok()));
        }
        Ok(hashes)
    }

    fn path(&self, hash: Hash32) -> PathBuf {
        self.dir.join(format!("{}.json", hash.display()))
    }
}

fn parse(text: &[u8]) -> Result<PendingBlock, String> {
    let File { block, event } = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let block = hex::decode(block).map_err(|e| e.to_string())?;
    Ok(PendingBlock { block, event })
}

#[cfg(test)]
mod tests {
    use packetcrypt_core::bytes::CompactTarget;
    use packetcrypt_proto::events::ShareFacts;

    use super::*;

    fn pending(hash: Hash32) -> PendingBlock {
        let facts = ShareFacts {
            block: Some(hash),
            target: CompactTarget(0x1d03_fffc),
            ann_count: 7,
            ann_min_work: CompactTarget(0x2002_0000),
            encryptions: 2.5e20,
        };
        let event = ShareEvent::new(&facts, "pkt1", 5, "id".into());
        PendingBlock { block: vec![1, 2, 255], event }
    }

    #[test]
    fn blocks_survive_a_restart_until_they_are_settled() {
        let dir = tempfile::tempdir().unwrap();
        let store = PendingStore::open(dir.path()).unwrap();
        let hash = Hash32([3; 32]);
        store.save(hash, &pending(hash)).unwrap();
        std::fs::write(dir.path().join("readme.txt"), b"foreign").unwrap();
        let other = Hash32([4; 32]);
        std::fs::write(store.path(other), b"{\"half").unwrap();
        let again = PendingStore::open(dir.path()).unwrap();
        assert_eq!(again.load().unwrap(), [(hash, pending(hash))]);
        again.remove(hash).unwrap();
        again.remove(hash).unwrap();
        assert_eq!(again.load().unwrap(), []);
    }

    #[test]
    fn there_is_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let store = PendingStore::open(dir.path()).unwrap();
        for n in 0..PENDING_LEN_MAX {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_le_bytes());
            std::fs::write(store.path(Hash32(hash)), b"{}").unwrap();
        }
        assert!(store.save(Hash32([9; 32]), &pending(Hash32::ZERO)).is_err());
    }
}
