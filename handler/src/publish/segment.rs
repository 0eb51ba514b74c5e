//! One announcement file and its index, both mapped.
//!
//! `anns_<n>.bin` holds announcements one behind the other and is preallocated, so that writing
//! into the mapping can not meet a full disk. `anns_<n>.idx` says what is in it:
//!
//! ```text
//! 0    8   "PCANNIDX"
//! 8    4   format version, 1
//! 12   4   capacity of the file, announcements
//! 16   8   number of the file
//! 24  40   zero
//! 64  96   record of the first post:
//!          0   4  state: 0 none, 1 prepared, 2 committed, 3 void
//!          4   4  first announcement of the run
//!          8   4  announcements of the run
//!          12  4  parent block height
//!          16  8  time of the event, milliseconds since the epoch
//!          24  8  XOR of the dedup hashes of the run
//!          32 16  event id
//!          48 32  parent block hash, internal order
//!          80 16  zero
//! 160 96   record of the second post, and so on
//! ```
//!
//! There is one [`Writer`] of a segment. It writes behind the published length only; whoever reads
//! sees only what lies in front of it, which never changes again.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::MmapRaw;

use super::mapped_file::{map, populate, preallocated, read_write};

/// Bytes of an announcement (spec 03, 2.1).
pub(crate) const ANN_BYTES: usize = 1024;
/// The bytes of an announcement.
pub(crate) type AnnBytes = [u8; ANN_BYTES];

const MAGIC: &[u8; 8] = b"PCANNIDX";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const RECORD_BYTES: usize = 96;

const STATE_NONE: u32 = 0;
const STATE_PREPARED: u32 = 1;
const STATE_COMMITTED: u32 = 2;
const STATE_VOID: u32 = 3;

/// What the index says of the accepted announcements of one post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// First announcement of the run.
    pub(crate) first: u32,
    /// Announcements of the run.
    pub(crate) count: u32,
    /// Height of the block that the announcements are bound to.
    pub(crate) parent_height: u32,
    /// Time of the event, milliseconds since the epoch.
    pub(crate) time_ms: u64,
    /// XOR of the dedup hashes, by which a run that a power failure damaged is seen.
    pub(crate) check: u64,
    /// Event id of the post.
    pub(crate) event_id: [u8; 16],
    /// Hash of that block, internal order.
    pub(crate) parent_hash: [u8; 32],
}

/// A record as it is found at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its event was durable.
    Committed(Record),
    /// Whether its event was durable is for the pay log to say.
    Prepared(Record),
    /// A place whose event was not durable, between some that were.
    Void(Record),
}

impl Found {
    /// The record, in whatever state.
    pub(crate) fn record(&self) -> &Record {
        let (Found::Committed(record) | Found::Prepared(record) | Found::Void(record)) = self;
        record
    }
}

/// The mapped files of one number.
#[derive(Debug)]
pub(crate) struct Segment {
    number: u64,
    capacity: u32,
    data: MmapRaw,
    index: MmapRaw,
    published: AtomicU32,
    heights: Heights,
    /// Whether all pages of `data` are there.
    is_populated: bool,
}

/// The least and the greatest parent height of what is published.
#[derive(Debug)]
struct Heights {
    min: AtomicU32,
    max: AtomicU32,
}

impl Heights {
    /// Of an empty file.
    fn none() -> Self {
        Self { min: AtomicU32::new(u32::MAX), max: AtomicU32::new(0) }
    }
}

impl Segment {
    /// The number of the file.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Announcements that fit.
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Announcements that may be read.
    pub(crate) fn published(&self) -> u32 {
        self.published.load(Ordering::Acquire)
    }

    /// The least and the greatest parent height of what is published; `None` when nothing is.
    pub(crate) fn parent_heights(&self) -> Option<(u32, u32)> {
        let min = self.heights.min.load(Ordering::Relaxed);
        let max = self.heights.max.load(Ordering::Relaxed);
        (min <= max).then_some((min, max))
    }

    /// Something with this parent height is published now.
    pub(super) fn include_height(&self, height: u32) {
        self.heights.min.fetch_min(height, Ordering::Relaxed);
        self.heights.max.fetch_max(height, Ordering::Relaxed);
    }

