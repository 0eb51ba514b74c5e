//! The arena: one mapped region of announcement slots, with a mark and a hash for each.
//!
//! ```text
//!  0      header (a file only, `super::state`)
//!  4096   marks          16 bytes a slot: seal, source, parent height, work target
//!  ..     hashes         32 bytes a slot
//!  ..     announcements  1024 bytes a slot
//! ```
//! The region is anonymous memory, in huge pages where they can be had, or a file that outlives the
//! process. Copies of the announcements for other memory nodes are regions of their own.
//!
//! A slot is in one of three hands at any time: *vacant* ([`VacantSlot`]: one owner, may be
//! written), *published* (in a class of the store, not written), or *free* (in the store's free
//! list, neither read nor written). The store takes a published slot back only when no pinned set
//! refers to it; see [`super`].
//!
//! # Seals
//! A published slot has a seal: a checksum of its mark and hash that is written last and erased
//! before anything else of the slot may change. So after a process was killed at any moment a
//! sealed slot is whole. After a failure of the machine, where pages reach a disk in any order, a
//! seal may stand on a torn slot: then each announcement is hashed again ([`super::restore`]).

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering, compiler_fence};

use memmap2::{MmapOptions, MmapRaw};
use packetcrypt_core::bytes::{CompactTarget, Hash32, read_u64};
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;
use packetcrypt_net::hw;

use crate::class::{ClassKey, SourceId};

/// Bytes of an announcement's hash.
pub(super) const HASH_BYTES: usize = 32;
/// Bytes of a slot's mark: four words.
pub(super) const MARK_BYTES: usize = 16;
/// Bytes in front of the marks.
pub(super) const HEADER_BYTES: usize = 4096;
/// The base-two logarithm of a huge page's bytes.
const HUGE_PAGE_BITS: u8 = 21;
/// What follows the parts of the region begins on a page.
const PAGE_BYTES: usize = 4096;

/// What the system gave for the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// Reserved huge pages.
    Huge,
    /// Huge pages were asked for and the system took the advice: it gives them as far as it has.
    HugeAdvised,
    /// Ordinary pages.
    Ordinary,
}

/// A slot which only the holder of this value refers to.
#[derive(Debug)]
pub(super) struct VacantSlot(u32);

impl VacantSlot {
    /// Takes a slot in hand.
    ///
    /// # Safety
    /// The slot is below [`Arena::slots`], and nobody else has a token of it or reads it until
    /// this token was turned into a published slot or given back.
    pub(super) unsafe fn claim(slot: u32) -> VacantSlot {
        VacantSlot(slot)
    }

    /// The number of the slot.
    pub(super) fn number(&self) -> u32 {
        self.0
    }
}

/// Where the parts of a region of so many slots begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    hashes: usize,
    pub(super) announcements: usize,
    pub(super) bytes: usize,
}

impl Layout {
    pub(super) fn of(slots: u32) -> Layout {
        let slots = slots as usize;
        let hashes = (HEADER_BYTES + slots * MARK_BYTES).next_multiple_of(PAGE_BYTES);
        let announcements = (hashes + slots * HASH_BYTES).next_multiple_of(PAGE_BYTES);
        let bytes = (announcements + slots * ANNOUNCEMENT_BYTES).next_multiple_of(PAGE_BYTES);
        Layout { hashes, announcements, bytes }
    }
}

/// Where the memory of the arena comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Numa {
    /// From wherever the system takes it.
    #[default]
    Default,
    /// From all memory nodes in turn: every core is as far away as any other.
    Interleave,
    /// A whole copy of the announcements for each memory node: every core reads its own.
    Replicate,
}

/// The mapped slots.
pub(crate) struct Arena {
    region: MmapRaw,
    layout: Layout,
    /// Announcements alone, for memory nodes 1 and up.
    copies: Vec<MmapRaw>,
    slots: u32,
    seal_key: u64,
    pages: Pages,
    /// Its lock keeps other processes away.
    file: Option<File>,
}

impl Drop for Arena {
    /// A child process that is being started holds a copy of the descriptor for a moment, and with
    /// it the lock, unless the lock is given up.
    fn drop(&mut self) {
        // It goes with the descriptor otherwise.
        let _ = self.unlock();
    }
}

impl Arena {
    /// Maps anonymous memory for `slots` announcements. The system gives it at the first write,
    /// except reserved huge pages.
    pub(super) fn anonymous(slots: u32, huge_pages: bool) -> io::Result<Arena> {
        let layout = Layout::of(slots);
        let (region, pages) = anonymous(layout.bytes, huge_pages)?;
        Ok(Arena { region, layout, copies: Vec::new(), slots, seal_key: 0, pages, file: None })
    }

    /// Maps a file that has the bytes of the layout. Its seals are made with `seal_key`.
    pub(super) fn of_file(
        file: File,
        slots: u32,
        seal_key: u64,
        huge_pages: bool,
    ) -> io::Result<Arena> {
        let layout = Layout::of(slots);
        let region = MmapOptions::new().len(layout.bytes).map_raw(&file)?;
        let advised = huge_pages && hw::ask_for_huge_pages(region.as_ptr(), region.len()).is_ok();
        let pages = if advised { Pages::HugeAdvised } else { Pages::Ordinary };
        let copies = Vec::new();
        Ok(Arena { region, layout, copies, slots, seal_key, pages, file: Some(file) })
    }

