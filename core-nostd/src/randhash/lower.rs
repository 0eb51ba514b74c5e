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

use core::fmt;

use heapless::Vec;

use super::SCOPES_MAX;
use super::opcode::{self as op, Class, immediate, reg_a, reg_b};
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
            stack: Stack { slots: [MARK; STACK_SLOTS], levels: [0; STACK_SLOTS], height: 0 },
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
        self.stack.height = 0;
        let mut lowering = Lowering {
            words,
            made: &mut self.made,
            stack: &mut self.stack,
            outputs: &mut self.outputs,
            scopes: Vec::new(),
            moved: 0,
            diverges: false,
            cycle: Totals::default(),
        };
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

/// The variable stack: for each register where its value is, and what it depends on.
#[derive(Clone)]
struct Stack {
    slots: [Slot; STACK_SLOTS],
    /// How many of the open scopes, from the outermost, the value depends on.
    levels: [u8; STACK_SLOTS],
    height: usize,
}

impl Stack {
    fn push(&mut self, slot: Slot, level: u8) -> Result<(), UnusualProgramError> {
        if self.height == STACK_SLOTS {
            return Err(UnusualProgramError);
        }
        self.slots[self.height] = slot;
        self.levels[self.height] = level;
        self.height += 1;
        Ok(())
    }

    /// The slot and level of a register, which must be a variable.
    fn variable(&self, register: usize) -> Result<(Slot, u8), UnusualProgramError> {
        if register >= self.height || self.slots[register] == MARK {
            return Err(UnusualProgramError);
        }
        Ok((self.slots[register], self.levels[register]))
    }

    /// The slots and level of an operand: a register, or the pair whose high half it is.
    fn operand(
        &self,
        register: usize,
        is_pair: bool,
    ) -> Result<([Slot; 2], u8), UnusualProgramError> {
        let (slot, level) = self.variable(register)?;
        if !is_pair {
            return Ok(([slot; 2], level));
        }
        let below = register.checked_sub(1).ok_or(UnusualProgramError)?;
        let (slot_below, level_below) = self.variable(below)?;
        Ok(([slot_below, slot], level.max(level_below)))
    }
}

/// An open scope.
#[derive(Clone, Copy)]
struct Scope {
    kind: Kind,
    /// Register of the MARK.
    mark: usize,
    /// Index of its [`Step::Loop`] or [`Step::If`].
    step: u16,
    /// The step before a loop: moved values are computed behind it.
    before: u16,
    /// An inner loop was seen: MEMORY would now see its index (spec 02, 9.14).
    has_loop: bool,
    /// A scope inside was closed: its values were where the next ones will be.
    has_scope: bool,
    /// So far, of one iteration.
    totals: Totals,
}

#[derive(Clone, Copy)]
enum Kind {
    Loop {
        count: u64,
    },
    /// `otherwise`: where the false side begins.
    True {
        otherwise: usize,
    },
    /// `end`: where the false side must end.
    False {
        end: usize,
        true_side: Totals,
    },
}

/// What a piece of a program executes and outputs, whatever the data.
#[derive(Clone, Copy, Default)]
struct Totals {
    executed_max: u64,
    outputs_min: u64,
    outputs_max: u64,
}

impl Totals {
    fn add(&mut self, other: Totals) {
        self.executed_max = self.executed_max.saturating_add(other.executed_max);
        self.outputs_min = self.outputs_min.saturating_add(other.outputs_min);
        self.outputs_max = self.outputs_max.saturating_add(other.outputs_max);
    }

    fn times(self, count: u64) -> Totals {
        Totals {
            executed_max: self.executed_max.saturating_mul(count),
            outputs_min: self.outputs_min.saturating_mul(count),
            outputs_max: self.outputs_max.saturating_mul(count),
        }
    }

    /// Either of two sides.
    fn either(self, other: Totals) -> Totals {
        Totals {
            executed_max: self.executed_max.max(other.executed_max),
            outputs_min: self.outputs_min.min(other.outputs_min),
            outputs_max: self.outputs_max.max(other.outputs_max),
        }
    }
}

/// One pass over the words.
struct Lowering<'a> {
    words: &'a [u32],
    made: &'a mut Made,
    stack: &'a mut Stack,
    outputs: &'a mut Vec<Slot, VALUES_MAX>,
    scopes: Vec<Scope, SCOPES_MAX>,
    /// Slots for moved values that are taken.
    moved: usize,
    diverges: bool,
    /// Of a cycle, as soon as the outermost loop is closed.
    cycle: Totals,
}

