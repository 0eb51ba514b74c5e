//! Announcement files: what was accepted, for block miners and for the time after a crash.
//!
//! The [`Store`] is a directory of append-only segments ([`segment`]), each preallocated, mapped
//! once, immutable when the next one is begun, and recycled when there are more than
//! `files_to_keep`. It belongs to one thread, the committer; [`Reader`]s look at published bytes
//! from anywhere, without a lock.
//!
//! # Order of writing, and what a crash leaves
//!
//! A batch of posts is accepted in these steps, and none begins before the one above is done:
//!
//! 1. the hashes are *reserved* in the table of known ones (memory only);
//! 2. the bytes are copied behind the published length, each post gets a *prepared* record with
//!    its event id and time ([`Store::prepare`]);
//! 3. the events are written to the pay log, in the same order, and are durable there;
//! 4. the records become *committed* and the published length grows ([`Store::commit`]);
//! 5. the hashes become known, the announcements are sprayed, the replies are sent.
//!
//! When step 3 fails the batch is rolled back and answered 503. Killed (the page cache outlives
//! the process, so the mapping holds every store up to the kill):
//!
//! - before 3: records are prepared, the pay log knows nothing of them. At start they are dropped:
//!   the announcements can be sent again and are paid once, by the later post.
//! - within 3: the log holds a beginning of the batch's events. At start exactly the records whose
//!   event (same id and time) is in the log become committed, the rest is dropped.
//! - after 3, before 4: all events are in the log, so all records become committed.
//! - after 4: records are committed. The event of a committed record is never looked for: its
//!   log file may have been uploaded and removed by then.
//!
//! The question "is this event in the log?" is asked for prepared records only, and the log file
//! that holds the event can not be gone: a file is removed only after it was switched and its
//! upload was answered, while step 4 follows step 3 in the same thread at once.
//!
//! So what was acknowledged is in a file and in the pay log exactly once, and what was not is paid
//! exactly once when it is sent again: by the first event if that one was durable (then it is a
//! duplicate), else by the second. After a *power failure* the pay log is still right, but the
//! files may lack what the kernel had not written; such a run is seen by the XOR of its hashes and
//! is left out with an error in the log.

mod directory;
mod mapped_file;
mod segment;

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use packetcrypt_core::announcement::Announcement;
use tokio::sync::watch;

use directory::{find_files, io_error, lock, remove, set_aside, store_id};
pub(crate) use segment::{ANN_BYTES, AnnBytes, PublishedBytes, Record};
use segment::{Found, Segment, Writer};

/// Where the files are and how many.
#[derive(Clone, Debug)]
pub(crate) struct StoreOptions {
    /// The directory; made when it is absent.
    pub(crate) dir: PathBuf,
    /// Announcements a file holds.
    pub(crate) file_anns: u32,
    /// Files at a time, the open one included; at least 2.
    pub(crate) files_to_keep: usize,
}

/// Why the files can not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system says no.
    #[error("announcement files: {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process uses the directory.
    #[error("announcement files: {0} is in use by another handler")]
    InUse(PathBuf),
    /// All files hold announcements that a post may still repeat, none can be recycled.
    #[error(
        "announcement files: all {files} files are needed for parent heights from {live_height} on; \
         raise files_to_keep"
    )]
    Full {
        /// Files there are.
        files: usize,
        /// The lowest height whose announcements are still taken.
        live_height: u32,
    },
}

/// The announcement files, see the module.
#[derive(Debug)]
pub(crate) struct Store {
    options: StoreOptions,
    /// Held as long as the store is in use.
    _lock: File,
    /// Oldest first; the last is the open one.
    kept: Vec<Kept>,
    /// Writers with something prepared, in order; the last is that of the open file.
    writers: Vec<Writer>,
    /// Identity of the store, of which readers are told.
    id: Arc<str>,
    /// Prepared records with the number of their file.
    prepared: Vec<(u64, Record)>,
    live_height: u32,
    published: Arc<ArcSwap<Vec<Arc<Segment>>>>,
    changed: watch::Sender<u64>,
    damaged_runs: u64,
}

#[derive(Debug)]
struct Kept {
    segment: Arc<Segment>,
    records: Vec<Record>,
}

/// Reads published announcements; clones share the store.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    /// Identity of the store: 32 hex digits, chosen when its directory was made.
    pub(crate) store_id: Arc<str>,
    published: Arc<ArcSwap<Vec<Arc<Segment>>>>,
    changed: watch::Receiver<u64>,
}

/// One file as readers see it.
#[derive(Clone, Debug)]
pub(crate) struct FileView {
    segment: Arc<Segment>,
    /// Number of the file.
    pub(crate) number: u64,
    /// Published length, bytes.
    pub(crate) len: usize,
    /// Whether it will never grow again.
    pub(crate) is_full: bool,
    /// The least and the greatest parent height in it; `None` when it is empty.
    pub(crate) parent_heights: Option<(u32, u32)>,
}

