//! Opening a store: a fresh one, or one whose file holds announcements of an earlier process.
//!
//! What was published is sealed. When the file was last written to since this machine started, a
//! sealed slot is whole, whatever ended the process. After a start of the machine each sealed
//! announcement is hashed again before it counts, since pages may have reached the disk in any
//! order. What has no source in the snapshot is dropped: nobody could be blamed for it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use packetcrypt_net::hw;

use super::arena::{Arena, Layout};
use super::index::Index;
use super::state::{Header, Snapshot};
use super::{Store, StoreOptions, landing_slots};
use crate::class::ClassKey;
use crate::hash::hash_each;

/// Slots that are looked at between two looks at the rest of the work.
const BATCH_LEN: u32 = 1024;

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system does not give the memory.
    #[error("{mib} MiB for announcements: {cause}")]
    Memory {
        /// What was asked for.
        mib: u64,
        /// What the system says.
        cause: io::Error,
    },
    /// The file can not be used.
    #[error("{path}: {cause}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The file is in use.
    #[error("{path} is in use by another process", path = .0.display())]
    InUse(PathBuf),
    /// The memory can not be spread over memory nodes as asked.
    #[error("memory can not be placed on nodes as `numa` asks: {0}")]
    Numa(io::Error),
}

/// What a file held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Announcements that can be mined with again.
    pub announcements: u64,
    /// Of them were hashed again.
    pub hashed: u64,
    /// Sealed, but torn or without a source: dropped.
    pub dropped: u64,
}

/// A store, what its file held, and what was kept beside that and is to be kept further on.
pub(crate) type Opened = (Store, Restored, Option<(Keeper, Snapshot)>);

/// What was found in the slots of a file.
#[derive(Default)]
struct Found {
    classes: HashMap<ClassKey, Vec<u32>>,
    hashed: u64,
    dropped: u64,
}

/// Writes the snapshot of an arena whenever it changes.
pub(crate) struct Keeper {
    path: PathBuf,
    snapshot: Mutex<Snapshot>,
}

impl Keeper {
    /// Changes the snapshot and writes it if it is another one now.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = self.snapshot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = snapshot.clone();
        change(&mut snapshot);
        if *snapshot == before {
            return;
        }
        if let Err(error) = snapshot.write(&self.path) {
            tracing::error!(
                "{}: {error}: a restart will not find all announcements",
                self.path.display()
            );
        }
    }
}

impl Store {
    /// Opens a store: with a file, what that holds is there again. The keeper has what else was
    /// known then; without a file there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn open(options: &StoreOptions) -> Result<Opened, StoreError> {
        match &options.file {
            None => Ok((Store::open_anonymous(options)?, Restored::default(), None)),
            Some(path) => Store::open_file(options, path),
        }
    }

    fn open_anonymous(options: &StoreOptions) -> Result<Store, StoreError> {
        let slots = options.slots.saturating_add(landing_slots(options.slots));
        let mib = (Layout::of(slots).bytes >> 20) as u64;
        let mut arena = Arena::anonymous(slots, options.huge_pages)
            .map_err(|cause| StoreError::Memory { mib, cause })?;
        arena.place(options.numa, &options.nodes).map_err(StoreError::Numa)?;
        let index = Index::new(options.slots, slots, options.huge_pages)
            .map_err(|cause| StoreError::Memory { mib, cause })?;
        Ok(Store::of(arena, options.slots, index))
    }

    fn open_file(options: &StoreOptions, path: &Path) -> Result<Opened, StoreError> {
        let failed = |cause| StoreError::File { path: path.to_owned(), cause };
        let slots = options.slots.saturating_add(landing_slots(options.slots));
        let mut file = open_locked(path)?;
        let header = Header::read(&mut file).map_err(failed)?;
        let snapshot = Snapshot::read(&Snapshot::path_of(path));
        let boot = hw::boot_id();
        let kept = header.zip(snapshot).filter(|(header, snapshot)| {
            let same_size = header.slots == slots;
            if !same_size {
                tracing::warn!(
                    "{}: has {} slots but {slots} fit the memory: it is begun anew",
                    path.display(),
                    header.slots
                );
            }
            same_size && snapshot.arena == header.id
        });
        let is_kept = kept.is_some();
        let (mut header, snapshot) =
            kept.map_or_else(|| begin(&mut file, slots).map_err(failed), Ok)?;
        let mut arena = Arena::of_file(
            file.try_clone().map_err(failed)?,
            slots,
            header.seal_key,
            options.huge_pages,
        )
        .map_err(failed)?;
        arena.place(options.numa, &options.nodes).map_err(StoreError::Numa)?;
        let mut index = Index::new(options.slots, slots, options.huge_pages).map_err(failed)?;
        let mut restored = Restored::default();
        if is_kept {
            let trusted = !boot.is_empty() && header.boot == boot;
            let sources = snapshot.sources.len() as u32;
            let found = look_through(&arena, sources, trusted, options.threads);
            restored.hashed = found.hashed;
            restored.dropped = found.dropped;
            index.restore(&arena, found.classes.into_iter().collect());
            restored.announcements = index.keys.len() as u64;
        }
        header.boot = boot;
        header.write(&mut file).map_err(failed)?;
        let keeper_path = Snapshot::path_of(path);
        snapshot.write(&keeper_path).map_err(failed)?;
        let keeper = Keeper { path: keeper_path, snapshot: Mutex::new(snapshot.clone()) };
        let store = Store::of(arena, options.slots, index);
        Ok((store, restored, Some((keeper, snapshot))))
    }
}

