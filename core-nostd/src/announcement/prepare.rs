//! Making announcements: the tables of a job (spec 03, 2.8).
//!
//! The caller provides the memory of the tables, chooses hard nonces and says when to stop;
//! everything here runs on the caller's thread, or on several that share the work. `prepare` keeps
//! some 80 KiB of states and programs on the stack.

use core::fmt;

use heapless::Vec;

use super::header::{seed_2, soft_nonce_max};
use super::item::items_v1_from;
use super::search::Prepared;
use super::{Header, Request};
use crate::backend::Backend;
use crate::bytes::{CompactTarget, Hash64};
use crate::cryptocycle::{State, lanes};
use crate::merkle;
use crate::params::{ITEM_BYTES, NODE_BYTES, TABLE_ITEMS, TREE_NODES};
use crate::primitives::blake2b::compress64_many;
use crate::randhash::{Execute, Generator, Program};

/// Items that are worked on side by side.
const LANES: usize = lanes::LANES;

/// Memory of one table and its tree, provided by the caller: 9 MiB in all.
#[derive(Debug)]
pub struct Table<'a> {
    items: &'a mut [[u8; ITEM_BYTES]],
    nodes: &'a mut [Hash64],
}

/// Memory of another size than a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableError {
    /// Items for which there is room.
    pub items: usize,
    /// Nodes for which there is room.
    pub nodes: usize,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a table has {TABLE_ITEMS} items and {TREE_NODES} nodes, the memory is for {} and {}",
            self.items, self.nodes
        )
    }
}

impl core::error::Error for TableError {}

impl<'a> Table<'a> {
    /// Takes the memory of [`TABLE_ITEMS`] items and [`TREE_NODES`] nodes. Its content does not
    /// matter.
    ///
    /// # Errors
    /// [`TableError`] when there are fewer or more.
    pub fn new(
        items: &'a mut [[u8; ITEM_BYTES]],
        nodes: &'a mut [[u8; NODE_BYTES]],
    ) -> Result<Table<'a>, TableError> {
        if (items.len(), nodes.len()) != (TABLE_ITEMS, TREE_NODES) {
            return Err(TableError { items: items.len(), nodes: nodes.len() });
        }
        Ok(Table { items, nodes: merkle::nodes_of_rows(nodes) })
    }
}

/// Why there is nothing to search in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrepareError {
    /// The caller asked to stop.
    Stopped,
    /// Version 0 is not mined (spec 03, 2.10).
    Version0,
    /// The target is not well-formed.
    BadWorkBits(CompactTarget),
    /// A program of this hard nonce is too long: take the next one.
    BadProgram,
    /// A program of this hard nonce runs too long for one of the items: take the next one.
    BadProgramExec,
}

impl PrepareError {
    /// Whether another hard nonce of the same request may do.
    #[must_use]
    pub fn is_of_hard_nonce(self) -> bool {
        matches!(self, PrepareError::BadProgram | PrepareError::BadProgramExec)
    }
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrepareError::Stopped => f.write_str("stopped"),
            PrepareError::Version0 => f.write_str("announcements of version 0 are not mined"),
            PrepareError::BadWorkBits(bits) => {
                write!(f, "{bits} is no well-formed compact target")
            }
            PrepareError::BadProgram => f.write_str("a program of this hard nonce is too long"),
            PrepareError::BadProgramExec => {
                f.write_str("a program of this hard nonce runs too long")
            }
        }
    }
}

impl core::error::Error for PrepareError {}

/// Makes the tables of a hard nonce: steps 1 to 5 of spec 03, 2.8.
///
/// `stop` is asked every few items; when it says true the work is given up.
///
/// # Errors
/// [`PrepareError`]; where it is one of the hard nonce, go on with another.
pub fn prepare<'t>(
    request: &Request,
    hard_nonce: u32,
    table: &'t mut Table<'_>,
    exec: &mut dyn Execute,
    backend: Backend,
    stop: &dyn Fn() -> bool,
) -> Result<Prepared<'t>, PrepareError> {
    Preparation::new(request, hard_nonce)?.run(table, exec, backend, stop)
}

/// The steps of [`prepare`], for threads that share the work: the items of a table and their leaves
/// can be made in parts.
///
/// 1. [`first_table`](Preparation::first_table): make all its items and leaves, then
///    [`merkle::build_on_leaves`], which leaves the root last.
/// 2. [`second_table`](Preparation::second_table) of that root: make all its items, over those of
///    the first.
/// 3. [`ready`](Preparation::ready).
#[derive(Clone, Debug)]
pub struct Preparation {
    header: Header,
    work_bits: CompactTarget,
    soft_nonce_max: u32,
    ann_hash_0: Hash64,
}

