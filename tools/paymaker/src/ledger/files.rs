//! The embedded store: the reference's directory of posted logs, with a journal of arrivals.
//!
//! Each posted body is one file `paylog_<newest>_<id>.bin`, exactly as the reference stores it, so a
//! directory moves between the two in both directions and every file can be read with a pager. This
//! was preferred to a database: the logs are written once, read once at start, and dropped whole.
//!
//! Beside them `arrivals.log` holds one line an arrival (clock, newest time known before, file name).
//! The credit of an event depends on what was known when it arrived; replaying in this order with
//! these values gives equal credits after a crash, where the reference's order by name does not.
//! Files without a line (a directory of the reference, or a post that was cut off before its
//! acknowledgement) are read last, by name, and entered.
//!
//! Order of writing: body to a temporary file, fsync, rename, fsync of the directory, line of the
//! journal, fsync; then the post is acknowledged. A line cut off by a crash is dropped at start.
//!
//! A log that has a line was judged when it arrived, by the clock of then, and is read whatever the
//! clock says at the restart. One without a line is judged by the present clock.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use packetcrypt_net::durable::sync_directory;
use packetcrypt_proto::number;

use super::{Arrival, Ledger, LedgerError, Order, Replayed, Stored};
use crate::event::{self, AHEAD_MS_MAX};

const JOURNAL: &str = "arrivals.log";
const LOCK: &str = "paymaker.lock";
const TEMPORARY: &str = "incoming.tmp";

/// The store.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    journal: Journal,
    // Held as long as the store is open.
    _lock: File,
}

/// The lines of arrivals, in memory as on the disk.
#[derive(Debug)]
struct Journal {
    dir: PathBuf,
    file: File,
    /// Length of what is durable and acknowledged, bytes.
    len: u64,
    /// What is behind `len` could not be cut off.
    is_spoilt: bool,
    /// The file took its name, but the name may be lost in a power cut.
    is_name_volatile: bool,
    lines: Vec<Line>,
    sync_directory: fn(&Path) -> io::Result<()>,
}

#[derive(Clone, Debug)]
struct Line {
    now_ms: f64,
    known_ms: f64,
    name: String,
}

impl Line {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let line = Self {
            now_ms: words.next()?.parse().ok()?,
            known_ms: words.next()?.parse().ok()?,
            name: words.next()?.to_owned(),
        };
        number_of(&line.name)?;
        words.next().is_none().then_some(line)
    }

    fn to_text(&self) -> String {
        let (now, known) = (number::to_text(self.now_ms), number::to_text(self.known_ms));
        format!("{now} {known} {}\n", self.name)
    }
}

/// The number in a name `paylog_<digits>_<hex>.bin`.
fn number_of(name: &str) -> Option<f64> {
    let rest = name.strip_prefix("paylog_")?.strip_suffix(".bin")?;
    let (digits, id) = rest.split_once('_')?;
    let is_name = !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !id.is_empty()
        && id.bytes().all(|b| b.is_ascii_hexdigit());
    if is_name { digits.parse().ok() } else { None }
}

