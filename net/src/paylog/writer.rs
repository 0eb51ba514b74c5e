//! The thread that writes the pay log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::{AppendError, Entry, Shared, WRITER_TICK, files};
use crate::durable::sync_directory;
use crate::limits;

pub(super) struct Writer {
    shared: Arc<Shared>,
    entries: Receiver<Entry>,
    file: LogFile,
    begun: Instant,
    /// Keeps the directory for this writer.
    _lock: Option<File>,
}

/// A file, and how much of it is durable.
struct LogFile {
    file: File,
    /// Everything up to here was acknowledged; what is behind it is not part of the log.
    durable_bytes: u64,
    /// Set while it can not be brought back to `durable_bytes`: nothing more goes in.
    is_spoilt: bool,
}

impl Writer {
    pub(super) fn create(
        shared: Arc<Shared>,
        entries: Receiver<Entry>,
        lock: Option<File>,
    ) -> io::Result<Self> {
        let file = LogFile::create(&shared, shared.current.load(Ordering::Acquire))?;
        Ok(Self { shared, entries, file, begun: Instant::now(), _lock: lock })
    }

    /// Runs until the last handle is dropped and the queue is empty.
    pub(super) fn run(mut self) {
        loop {
            match self.entries.recv_timeout(WRITER_TICK) {
                Ok(first) => self.commit_group(first),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.file.heal();
            if self.is_time_to_rotate() {
                self.rotate();
            }
        }
        if self.file.durable_bytes == 0 {
            let number = self.shared.current.load(Ordering::Acquire);
            // An empty file that stays is deleted by the next start.
            let _ = fs::remove_file(files::path(&self.shared.options.dir, number));
        }
    }

    /// Takes what waits beside `first`, makes it durable, and only then answers.
    fn commit_group(&mut self, first: Entry) {
        let mut bytes_len = first.lines.len();
        let mut group = vec![first];
        while group.len() < limits::PAYLOG_GROUP_LEN_MAX
            && bytes_len < limits::PAYLOG_GROUP_BYTES_MAX
        {
            let Ok(entry) = self.entries.try_recv() else { break };
            bytes_len += entry.lines.len();
            group.push(entry);
        }
        let bytes: Vec<u8> = group.iter().flat_map(|entry| &entry.lines).copied().collect();
        let outcome = self.file.commit(&bytes).map_err(|e| AppendError::Disk(e.to_string()));
        let counters = &self.shared.counters;
        let len = group.iter().map(|entry| entry.count).sum::<u64>();
        match &outcome {
            Ok(()) => {
                counters.commits.fetch_add(1, Ordering::Relaxed);
                counters.appended.fetch_add(len, Ordering::Relaxed);
            }
            Err(e) => {
                counters.failed.fetch_add(len, Ordering::Relaxed);
                tracing::error!("{len} events refused: {e}");
            }
        }
        for entry in group {
            // An appender that went away has its event in the log all the same.
            let _ = entry.done.send(outcome.clone());
        }
    }

    fn is_time_to_rotate(&self) -> bool {
        let options = &self.shared.options;
        let is_old = self.begun.elapsed() >= Duration::from_millis(options.rotate_ms);
        let is_long = self.file.durable_bytes >= options.file_bytes_max;
        // A spoilt file holds lines that were refused: it must not get to the uploader.
        let is_fit = self.file.durable_bytes > 0 && !self.file.is_spoilt;
        is_fit && (is_old || is_long)
    }

    /// Begins the next file. When that fails the old one stays in use: on a full disk there may
    /// be room in its last block.
    fn rotate(&mut self) {
        let next = self.shared.current.load(Ordering::Acquire).saturating_add(1);
        match LogFile::create(&self.shared, next) {
            Ok(file) => {
                self.file = file;
                self.begun = Instant::now();
                self.shared.current.store(next, Ordering::Release);
                self.shared.closed_file.notify_one();
            }
            Err(e) => tracing::warn!("pay log file {next} can not be begun: {e}"),
        }
    }
}

impl LogFile {
    fn create(shared: &Shared, number: u64) -> io::Result<Self> {
        let dir = &shared.options.dir;
        let path = files::path(dir, number);
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        // A former attempt can have left an empty or torn file of this number, never a full one.
        file.set_len(0)?;
        sync_directory(dir)?;
        shared.counters.files_begun.fetch_add(1, Ordering::Relaxed);
        Ok(Self { file, durable_bytes: 0, is_spoilt: false })
    }

    fn commit(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.heal();
        if self.is_spoilt {
            return Err(io::Error::other("a former error could not be undone"));
        }
        let outcome = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        match outcome {
            Ok(()) => self.durable_bytes += bytes.len() as u64,
            Err(_) => {
                self.is_spoilt = true;
                self.heal();
            }
        }
        outcome
    }

    /// Cuts off what was refused: it must not be found in the log later on.
    fn heal(&mut self) {
        if self.is_spoilt {
            let undone = self.file.set_len(self.durable_bytes).and_then(|()| self.file.sync_all());
            self.is_spoilt = undone.is_err();
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_an_error_and_leaves_nothing_behind() {
        // Every write to this device fails with ENOSPC.
        let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut full = LogFile { file, durable_bytes: 0, is_spoilt: false };
        let error = full.commit(b"line\n").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(full.durable_bytes, 0);
        // A device can not be cut, so nothing more may go in.
        assert!(full.is_spoilt);
        let refused = full.commit(b"line\n").unwrap_err();
        assert_eq!(refused.to_string(), "a former error could not be undone");
    }

    #[test]
    fn a_spoilt_file_heals_once_it_can_be_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        let mut log = LogFile { file, durable_bytes: 0, is_spoilt: false };
        log.commit(b"first\n").unwrap();
        // As a write that failed half way, and could not be undone.
        log.file.write_all(b"refused\nhalf a li").unwrap();
        log.is_spoilt = true;
        log.commit(b"second\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first\nsecond\n");
        assert_eq!((log.durable_bytes, log.is_spoilt), (13, false));
    }

    #[test]
    fn a_spoilt_log_refuses_all_and_closes_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let options = super::super::PayLogOptions {
            rotate_ms: 0,
            ..super::super::PayLogOptions::new(dir.path())
        };
        let shared = Arc::new(Shared::new(options, 0));
        let (queue, entries) = std::sync::mpsc::sync_channel(9);
        let mut writer = Writer::create(shared.clone(), entries, None).unwrap();
        writer.file.commit(b"good\n").unwrap();
        writer.file.file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let thread = std::thread::spawn(move || writer.run());
        for _ in 0..3 {
            let (done, outcome) = tokio::sync::oneshot::channel();
            queue.send(Entry { lines: b"a\nb\n".to_vec(), count: 2, done }).unwrap();
            assert!(matches!(outcome.blocking_recv(), Ok(Err(AppendError::Disk(_)))));
        }
        assert_eq!(shared.current.load(Ordering::Acquire), 0);
        drop(queue);
        thread.join().unwrap();
        assert_eq!(shared.counters.failed.load(Ordering::Relaxed), 6);
        assert_eq!(fs::read(files::path(dir.path(), 0)).unwrap(), b"good\n");
    }
}
