//! RandHash: random programs, from a 32-byte seed to a transformed state (spec 02).
//!
//! [`opcode`] is the instruction set and its encoding, [`Generator`] draws a [`Program`] from a
//! seed, and an implementation of [`Execute`] runs it over states. [`Interpreter`] is the one that
//! is written to be read beside the specification; faster ones must equal it bit for bit. They work on a
//! [lowered](lower) program: [`LanesInterpreter`] with sixteen items in lock step.

pub mod opcode;

mod execute;
mod generate;
mod interpret;
mod lanes;
pub mod lower;
mod operations;
mod program;

pub use execute::{Execute, Planned, Watch};
pub use generate::Generator;
#[doc(hidden)]
pub use generate::PlainGenerator;
pub use interpret::{Interpreter, REGISTERS, SCOPES_MAX};
pub use lanes::LanesInterpreter;
#[doc(hidden)]
pub use operations::word_operation;
pub use program::Program;

use crate::params::{INITIAL_BUDGET, INSNS_MAX};

/// Most entries, variables and MARKs, that a generated program can have on its variable stack.
///
/// All entries that are there at one time were made by words of the scopes open at that time. Say
/// these are `x` words of four results (cost 16), `y` of two (cost 4 or more), `z` of one (cost 1
/// or more) and `m` words that opened a scope (one entry each). Then
///
/// * `x + y + z + m <= 2048`, the longest program;
/// * `16x + 4y + z <= 10000`: the outermost loop divides the budget of 20000 by 2 or more; an
///   inner loop or branch body works on a share, below one, of what its scope has left, so open
///   scopes together never spend more.
///
/// Adding 4/3 of the first line and 1/6 of the second, `4x + 2y + z + m` is at most
/// `4/3 * 2048 + 10000 / 6 = 4397`; it comes near for `x = 151`, `y = 1895`. One entry may be
/// appended before the word for which there is no room is refused.
pub const VARIABLES_MAX: usize = 4400;

const _: () = {
    let bound_sixths = 8 * INSNS_MAX + (INITIAL_BUDGET / 2) as usize;
    assert!(bound_sixths / 6 < VARIABLES_MAX);
};