impl Files {
    /// Opens the directory, making it where it is missing.
    ///
    /// # Errors
    /// [`LedgerError`] when it can not be used or is in use.
    pub fn open(dir: &Path) -> Result<Self, LedgerError> {
        fs::create_dir_all(dir).map_err(|cause| io_error(dir, cause))?;
        let open = |name: &str| {
            let path = dir.join(name);
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path).map_err(|cause| io_error(&path, cause))
        };
        let lock = open(LOCK)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LedgerError::InUse { path: dir.to_owned() });
            }
            Err(TryLockError::Error(cause)) => return Err(io_error(dir, cause)),
        }
        let file = open(JOURNAL)?;
        let journal =
            Journal::read(dir, file).map_err(|cause| io_error(&dir.join(JOURNAL), cause))?;
        Ok(Self { dir: dir.to_owned(), journal, _lock: lock })
    }

    fn journal_error(&self) -> impl FnOnce(io::Error) -> LedgerError {
        let path = self.dir.join(JOURNAL);
        move |cause| io_error(&path, cause)
    }

    fn write_body(&self, name: &str, log: &str) -> io::Result<Stored> {
        let path = self.dir.join(name);
        if fs::metadata(&path).is_ok_and(|it| it.len() == log.len() as u64)
            && fs::read(&path)? == log.as_bytes()
        {
            // Windows syncs only what may be written.
            File::options().append(true).open(&path)?.sync_all()?;
            sync_directory(&self.dir)?;
            return Ok(Stored::Again);
        }
        let temporary = self.dir.join(TEMPORARY);
        let mut file = File::create(&temporary)?;
        file.write_all(log.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_directory(&self.dir)?;
        Ok(Stored::New)
    }

    /// Names of logs, in order of name, and their numbers.
    fn names(&self) -> Result<BTreeSet<String>, LedgerError> {
        let failed = |cause| io_error(&self.dir, cause);
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some(name) = name.to_str().filter(|name| number_of(name).is_some()) {
                names.insert(name.to_owned());
            }
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> Result<String, LedgerError> {
        let path = self.dir.join(name);
        let bytes = fs::read(&path).map_err(|cause| io_error(&path, cause))?;
        // Bodies of the reference need not be UTF-8: it decodes them in this way.
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }
}

impl Journal {
    /// Takes over a journal; a line that a crash cut off is dropped.
    fn read(dir: &Path, mut file: File) -> io::Result<Self> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let text = String::from_utf8_lossy(&bytes[..whole]);
        let lines = text.lines().filter_map(Line::parse).collect();
        let mut journal = Self {
            dir: dir.to_owned(),
            file,
            len: whole as u64,
            is_spoilt: true,
            is_name_volatile: false,
            lines,
            sync_directory,
        };
        journal.heal()?;
        Ok(journal)
    }

    /// Cuts off what was refused: it must not be found at the next start. Makes the name durable.
    fn heal(&mut self) -> io::Result<()> {
        if self.is_spoilt {
            self.file.set_len(self.len)?;
            self.file.seek(SeekFrom::Start(self.len))?;
            self.is_spoilt = false;
        }
        if self.is_name_volatile {
            (self.sync_directory)(&self.dir)?;
            self.is_name_volatile = false;
        }
        Ok(())
    }

    /// Makes a line durable, or leaves nothing of it.
    fn append(&mut self, line: Line) -> io::Result<()> {
        self.heal()?;
        let text = line.to_text();
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(cause) = written {
            self.is_spoilt = true;
            // What can not be cut off now is cut off before the next line.
            let _ = self.heal();
            return Err(cause);
        }
        self.len += text.len() as u64;
        self.lines.push(line);
        Ok(())
    }

    /// Drops the lines of logs older than `before_ms`. After an error the journal is the old one or
    /// the new one, on the disk and in memory alike.
    fn forget(&mut self, before_ms: f64) -> io::Result<()> {
        let is_kept = |line: &&Line| number_of(&line.name).is_some_and(|n| n >= before_ms);
        let lines: Vec<Line> = self.lines.iter().filter(is_kept).cloned().collect();
        if lines.len() == self.lines.len() {
            return Ok(());
        }
        let temporary = self.dir.join("arrivals.tmp");
        let text: String = lines.iter().map(Line::to_text).collect();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let mut file = options.open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, self.dir.join(JOURNAL))?;
        // From here on the old file has no name: what would be written there would be lost.
        self.file = file;
        self.len = text.len() as u64;
        self.lines = lines;
        self.is_spoilt = false;
        self.is_name_volatile = true;
        self.heal()
    }
}

impl Ledger for Files {
    fn store(&mut self, arrival: &Arrival, id: &str, log: &str) -> Result<Stored, LedgerError> {
        // Only whole, positive numbers make a name that is found again (spec 05, 16.8).
        let newest = number::to_text(arrival.newest_ms.max(0.0).floor());
        let name = format!("paylog_{newest}_{id}.bin");
        let path = self.dir.join(&name);
        let stored = self.write_body(&name, log).map_err(|cause| io_error(&path, cause))?;
        let line = Line { now_ms: arrival.now_ms, known_ms: arrival.known_ms, name };
        self.journal.append(line).map_err(self.journal_error())?;
        Ok(stored)
    }

