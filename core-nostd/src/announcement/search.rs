//! Making announcements: the tables of a job and the search for nonces (spec 03, 2.8).
//!
//! The caller provides the memory of the tables, chooses hard nonces and ranges of soft nonces, and
//! says when to stop; everything here runs on the caller's thread. `prepare` and `search` keep some
//! 80 KiB of states and programs on the stack.

use core::fmt;
use core::ops::Range;

use heapless::Vec;

use super::header::{seed_2, soft_nonce_max};
use super::item::items_v1;
use super::seal::seal;
use super::{Announcement, Header, Request};
use crate::backend::Backend;
use crate::bytes::{CompactTarget, Hash32, Hash64};
use crate::cryptocycle::{State, lanes};
use crate::merkle;
use crate::params::{
    ITEM_BYTES, ITEM_READS, ITEM4_PREFIX_BYTES, NODE_BYTES, TABLE_ITEMS, TREE_NODES,
};
use crate::randhash::{Execute, Generator, Program};

/// Items and nonces that are worked on side by side.
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

/// A hard nonce with its tables made, ready for the search.
#[derive(Debug)]
pub struct Prepared<'t> {
    header: Header,
    work_bits: CompactTarget,
    soft_nonce_max: u32,
    root: Hash64,
    /// The search state before the soft nonce is set: the expanded `ann_hash_1`.
    start: State,
    /// Table 2.
    items: &'t [[u8; ITEM_BYTES]],
    /// The tree of table 1.
    nodes: &'t [Hash64],
    backend: Backend,
}

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
    if request.version == 0 {
        return Err(PrepareError::Version0);
    }
    prepare_version_1(request, hard_nonce, table, exec, backend, stop)
}

/// [`prepare`] by the rules of version 1, whatever the version byte says.
fn prepare_version_1<'t>(
    request: &Request,
    hard_nonce: u32,
    table: &'t mut Table<'_>,
    exec: &mut dyn Execute,
    backend: Backend,
    stop: &dyn Fn() -> bool,
) -> Result<Prepared<'t>, PrepareError> {
    let soft_nonce_max =
        soft_nonce_max(request.work_bits).ok_or(PrepareError::BadWorkBits(request.work_bits))?;
    let header = Header::of_request(request, hard_nonce);
    let ann_hash_0 = header.ann_hash_0(&request.parent_block_hash);
    fill(table.items, &ann_hash_0, exec, backend, stop)?;
    merkle::build(table.items, table.nodes, backend);
    let root = *merkle::root(table.nodes);
    fill(table.items, &seed_2(&root, &ann_hash_0), exec, backend, stop)?;

    let mut start = State::ZERO;
    start.init(header.ann_hash_1(&root).lo(), 0);
    Ok(Prepared {
        header,
        work_bits: request.work_bits,
        soft_nonce_max,
        root,
        start,
        items: table.items,
        nodes: table.nodes,
        backend,
    })
}

/// Makes all items of the version-1 table of a 64-byte seed.
fn fill(
    items: &mut [[u8; ITEM_BYTES]],
    seed: &Hash64,
    exec: &mut dyn Execute,
    backend: Backend,
    stop: &dyn Fn() -> bool,
) -> Result<(), PrepareError> {
    let mut program = Program::EMPTY;
    Generator::new().generate(seed.lo(), &mut program).map_err(|_| PrepareError::BadProgram)?;
    exec.load(&program);
    let mut states = [const { State::ZERO }; LANES];
    let mut num = 0;
    for items in items.chunks_mut(LANES) {
        if stop() {
            return Err(PrepareError::Stopped);
        }
        let nums: Vec<u64, LANES> = (num..).take(items.len()).collect();
        num += items.len() as u64;
        let states = &mut states[..items.len()];
        items_v1(&program, seed.hi(), &nums, states, exec, backend)
            .map_err(|_| PrepareError::BadProgramExec)?;
        for (item, state) in items.iter_mut().zip(states) {
            item.copy_from_slice(state.first_half());
        }
    }
    Ok(())
}

