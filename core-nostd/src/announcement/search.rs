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