impl Store {
    /// Opens or makes the directory. `is_logged` says whether the event of a prepared record is in
    /// the pay log.
    pub(crate) fn open(
        options: StoreOptions,
        is_logged: impl Fn(&Record) -> bool,
    ) -> Result<Self, StoreError> {
        assert!(options.file_anns > 0 && options.files_to_keep >= 2, "validated configuration");
        fs::create_dir_all(&options.dir).map_err(io_error("make", &options.dir))?;
        let lock = lock(&options.dir)?;
        let numbers = find_files(&options.dir)?;
        let id = store_id(&options.dir)?;
        let mut kept = Vec::new();
        let mut last = None;
        for number in numbers {
            match Writer::open(&options.dir, number) {
                Ok((mut writer, found)) => {
                    let records = settle(&mut writer, &found, &is_logged);
                    for record in &records {
                        writer.segment().include_height(record.parent_height);
                    }
                    kept.push(Kept { segment: Arc::clone(writer.segment()), records });
                    last = Some(writer);
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    set_aside(&options.dir, number, &error)?;
                }
                Err(error) => {
                    let path = segment::data_path(&options.dir, number);
                    return Err(io_error("map", &path)(error));
                }
            }
        }
        let mut store = Self {
            _lock: lock,
            kept,
            writers: last.into_iter().collect(),
            id,
            prepared: Vec::new(),
            live_height: 0,
            published: Arc::new(ArcSwap::default()),
            changed: watch::Sender::new(0),
            damaged_runs: 0,
            options,
        };
        if store.writers.is_empty() {
            let writer = store.create(0)?;
            store.begin(writer);
        }
        store.show();
        Ok(store)
    }

    /// A reader of what is published.
    pub(crate) fn reader(&self) -> Reader {
        Reader {
            store_id: Arc::clone(&self.id),
            published: Arc::clone(&self.published),
            changed: self.changed.subscribe(),
        }
    }

    /// Announcements of lower parents are not taken any more: their files may be recycled.
    pub(crate) fn set_live_height(&mut self, height: u32) {
        self.live_height = height;
    }

    /// Copies the run of one post behind what is written; it is not published before
    /// [`Store::commit`]. The run must not be empty and not be longer than a file.
    pub(crate) fn prepare<'a>(
        &mut self,
        record: Record,
        run: impl ExactSizeIterator<Item = &'a AnnBytes>,
    ) -> Result<(), StoreError> {
        assert!(run.len() <= self.options.file_anns as usize, "validated configuration");
        if !self.open_writer().has_room(run.len()) {
            self.next_file()?;
        }
        let number = self.open_writer().segment().number();
        let record = self.open_writer().prepare(record, run);
        self.prepared.push((number, record));
        Ok(())
    }

    /// Everything prepared is published.
    pub(crate) fn commit(&mut self) {
        for (number, record) in self.prepared.drain(..) {
            // From the end: it is the last file, seldom the one before.
            let kept = self.kept.iter_mut().rev().find(|kept| kept.segment.number() == number);
            if let Some(kept) = kept {
                kept.segment.include_height(record.parent_height);
                kept.records.push(record);
            }
        }
        for writer in &mut self.writers {
            writer.commit();
        }
        self.writers.drain(..self.writers.len() - 1);
        self.show();
    }

    /// Everything prepared is as if it had never come.
    pub(crate) fn roll_back(&mut self) {
        for writer in &mut self.writers {
            writer.roll_back();
        }
        self.writers.drain(..self.writers.len() - 1);
        self.prepared.clear();
    }

    /// Calls `visit` with each published announcement that is bound to this parent block.
    pub(crate) fn announcements_of(
        &mut self,
        parent_height: u32,
        parent_hash: &[u8; 32],
        mut visit: impl FnMut(&AnnBytes),
    ) {
        for kept in &self.kept {
            for record in &kept.records {
                if record.parent_height != parent_height || record.parent_hash != *parent_hash {
                    continue;
                }
                let start = record.first as usize * ANN_BYTES;
                let end = start + record.count as usize * ANN_BYTES;
                let Some(bytes) = kept.segment.bytes(start..end) else { continue };
                let (run, _) = bytes.as_ref().as_chunks::<ANN_BYTES>();
                let check =
                    run.iter().fold(0, |check, ann| check ^ Announcement::from_bytes(ann).key());
                if check != record.check {
                    self.damaged_runs += 1;
                    tracing::error!(
                        file = kept.segment.number(),
                        first = record.first,
                        count = record.count,
                        "announcements are not those that were written (power failure?): \
                         they are not known as duplicates"
                    );
                    continue;
                }
                run.iter().for_each(&mut visit);
            }
        }
    }

    /// Runs that were found damaged.
    pub(crate) fn damaged_runs(&self) -> u64 {
        self.damaged_runs
    }

    fn open_writer(&mut self) -> &mut Writer {
        let last = self.writers.len() - 1;
        &mut self.writers[last]
    }

    /// Begins the next file, in place of the oldest when there are enough.
    fn next_file(&mut self) -> Result<(), StoreError> {
        let number = self.open_writer().segment().number() + 1;
        let writer = if self.kept.len() < self.options.files_to_keep {
            self.create(number)?
        } else {
            self.recycle(number)?
        };
        self.begin(writer);
        Ok(())
    }

    fn begin(&mut self, writer: Writer) {
        let segment = Arc::clone(writer.segment());
        self.kept.push(Kept { segment, records: Vec::new() });
        self.writers.push(writer);
    }

    fn create(&self, number: u64) -> Result<Writer, StoreError> {
        let path = segment::data_path(&self.options.dir, number);
        Writer::create(&self.options.dir, number, self.options.file_anns)
            .map_err(io_error("make", &path))
    }

    fn recycle(&mut self, number: u64) -> Result<Writer, StoreError> {
        let oldest = &self.kept[0];
        let is_live = oldest.records.iter().any(|of| of.parent_height >= self.live_height);
        let is_written = self.prepared.iter().any(|(of, _)| *of == oldest.segment.number());
        if is_live || is_written {
            let files = self.kept.len();
            return Err(StoreError::Full { files, live_height: self.live_height });
        }
        let oldest = self.kept.remove(0);
        self.show();
        let old_number = oldest.segment.number();
        let path = segment::data_path(&self.options.dir, old_number);
        let same_size = oldest.segment.capacity() == self.options.file_anns;
        if same_size {
            let recycled = Writer::recycle(&self.options.dir, number, oldest.segment)
                .map_err(io_error("recycle", &path))?;
            if let Ok(writer) = recycled {
                return Ok(writer);
            }
        }
        // A reader still holds it, or it is of another size: its pages go with the last reader.
        remove(&self.options.dir, old_number).map_err(io_error("remove", &path))?;
        self.create(number)
    }

    /// Shows readers the present list of files and wakes those who wait for data.
    fn show(&self) {
        let list = self.kept.iter().map(|kept| Arc::clone(&kept.segment)).collect();
        self.published.store(Arc::new(list));
        self.changed.send_modify(|version| *version += 1);
    }
}

