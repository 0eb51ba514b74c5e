//! The files of a pay log: names, order, and what a crash left in them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::durable::sync_directory;

/// How long a former owner of the directory has to end.
const LOCK_WAIT_MS_MAX: u64 = 2_000;

/// The path of file `n`.
pub(super) fn path(dir: &Path, n: u64) -> PathBuf {
    dir.join(format!("paylog_{n}.ndjson"))
}

/// The path of file `n` once it is set aside.
pub(super) fn path_refused(dir: &Path, n: u64) -> PathBuf {
    dir.join(format!("paylog_{n}.ndjson.refused"))
}

/// The numbers of all files, ascending. Other names are not ours and stay.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    list_ending(dir, ".ndjson")
}

/// The numbers of the files that were set aside, ascending.
pub(super) fn list_refused(dir: &Path) -> io::Result<Vec<u64>> {
    list_ending(dir, ".ndjson.refused")
}

fn list_ending(dir: &Path, ending: &str) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| {
            let digits = name.strip_prefix("paylog_")?.strip_suffix(ending)?;
            let is_plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            is_plain.then(|| digits.parse::<u64>().ok()).flatten()
        });
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Sets a file aside: it keeps its number, under a name that is not uploaded.
pub(super) fn set_aside(dir: &Path, n: u64) -> io::Result<PathBuf> {
    let aside = path_refused(dir, n);
    fs::rename(path(dir, n), &aside)?;
    sync_directory(dir)?;
    Ok(aside)
}

/// What was found at the start.
pub(super) struct Old {
    /// The greatest number, of files that were set aside too: numbers are not used again.
    pub(super) newest: Option<u64>,
    pub(super) torn_bytes: u64,
    /// Files that were set aside.
    pub(super) refused: usize,
}

/// Cuts the torn end of every file, and deletes those that are empty then.
pub(super) fn repair_all(dir: &Path) -> io::Result<Old> {
    let (numbers, refused) = (list(dir)?, list_refused(dir)?);
    let newest = numbers.last().max(refused.last()).copied();
    let mut old = Old { newest, torn_bytes: 0, refused: refused.len() };
    for number in numbers {
        let path = path(dir, number);
        let (kept, torn) = repair(&path)?;
        old.torn_bytes += torn;
        if torn > 0 {
            tracing::warn!("{}: {torn} bytes of an unfinished line cut off", path.display());
        }
        if kept == 0 {
            fs::remove_file(&path)?;
        }
    }
    sync_directory(dir)?;
    Ok(old)
}

/// Cuts what stands behind the last line end. Returns how much stays and how much went.
fn repair(path: &Path) -> io::Result<(u64, u64)> {
    const STEP_BYTES: u64 = 64 << 10;
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let len = file.metadata()?.len();
    let mut searched_from = len;
    let mut kept = 0;
    let mut step = Vec::new();
    while searched_from > 0 {
        let start = searched_from.saturating_sub(STEP_BYTES);
        file.seek(SeekFrom::Start(start))?;
        step.clear();
        (&mut file).take(searched_from - start).read_to_end(&mut step)?;
        if let Some(at) = step.iter().rposition(|&b| b == b'\n') {
            kept = start + at as u64 + 1;
            break;
        }
        searched_from = start;
    }
    if kept < len {
        file.set_len(kept)?;
        file.sync_all()?;
    }
    Ok((kept, len - kept))
}

/// Takes the directory for this log alone: two writers would cut each other's files. The lock ends
/// with the value, and with the process however it ends. None where there are no such locks.
pub(super) fn lock(dir: &Path) -> io::Result<Option<File>> {
    if !cfg!(unix) {
        return Ok(None);
    }
    let file = File::open(dir)?;
    let deadline = Instant::now() + Duration::from_millis(LOCK_WAIT_MS_MAX);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "another pay log is open in this directory",
                ));
            }
            Err(TryLockError::Error(e)) => {
                // Some network file systems lock no directories; they are used all the same.
                tracing::warn!("pay log {} can not be locked: {e}", dir.display());
                return Ok(None);
            }
        }
    }
}

/// Shows every complete line of a file; a file that is gone has none.
pub(super) fn read_lines(path: &Path, visit: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let mut file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        // Lines are bounded when they are written, and nobody else writes here.
        file.read_until(b'\n', &mut line)?;
        match line.split_last() {
            Some((b'\n', line)) => visit(line),
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_ends_are_cut_and_only_our_names_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let write = |n, bytes: &[u8]| fs::write(path(dir.path(), n), bytes).unwrap();
        write(3, b"{\"a\":1}\n{\"b\"");
        write(10, b"torn");
        write(7, b"{}\n");
        write(8, &[b"x".repeat(200_000), b"\n".to_vec(), vec![0; 150_000]].concat());
        for other in ["paylog_.ndjson", "paylog_x.ndjson", "paylog_1.ndjson~", "paylog_+1.ndjson"] {
            fs::write(dir.path().join(other), "x").unwrap();
        }
        fs::write(path_refused(dir.path(), 12), "no line").unwrap();
        assert_eq!(list(dir.path()).unwrap(), [3, 7, 8, 10]);
        let old = repair_all(dir.path()).unwrap();
        assert_eq!((old.newest, old.torn_bytes, old.refused), (Some(12), 4 + 4 + 150_000, 1));
        assert_eq!(list(dir.path()).unwrap(), [3, 7, 8]);
        assert_eq!(fs::read(path(dir.path(), 3)).unwrap(), b"{\"a\":1}\n");
        assert_eq!(fs::metadata(path(dir.path(), 8)).unwrap().len(), 200_001);
        assert!(dir.path().join("paylog_x.ndjson").exists());
    }
}