    /// The published bytes in `range`, or `None` when it reaches beyond them.
    pub(crate) fn bytes(self: &Arc<Self>, range: Range<usize>) -> Option<PublishedBytes> {
        let end = self.published() as usize * ANN_BYTES;
        (range.start <= range.end && range.end <= end)
            .then(|| PublishedBytes { segment: Arc::clone(self), range })
    }

    fn record_at(&self, slot: u32) -> *mut u8 {
        assert!(slot < self.capacity, "a segment has one record for each announcement");
        // SAFETY: the index mapping has HEADER_BYTES + capacity * RECORD_BYTES bytes, see `map`.
        unsafe { self.index.as_mut_ptr().add(HEADER_BYTES + slot as usize * RECORD_BYTES) }
    }

    fn state_at(&self, slot: u32) -> &AtomicU32 {
        // SAFETY: the pointer is inside of the mapping, which lives as long as `self`, and aligned
        // to 4 (64 and 96 are multiples of it, a mapping begins at a page). The word is accessed
        // through this function only.
        unsafe { AtomicU32::from_ptr(self.record_at(slot).cast()) }
    }

    fn read_record(&self, slot: u32) -> Option<Found> {
        let state = u32::from_le(self.state_at(slot).load(Ordering::Acquire));
        let mut bytes = [0u8; RECORD_BYTES];
        // SAFETY: 92 bytes behind the state word belong to the record; the only writer of them is
        // the `Writer`, and this is called while there is none (`open`).
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.record_at(slot).add(4),
                bytes.as_mut_ptr().add(4),
                RECORD_BYTES - 4,
            );
        }
        let record = decode_record(&bytes);
        match state {
            STATE_PREPARED => Some(Found::Prepared(record)),
            STATE_COMMITTED => Some(Found::Committed(record)),
            STATE_VOID => Some(Found::Void(record)),
            _ => None,
        }
    }
}

/// Published bytes of a file; they stay as they are while this lives.
#[derive(Clone, Debug)]
pub(crate) struct PublishedBytes {
    segment: Arc<Segment>,
    range: Range<usize>,
}

impl AsRef<[u8]> for PublishedBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the range was checked to be published when this was made. Published bytes are
        // never written again, and a mapping with readers is not recycled (`Writer::recycle`).
        unsafe {
            let start = self.segment.data.as_ptr().add(self.range.start);
            std::slice::from_raw_parts(start, self.range.len())
        }
    }
}

/// The only one who writes into a segment.
#[derive(Debug)]
pub(crate) struct Writer {
    segment: Arc<Segment>,
    /// Announcements and records that are written, published or not.
    next: u32,
    records: u32,
    /// Those that are committed.
    committed: u32,
    committed_records: u32,
}

impl Writer {
    /// Makes the files of `number`, zeroed and preallocated.
    pub(crate) fn create(dir: &Path, number: u64, capacity: u32) -> io::Result<Self> {
        let data = preallocated(&data_path(dir, number), capacity as usize * ANN_BYTES)?;
        let index = preallocated(&index_path(dir, number), index_bytes(capacity))?;
        let writer = Self::empty(Segment {
            number,
            capacity,
            data: map(&data, capacity as usize * ANN_BYTES)?,
            index: map(&index, index_bytes(capacity))?,
            published: AtomicU32::new(0),
            heights: Heights::none(),
            is_populated: true,
        });
        populate(&writer.segment.data);
        writer.write_header();
        Ok(writer)
    }

    /// Makes the files of `number` out of an old segment, whose pages are resident; gives the
    /// segment back when somebody still reads it.
    ///
    /// Killed in between, a file without its partner is left, and removed at the next start.
    pub(crate) fn recycle(
        dir: &Path,
        number: u64,
        old: Arc<Segment>,
    ) -> io::Result<Result<Self, Arc<Segment>>> {
        let old = match Arc::try_unwrap(old) {
            Ok(old) => old,
            Err(old) => return Ok(Err(old)),
        };
        let parked = dir.join("recycled.idx");
        fs::rename(index_path(dir, old.number), &parked)?;
        // SAFETY: nobody else holds the segment, so nobody reads or writes the mapping; it has
        // this length, see `map`.
        unsafe { std::ptr::write_bytes(old.index.as_mut_ptr(), 0, index_bytes(old.capacity)) };
        fs::rename(data_path(dir, old.number), data_path(dir, number))?;
        let (published, heights) = (AtomicU32::new(0), Heights::none());
        if !old.is_populated {
            populate(&old.data);
        }
        let writer = Self::empty(Segment { number, published, heights, is_populated: true, ..old });
        writer.write_header();
        fs::rename(parked, index_path(dir, number))?;
        Ok(Ok(writer))
    }

