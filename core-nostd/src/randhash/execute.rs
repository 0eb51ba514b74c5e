//! The seam between programs and what runs them.

use super::Program;
use crate::cryptocycle::State;
use crate::error::ExecError;

/// A program that is going to be run.
#[derive(Clone, Copy, Debug)]
pub struct Planned<'a> {
    /// The program.
    pub program: &'a Program,
    /// For how many items a call, at the most.
    pub items: usize,
    /// In how many calls, at the most.
    pub calls: usize,
}

/// Something that runs programs over states.
///
/// Callers load a program once and run as many items a call as they have; all implementations give
/// the same states.
pub trait Execute {
    /// Makes ready to run a program, e.g. compiles it.
    fn load(&mut self, program: &Program);

    /// Says which programs are going to be [loaded](Execute::load) by turns, so that they can be made
    /// ready together, which takes less time than one by one. It is no more than advice: programs may
    /// be loaded without it, and need not be loaded after it.
    fn load_ahead(&mut self, plans: &[Planned<'_>]) {
        let _ = plans;
    }

    /// Runs the program over each state for its item: 2 cycles in announcements (spec 02, 8).
    ///
    /// `program` must be the one of the last [`load`](Execute::load): an implementation may read
    /// either its compiled form or the words and memory here.
    ///
    /// # Errors
    /// The error of one of the items that failed. Then the content of all the states is
    /// meaningless; who wants to know which item failed runs them one by one.
    ///
    /// # Panics
    /// When the number of items and of states differ.
    fn run(
        &mut self,
        program: &Program,
        items: &[u64],
        states: &mut [State],
        cycles: u32,
    ) -> Result<(), ExecError>;
}

/// Looks on while a program is generated and interpreted, for traces and listings.
pub trait Watch {
    /// A word was emitted after this many draws.
    fn emitted(&mut self, draws: u64) {
        let _ = draws;
    }

    /// A value was appended to the variable stack; MARKs are none.
    fn appended(&mut self, value: u32) {
        let _ = value;
    }
}

/// Nobody looks.
impl Watch for () {}
