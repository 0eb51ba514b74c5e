//! The memory of a table, in huge pages where the machine has them.
//!
//! A nonce reads four items from random places of 8 MiB: with pages of 4 KiB nearly every read is a
//! miss of the address translation as well.

use core::fmt;

use memmap2::{MmapMut, MmapOptions};
use packetcrypt_core::announcement::{Table, TableError};
use packetcrypt_core::bytes::Hash64;
use packetcrypt_core::merkle;
use packetcrypt_core::params::{ITEM_BYTES, NODE_BYTES, TABLE_ITEMS, TREE_NODES};
use packetcrypt_net::hw::{self, HugePages};

/// Bytes of the items.
const ITEMS_BYTES: usize = TABLE_ITEMS * ITEM_BYTES;
/// Bytes of items and nodes.
pub(crate) const TABLE_BYTES: usize = ITEMS_BYTES + TREE_NODES * NODE_BYTES;
/// Size of a huge page, and the binary logarithm of it.
const HUGE_PAGE_BYTES: usize = 1 << HUGE_PAGE_BITS;
const HUGE_PAGE_BITS: u8 = 21;
/// Bytes that are mapped for a table: whole huge pages.
const MAPPED_BYTES: usize = TABLE_BYTES.next_multiple_of(HUGE_PAGE_BYTES);

/// What a table lies in, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pages {
    /// Huge pages that were reserved.
    Reserved,
    /// Huge pages that the kernel was asked for, and gives as it can.
    Transparent,
    /// Ordinary pages.
    Small,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pages::Reserved => "reserved huge pages",
            Pages::Transparent => "transparent huge pages",
            Pages::Small => "small pages",
        })
    }
}

/// The memory of one table.
#[derive(Debug)]
pub(crate) struct TableMemory(MmapMut);

impl TableMemory {
    /// Takes the best memory there is.
    pub(crate) fn new() -> std::io::Result<(TableMemory, Pages)> {
        let state = HugePages::read();
        if state.page_bytes == HUGE_PAGE_BYTES as u64 && state.check(MAPPED_BYTES as u64).is_ok() {
            let mut options = MmapOptions::new();
            // Another process may have been faster: then it goes on below.
            if let Ok(map) = options.len(MAPPED_BYTES).huge(Some(HUGE_PAGE_BITS)).map_anon() {
                return Ok((TableMemory(map), Pages::Reserved));
            }
        }
        let map = MmapMut::map_anon(MAPPED_BYTES)?;
        let advised = state.transparent && hw::ask_for_huge_pages(map.as_ptr(), map.len()).is_ok();
        Ok((TableMemory(map), if advised { Pages::Transparent } else { Pages::Small }))
    }

    /// The memory as a table.
    pub(crate) fn table(&mut self) -> Result<Table<'_>, TableError> {
        let (items, nodes) = self.0[..TABLE_BYTES].split_at_mut(ITEMS_BYTES);
        Table::new(items.as_chunks_mut().0, nodes.as_chunks_mut().0)
    }

    /// The items of the table and the nodes of its tree.
    pub(crate) fn items_and_nodes(&self) -> (&[[u8; ITEM_BYTES]], &[Hash64]) {
        let (items, nodes) = self.0[..TABLE_BYTES].split_at(ITEMS_BYTES);
        (items.as_chunks().0, merkle::nodes_in_rows(nodes.as_chunks().0))
    }

    /// The same, to be made.
    pub(crate) fn items_and_nodes_mut(&mut self) -> (&mut [[u8; ITEM_BYTES]], &mut [Hash64]) {
        let (items, nodes) = self.0[..TABLE_BYTES].split_at_mut(ITEMS_BYTES);
        (items.as_chunks_mut().0, merkle::nodes_of_rows(nodes.as_chunks_mut().0))
    }
}

/// What to say about the pages that some tables got, and what to run where they are not reserved
/// huge ones.
pub(crate) fn pages_line(tables: &[Pages]) -> String {
    let bytes = (tables.len() * MAPPED_BYTES) as u64;
    let got = tables.iter().copied().max().unwrap_or(Pages::Small);
    if got == Pages::Reserved {
        return format!("{} reserved huge pages", bytes / HUGE_PAGE_BYTES as u64);
    }
    match HugePages::read().check(bytes) {
        Err(error) => format!("{got} ({error})"),
        Ok(()) => got.to_string(), // They became free a moment ago.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_and_is_writable() {
        let (mut memory, pages) = TableMemory::new().unwrap();
        assert!(memory.table().is_ok());
        memory.0.fill(0xa5);
        assert_eq!(memory.0[MAPPED_BYTES - 1], 0xa5, "{pages}");
    }

    #[test]
    fn the_line_says_what_to_run_or_that_all_is_there() {
        let line = pages_line(&[Pages::Reserved; 3]);
        assert_eq!(line, "15 reserved huge pages");
        let line = pages_line(&vec![Pages::Transparent; 1_000_000]);
        assert!(line.starts_with("transparent huge pages (5000000 huge pages of"), "{line}");
        assert!(line.contains("sysctl -w vm.nr_hugepages="), "{line}");
    }
}
