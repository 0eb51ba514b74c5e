//! Lowering: a program as executors of many lanes want it (spec 02, 10).
//!
//! In a generated program every value has a fixed place, so a program becomes a list of [`Step`]s
//! over a file of *slots*: registers, the input half of the state and the memory window of the
//! item, all addressed alike. What a loop would compute again in each iteration, because its
//! operands come from outside, is moved before the loop.
//!
//! A program is untrusted data. Everything an executor relies on is checked here, word by word: that
//! slots are inside of the file and written before they are read, that scopes are nested, that
//! branches join, and that no data can make a cycle execute more words than it may. Programs that
//! do not fit into this form, or its capacities, are left to the interpreter: see
//! [`UnusualProgramError`]. All but about one in 10^8 generated ones fit.

mod pass;
mod slots;

use core::fmt;

use heapless::Vec;
use pass::Lowering;
use slots::Stack;

use super::SCOPES_MAX;
use crate::params::{INSNS_MAX, WINDOW_WORDS};

/// An index into the file of slots.
pub type Slot = u16;

/// Registers that an instruction word can name: a slot for each place of the variable stack.
const STACK_SLOTS: usize = 512;
/// Slots for values that are computed before a loop in which their place on the stack is not free.
/// When they are used up, the rest of the values stay where the program has them.
const MOVED_SLOTS: usize = 256;
/// The first of the 256 words of input.
pub const INPUT_SLOT: usize = STACK_SLOTS + MOVED_SLOTS;
/// The first of the 256 words of the memory window.
pub const WINDOW_SLOT: usize = INPUT_SLOT + WINDOW_WORDS;
/// Number of slots. Those before [`INPUT_SLOT`] are written by steps, the others before the cycle.
pub const SLOTS: usize = WINDOW_SLOT + WINDOW_WORDS;

/// Most values that one END outputs: fewer than the output has words.
pub const OUTPUTS_MAX: usize = 255;
/// Most values in a program. A word makes up to four, but the longest program found by search has
/// fewer values than this.
const VALUES_MAX: usize = 2 * INSNS_MAX;
/// Most iterations of a loop: the largest immediate.
const COUNT_MAX: u64 = 2047;

/// In place of a slot: the MARK of a scope.
const MARK: Slot = Slot::MAX;
/// In place of a step: none.
const NO_STEP: u16 = u16::MAX;

/// One step of a lowered program. 64-bit operands are two slots, the low word first; operations on
/// 32-bit words look at the first only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An operation of spec 02, 6. The results go to `to` and the slots behind.
    Compute {
        /// One of the operations.
        opcode: u8,
        /// Slot of the first result.
        to: Slot,
        /// Operand A.
        a: [Slot; 2],
        /// Operand B; unspecified where the operation has one operand.
        b: [Slot; 2],
    },
    /// An operation whose operand B is a constant.
    ComputeImmediate {
        /// One of the operations with two operands.
        opcode: u8,
        /// Slot of the first result.
        to: Slot,
        /// Operand A.
        a: [Slot; 2],
        /// Operand B.
        b: u64,
    },
    /// Word `first + step * i` modulo 256 of the window, in iteration `i` of the innermost loop.
    Memory {
        /// Slot of the result.
        to: Slot,
        /// The word in iteration 0.
        first: u8,
        /// Words from one iteration to the next.
        step: u8,
    },
    /// Executes what follows, up to its [`Step::Again`], `count` times.
    Loop {
        /// Iterations, at least one.
        count: u16,
    },
    /// The END of a loop: outputs its values, then the next iteration or the step behind.
    Again {
        /// What is output.
        outputs: Outputs,
    },
    /// A branch. The true side follows, up to its [`Step::Else`].
    If {
        /// Slot of the condition.
        condition: Slot,
        /// The true side is executed when any of these bits is set.
        mask: u8,
        /// Index of the first step of the false side.
        otherwise: u16,
        /// Index of the step behind the false side.
        join: u16,
    },
    /// The END of the true side of a branch: outputs its values and goes on at the join.
    Else {
        /// What is output.
        outputs: Outputs,
    },
    /// The END of the false side: outputs its values and goes on.
    Join {
        /// What is output.
        outputs: Outputs,
    },
}

/// Values that an END outputs: a piece of the program's list of outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outputs {
    from: u16,
    len: u8,
}

impl Outputs {
    /// How many values.
    #[must_use]
    pub fn len(self) -> usize {
        usize::from(self.len)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// A program that lanes can not execute: the interpreter has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnusualProgramError;

impl fmt::Display for UnusualProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the program has no fixed form, or may run too long: it must be interpreted")
    }
}

impl core::error::Error for UnusualProgramError {}

