//! One pass over the words of a program: scopes, what they depend on, and what they can execute.

use heapless::Vec;

use super::slots::Stack;
use super::{
    COUNT_MAX, INPUT_SLOT, MARK, Made, NO_STEP, OUTPUTS_MAX, Outputs, Slot, Step,
    UnusualProgramError, VALUES_MAX, WINDOW_SLOT,
};
use crate::randhash::SCOPES_MAX;
use crate::randhash::opcode::{self as op, Class, immediate, reg_a, reg_b};

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
pub(super) struct Lowering<'a> {
    words: &'a [u32],
    made: &'a mut Made,
    stack: &'a mut Stack,
    outputs: &'a mut Vec<Slot, VALUES_MAX>,
    scopes: Vec<Scope, SCOPES_MAX>,
    pub(super) diverges: bool,
    /// Of a cycle, as soon as the outermost loop is closed.
    cycle: Totals,
}

impl<'a> Lowering<'a> {
    pub(super) fn new(
        words: &'a [u32],
        made: &'a mut Made,
        stack: &'a mut Stack,
        outputs: &'a mut Vec<Slot, VALUES_MAX>,
    ) -> Lowering<'a> {
        let (scopes, cycle) = (Vec::new(), Totals::default());
        Lowering { words, made, stack, outputs, scopes, diverges: false, cycle }
    }

    /// Returns the most words that a cycle can execute.
    pub(super) fn run(&mut self) -> Result<u64, UnusualProgramError> {
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
            Some(at) => match self.stack.moved(results) {
                Some(slot) => (slot, Some(at)),
                None => (in_place, None),
            },
            None => (in_place, None),
        }
    }
}