impl Preparation {
    /// Begins with a hard nonce.
    ///
    /// # Errors
    /// [`PrepareError::Version0`] and [`PrepareError::BadWorkBits`].
    pub fn new(request: &Request, hard_nonce: u32) -> Result<Preparation, PrepareError> {
        if request.version == 0 {
            return Err(PrepareError::Version0);
        }
        Preparation::of_version_1(request, hard_nonce)
    }

    /// Begins by the rules of version 1, whatever the version byte says.
    pub(super) fn of_version_1(
        request: &Request,
        hard_nonce: u32,
    ) -> Result<Preparation, PrepareError> {
        let work_bits = request.work_bits;
        let soft_nonce_max =
            soft_nonce_max(work_bits).ok_or(PrepareError::BadWorkBits(work_bits))?;
        let header = Header::of_request(request, hard_nonce);
        let ann_hash_0 = header.ann_hash_0(&request.parent_block_hash);
        Ok(Preparation { header, work_bits, soft_nonce_max, ann_hash_0 })
    }

    pub(super) fn run<'t>(
        &self,
        table: &'t mut Table<'_>,
        exec: &mut dyn Execute,
        backend: Backend,
        stop: &dyn Fn() -> bool,
    ) -> Result<Prepared<'t>, PrepareError> {
        let first = self.first_table()?;
        exec.load(first.program());
        let leaves = &mut table.nodes[..TABLE_ITEMS];
        first.make(0, table.items, Some(leaves), exec, backend, stop)?;
        merkle::build_on_leaves(table.nodes, backend);
        let second = self.second_table(merkle::root(table.nodes))?;
        exec.load(second.program());
        second.make(0, table.items, None, exec, backend, stop)?;
        Ok(self.ready(table.items, table.nodes, backend))
    }

    /// The largest soft nonce that the target allows (spec 03, 2.2).
    #[must_use]
    pub fn soft_nonce_max(&self) -> u32 {
        self.soft_nonce_max
    }

    /// How the items of table 1 are made, of which the tree is.
    ///
    /// # Errors
    /// [`PrepareError::BadProgram`].
    pub fn first_table(&self) -> Result<ItemMaker, PrepareError> {
        ItemMaker::new(&self.ann_hash_0)
    }

    /// How the items of table 2 are made, in which is searched, for the root of table 1.
    ///
    /// # Errors
    /// [`PrepareError::BadProgram`].
    pub fn second_table(&self, root: &Hash64) -> Result<ItemMaker, PrepareError> {
        ItemMaker::new(&seed_2(root, &self.ann_hash_0))
    }

    /// What can be searched: all items of table 2, and the tree of table 1.
    ///
    /// # Panics
    /// When there are not [`TABLE_ITEMS`] items and [`TREE_NODES`] nodes.
    #[must_use]
    pub fn ready<'t>(
        &self,
        items: &'t [[u8; ITEM_BYTES]],
        nodes: &'t [Hash64],
        backend: Backend,
    ) -> Prepared<'t> {
        assert_eq!((items.len(), nodes.len()), (TABLE_ITEMS, TREE_NODES), "a table and a tree");
        let root = *merkle::root(nodes);
        let mut start = State::ZERO;
        start.init(self.header.ann_hash_1(&root).lo(), 0);
        Prepared {
            header: self.header,
            work_bits: self.work_bits,
            soft_nonce_max: self.soft_nonce_max,
            root,
            start,
            items,
            nodes,
            backend,
        }
    }
}

/// How the items of one table are made: its program, and the state they begin with.
#[derive(Clone)]
pub struct ItemMaker {
    program: Program,
    start: State,
}

impl ItemMaker {
    /// Of the version-1 table of a 64-byte seed.
    fn new(seed: &Hash64) -> Result<ItemMaker, PrepareError> {
        let mut maker = ItemMaker { program: Program::EMPTY, start: State::ZERO };
        let generated = Generator::new().generate(seed.lo(), &mut maker.program);
        generated.map_err(|_| PrepareError::BadProgram)?;
        maker.start.init(seed.hi(), 0);
        Ok(maker)
    }