/// A program as a list of steps, and the memory to make one: about 90 KiB.
#[derive(Clone)]
pub struct Lowered {
    steps: Vec<Step, INSNS_MAX>,
    outputs: Vec<Slot, VALUES_MAX>,
    diverges: bool,
    made: Made,
    stack: Stack,
}

impl Lowered {
    /// No program.
    #[must_use]
    pub const fn new() -> Lowered {
        Lowered {
            steps: Vec::new(),
            outputs: Vec::new(),
            diverges: false,
            made: Made {
                steps: [Step::Loop { count: 0 }; INSNS_MAX],
                next: [NO_STEP; INSNS_MAX],
                len: 0,
                first: NO_STEP,
                last: NO_STEP,
            },
            stack: Stack::new(),
        }
    }

    /// Lowers a program whose cycles may execute at most `ops_max` words.
    ///
    /// # Errors
    /// [`UnusualProgramError`] when this can not be done; the value then holds no program.
    pub fn lower(&mut self, words: &[u32], ops_max: u32) -> Result<(), UnusualProgramError> {
        self.steps.clear();
        self.outputs.clear();
        self.made.clear();
        self.stack.clear();
        let (made, stack) = (&mut self.made, &mut self.stack);
        let mut lowering = Lowering::new(words, made, stack, &mut self.outputs);
        let executed_max = lowering.run()?;
        if executed_max > u64::from(ops_max) {
            return Err(UnusualProgramError);
        }
        self.diverges = lowering.diverges;
        self.made.put_in_order(&mut self.steps)
    }

    /// The steps. The first [`Step::Loop`] is the outermost loop, the last step its
    /// [`Step::Again`].
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The slots of the values of an END, in the order of the output.
    #[must_use]
    pub fn outputs(&self, outputs: Outputs) -> &[Slot] {
        let from = usize::from(outputs.from);
        &self.outputs[from..from + outputs.len()]
    }

    /// Whether different data can lead to different output positions. If not, the two sides of each
    /// branch output the same number of values.
    #[must_use]
    pub fn diverges(&self) -> bool {
        self.diverges
    }
}

impl Default for Lowered {
    fn default() -> Self {
        Lowered::new()
    }
}

impl fmt::Debug for Lowered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lowered").field("steps", &self.steps.len()).finish_non_exhaustive()
    }
}

/// Steps as they are made, and the order in which they are executed.
#[derive(Clone)]
struct Made {
    steps: [Step; INSNS_MAX],
    /// The step behind each.
    next: [u16; INSNS_MAX],
    len: usize,
    first: u16,
    last: u16,
}

impl Made {
    fn clear(&mut self) {
        self.len = 0;
        self.first = NO_STEP;
        self.last = NO_STEP;
    }

    fn make(&mut self, step: Step) -> Result<u16, UnusualProgramError> {
        *self.steps.get_mut(self.len).ok_or(UnusualProgramError)? = step;
        self.len += 1;
        Ok((self.len - 1) as u16)
    }

    /// Puts a step behind all others.
    fn append(&mut self, step: Step) -> Result<u16, UnusualProgramError> {
        let index = self.make(step)?;
        self.link(self.last, index, NO_STEP);
        self.last = index;
        Ok(index)
    }

    /// Puts a step between two neighbours. Returns its index, which replaces `before`.
    fn insert(&mut self, before: u16, step: Step, behind: u16) -> Result<u16, UnusualProgramError> {
        let index = self.make(step)?;
        self.link(before, index, behind);
        Ok(index)
    }

    fn link(&mut self, before: u16, index: u16, behind: u16) {
        self.next[usize::from(index)] = behind;
        match self.next.get_mut(usize::from(before)) {
            Some(next) => *next = index,
            None => self.first = index,
        }
    }