    /// Maps the files of `number` and says what records they hold, up to the first that makes no
    /// sense. `InvalidData` when they are no announcement file of this form.
    pub(crate) fn open(dir: &Path, number: u64) -> io::Result<(Self, Vec<Found>)> {
        let data = read_write(&data_path(dir, number))?;
        let index = read_write(&index_path(dir, number))?;
        let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut header = [0u8; HEADER_BYTES];
        io::Read::read_exact(&mut &index, &mut header)?;
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
        let (version, capacity) = (word(8), word(12));
        let named = u64::from(word(16)) | u64::from(word(20)) << 32;
        if header[..8] != MAGIC[..] || version != VERSION {
            return Err(bad(format!("no index of version {VERSION}")));
        }
        if named != number {
            return Err(bad(format!("the index is of file {named}, its name says {number}")));
        }
        let want = (capacity as u64 * ANN_BYTES as u64, index_bytes(capacity) as u64);
        let have = (data.metadata()?.len(), index.metadata()?.len());
        if capacity == 0 || want != have {
            return Err(bad(format!("lengths {have:?}, the index says {want:?}")));
        }
        let mut writer = Self::empty(Segment {
            number,
            capacity,
            data: map(&data, capacity as usize * ANN_BYTES)?,
            index: map(&index, index_bytes(capacity))?,
            published: AtomicU32::new(0),
            heights: Heights::none(),
            is_populated: false,
        });
        let found = writer.read_records();
        Ok((writer, found))
    }

    /// The segment, to read from.
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Whether `count` more announcements fit.
    pub(crate) fn has_room(&self, count: usize) -> bool {
        count <= (self.segment.capacity - self.next) as usize
    }

