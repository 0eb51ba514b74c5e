//! What is worked on: always the same.

use memmap2::MmapMut;
use packetcrypt_core::announcement::{Announcement, Prepared, Request, Table, prepare};
use packetcrypt_core::params::{ITEM_BYTES, NODE_BYTES, TABLE_ITEMS, TREE_NODES};
use packetcrypt_core::randhash::Execute;
use packetcrypt_core::{Backend, CompactTarget, Hash32};
use packetcrypt_jit::AnyExecutor;
use packetcrypt_net::hw;

/// The `work_bits` of announcements that are mined to be checked: one nonce in 8 does.
pub(crate) const MINED_BITS: u32 = 0x201f_ffff;

/// 64 announcements, each of another job: those of [`announcements_of_jobs`].
pub(crate) fn of_other_jobs() -> &'static [Announcement] {
    static BYTES: &[u8] = include_bytes!("../data/announcements_64.bin");
    Announcement::slice_from_bytes(BYTES).expect("whole announcements")
}

/// The first announcement of each of some jobs, as `examples/announcements.rs` writes them to a
/// file.
#[must_use]
pub fn announcements_of_jobs(jobs: u32) -> Vec<u8> {
    let mut memory = TableMemory::new();
    let mut exec = Box::new(AnyExecutor::best());
    let backend = Backend::best();
    (1000..1000 + jobs)
        .flat_map(|job| memory.mine(MINED_BITS, job, &mut *exec, backend, 1))
        .flat_map(|ann| *ann.to_bytes())
        .collect()
}

/// A seed that is used for nothing else.
pub(crate) fn seed(topic: u8, number: u64) -> [u8; 32] {
    let mut seed = [topic; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    seed
}

/// What announcements are mined for.
pub(crate) fn request(work_bits: u32) -> Request {
    Request {
        version: 1,
        work_bits: CompactTarget(work_bits),
        parent_block_height: 200_000,
        parent_block_hash: Hash32([0x42; 32]),
        content_type: 0,
        content_length: 0,
        content_hash: [0; 32],
        signing_key: [0; 32],
    }
}

/// Zeroed memory, in huge pages where the system gives them for the asking.
pub(crate) struct Memory(MmapMut);

impl Memory {
    /// Memory of this many bytes, or why there is none.
    pub(crate) fn new(bytes: usize) -> std::io::Result<Memory> {
        let map = MmapMut::map_anon(bytes)?;
        // A kernel without transparent huge pages says no: small ones do.
        let _ = hw::ask_for_huge_pages(map.as_ptr(), map.len());
        Ok(Memory(map))
    }

    /// Rows of `N` bytes.
    pub(crate) fn rows<const N: usize>(&mut self) -> &mut [[u8; N]] {
        self.0.as_chunks_mut().0
    }
}

/// The memory of a table and its tree.
pub(crate) struct TableMemory {
    items: Memory,
    nodes: Memory,
}

impl TableMemory {
    pub(crate) fn new() -> TableMemory {
        let memory = |bytes| Memory::new(bytes).expect("memory of a table");
        TableMemory {
            items: memory(TABLE_ITEMS * ITEM_BYTES),
            nodes: memory(TREE_NODES * NODE_BYTES),
        }
    }

    /// Prepares a hard nonce, or says that its programs are not good.
    pub(crate) fn prepared<R>(
        &mut self,
        work_bits: u32,
        hard_nonce: u32,
        exec: &mut dyn Execute,
        backend: Backend,
        then: impl FnOnce(&Prepared<'_>) -> R,
    ) -> Option<R> {
        let mut table =
            Table::new(self.items.rows(), self.nodes.rows()).expect("memory of a table");
        match prepare(&request(work_bits), hard_nonce, &mut table, exec, backend, &|| false) {
            Ok(prepared) => Some(then(&prepared)),
            Err(error) => {
                assert!(error.is_of_hard_nonce(), "{error}");
                None
            }
        }
    }

    /// Some announcements of a hard nonce, which must have good programs.
    pub(crate) fn mine(
        &mut self,
        work_bits: u32,
        hard_nonce: u32,
        exec: &mut dyn Execute,
        backend: Backend,
        count: usize,
    ) -> Vec<Announcement> {
        let mut found = Vec::new();
        self.prepared(work_bits, hard_nonce, exec, backend, |prepared| {
            let mut nonce = 0;
            while found.len() < count && nonce <= prepared.soft_nonce_max() {
                prepared.search(nonce..nonce + 512, &mut |ann| found.push(*ann));
                nonce += 512;
            }
        });
        found.truncate(count);
        found
    }
}
