//! The durable log of payment events, and its upload to the paymaker (spec 05, 11).
//!
//! An event is acknowledged to a miner only when it is on the disk. One thread writes: it takes
//! whatever lines wait, writes them, makes them durable with one `fdatasync`, and only then
//! answers all of them, so many posts share the price of one commit.
//!
//! Files are `paylog_<n>.ndjson`, one event a line. The writer owns the newest; all others are
//! closed, and the uploader may have them. A file is deleted only when the paymaker answered with
//! its id. One that the paymaker refuses for good is set aside as `paylog_<n>.ndjson.refused`: it
//! stays on the disk, and comes up again when somebody takes that ending away. A line without an
//! end was never acknowledged and is cut off before a file is used.
//!
//! A commit that fails is undone by cutting the file. While that fails too, the log takes nothing
//! and closes nothing, so that no refused line is ever uploaded; it tries again and again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::{limits, progress};

mod files;
mod stats;
mod upload;
mod writer;

pub use stats::{PayLogFigures, PayLogStats};
pub use upload::{PaymakerPassword, Uploader, UploaderOptions};

/// How a pay log is kept.
#[derive(Clone, Debug)]
pub struct PayLogOptions {
    /// The directory; made when it is not there. One pay log has it for itself: a second one is
    /// refused while the first is open.
    pub dir: PathBuf,
    /// A file that is not empty is closed after this time, ms.
    pub rotate_ms: u64,
    /// A file is closed at this length, bytes.
    pub file_bytes_max: u64,
    /// Lines that may wait for a commit; more are refused.
    pub queue_len_max: usize,
}

impl PayLogOptions {
    /// The usual values in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            rotate_ms: limits::PAYLOG_ROTATE_MS,
            file_bytes_max: limits::PAYLOG_FILE_BYTES_MAX,
            queue_len_max: limits::PAYLOG_QUEUE_LEN_MAX,
        }
    }
}

/// A pay log can not be opened.
#[derive(Debug, thiserror::Error)]
#[error("pay log {path}: {cause}")]
pub struct OpenError {
    /// The directory or file.
    pub path: PathBuf,
    /// What the system says.
    pub cause: io::Error,
}

/// A line is not in the log: the event must not be acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The line is too long.
    #[error("event of {bytes} bytes is longer than {bytes_max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// The line has a line end in it, or nothing at all.
    #[error("an event is one line that is not empty")]
    NotOneLine,
    /// Too many lines wait for the disk.
    #[error("pay log is overloaded: {queue_len_max} lines wait")]
    Overloaded {
        /// The bound.
        queue_len_max: usize,
    },
    /// It could not be written: disk full, for instance.
    #[error("pay log can not be written: {0}")]
    Disk(String),
    /// The log was closed.
    #[error("pay log is closed")]
    Closed,
}

/// Lines on their way to the disk, with their line ends.
struct Entry {
    lines: Vec<u8>,
    count: u64,
    done: oneshot::Sender<Result<(), AppendError>>,
}

/// What the handles, the writer and the uploader share.
#[derive(Debug)]
struct Shared {
    options: PayLogOptions,
    counters: stats::Counters,
    /// The number of the file that belongs to the writer.
    current: AtomicU64,
    /// A file was closed.
    closed_file: Notify,
}

impl Shared {
    fn new(options: PayLogOptions, current: u64) -> Self {
        Self {
            options,
            counters: stats::Counters::default(),
            current: AtomicU64::new(current),
            closed_file: Notify::new(),
        }
    }
}

/// A pay log. Clones write to the same one; when the last is dropped, the writer ends.
#[derive(Clone, Debug)]
pub struct PayLog {
    shared: Arc<Shared>,
    // Dropped before the thread, which ends when the queue has no sender.
    queue: SyncSender<Entry>,
    _thread: Arc<WriterThread>,
}

#[derive(Debug)]
struct WriterThread(Option<JoinHandle<()>>);