impl Lowering<'_> {
    /// Returns the most words that a cycle can execute.
    fn run(&mut self) -> Result<u64, UnusualProgramError> {
        let mut pc = 0;
        loop {
            let word = self.word(pc)?;
            let code = op::opcode(word);
            pc += 1;
            if code == op::LOOP {
                self.open_loop(word)?;
                continue;
            }
            self.scope()?.totals.executed_max += 1;
            match code {
                op::IN => {
                    let slot = INPUT_SLOT + usize::from(immediate(word) as u8);
                    self.stack.push(slot as Slot, 0)?;
                }
                op::MEMORY => self.memory(word)?,
                op::IF_LIKELY | op::IF_RANDOM => {
                    self.open_branch(word, code, pc)?;
                    pc += 1;
                }
                op::END => pc = self.close(pc)?,
                _ => self.operation(word, code)?,
            }
            if self.scopes.is_empty() {
                break;
            }
        }
        if pc == self.words.len() { Ok(self.cycle.executed_max) } else { Err(UnusualProgramError) }
    }

    fn word(&self, pc: usize) -> Result<u32, UnusualProgramError> {
        self.words.get(pc).copied().ok_or(UnusualProgramError)
    }

    /// The innermost scope.
    fn scope(&mut self) -> Result<&mut Scope, UnusualProgramError> {
        self.scopes.last_mut().ok_or(UnusualProgramError)
    }

    /// The innermost loop.
    fn innermost_loop(&self) -> Option<usize> {
        self.scopes.iter().rposition(|scope| matches!(scope.kind, Kind::Loop { .. }))
    }

    fn open(&mut self, kind: Kind, step: u16, before: u16) -> Result<(), UnusualProgramError> {
        let mark = self.stack.height;
        self.stack.push(MARK, 0)?;
        let totals = Totals::default();
        let scope = Scope { kind, mark, step, before, has_loop: false, has_scope: false, totals };
        self.scopes.push(scope).map_err(|_| UnusualProgramError)
    }

    fn open_loop(&mut self, word: u32) -> Result<(), UnusualProgramError> {
        let count = immediate(word);
        if !(1..=COUNT_MAX).contains(&count) {
            return Err(UnusualProgramError);
        }
        let before = self.made.last;
        let step = self.made.append(Step::Loop { count: count as u16 })?;
        if let Some(index) = self.innermost_loop() {
            self.scopes[index].has_loop = true;
        }
        self.open(Kind::Loop { count }, step, before)
    }

    /// `pc` is behind the IF, at the jump to the false side.
    fn open_branch(&mut self, word: u32, code: u8, pc: usize) -> Result<(), UnusualProgramError> {
        let otherwise = self.jump_target(pc)?;
        let (condition, _) = self.stack.variable(reg_a(word))?;
        let mask = if code == op::IF_LIKELY { 7 } else { 1 };
        let branch = Step::If { condition, mask, otherwise: 0, join: 0 };
        let step = self.made.append(branch)?;
        self.open(Kind::True { otherwise }, step, NO_STEP)
    }

    fn jump_target(&self, pc: usize) -> Result<usize, UnusualProgramError> {
        let word = self.word(pc)?;
        if op::opcode(word) != op::JMP {
            return Err(UnusualProgramError);
        }
        Ok(pc + 1 + op::jump(word))
    }

    /// Closes the innermost scope. `pc` is behind its END; returns where execution goes on.
    fn close(&mut self, mut pc: usize) -> Result<usize, UnusualProgramError> {
        let scope = self.scopes.pop().ok_or(UnusualProgramError)?;
        let outputs = self.list_outputs(scope.mark)?;
        let mut totals = scope.totals;
        totals.outputs_min += outputs.len() as u64;
        totals.outputs_max += outputs.len() as u64;
        self.stack.height = scope.mark;
        if let Some(around) = self.scopes.last_mut() {
            around.has_scope = true;
        }
        match scope.kind {
            Kind::Loop { count } => {
                self.made.append(Step::Again { outputs })?;
                let mut totals = totals.times(count);
                totals.executed_max = totals.executed_max.saturating_add(1);
                let around = self.scopes.last_mut().map_or(&mut self.cycle, |s| &mut s.totals);
                around.add(totals);
            }
            Kind::True { otherwise } => {
                self.made.append(Step::Else { outputs })?;
                let end = self.jump_target(pc)?;
                pc += 1;
                if pc != otherwise {
                    return Err(UnusualProgramError);
                }
                self.open(Kind::False { end, true_side: totals }, scope.step, NO_STEP)?;
            }
            Kind::False { end, true_side } => {
                self.made.append(Step::Join { outputs })?;
                if pc != end {
                    return Err(UnusualProgramError);
                }
                self.join(true_side.either(totals))?;
            }
        }
        Ok(pc)
    }

    fn join(&mut self, either: Totals) -> Result<(), UnusualProgramError> {
        self.diverges |= either.outputs_min != either.outputs_max;
        let around = self.scope()?;
        around.totals.add(either);
        // The jump behind one of the sides, or over the other.
        around.totals.executed_max = around.totals.executed_max.saturating_add(1);
        Ok(())
    }

    /// The values of the innermost scope, whose MARK is given.
    fn list_outputs(&mut self, mark: usize) -> Result<Outputs, UnusualProgramError> {
        let values = &self.stack.slots[mark + 1..self.stack.height];
        let from = self.outputs.len();
        if values.len() > OUTPUTS_MAX || self.outputs.extend_from_slice(values).is_err() {
            return Err(UnusualProgramError);
        }
        Ok(Outputs { from: from as u16, len: values.len() as u8 })
    }

    fn memory(&mut self, word: u32) -> Result<(), UnusualProgramError> {
        let around = self.innermost_loop().ok_or(UnusualProgramError)?;
        if self.scopes[around].has_loop {
            return Err(UnusualProgramError);
        }
        let step = op::step(word) as u8;
        let first = (op::carry(word) * op::step(word) + op::base(word)) as u8;
        if step == 0 {
            return self.stack.push((WINDOW_SLOT + usize::from(first)) as Slot, 0);
        }
        let to = self.stack.height as Slot;
        self.stack.push(to, around as u8 + 1)?;
        self.made.append(Step::Memory { to, first, step })?;
        Ok(())
    }

    fn operation(&mut self, word: u32, code: u8) -> Result<(), UnusualProgramError> {
        let class = Class::of(code).ok_or(UnusualProgramError)?;
        let is_pair = matches!(class, Class::Op4To2 | Class::Op4To4);
        let (a, mut level) = self.stack.operand(reg_a(word), is_pair)?;
        let has_b = class != Class::Op1To1;
        let mut b = a;
        if has_b && !op::has_imm(word) {
            let level_b;
            (b, level_b) = self.stack.operand(reg_b(word), is_pair)?;
            level = level.max(level_b);
        }
        let (to, moved_before) = self.place(level, class.results());
        if moved_before.is_none() {
            level = self.scopes.len() as u8;
        }
        let step = if has_b && op::has_imm(word) {
            Step::ComputeImmediate { opcode: code, to, a, b: immediate(word) }
        } else {
            Step::Compute { opcode: code, to, a, b }
        };
        match moved_before {
            Some(scope) => {
                let Scope { before, step: behind, .. } = self.scopes[scope];
                self.scopes[scope].before = self.made.insert(before, step, behind)?;
            }
            None => {
                self.made.append(step)?;
            }
        }
        for result in 0..class.results() as Slot {
            self.stack.push(to + result, level)?;
        }
        Ok(())
    }

    /// Where an operation that depends on the scopes below `level` is computed: the slot of its
    /// first result, and the index of the loop before which it is moved, if it is.
    ///
    /// That is the outermost loop which the operation does not depend on. Directly in the scope of
    /// that loop its place on the stack is its own as long as the loop runs, unless values of a scope
    /// that was closed before were there. Places further inside are shared by the sides of branches.
    fn place(&mut self, level: u8, results: usize) -> (Slot, Option<usize>) {
        let in_place = self.stack.height as Slot;
        let from = usize::from(level);
        let is_loop = |scope: &Scope| matches!(scope.kind, Kind::Loop { .. });
        let outermost = self.scopes[from..].iter().position(is_loop).map(|at| from + at);
        match outermost {
            Some(at) if at + 1 == self.scopes.len() && !self.scopes[at].has_scope => {
                (in_place, Some(at))
            }
            Some(at) if self.moved + results <= MOVED_SLOTS => {
                let slot = STACK_SLOTS + self.moved;
                self.moved += results;
                (slot as Slot, Some(at))
            }
            _ => (in_place, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::params::OPS_MAX;

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
