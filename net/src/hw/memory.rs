//! Memory of mappings: where its pages come from, how large they are, and the blocks of files.

use std::fs::{self, File};
use std::io;

use super::linux;

/// Memory nodes above this number are refused.
pub(super) const NODES_MAX: usize = 1024;

/// Takes all blocks of a file now: writing into a mapping of a file with holes ends the process
/// when the disk is full.
///
/// # Errors
/// What the system says: most often that there is no room.
pub fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    linux::preallocate(file, bytes)
}

/// Has the pages of a mapping come from these memory nodes in turn. Pages that are there already
/// stay where they are.
///
/// # Errors
/// What the system says, or that this system has no such call.
pub fn interleave_memory(mapping: *const u8, bytes: usize, nodes: &[usize]) -> io::Result<()> {
    policy(mapping, bytes, true, nodes)
}

/// Has the pages of a mapping come from one memory node.
///
/// # Errors
/// As [`interleave_memory`].
pub fn bind_memory(mapping: *const u8, bytes: usize, node: usize) -> io::Result<()> {
    policy(mapping, bytes, false, &[node])
}

/// Asks that memory which nobody has written to yet be given in huge pages, as far as whole ones lie
/// in it. It may be a mapping or ordinary memory of the heap.
///
/// # Errors
/// As [`interleave_memory`]. Then its pages are small, which is only slower.
pub fn ask_for_huge_pages(memory: *const u8, bytes: usize) -> io::Result<()> {
    linux::advise_huge(memory.addr(), bytes)
}

fn policy(mapping: *const u8, bytes: usize, interleave: bool, nodes: &[usize]) -> io::Result<()> {
    if nodes.iter().any(|node| *node >= NODES_MAX) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    linux::set_memory_policy(mapping.addr(), bytes, interleave, nodes)
}

/// Bytes of the mapping at this address that lie in huge pages now; `None` where it is not told.
/// The system walks all pages of the process for it: not for a loop.
pub fn huge_page_bytes(mapping: *const u8) -> Option<u64> {
    huge_page_bytes_in(&fs::read_to_string("/proc/self/smaps").ok()?, mapping.addr())
}

fn huge_page_bytes_in(smaps: &str, addr: usize) -> Option<u64> {
    let range = |line: &str| {
        let (start, rest) = line.split_once('-')?;
        let end = rest.split_whitespace().next()?;
        Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
    };
    let mut lines = smaps.lines();
    lines.find(|line| range(line).is_some_and(|range| range.contains(&addr)))?;
    let kib = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    let fields = ["AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:", "Private_Hugetlb:"];
    let of_mapping = lines.take_while(|line| range(line).is_none());
    let huge = of_mapping.filter(|line| fields.iter().any(|field| line.starts_with(field)));
    Some(huge.filter_map(kib).sum::<u64>() << 10)
}

/// What tells one start of this machine from another; empty where the system does not say. What a
/// process that was killed wrote into a mapped file is whole as long as this stays the same.
pub fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn huge_pages_change_nothing_of_what_is_written() {
        const LEN: usize = 3 << 20;
        for len in [0, 1, 100, LEN] {
            let mut numbers: Vec<u32> = Vec::with_capacity(len);
            let memory = numbers.spare_capacity_mut();
            let asked = ask_for_huge_pages(memory.as_ptr().cast(), size_of_val(memory));
            // A kernel may have been built without them.
            let refused = |error: io::Error| error.raw_os_error() == Some(libc::EINVAL);
            assert!(asked.is_ok() || asked.is_err_and(refused));
            numbers.extend(0..len as u32);
            assert!(numbers.iter().enumerate().all(|(at, number)| at == *number as usize));
        }
    }

    #[test]
    fn huge_pages_are_those_of_the_mapping() {
        let smaps = "00400000-00452000 r-xp 00000000 08:02 1 /usr/bin/x\n\
                     AnonHugePages:      4096 kB\nFilePmdMapped:         0 kB\n\
                     7f0000000000-7f0000800000 rw-p 00000000 00:00 0\n\
                     Size:               8192 kB\nAnonHugePages:      6144 kB\n\
                     ShmemPmdMapped:     2048 kB\nVmFlags: rd wr\n";
        assert_eq!(huge_page_bytes_in(smaps, 0x7f00_0010_0000), Some(8 << 20));
        assert_eq!(huge_page_bytes_in(smaps, 0x0040_0000), Some(4 << 20));
        assert_eq!(huge_page_bytes_in(smaps, 0x0100_0000), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_of_this_machine_comes_from_its_nodes() {
        let nodes: Vec<_> = super::super::memory_nodes().iter().map(|node| node.id).collect();
        let page = 4096;
        let memory = vec![0u8; 8 * page];
        let start = memory.as_ptr().map_addr(|addr| addr.next_multiple_of(page));
        // A container may forbid the call; then it says so.
        for outcome in
            [interleave_memory(start, 4 * page, &nodes), bind_memory(start, 4 * page, nodes[0])]
        {
            let forbidden = |error: io::Error| error.raw_os_error() == Some(libc::EPERM);
            assert!(outcome.is_ok() || outcome.is_err_and(forbidden));
        }
        let none = interleave_memory(start, page, &[NODES_MAX]).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::InvalidInput);
        assert!(huge_page_bytes(memory.as_ptr()).is_some());
        assert!(!boot_id().is_empty());
    }

    #[test]
    fn blocks_are_taken() {
        let file = tempfile::tempfile().unwrap();
        preallocate(&file, 10_000).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 10_000);
    }
}