    /// The program, for [`Execute::load`].
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Makes the items from number `first` on, and their leaves if these are wanted. `exec` must
    /// have [loaded](Execute::load) the program.
    ///
    /// `stop` is asked every few items; when it says true the work is given up.
    ///
    /// # Errors
    /// [`PrepareError::BadProgramExec`] and [`PrepareError::Stopped`].
    ///
    /// # Panics
    /// When there are fewer leaves than items.
    pub fn make(
        &self,
        first: usize,
        items: &mut [[u8; ITEM_BYTES]],
        mut leaves: Option<&mut [Hash64]>,
        exec: &mut dyn Execute,
        backend: Backend,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), PrepareError> {
        let mut states = [const { State::ZERO }; LANES];
        let mut num = first;
        for items in items.chunks_mut(LANES) {
            if stop() {
                return Err(PrepareError::Stopped);
            }
            let nums: Vec<u64, LANES> = (num as u64..).take(items.len()).collect();
            let states = &mut states[..items.len()];
            items_v1_from(&self.program, &self.start, &nums, states, exec, backend)
                .map_err(|_| PrepareError::BadProgramExec)?;
            for (item, state) in items.iter_mut().zip(states) {
                item.copy_from_slice(state.first_half());
            }
            if let Some(leaves) = &mut leaves {
                // While the items are in the nearest cache.
                let from = num - first;
                compress64_many(items, &mut leaves[from..from + items.len()], backend);
            }
            num += items.len();
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::bytes::Hash32;
    use crate::randhash::Interpreter;

    pub(in crate::announcement) const REQUEST: Request = Request {
        version: 1,
        work_bits: CompactTarget(0x200f_ffff),
        parent_block_height: 200_000,
        parent_block_hash: Hash32([0x42; 32]),
        content_type: 1,
        content_length: 2,
        content_hash: [3; 32],
        signing_key: [4; 32],
    };

    pub(in crate::announcement) struct Memory {
        pub(in crate::announcement) items: Vec<[u8; ITEM_BYTES]>,
        nodes: Vec<[u8; NODE_BYTES]>,
    }

    impl Memory {
        pub(in crate::announcement) fn new() -> Memory {
            // Its content must not matter.
            Memory {
                items: vec![[0xee; ITEM_BYTES]; TABLE_ITEMS],
                nodes: vec![[0xee; NODE_BYTES]; TREE_NODES],
            }
        }

        pub(in crate::announcement) fn table(&mut self) -> Table<'_> {
            Table::new(&mut self.items, &mut self.nodes).unwrap()
        }
    }

    /// What several threads do: the parts of the tables one by one, in any order.
    #[test]
    fn tables_can_be_made_in_parts() {
        let mut memory = Memory::new();
        let mut exec = Interpreter::new();
        let backend = Backend::best();
        let preparation = Preparation::new(&REQUEST, 5).unwrap();
        let mut items = vec![[0xdd; ITEM_BYTES]; TABLE_ITEMS];
        let mut nodes = vec![Hash64([0xdd; NODE_BYTES]); TREE_NODES];
        let first = preparation.first_table().unwrap();
        exec.load(first.program());
        let parts = items.chunks_mut(3001).zip(nodes[..TABLE_ITEMS].chunks_mut(3001));
        for (part, (items, leaves)) in parts.enumerate().collect::<Vec<_>>().into_iter().rev() {
            first.make(3001 * part, items, Some(leaves), &mut exec, backend, &|| false).unwrap();
        }
        merkle::build_on_leaves(&mut nodes, backend);
        let second = preparation.second_table(merkle::root(&nodes)).unwrap();
        exec.load(second.program());
        for (part, items) in items.chunks_mut(5000).enumerate() {
            second.make(5000 * part, items, None, &mut exec, backend, &|| false).unwrap();
        }

        let mut table = memory.table();
        let whole = prepare(&REQUEST, 5, &mut table, &mut exec, backend, &|| false).unwrap();
        assert!(whole.items == items && whole.nodes == nodes);
        let parts = preparation.ready(&items, &nodes, backend);
        let found = |prepared: &Prepared<'_>| {
            let mut found = Vec::new();
            prepared.search(0..1000, &mut |ann| found.push(*ann));
            found
        };
        assert!(found(&whole) == found(&parts) && !found(&parts).is_empty());
    }

    #[test]
    fn preparing_stops_and_fails_as_it_says() {
        let mut memory = Memory::new();
        let mut table = memory.table();
        let asked = Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() == 3
        };
        let mut exec = Interpreter::new();
        let result = prepare(&REQUEST, 0, &mut table, &mut exec, Backend::Soft, &stop);
        assert_eq!((result.err(), asked.get()), (Some(PrepareError::Stopped), 3));

        let mut exec = Interpreter::with_limit(10);
        let result = prepare(&REQUEST, 0, &mut table, &mut exec, Backend::Soft, &|| false);
        assert_eq!(result.err(), Some(PrepareError::BadProgramExec));
        assert!(PrepareError::BadProgramExec.is_of_hard_nonce());

        let work_bits = CompactTarget(0x2100_ffff);
        let request = Request { work_bits, ..REQUEST };
        let result = prepare(&request, 0, &mut table, &mut exec, Backend::Soft, &|| false);
        assert_eq!(result.err(), Some(PrepareError::BadWorkBits(work_bits)));
    }

    #[test]
    fn memory_of_another_size_is_refused() {
        let mut memory = Memory::new();
        memory.items.pop();
        let result = Table::new(&mut memory.items, &mut memory.nodes);
        let wanted = TableError { items: TABLE_ITEMS - 1, nodes: TREE_NODES };
        assert_eq!(result.err(), Some(wanted));
    }
}
