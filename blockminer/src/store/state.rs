//! What the miner keeps on disk beside the announcements, and in which form. Nothing of this is
//! ever sent.
//!
//! Both parts are a *frame*: magic, version, length, a checksum, and a value in the encoding of
//! `bincode` 2.0.1. A frame of another version, or with a wrong checksum, is as good as none: the
//! miner then begins with an empty store.
//!
//! | part | where | what |
//! |---|---|---|
//! | [`Header`] | first 4096 bytes of the arena's file | what the file holds, and when it was written last |
//! | [`Snapshot`] | beside it, `<file>.state`, replaced whole | names of sources, blocks, what came from which handler |

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use bincode::{Decode, Encode, config};
use packetcrypt_core::primitives::compress32;

use super::arena::HEADER_BYTES;

/// What a frame begins with.
const MAGIC: [u8; 8] = *b"PKTBLKST";
/// Version of the layout of the arena's file and of both values.
const VERSION: u32 = 1;
/// Magic, version, length, checksum.
const FRAME_HEAD_BYTES: usize = 8 + 4 + 4 + 32;
/// A snapshot above this is none of ours: 4096 sources with 16384 files each would be less.
const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

/// The first page of an arena's file.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Header {
    /// Tells this arena from others; its snapshot names it.
    pub(super) id: [u8; 16],
    /// Number of slots.
    pub(super) slots: u32,
    /// What the seals were made with.
    pub(super) seal_key: u64,
    /// The start of the machine in which the file was last written to.
    pub(super) boot: String,
}

impl Header {
    /// Reads the header of a file; `None` when there is no good one.
    pub(super) fn read(file: &mut File) -> io::Result<Option<Header>> {
        let mut bytes = vec![0; HEADER_BYTES];
        file.seek(SeekFrom::Start(0))?;
        match file.read_exact(&mut bytes) {
            Ok(()) => Ok(unframe(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the header and waits until it is on the disk.
    pub(super) fn write(&self, file: &mut File) -> io::Result<()> {
        let mut bytes = frame(self)?;
        bytes.resize(HEADER_BYTES, 0);
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&bytes)?;
        file.sync_data()
    }
}

/// Everything that a restarted miner must know beside the announcements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Snapshot {
    /// The arena that it belongs to.
    pub(super) arena: [u8; 16],
    /// Names of sources; their place is the number in the marks.
    pub(crate) sources: Vec<String>,
    /// Blocks that announcements were made on: height and id.
    pub(crate) blocks: Vec<(u32, [u8; 32])>,
    /// What came from which handler.
    pub(crate) downloads: Vec<Download>,
}

/// How much of a handler's files came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Download {
    /// The handler's address.
    pub(crate) source: String,
    /// The identity of its store.
    pub(crate) store: String,
    /// Files by number, and the bytes of them that came.
    pub(crate) files: Vec<(u64, u64)>,
}

impl Snapshot {
    /// Where the snapshot of an arena's file lies.
    pub(super) fn path_of(arena: &Path) -> PathBuf {
        let mut name = arena.as_os_str().to_owned();
        name.push(".state");
        PathBuf::from(name)
    }

    /// Reads a snapshot; `None` when there is no good one.
    pub(super) fn read(path: &Path) -> Option<Snapshot> {
        let file = File::open(path).ok()?;
        let mut bytes = Vec::new();
        file.take(SNAPSHOT_BYTES_MAX as u64).read_to_end(&mut bytes).ok()?;
        unframe(&bytes)
    }

    /// Replaces the snapshot: a crash leaves the old one or the new one.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("state.new");
        let mut file = File::create(&new)?;
        file.write_all(&frame(self)?)?;
        file.sync_data()?;
        fs::rename(&new, path)
    }
}

fn frame(value: &impl Encode) -> io::Result<Vec<u8>> {
    let payload = bincode::encode_to_vec(value, config::standard())
        .map_err(|error| io::Error::other(error.to_string()))?;
    let len = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(FRAME_HEAD_BYTES + payload.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&compress32(&payload).0);
    bytes.extend_from_slice(&payload);
    Ok(bytes)
}

fn unframe<T: Decode<()>>(bytes: &[u8]) -> Option<T> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<32>()?;
    let payload = rest.get(..u32::from_le_bytes(*len) as usize)?;
    let is_ours = *magic == MAGIC && u32::from_le_bytes(*version) == VERSION;
    if !is_ours || compress32(payload).0 != *checksum {
        return None;
    }
    // A frame with a good checksum holds what was encoded; the limit is for the decoder's sake.
    let limited = config::standard().with_limit::<SNAPSHOT_BYTES_MAX>();
    bincode::decode_from_slice(payload, limited).ok().map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            arena: [7; 16],
            sources: vec!["http://a".to_owned(), "udp 1.2.3.4:5".to_owned()],
            blocks: vec![(100, [1; 32]), (101, [2; 32])],
            downloads: vec![Download {
                source: "http://a".to_owned(),
                store: "x".to_owned(),
                files: vec![(3, 4096), (4, 0)],
            }],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = Snapshot::path_of(&dir.path().join("arena"));
        assert_eq!(Snapshot::read(&path), None);
        snapshot().write(&path).unwrap();
        assert_eq!(Snapshot::read(&path), Some(snapshot()));
        Snapshot::default().write(&path).unwrap();
        assert_eq!(Snapshot::read(&path), Some(Snapshot::default()));

        let header = Header { id: [1; 16], slots: 9, seal_key: 3, boot: "0f-1".to_owned() };
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(Header::read(&mut file).unwrap(), None);
        header.write(&mut file).unwrap();
        assert_eq!(Header::read(&mut file).unwrap(), Some(header));
    }

    #[test]
    fn another_version_is_none() {
        let mut bytes = frame(&snapshot()).unwrap();
        assert_eq!(unframe(&bytes), Some(snapshot()));
        bytes[8] += 1;
        assert_eq!(unframe::<Snapshot>(&bytes), None);
    }

    proptest! {
        /// A changed, cut or invented file is recognised, and never a panic.
        #[test]
        fn damage_is_seen(at: prop::sample::Index, bit in 0..8_u8, cut: prop::sample::Index) {
            let good = frame(&snapshot()).unwrap();
            let mut bytes = good.clone();
            bytes[at.index(good.len())] ^= 1 << bit;
            prop_assert_eq!(unframe::<Snapshot>(&bytes), None);
            prop_assert_eq!(unframe::<Snapshot>(&good[..cut.index(good.len())]), None);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(unframe::<Snapshot>(&bytes), None);
        }
    }
}