fn open_locked(path: &Path) -> Result<File, StoreError> {
    let failed = |cause| StoreError::File { path: path.to_owned(), cause };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
        Err(TryLockError::Error(cause)) => Err(failed(cause)),
    }
}

/// Makes a file an empty arena: all marks are zero.
fn begin(file: &mut File, slots: u32) -> io::Result<(Header, Snapshot)> {
    // Cut first, so that no seal of before is left.
    file.set_len(0)?;
    hw::preallocate(file, Layout::of(slots).bytes as u64)?;
    let id = rand::random();
    let header = Header { id, slots, seal_key: rand::random(), boot: String::new() };
    Ok((header, Snapshot { arena: id, ..Snapshot::default() }))
}

/// Finds what is sealed, on several threads.
fn look_through(arena: &Arena, sources: u32, trusted: bool, threads: usize) -> Found {
    let next = std::sync::atomic::AtomicU32::new(0);
    let next = &next;
    let look = move || {
        let mut found = Found::default();
        loop {
            let first = next.fetch_add(BATCH_LEN, std::sync::atomic::Ordering::Relaxed);
            if first >= arena.slots() {
                return found;
            }
            let slots = first..(first + BATCH_LEN).min(arena.slots());
            look_at(arena, slots, sources, trusted, &mut found);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(look)).collect();
        let mut all = Found::default();
        for worker in workers {
            let found = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            for (key, slots) in found.classes {
                all.classes.entry(key).or_default().extend(slots);
            }
            all.hashed += found.hashed;
            all.dropped += found.dropped;
        }
        all
    })
}

fn look_at(arena: &Arena, slots: Range<u32>, sources: u32, trusted: bool, found: &mut Found) {
    let mut sealed = Vec::with_capacity(slots.len());
    for slot in slots {
        // SAFETY: nobody has a slot of this arena in hand yet.
        match unsafe { arena.sealed(slot) } {
            Some(key) if key.source.0 < sources => sealed.push((slot, key)),
            Some(_) => {
                arena.unseal(slot);
                found.dropped += 1;
            }
            // Torn, or free.
            None => arena.unseal(slot),
        }
    }
    if !trusted {
        // SAFETY: as above; nobody writes them.
        let announcement = |&(slot, _): &(u32, ClassKey)| unsafe { arena.announcement(slot) };
        let announcements: Vec<_> = sealed.iter().map(announcement).collect();
        let hashes = hash_each(&announcements);
        let mut hashes = hashes.iter();
        sealed.retain(|(slot, _)| {
            // SAFETY: as above.
            let whole = hashes.next() == Some(unsafe { arena.hash(*slot) });
            if !whole {
                arena.unseal(*slot);
                found.dropped += 1;
            }
            whole
        });
        found.hashed += sealed.len() as u64;
    }
    for (slot, key) in sealed {
        found.classes.entry(key).or_default().push(slot);
    }
}