impl Reader {
    /// The files, oldest first.
    pub(crate) fn files(&self) -> Vec<FileView> {
        let list = self.published.load();
        let last = list.len().saturating_sub(1);
        list.iter().enumerate().map(|(at, segment)| FileView::new(segment, at < last)).collect()
    }

    /// The file of this number.
    pub(crate) fn file(&self, number: u64) -> Option<FileView> {
        let list = self.published.load();
        let at = list.iter().position(|segment| segment.number() == number)?;
        Some(FileView::new(&list[at], at + 1 < list.len()))
    }

    /// Counts up with everything that is published.
    pub(crate) fn version(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Completes when something was published after the last call; `false` when the store is gone.
    pub(crate) async fn changed(&mut self) -> bool {
        self.changed.changed().await.is_ok()
    }

    /// Only what is published from now on makes [`Reader::changed`] complete.
    pub(crate) fn mark_seen(&mut self) {
        self.changed.borrow_and_update();
    }
}

impl FileView {
    fn new(segment: &Arc<Segment>, is_full: bool) -> Self {
        Self {
            segment: Arc::clone(segment),
            number: segment.number(),
            len: segment.published() as usize * ANN_BYTES,
            is_full,
            parent_heights: segment.parent_heights(),
        }
    }

    /// Published bytes, or `None` beyond the published length.
    pub(crate) fn bytes(&self, range: std::ops::Range<usize>) -> Option<PublishedBytes> {
        self.segment.bytes(range)
    }
}

/// Decides over the records of a file that was found at start (see the module); returns those that
/// count.
fn settle(
    writer: &mut Writer,
    found: &[Found],
    is_logged: &impl Fn(&Record) -> bool,
) -> Vec<Record> {
    let counts: Vec<bool> = found
        .iter()
        .map(|found| match found {
            Found::Committed(_) => true,
            Found::Prepared(record) => is_logged(record),
            Found::Void(_) => false,
        })
        .collect();
    let keep = counts.iter().rposition(|&counts| counts).map_or(0, |last| last + 1);
    writer.settle(found, keep, |slot| !counts[slot]);
    let number = writer.segment().number();
    let prepared = found.iter().filter(|found| matches!(found, Found::Prepared(_))).count();
    if prepared > 0 {
        let dropped = found
            .iter()
            .zip(&counts)
            .filter(|(found, counts)| matches!(found, Found::Prepared(_)) && !**counts)
            .count();
        tracing::warn!(
            file = number,
            in_pay_log = prepared - dropped,
            dropped,
            "posts were in the middle of being accepted when the handler ended"
        );
    }
    let kept = found.iter().zip(counts).filter(|(_, counts)| *counts);
    kept.map(|(found, _)| *found.record()).collect()
}

#[cfg(test)]
mod tests;