impl Prepared<'_> {
    /// The largest soft nonce that the target allows (spec 03, 2.2).
    #[must_use]
    pub fn soft_nonce_max(&self) -> u32 {
        self.soft_nonce_max
    }

    /// Tries the soft nonces of a range, as far as they are allowed, and hands over each
    /// announcement found (step 6 of spec 03, 2.8).
    pub fn search(&self, soft_nonces: Range<u32>, found: &mut dyn FnMut(&Announcement)) {
        let end = soft_nonces.end.min(self.soft_nonce_max + 1);
        let mut states = [const { State::ZERO }; LANES];
        let mut first = soft_nonces.start;
        while first < end {
            let nonces: Vec<u64, LANES> = (first..end).take(LANES).map(u64::from).collect();
            self.search_lanes(&nonces, &mut states[..nonces.len()], found);
            first += nonces.len() as u32;
        }
    }

    fn search_lanes(
        &self,
        nonces: &[u64],
        states: &mut [State],
        found: &mut dyn FnMut(&Announcement),
    ) {
        lanes::init_from(states, &self.start, nonces, self.backend);
        let mut nums: Vec<usize, LANES> = Vec::new();
        for read in 1..=ITEM_READS {
            nums = states
                .iter()
                .map(|state| (state.item_number() % TABLE_ITEMS as u64) as usize)
                .collect();
            let items: Vec<&[u8; ITEM_BYTES], LANES> =
                nums.iter().map(|num| &self.items[*num]).collect();
            if read < ITEM_READS {
                lanes::update_between(states, &items, self.backend);
            } else {
                lanes::update(states, &items, self.backend);
            }
        }
        lanes::finish(states, self.backend);
        for ((nonce, state), num) in nonces.iter().zip(states).zip(nums) {
            if self.work_bits.is_met_by(&Hash32(*state.head())) {
                found(&self.assemble(*nonce as u32, num, state));
            }
        }
    }

    /// The announcement of a nonce whose search ended with this item and state.
    fn assemble(&self, soft_nonce: u32, num: usize, state: &State) -> Announcement {
        let mut announcement = Announcement::from_parts(
            self.header.with_soft_nonce(soft_nonce),
            merkle::branch(self.nodes, num),
            &self.root,
            [0; ITEM4_PREFIX_BYTES],
        );
        seal(&mut announcement, state);
        announcement
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::cell::Cell;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::announcement::{CheckScratch, check, check_v0};
    use crate::error::AnnError;
    use crate::randhash::Interpreter;

    const REQUEST: Request = Request {
        version: 1,
        work_bits: CompactTarget(0x200f_ffff),
        parent_block_height: 200_000,
        parent_block_hash: Hash32([0x42; 32]),
        content_type: 1,
        content_length: 2,
        content_hash: [3; 32],
        signing_key: [4; 32],
    };

    struct Memory {
        items: Vec<[u8; ITEM_BYTES]>,
        nodes: Vec<[u8; NODE_BYTES]>,
    }

    impl Memory {
        fn new() -> Memory {
            // Its content must not matter.
            Memory {
                items: vec![[0xee; ITEM_BYTES]; TABLE_ITEMS],
                nodes: vec![[0xee; NODE_BYTES]; TREE_NODES],
            }
        }

        fn table(&mut self) -> Table<'_> {
            Table::new(&mut self.items, &mut self.nodes).unwrap()
        }
    }

    #[test]
    fn what_is_mined_is_good() {
        let mut memory = Memory::new();
        let mut table = memory.table();
        let mut exec = Interpreter::new();
        let prepared =
            prepare(&REQUEST, 77, &mut table, &mut exec, Backend::best(), &|| false).unwrap();
        let max = prepared.soft_nonce_max();
        assert_eq!(Some(max), soft_nonce_max(REQUEST.work_bits));

        let mut scratch = Box::new(CheckScratch::new());
        let mut found = Vec::new();
        prepared.search(0..u32::MAX, &mut |ann| found.push(*ann));
        // 2^bits nonces, of which one in 16 to 32 does.
        let expected = (max as usize + 1) / 16;
        assert!((expected * 3 / 4..expected * 5 / 4).contains(&found.len()), "{}", found.len());
        for ann in &found {
            let work_hash = check(ann, &REQUEST.parent_block_hash, &mut scratch).unwrap();
            assert!(REQUEST.work_bits.is_met_by(&work_hash));
            assert_eq!(ann.hard_nonce(), 77);
            assert_eq!(ann.parent_block_height(), REQUEST.parent_block_height);
            assert_eq!((ann.content_type(), ann.content_length()), (1, 2));
            assert_eq!((ann.content_hash(), ann.signing_key()), (&[3; 32], &[4; 32]));
            assert!(ann.is_signed());
            let wrong = check(ann, &Hash32([0x43; 32]), &mut scratch);
            assert_eq!(wrong, Err(AnnError::InvalItem4));
        }

        // Any division of the range finds the same.
        let mut parts = Vec::new();
        for from in (0..=max).step_by(501) {
            prepared.search(from..from + 501, &mut |ann| parts.push(*ann));
        }
        assert!(parts == found);
        prepared.search(max + 1..u32::MAX, &mut |_| panic!("above the largest soft nonce"));
    }

    /// No vector has this: version-1 data under a version byte of 0 passes every step but the
    /// explicit one (spec 03, 2.9).
    #[test]
    fn version_0_made_by_the_rules_of_version_1_is_refused() {
        let mut memory = Memory::new();
        let mut table = memory.table();
        let mut exec = Interpreter::new();
        let request = Request { version: 0, ..REQUEST };
        let result = prepare(&request, 0, &mut table, &mut exec, Backend::Soft, &|| false);
        assert_eq!(result.err(), Some(PrepareError::Version0));

        let prepared =
            prepare_version_1(&request, 0, &mut table, &mut exec, Backend::Soft, &|| false)
                .unwrap();
        let mut scratch = Box::new(CheckScratch::new());
        let mut count = 0;
        prepared.search(0..2000, &mut |ann| {
            let parent = &request.parent_block_hash;
            assert_eq!(check(ann, parent, &mut scratch), Err(AnnError::Inval));
            assert!(check_v0(ann, parent, &mut scratch).is_err());
            count += 1;
        });
        assert!(count > 0);
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