    /// Writes the steps in their order, with the targets of branches.
    fn put_in_order(&self, steps: &mut Vec<Step, INSNS_MAX>) -> Result<(), UnusualProgramError> {
        let mut branches: Vec<u16, SCOPES_MAX> = Vec::new();
        let mut index = self.first;
        while let Some(&step) = self.steps.get(usize::from(index)) {
            let behind = steps.len() as u16 + 1;
            match step {
                Step::If { .. } => {
                    branches.push(behind - 1).map_err(|_| UnusualProgramError)?;
                }
                Step::Else { .. } => {
                    let at = branches.last().ok_or(UnusualProgramError)?;
                    if let Step::If { otherwise, .. } = &mut steps[usize::from(*at)] {
                        *otherwise = behind;
                    }
                }
                Step::Join { .. } => {
                    let at = branches.pop().ok_or(UnusualProgramError)?;
                    if let Step::If { join, .. } = &mut steps[usize::from(at)] {
                        *join = behind;
                    }
                }
                _ => {}
            }
            steps.push(step).map_err(|_| UnusualProgramError)?;
            index = self.next[usize::from(index)];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::params::OPS_MAX;
    use crate::randhash::opcode as op;

    const LOOP: u32 = op::LOOP as u32;
    const IN: u32 = op::IN as u32;
    const END: u32 = op::END as u32;
    const JMP: u32 = op::JMP as u32;
    const IF: u32 = op::IF_RANDOM as u32;
    const MEMORY: u32 = op::MEMORY as u32;
    const ADD: u32 = op::ADD32 as u32;

    fn lowered(words: &[u32]) -> Option<Vec<Step>> {
        let mut lowered = Lowered::new();
        lowered.lower(words, OPS_MAX).ok().map(|()| lowered.steps().to_vec())
    }

    fn add(a: u32, b: u32) -> u32 {
        ADD | a << op::REG_A_SHIFT | b << op::REG_B_SHIFT
    }

    /// A MEMORY word with step 1.
    const READ: u32 = MEMORY | 1 << 13;

    #[test]
    fn what_a_loop_does_not_change_is_before_it() {
        // Registers: 0 MARK, 1 memory, 2 IN; 3 MARK, 4 memory, 5 = 1 + 2, 6 = 2 + 2, 7 = 4 + 5.
        let inner = [5 << 20 | LOOP, READ, add(1, 2), add(2, 2), add(4, 5), END];
        let words = [&[3 << 20 | LOOP, READ, 9 << 20 | IN][..], &inner, &[END]].concat();
        let steps = lowered(&words).unwrap();
        let kinds: Vec<char> = steps
            .iter()
            .map(|step| match step {
                Step::Compute { .. } => 'c',
                Step::Memory { .. } => 'm',
                Step::Loop { .. } => 'l',
                Step::Again { .. } => 'a',
                _ => '?',
            })
            .collect();
        // 2 + 2 before both loops, 1 + 2 before the inner one, 4 + 5 inside.
        assert_eq!(kinds, ['c', 'l', 'm', 'c', 'l', 'm', 'c', 'a', 'a']);
        let input = (INPUT_SLOT + 9) as Slot;
        let outermost = Step::Compute {
            opcode: op::ADD32,
            to: STACK_SLOTS as Slot,
            a: [input; 2],
            b: [input; 2],
        };
        assert_eq!(steps[0], outermost);
    }

    #[test]
    fn programs_without_a_fixed_form_are_refused() {
        let good = [2 << 20 | LOOP, IN, IN, add(1, 2), END];
        assert!(lowered(&good).is_some());
        let mut limited = Lowered::new();
        assert_eq!(limited.lower(&good, 9), Ok(()));
        assert_eq!(limited.lower(&good, 8), Err(UnusualProgramError));
        assert!(limited.steps().is_empty());

        let refused: &[&[u32]] = &[
            &[],
            &[IN],
            &[2 << 20 | LOOP, IN],
            &[2 << 20 | LOOP, IN, END, END],
            // No iterations.
            &[LOOP, IN, END],
            // The MARK, a pair with the MARK, a register that is not there.
            &[2 << 20 | LOOP, IN, add(0, 1), END],
            &[2 << 20 | LOOP, IN, u32::from(op::ADD64) | 1 << 9 | 1 << 20, END],
            &[2 << 20 | LOOP, IN, add(1, 2), END],
            // An opcode that is none, a jump without branch.
            &[2 << 20 | LOOP, 71, END],
            &[2 << 20 | LOOP, JMP, END],
            // MEMORY behind an inner loop.
            &[2 << 20 | LOOP, 2 << 20 | LOOP, END, READ, END],
        ];
        for words in refused {
            assert_eq!(lowered(words), None, "{words:08x?}");
        }
    }

    #[test]
    fn branches_must_join() {
        let program = |to_no: u32, over_no: u32| {
            let branch = [IF | 1 << 9, JMP | to_no << 8, IN, END, JMP | over_no << 8, IN, IN, END];
            [&[2 << 20 | LOOP, IN][..], &branch, &[END]].concat()
        };
        let steps = lowered(&program(3, 3)).unwrap();
        let branch = Step::If { condition: INPUT_SLOT as Slot, mask: 1, otherwise: 3, join: 4 };
        assert_eq!(steps[1], branch);
        for (to_no, over_no) in [(2, 3), (4, 3), (3, 2), (3, 4)] {
            assert_eq!(lowered(&program(to_no, over_no)), None, "{to_no} {over_no}");
        }
        let mut lowered = Lowered::new();
        lowered.lower(&program(3, 3), OPS_MAX).unwrap();
        assert!(lowered.diverges());
    }
}
