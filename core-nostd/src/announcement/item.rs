//! The items of a table (spec 03, 2.4).

use crate::backend::Backend;
use crate::cryptocycle::{State, lanes};
use crate::error::ExecError;
use crate::params::{CYCLES, ITEM_BYTES};
use crate::primitives::blake2b::compress64_pair;
use crate::primitives::{compress64, expand};
use crate::randhash::{Execute, Program};

/// Bytes of a row of a version-0 item.
const ROW_BYTES: usize = 64;
/// Rows of a version-0 item.
const ROWS: usize = ITEM_BYTES / ROW_BYTES;
/// Rounds over all rows of a version-0 item.
const ROUNDS: usize = 2;

/// Item `num` of the version-0 table of a seed.
pub fn item_v0(seed: &[u8; 32], num: u32, item: &mut [u8; ITEM_BYTES]) {
    let rows: &mut [[u8; ROW_BYTES]; ROWS] = zerocopy::transmute_mut!(item);
    expand(seed, num, &mut rows[0]);
    for i in 1..ROWS {
        rows[i] = compress64(&rows[i - 1]).0;
    }
    for i in (0..ROWS).cycle().take(ROUNDS * ROWS) {
        let p = (i + ROWS - 1) % ROWS;
        let q = crate::bytes::read_u32(&rows[p], 0) as usize % (ROWS - 1);
        rows[i] = compress64_pair(&rows[p], &rows[(i + q) % ROWS]).0;
    }
}

/// Items of the version-1 table of a program and an item seed, one a state: afterwards item
/// `nums[i]` is [`State::first_half`] of `states[i]`, the rest of which is unspecified.
///
/// The program must be the one that `exec` has loaded.
///
/// # Errors
/// The error of one of the items that failed; all states are then meaningless.
///
/// # Panics
/// When the number of numbers and of states differ.
pub fn items_v1(
    program: &Program,
    seed: &[u8; 32],
    nums: &[u64],
    states: &mut [State],
    exec: &mut dyn Execute,
    backend: Backend,
) -> Result<(), ExecError> {
    lanes::init(states, seed, nums, backend);
    finish_items(program, nums, states, exec, backend)
}

/// [`items_v1`] with the state that `init` makes of the seed.
pub(super) fn items_v1_from(
    program: &Program,
    start: &State,
    nums: &[u64],
    states: &mut [State],
    exec: &mut dyn Execute,
    backend: Backend,
) -> Result<(), ExecError> {
    lanes::init_whole_from(states, start, nums);
    finish_items(program, nums, states, exec, backend)
}

fn finish_items(
    program: &Program,
    nums: &[u64],
    states: &mut [State],
    exec: &mut dyn Execute,
    backend: Backend,
) -> Result<(), ExecError> {
    exec.run(program, nums, states, CYCLES)?;
    lanes::crypt_items(states, backend);
    Ok(())
}