    fn replay(
        &mut self,
        order: Order,
        now_ms: f64,
        depth_ms: f64,
        take: &mut dyn FnMut(Replayed<'_>),
    ) -> Result<(), LedgerError> {
        // What was acknowledged is read whatever the clock says now (spec 05, 16.7).
        let arrived: HashMap<&str, f64> =
            self.journal.lines.iter().map(|line| (line.name.as_str(), line.now_ms)).collect();
        let mut names = self.names()?;
        names.retain(|name| {
            let is_near = number_of(name).is_some_and(|n| n <= now_ms + AHEAD_MS_MAX);
            is_near || arrived.contains_key(name.as_str())
        });
        let newest_ms = greatest(&names);
        let mut unknown = names.clone();
        if order == Order::Arrival {
            // Twice the depth: the credit of the oldest share that counts depends on blocks that
            // may be as much older.
            let oldest = newest_ms - 2.0 * depth_ms;
            for line in &self.journal.lines {
                if !names.contains(&line.name) {
                    continue;
                }
                unknown.remove(&line.name);
                if number_of(&line.name).is_some_and(|number| number < oldest) {
                    continue;
                }
                let log = self.read(&line.name)?;
                let named = || number_of(&line.name).unwrap_or(0.0);
                let newest_ms = event::newest_time(&log, line.now_ms).unwrap_or_else(|_| named());
                let arrival = Arrival { now_ms: line.now_ms, known_ms: line.known_ms, newest_ms };
                take(Replayed::Log(&arrival, &log));
            }
        }
        let known_ms = greatest(&unknown);
        unknown.retain(|name| number_of(name).is_some_and(|n| n >= known_ms - depth_ms));
        take(Replayed::Unknown(known_ms));
        let mut adopted = Vec::new();
        for (index, name) in unknown.into_iter().enumerate() {
            let judged_ms = arrived.get(name.as_str()).map_or(now_ms, |ms| ms.max(now_ms));
            take(Replayed::Named(index, judged_ms, &self.read(&name)?));
            adopted.push(name);
        }
        if order == Order::Arrival {
            let known_ms = known_ms.max(newest_ms);
            for name in adopted {
                self.journal
                    .append(Line { now_ms, known_ms, name })
                    .map_err(self.journal_error())?;
            }
        }
        Ok(())
    }

    fn prune(&mut self, before_ms: f64) -> Result<usize, LedgerError> {
        let names = self.names()?;
        let mut removed = 0;
        for name in names {
            if number_of(&name).is_some_and(|number| number < before_ms) {
                let path = self.dir.join(&name);
                fs::remove_file(&path).map_err(|cause| io_error(&path, cause))?;
                removed += 1;
            }
        }
        self.journal.forget(before_ms).map_err(self.journal_error())?;
        Ok(removed)
    }
}

/// The greatest number among names of logs; 0 when there is none.
fn greatest(names: &BTreeSet<String>) -> f64 {
    names.iter().filter_map(|name| number_of(name)).fold(0.0, f64::max)
}

fn io_error(path: &Path, cause: io::Error) -> LedgerError {
    LedgerError::Io { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(newest_ms: f64) -> Arrival {
        Arrival { now_ms: 2e12, known_ms: 0.0, newest_ms }
    }

    fn replayed(files: &mut Files, order: Order) -> Vec<String> {
        let mut seen = Vec::new();
        let mut take = |step: Replayed<'_>| match step {
            Replayed::Log(_, log) => seen.push(format!("log {log}")),
            Replayed::Unknown(newest) => seen.push(format!("newest {newest}")),
            Replayed::Named(index, _, log) => seen.push(format!("{index} {log}")),
        };
        files.replay(order, 2e12, 1000.0, &mut take).expect("replay");
        seen
    }

    #[test]
    fn order_of_arrival_survives_and_the_rest_is_adopted() {
        let dir = tempfile::tempdir().expect("dir");
        let mut files = Files::open(dir.path()).expect("open");
        files.store(&arrival(500.0), "bb", "second\n").expect("store");
        files.store(&arrival(400.0), "aa", "first\n").expect("store");
        drop(files);
        fs::write(dir.path().join("paylog_450_cc.bin"), "third\n").expect("write");
        fs::write(dir.path().join("paylog_-5_cc.bin"), "no name\n").expect("write");
        // A line that a crash cut off.
        let mut journal = OpenOptions::new().append(true).open(dir.path().join(JOURNAL));
        journal.as_mut().expect("open").write_all(b"5 5 paylog_4").expect("write");
        let mut files = Files::open(dir.path()).expect("open");
        let by_name = ["newest 500", "0 first\n", "1 third\n", "2 second\n"];
        assert_eq!(replayed(&mut files, Order::Name), by_name);
        let adopted = ["log second\n", "log first\n", "newest 450", "0 third\n"];
        assert_eq!(replayed(&mut files, Order::Arrival), adopted);
        drop(files);
        let mut files = Files::open(dir.path()).expect("open");
        let journaled = ["log second\n", "log first\n", "log third\n", "newest 0"];
        assert_eq!(replayed(&mut files, Order::Arrival), journaled);
        assert_eq!(files.prune(450.0).expect("prune"), 1);
        assert_eq!(
            replayed(&mut files, Order::Arrival),
            ["log second\n", "log third\n", "newest 0"]
        );
    }

    #[test]
    fn one_paymaker_a_directory() {
        let dir = tempfile::tempdir().expect("dir");
        let _files = Files::open(dir.path()).expect("open");
        assert!(matches!(Files::open(dir.path()), Err(LedgerError::InUse { .. })));
    }

    #[test]
    fn odd_times_make_names_that_are_found() {
        let dir = tempfile::tempdir().expect("dir");
        let mut files = Files::open(dir.path()).expect("open");
        files.store(&arrival(500.5), "aa", "x\n").expect("store");
        files.store(&arrival(-3.0), "bb", "y\n").expect("store");
        let names: Vec<_> = files.names().expect("names").into_iter().collect();
        assert_eq!(names, ["paylog_0_bb.bin", "paylog_500_aa.bin"]);
    }

    #[test]
    fn a_store_that_fails_leaves_no_line() {
        let dir = tempfile::tempdir().expect("dir");
        let mut files = Files::open(dir.path()).expect("open");
        // A directory in the place of the file can not be replaced by it.
        fs::create_dir(dir.path().join("paylog_500_aa.bin")).expect("mkdir");
        files.store(&arrival(500.0), "aa", "x\n").expect_err("not stored");
        assert!(files.journal.lines.is_empty());
        files.store(&arrival(501.0), "bb", "y\n").expect("stored");
    }

    /// The clock was set back between two runs, by more than may be ahead.
    #[test]
    fn what_was_acknowledged_is_read_whatever_the_clock_says() {
        let dir = tempfile::tempdir().expect("dir");
        let mut files = Files::open(dir.path()).expect("open");
        let ahead = 2e12 + 7_200_000.0;
        let arrival = Arrival { now_ms: ahead, known_ms: 0.0, newest_ms: ahead };
        let log = format!("{{\"time\":{ahead}}}\n");
        files.store(&arrival, "aa", &log).expect("store");
        // Nobody judged this one yet.
        fs::write(dir.path().join("paylog_2000007200000_bb.bin"), "unknown\n").expect("write");
        drop(files);
        let mut files = Files::open(dir.path()).expect("open");
        let read = [format!("log {log}"), "newest 0".to_owned()];
        assert_eq!(replayed(&mut files, Order::Arrival), read);
        let mut judged_by = Vec::new();
        let mut take = |step: Replayed<'_>| {
            if let Replayed::Named(_, now_ms, _) = step {
                judged_by.push(now_ms);
            }
        };
        files.replay(Order::Name, 2e12, 1000.0, &mut take).expect("replay");
        assert_eq!(judged_by, [ahead]);
    }