impl PayLog {
    /// Opens the log: cuts what was torn, begins a new file, starts the writer.
    ///
    /// # Errors
    /// The directory can not be read or written.
    pub fn open(options: PayLogOptions) -> Result<Self, OpenError> {
        let failed = |cause| OpenError { path: options.dir.clone(), cause };
        std::fs::create_dir_all(&options.dir).map_err(failed)?;
        let lock = files::lock(&options.dir).map_err(failed)?;
        let what = format!("looking through the pay logs in {}", options.dir.display());
        let old = progress::said(&what, || files::repair_all(&options.dir)).map_err(failed)?;
        if old.refused > 0 {
            let (count, dir) = (old.refused, options.dir.display());
            tracing::warn!("{dir}: {count} pay log files that the paymaker refused lie there");
        }
        let next = old.newest.map_or(0, |n| n.saturating_add(1));
        let shared = Arc::new(Shared::new(options.clone(), next));
        shared.counters.torn_bytes.store(old.torn_bytes, Ordering::Relaxed);
        let (queue, entries) = sync_channel(options.queue_len_max.max(1));
        let writer = writer::Writer::create(shared.clone(), entries, lock).map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name("paylog".to_owned())
            .spawn(move || writer.run())
            .map_err(failed)?;
        Ok(Self { shared, queue, _thread: Arc::new(WriterThread(Some(thread))) })
    }

    /// Shows every line of the files that are there, oldest first and without line ends: after
    /// [`open`](Self::open) and before anything is appended, exactly what a former run
    /// acknowledged and could not upload. At a crash the last lines may be some that were written
    /// but not acknowledged any more.
    ///
    /// # Errors
    /// A file can not be read. One that is uploaded and deleted meanwhile is passed over.
    pub fn read_lines(&self, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
        for number in files::list(self.dir())? {
            files::read_lines(&files::path(self.dir(), number), &mut visit)?;
        }
        Ok(())
    }

    /// Appends one event (without line end) and returns when it is durable.
    ///
    /// # Errors
    /// [`AppendError`]: the event is not in the log and must not be acknowledged.
    pub async fn append(&self, line: impl Into<Vec<u8>>) -> Result<(), AppendError> {
        match self.enqueue(line.into())?.await {
            Ok(outcome) => outcome,
            Err(_) => Err(AppendError::Closed),
        }
    }

    /// As [`append`](Self::append) for events that belong together, from a thread outside of any
    /// runtime: they are in the log one behind the other, all of them or none. Only a crash before
    /// this returns can leave the first ones alone.
    ///
    /// # Errors
    /// As [`append`](Self::append); none of the events is in the log.
    pub fn append_all_blocking(&self, lines: Vec<Vec<u8>>) -> Result<(), AppendError> {
        if lines.is_empty() {
            return Ok(());
        }
        let count = lines.len() as u64;
        let mut joined = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in lines {
            check_line(&line).or_else(|error| self.refuse(count, error))?;
            joined.extend_from_slice(&line);
            joined.push(b'\n');
        }
        match self.enqueue_checked(joined, count)?.blocking_recv() {
            Ok(outcome) => outcome,
            Err(_) => Err(AppendError::Closed),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.shared.options.dir
    }

    /// The counters, and how many files there are.
    pub fn stats(&self) -> PayLogStats {
        self.shared.stats()
    }

    /// The figures, for who shows them.
    pub fn figures(&self) -> PayLogFigures {
        PayLogFigures(self.shared.clone())
    }

    fn enqueue(
        &self,
        mut line: Vec<u8>,
    ) -> Result<oneshot::Receiver<Result<(), AppendError>>, AppendError> {
        check_line(&line).or_else(|error| self.refuse(1, error))?;
        line.push(b'\n');
        self.enqueue_checked(line, 1)
    }

    fn enqueue_checked(
        &self,
        lines: Vec<u8>,
        count: u64,
    ) -> Result<oneshot::Receiver<Result<(), AppendError>>, AppendError> {
        let (done, outcome) = oneshot::channel();
        match self.queue.try_send(Entry { lines, count, done }) {
            Ok(()) => Ok(outcome),
            Err(TrySendError::Full(_)) => {
                let queue_len_max = self.shared.options.queue_len_max;
                self.refuse(count, AppendError::Overloaded { queue_len_max })
            }
            Err(TrySendError::Disconnected(_)) => self.refuse(count, AppendError::Closed),
        }
    }

    fn refuse<T>(&self, count: u64, error: AppendError) -> Result<T, AppendError> {
        self.shared.counters.refused.fetch_add(count, Ordering::Relaxed);
        Err(error)
    }
}

fn check_line(line: &[u8]) -> Result<(), AppendError> {
    let bytes_max = limits::PAYLOG_LINE_BYTES_MAX;
    if line.len() >= bytes_max {
        return Err(AppendError::TooLong { bytes: line.len(), bytes_max });
    }
    if line.is_empty() || line.contains(&b'\n') {
        return Err(AppendError::NotOneLine);
    }
    Ok(())
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        // The last handle waits for the writer, so that the directory can be opened again. A
        // panic of the writer was seen by every appender as `Closed`.
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

/// How often the writer looks at the time while nothing is appended.
const WRITER_TICK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