    /// Takes the memory from these nodes as asked, as far as the system lets it.
    pub(super) fn place(&mut self, numa: Numa, nodes: &[usize]) -> io::Result<()> {
        match numa {
            Numa::Default => Ok(()),
            Numa::Interleave => {
                hw::interleave_memory(self.region.as_ptr(), self.region.len(), nodes)
            }
            Numa::Replicate => self.replicate(nodes),
        }
    }

    fn replicate(&mut self, nodes: &[usize]) -> io::Result<()> {
        let huge = self.pages != Pages::Ordinary;
        for _ in nodes.iter().skip(1) {
            let bytes = self.slots as usize * ANNOUNCEMENT_BYTES;
            self.copies.push(anonymous(bytes, huge)?.0);
        }
        for (copy, node) in std::iter::once(&self.region).chain(&self.copies).zip(nodes) {
            hw::bind_memory(copy.as_ptr(), copy.len(), *node)?;
        }
        Ok(())
    }

    /// Number of slots.
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    /// Which pages the arena has.
    pub(crate) fn pages(&self) -> Pages {
        self.pages
    }

    /// Lets other processes have the file.
    pub(super) fn unlock(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::unlock)
    }

    /// Has the system give all pages now. What is in them stays.
    pub(super) fn populate(&self) -> io::Result<()> {
        populate(&self.region)
    }

    /// Bytes of the region.
    pub(crate) fn bytes(&self) -> usize {
        self.region.len()
    }

    /// Bytes of the region in huge pages now; `None` where the system does not tell.
    pub(crate) fn huge_page_bytes(&self) -> Option<u64> {
        hw::huge_page_bytes(self.region.as_ptr())
    }

    /// The bytes of a vacant slot.
    pub(super) fn vacant_bytes<'s>(
        &'s self,
        slot: &'s mut VacantSlot,
    ) -> &'s mut [u8; ANNOUNCEMENT_BYTES] {
        // SAFETY: the token, borrowed as long as the bytes are, proves that nobody else reads or
        // writes the slot; `address` keeps it inside of the region; bytes need no alignment.
        unsafe { &mut *self.address(slot.0).cast::<[u8; ANNOUNCEMENT_BYTES]>() }
    }

    /// The bytes of a run of vacant slots with ascending, adjacent numbers.
    pub(super) fn vacant_run<'s>(&'s self, run: &'s mut [VacantSlot]) -> &'s mut [u8] {
        let Some(first) = run.first() else { return &mut [] };
        assert!(run.iter().zip(first.0..).all(|(slot, number)| slot.0 == number), "no run");
        let last = run.len() as u32 - 1 + first.0;
        let (start, end) = (self.address(first.0), self.address(last));
        // SAFETY: as `vacant_bytes`, for each slot from the first to the last, all of which are in
        // the run and, being adjacent, one piece of the region.
        unsafe {
            let bytes = end.offset_from_unsigned(start) + ANNOUNCEMENT_BYTES;
            std::slice::from_raw_parts_mut(start, bytes)
        }
    }

    /// Copies a vacant slot to the other memory nodes.
    pub(super) fn copy_to_nodes(&self, slot: &mut VacantSlot) {
        for copy in &self.copies {
            let from = self.vacant_bytes(slot).as_ptr();
            let at = slot.0 as usize * ANNOUNCEMENT_BYTES;
            // SAFETY: the token proves that nobody reads or writes the slot, in any copy; `at` is
            // inside of the copy since the slot is below `slots`; the two mappings do not overlap.
            unsafe {
                copy.as_mut_ptr().add(at).copy_from_nonoverlapping(from, ANNOUNCEMENT_BYTES);
            }
        }
    }

    /// Writes the hash of a vacant slot.
    pub(super) fn set_hash(&self, slot: &mut VacantSlot, hash: &Hash32) {
        let to = self.hash_address(slot.0);
        // SAFETY: the token proves that nobody else reads or writes the slot.
        unsafe { to.write(*hash) };
    }

    /// Publishes a vacant slot, whose announcement and hash are in place: the seal comes last.
    pub(super) fn seal(&self, slot: VacantSlot, class: &ClassKey) -> u32 {
        let mark = self.mark(slot.0);
        let words = [class.source.0, class.parent_height, class.work_bits.0];
        for (word, value) in mark[1..].iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        // SAFETY: the slot is still vacant, so nobody writes it.
        let hash = unsafe { self.hash(slot.0) };
        mark[0].store(self.seal_of(slot.0, words, hash), Ordering::Release);
        slot.0
    }

    /// Erases the seal of a slot; nothing of the slot is written before.
    pub(super) fn unseal(&self, slot: u32) {
        self.mark(slot)[0].store(0, Ordering::SeqCst);
        compiler_fence(Ordering::SeqCst);
    }

    /// What a sealed slot's mark says; `None` without a good seal.
    ///
    /// # Safety
    /// As [`Arena::hash`], but nobody need have published the slot.
    pub(super) unsafe fn sealed(&self, slot: u32) -> Option<ClassKey> {
        let mark = self.mark(slot);
        let word = |at: usize| mark[at].load(Ordering::Relaxed);
        let seal = mark[0].load(Ordering::Acquire);
        if seal == 0 {
            return None;
        }
        let words = [word(1), word(2), word(3)];
        // SAFETY: as the caller promises.
        let hash = unsafe { self.hash(slot) };
        (seal == self.seal_of(slot, words, hash)).then_some(ClassKey {
            source: SourceId(words[0]),
            parent_height: words[1],
            work_bits: CompactTarget(words[2]),
        })
    }

    /// The source of a published slot.
    pub(super) fn source(&self, slot: u32) -> SourceId {
        SourceId(self.mark(slot)[1].load(Ordering::Relaxed))
    }

    /// A checksum, never 0. No secret is needed: it guards against accidents.
    fn seal_of(&self, slot: u32, words: [u32; 3], hash: &Hash32) -> u32 {
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        let two = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let parts = [two(slot, words[0]), two(words[1], words[2])]
            .into_iter()
            .chain((0..HASH_BYTES / 8).map(|at| read_u64(&hash.0, 8 * at)));
        let folded = parts.fold(self.seal_key, |sum, part| {
            ((sum ^ part).wrapping_mul(MULTIPLIER)).rotate_left(29)
        });
        (folded.wrapping_mul(MULTIPLIER) >> 32) as u32 | 1
    }

    /// The announcement in a slot.
    ///
    /// # Safety
    /// The slot was published, and is not claimed as vacant again as long as the reference lives.
    pub(super) unsafe fn announcement(&self, slot: u32) -> &[u8; ANNOUNCEMENT_BYTES] {
        // SAFETY: inside of the region and immutable, as the caller promises; bytes need no
        // alignment.
        unsafe { &*self.address(slot).cast::<[u8; ANNOUNCEMENT_BYTES]>() }
    }

    /// The announcement in a slot, in the memory of a node where it is copied to all.
    ///
    /// # Safety
    /// As [`Arena::announcement`].
    pub(super) unsafe fn announcement_on(
        &self,
        node: usize,
        slot: u32,
    ) -> &[u8; ANNOUNCEMENT_BYTES] {
        match node.checked_sub(1).and_then(|other| self.copies.get(other)) {
            // SAFETY: as `announcement`; a copy has room for each slot, and `slot` is one.
            Some(copy) => unsafe {
                debug_assert!(slot < self.slots);
                &*copy.as_ptr().add(slot as usize * ANNOUNCEMENT_BYTES).cast()
            },
            // SAFETY: as the caller promises.
            None => unsafe { self.announcement(slot) },
        }
    }

    /// The hash of the announcement in a slot.
    ///
    /// # Safety
    /// The slot was published, or nobody writes it, as long as the reference lives.
    pub(super) unsafe fn hash(&self, slot: u32) -> &Hash32 {
        // SAFETY: inside of the region and immutable, as the caller promises.
        unsafe { &*self.hash_address(slot) }
    }

    fn address(&self, slot: u32) -> *mut u8 {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        self.region
            .as_mut_ptr()
            .wrapping_add(self.layout.announcements + slot as usize * ANNOUNCEMENT_BYTES)
    }

    fn hash_address(&self, slot: u32) -> *mut Hash32 {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        let at = self.layout.hashes + slot as usize * HASH_BYTES;
        self.region.as_mut_ptr().wrapping_add(at).cast()
    }

    /// Seal, source, parent height, work target.
    fn mark(&self, slot: u32) -> &[AtomicU32; 4] {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        let at = HEADER_BYTES + slot as usize * MARK_BYTES;
        // SAFETY: inside of the region, on a multiple of 16 since the region begins on a page, and
        // nothing else ever refers to these bytes than by such atomics.
        unsafe { &*self.region.as_ptr().add(at).cast::<[AtomicU32; 4]>() }
    }
}

fn anonymous(bytes: usize, huge_pages: bool) -> io::Result<(MmapRaw, Pages)> {
    let bytes = bytes.max(1);
    if huge_pages && cfg!(target_os = "linux") {
        let whole = bytes.next_multiple_of(1 << HUGE_PAGE_BITS);
        // Without enough reserved pages this fails at once.
        if let Ok(map) = MmapOptions::new().len(whole).huge(Some(HUGE_PAGE_BITS)).map_anon() {
            return Ok((map.into(), Pages::Huge));
        }
    }
    let map: MmapRaw = MmapOptions::new().len(bytes).map_anon()?.into();
    let advised = huge_pages && hw::ask_for_huge_pages(map.as_ptr(), map.len()).is_ok();
    Ok((map, if advised { Pages::HugeAdvised } else { Pages::Ordinary }))
}

#[cfg(target_os = "linux")]
fn populate(map: &MmapRaw) -> io::Result<()> {
    map.advise(memmap2::Advice::PopulateWrite)
}

#[cfg(not(target_os = "linux"))]
fn populate(_map: &MmapRaw) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