    /// A directory that can not be flushed while the journal takes its new name.
    #[test]
    fn a_journal_that_was_rewritten_is_the_one_written_to() {
        let dir = tempfile::tempdir().expect("dir");
        let mut files = Files::open(dir.path()).expect("open");
        files.store(&arrival(400.0), "aa", "old\n").expect("store");
        files.store(&arrival(500.0), "bb", "kept\n").expect("store");
        files.journal.sync_directory = |_| Err(io::Error::other("no flush"));
        files.prune(450.0).expect_err("not flushed");
        let on_disk = |files: &Files| {
            let text: String = files.journal.lines.iter().map(Line::to_text).collect();
            assert_eq!(fs::read_to_string(dir.path().join(JOURNAL)).expect("journal"), text);
            files.journal.lines.len()
        };
        assert_eq!(on_disk(&files), 1);
        // Nothing is acknowledged whose line could go with the name of the journal.
        files.store(&arrival(600.0), "cc", "refused\n").expect_err("not flushed");
        assert_eq!(on_disk(&files), 1);
        files.journal.sync_directory = sync_directory;
        files.store(&arrival(600.0), "cc", "refused\n").expect("store");
        assert_eq!(on_disk(&files), 2);
        drop(files);
        let mut files = Files::open(dir.path()).expect("open");
        let read = ["log kept\n", "log refused\n", "newest 0"];
        assert_eq!(replayed(&mut files, Order::Arrival), read);
    }

    #[test]
    fn what_can_not_be_cut_off_now_is_cut_off_before_the_next_line() {
        let dir = tempfile::tempdir().expect("dir");
        let mut files = Files::open(dir.path()).expect("open");
        files.store(&arrival(500.0), "aa", "x\n").expect("store");
        files.journal.file.write_all(b"5 5 paylog_4").expect("half a line");
        files.journal.is_spoilt = true;
        files.store(&arrival(501.0), "bb", "y\n").expect("store");
        drop(files);
        let mut files = Files::open(dir.path()).expect("open");
        assert_eq!(replayed(&mut files, Order::Arrival), ["log x\n", "log y\n", "newest 0"]);
    }
}