    /// Copies a run behind what is written and records it as prepared. It must fit
    /// ([`Writer::has_room`]); `record.first` and `record.count` are set here.
    pub(crate) fn prepare<'a>(
        &mut self,
        mut record: Record,
        run: impl ExactSizeIterator<Item = &'a AnnBytes>,
    ) -> Record {
        assert!(self.has_room(run.len()) && run.len() > 0, "the caller asks for room before");
        record.first = self.next;
        record.count = run.len() as u32;
        for ann in run {
            let at = self.next as usize * ANN_BYTES;
            // SAFETY: `next < capacity`, so the 1024 bytes are inside of the mapping; they lie
            // behind the published length, so nobody reads them, and `&mut self` is the only
            // writer.
            unsafe {
                let target = self.segment.data.as_mut_ptr().add(at);
                std::ptr::copy_nonoverlapping(ann.as_ptr(), target, ANN_BYTES);
            }
            self.next += 1;
        }
        let encoded = encode_record(&record);
        // SAFETY: as for `read_record`; `&mut self` is the only writer.
        unsafe {
            std::ptr::copy_nonoverlapping(
                encoded.as_ptr().add(4),
                self.segment.record_at(self.records).add(4),
                RECORD_BYTES - 4,
            );
        }
        // Release: who finds the state, also after a kill, finds the record and the bytes.
        self.set_state(self.records, STATE_PREPARED);
        self.records += 1;
        record
    }

    /// Everything prepared is committed, in order, and published.
    pub(crate) fn commit(&mut self) {
        for slot in self.committed_records..self.records {
            self.set_state(slot, STATE_COMMITTED);
        }
        self.committed_records = self.records;
        self.committed = self.next;
        self.segment.published.store(self.next, Ordering::Release);
    }

    /// Everything prepared is as if it had never come.
    pub(crate) fn roll_back(&mut self) {
        // The last first: the records in front of a hole stay a run without one.
        for slot in (self.committed_records..self.records).rev() {
            self.set_state(slot, STATE_NONE);
        }
        self.records = self.committed_records;
        self.next = self.committed;
    }

    /// At start: keeps the first `keep` of the `found` records, of which those for which `is_void`
    /// says so become void: their bytes are zeroed and never count as announcements.
    pub(crate) fn settle(&mut self, found: &[Found], keep: usize, is_void: impl Fn(usize) -> bool) {
        for (slot, found) in found.iter().enumerate().take(keep) {
            let record = found.record();
            if is_void(slot) {
                self.zero(record.first..record.first + record.count);
                self.set_state(slot as u32, STATE_VOID);
            } else {
                self.set_state(slot as u32, STATE_COMMITTED);
            }
        }
        for slot in (keep..found.len()).rev() {
            self.set_state(slot as u32, STATE_NONE);
        }
        let end = keep.checked_sub(1).map_or(0, |last| {
            let record = found[last].record();
            record.first + record.count
        });
        (self.next, self.committed) = (end, end);
        (self.records, self.committed_records) = (keep as u32, keep as u32);
        self.segment.published.store(end, Ordering::Release);
    }

    fn empty(segment: Segment) -> Self {
        let segment = Arc::new(segment);
        Self { segment, next: 0, records: 0, committed: 0, committed_records: 0 }
    }

    fn read_records(&mut self) -> Vec<Found> {
        let mut found = Vec::new();
        let mut end = 0u32;
        for slot in 0..self.segment.capacity {
            let Some(entry) = self.segment.read_record(slot) else { break };
            let record = entry.record();
            let next = record.first.checked_add(record.count);
            let fits = next.is_some_and(|next| next <= self.segment.capacity);
            if record.first != end || record.count == 0 || !fits {
                break;
            }
            end += record.count;
            found.push(entry);
        }
        found
    }

    fn set_state(&self, slot: u32, state: u32) {
        self.segment.state_at(slot).store(state.to_le(), Ordering::Release);
    }

    fn zero(&mut self, run: Range<u32>) {
        assert!(run.end <= self.segment.capacity && run.start >= self.segment.published());
        // SAFETY: inside of the mapping and not published, as just asserted.
        unsafe {
            let start = self.segment.data.as_mut_ptr().add(run.start as usize * ANN_BYTES);
            std::ptr::write_bytes(start, 0, run.len() * ANN_BYTES);
        }
    }

    fn write_header(&self) {
        let mut header = [0u8; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&self.segment.capacity.to_le_bytes());
        header[16..24].copy_from_slice(&self.segment.number.to_le_bytes());
        // SAFETY: the index is longer than its header, and no record is in use yet, so nobody
        // looks at it.
        unsafe {
            let start = self.segment.index.as_mut_ptr();
            std::ptr::copy_nonoverlapping(header.as_ptr(), start, HEADER_BYTES);
        }
    }
}

/// The announcement file of `number`.
pub(crate) fn data_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("anns_{number}.bin"))
}

/// The index of the file of `number`.
pub(crate) fn index_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("anns_{number}.idx"))
}

fn index_bytes(capacity: u32) -> usize {
    HEADER_BYTES + capacity as usize * RECORD_BYTES
}

fn encode_record(record: &Record) -> [u8; RECORD_BYTES] {
    let mut bytes = [0u8; RECORD_BYTES];
    bytes[4..8].copy_from_slice(&record.first.to_le_bytes());
    bytes[8..12].copy_from_slice(&record.count.to_le_bytes());
    bytes[12..16].copy_from_slice(&record.parent_height.to_le_bytes());
    bytes[16..24].copy_from_slice(&record.time_ms.to_le_bytes());
    bytes[24..32].copy_from_slice(&record.check.to_le_bytes());
    bytes[32..48].copy_from_slice(&record.event_id);
    bytes[48..80].copy_from_slice(&record.parent_hash);
    bytes
}

fn decode_record(bytes: &[u8; RECORD_BYTES]) -> Record {
    fn field<const N: usize>(bytes: &[u8; RECORD_BYTES], at: usize) -> [u8; N] {
        std::array::from_fn(|i| bytes[at + i])
    }
    Record {
        first: u32::from_le_bytes(field(bytes, 4)),
        count: u32::from_le_bytes(field(bytes, 8)),
        parent_height: u32::from_le_bytes(field(bytes, 12)),
        time_ms: u64::from_le_bytes(field(bytes, 16)),
        check: u64::from_le_bytes(field(bytes, 24)),
        event_id: field(bytes, 32),
        parent_hash: field(bytes, 48),
    }
}
