//! The directory of a store: which files are in it, its lock and its identity.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;

use packetcrypt_proto::anns_index;

use super::{StoreError, segment};

/// The numbers of the files in the directory, lowest first. A half of a pair is removed.
pub(super) fn find_files(dir: &Path) -> Result<Vec<u64>, StoreError> {
    let (mut data, mut index) = (Vec::new(), Vec::new());
    let parked = dir.join("recycled.idx");
    if parked.exists() {
        fs::remove_file(&parked).map_err(io_error("remove", &parked))?;
    }
    for entry in fs::read_dir(dir).map_err(io_error("read", dir))? {
        let name = entry.map_err(io_error("read", dir))?.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix("anns_")) else {
            continue;
        };
        if let Some(number) = rest.strip_suffix(".bin").and_then(parse_number) {
            data.push(number);
        } else if let Some(number) = rest.strip_suffix(".idx").and_then(parse_number) {
            index.push(number);
        }
    }
    data.sort_unstable();
    index.sort_unstable();
    let both: Vec<u64> = data.iter().copied().filter(|n| index.binary_search(n).is_ok()).collect();
    for number in data.iter().chain(&index).filter(|n| both.binary_search(n).is_err()) {
        tracing::warn!(file = number, "removing one half of an announcement file that was begun");
        let path = segment::data_path(dir, *number);
        remove(dir, *number).map_err(io_error("remove", &path))?;
    }
    Ok(both)
}

/// The number of a file name: digits without leading zeros.
fn parse_number(text: &str) -> Option<u64> {
    anns_index::number_of_path(&format!("{}anns_{text}.bin", anns_index::FILE_PATH_PREFIX))
}

/// Removes a file and its index.
pub(super) fn remove(dir: &Path, number: u64) -> io::Result<()> {
    // The index first: data without an index is removed at the next start.
    for path in [segment::index_path(dir, number), segment::data_path(dir, number)] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A file that is not one of ours is neither used nor destroyed.
pub(super) fn set_aside(dir: &Path, number: u64, why: &io::Error) -> Result<(), StoreError> {
    tracing::error!(file = number, %why, "announcement file set aside as *.damaged");
    for path in [segment::index_path(dir, number), segment::data_path(dir, number)] {
        let mut aside = path.clone().into_os_string();
        aside.push(".damaged");
        fs::rename(&path, aside).map_err(io_error("rename", &path))?;
    }
    Ok(())
}

/// The identity of the store, made when there is none.
pub(super) fn store_id(dir: &Path) -> Result<Arc<str>, StoreError> {
    let path = dir.join("store.id");
    let is_id = |text: &str| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match fs::read_to_string(&path) {
        Ok(text) if is_id(text.trim()) => return Ok(text.trim().into()),
        Ok(_) => tracing::warn!("{} holds no identity: making a new one", path.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("read", &path)(error)),
    }
    let id = anns_index::store_id(rand::random());
    let temporary = dir.join("store.id.new");
    fs::write(&temporary, &id).map_err(io_error("write", &temporary))?;
    fs::rename(&temporary, &path).map_err(io_error("rename", &temporary))?;
    Ok(id.into())
}

/// Holds the directory for this process as long as the file is open.
pub(super) fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(io_error("make", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
    }
}

/// The error of an operation on a path.
pub(super) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { what, path, source }
}
