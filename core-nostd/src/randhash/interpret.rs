//! The interpreter: what every word computes, written to be read beside spec 02, 6 and 8.
//!
//! It trusts nothing about a program: whatever the generator does not make ends in
//! [`ExecError::Invalid`].

use heapless::Vec;
use zerocopy::little_endian::U32;

use super::opcode::{self as op, immediate, reg_a, reg_b};
use super::operations::{Operate, operate};
use super::{Execute, Program, VARIABLES_MAX, Watch};
use crate::cryptocycle::State;
use crate::error::ExecError;
use crate::params::{OPS_MAX, WINDOW_WORDS};

/// Registers: room for the results of one more word above the highest stack.
pub const REGISTERS: usize = VARIABLES_MAX + RESULTS_MAX;

/// Most scopes open at one time. Generated programs have at most 8; more, in a program that was
/// not generated, is invalid.
pub const SCOPES_MAX: usize = 32;

/// Most results of one word.
const RESULTS_MAX: usize = 4;

/// What a register that is the MARK of a scope holds.
const MARK: u32 = u32::MAX;

/// Half of a state, as words.
type Half = [U32; WINDOW_WORDS];

/// Runs programs word by word: the memory of the registers.
#[derive(Clone)]
pub struct Interpreter {
    registers: [u32; REGISTERS],
    ops_max: u32,
}

impl Interpreter {
    /// An interpreter with the limit of the consensus.
    #[must_use]
    pub const fn new() -> Interpreter {
        Interpreter::with_limit(OPS_MAX)
    }

    /// An interpreter with another limit, to test what happens at the limit.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_limit(ops_max: u32) -> Interpreter {
        Interpreter { registers: [0; REGISTERS], ops_max }
    }

    /// Runs a program for a number of cycles over a state, reading `window` as its memory.
    ///
    /// # Errors
    /// [`ExecError`] when a cycle does not come to its end; the state is then meaningless.
    pub fn interpret(
        &mut self,
        words: &[u32],
        window: &[u32; WINDOW_WORDS],
        state: &mut State,
        cycles: u32,
    ) -> Result<(), ExecError> {
        for cycle in 0..cycles {
            self.interpret_cycle(words, window, state, cycle, &mut ())?;
        }
        Ok(())
    }

    /// Runs cycle number `cycle`, counted from 0, and returns the number of executed words.
    ///
    /// # Errors
    /// [`ExecError`] when the cycle does not come to its end; the state is then meaningless.
    pub fn interpret_cycle(
        &mut self,
        words: &[u32],
        window: &[u32; WINDOW_WORDS],
        state: &mut State,
        cycle: u32,
        watch: &mut impl Watch,
    ) -> Result<u32, ExecError> {
        let [first, second]: &mut [Half; 2] = zerocopy::transmute_mut!(&mut state.0);
        let (input, output) =
            if cycle.is_multiple_of(2) { (first, second) } else { (second, first) };
        let registers = Registers { words: &mut self.registers, height: 0, watch };
        Cycle {
            words,
            window,
            input,
            output,
            output_at: 0,
            registers,
            scopes: Vec::new(),
            loop_index: 0,
        }
        .run(self.ops_max)
    }
}

impl Default for Interpreter {
    fn default() -> Self {
        Interpreter::new()
    }
}

impl core::fmt::Debug for Interpreter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Interpreter").field("ops_max", &self.ops_max).finish_non_exhaustive()
    }
}

impl Execute for Interpreter {
    fn load(&mut self, _: &Program) {}

    fn run(
        &mut self,
        program: &Program,
        items: &[u64],
        states: &mut [State],
        cycles: u32,
    ) -> Result<(), ExecError> {
        assert_eq!(items.len(), states.len(), "an item for each state");
        for (item, state) in items.iter().zip(states) {
            self.interpret(program.words(), program.window(*item), state, cycles)?;
        }
        Ok(())
    }
}

/// The variable stack R.
struct Registers<'a, W> {
    words: &'a mut [u32; REGISTERS],
    height: usize,
    watch: &'a mut W,
}

impl<W: Watch> Registers<'_, W> {
    /// The register at an index, which must be inside of the stack.
    #[inline(always)]
    fn read(&self, index: usize) -> Result<u32, ExecError> {
        if index < self.height { Ok(self.words[index]) } else { Err(ExecError::Invalid) }
    }

    /// The pair of registers whose high half is at an index.
    #[inline(always)]
    fn read_pair(&self, index: usize) -> Result<u64, ExecError> {
        let low_at = index.checked_sub(1).ok_or(ExecError::Invalid)?;
        let high = self.read(index)?;
        Ok(u64::from(high) << 32 | u64::from(self.words[low_at]))
    }

    #[inline(always)]
    fn append(&mut self, value: u32) {
        self.watch.appended(value);
        self.words[self.height] = value;
        self.height += 1;
    }

    #[inline(always)]
    fn append_pair(&mut self, value: u64) {
        self.append(value as u32);
        self.append((value >> 32) as u32);
    }

    /// Operand B of a 32-bit operation.
    #[inline(always)]
    fn operand_b(&self, word: u32) -> Result<u32, ExecError> {
        if op::has_imm(word) { Ok(immediate(word) as u32) } else { self.read(reg_b(word)) }
    }

    #[inline(always)]
    fn pairs(&self, word: u32) -> Result<(u64, u64), ExecError> {
        let a = self.read_pair(reg_a(word))?;
        let b = if op::has_imm(word) { immediate(word) } else { self.read_pair(reg_b(word))? };
        Ok((a, b))
    }
}

/// An operation of one word.
struct Operation<'r, 'a, W> {
    registers: &'r mut Registers<'a, W>,
    word: u32,
}

impl<W: Watch> Operate for Operation<'_, '_, W> {
    #[inline(always)]
    fn op_1_to_1(&mut self, f: impl Fn(u32) -> u32) -> Result<(), ExecError> {
        let a = self.registers.read(reg_a(self.word))?;
        self.registers.append(f(a));
        Ok(())
    }

    #[inline(always)]
    fn op_2_to_1(&mut self, f: impl Fn(u32, u32) -> u32) -> Result<(), ExecError> {
        let a = self.registers.read(reg_a(self.word))?;
        let b = self.registers.operand_b(self.word)?;
        self.registers.append(f(a, b));
        Ok(())
    }

    #[inline(always)]
    fn op_2_to_2(&mut self, f: impl Fn(u32, u32) -> u64) -> Result<(), ExecError> {
        let a = self.registers.read(reg_a(self.word))?;
        let b = self.registers.operand_b(self.word)?;
        self.registers.append_pair(f(a, b));
        Ok(())
    }

    #[inline(always)]
    fn op_4_to_2(&mut self, f: impl Fn(u64, u64) -> u64) -> Result<(), ExecError> {
        let (a, b) = self.registers.pairs(self.word)?;
        self.registers.append_pair(f(a, b));
        Ok(())
    }

    #[inline(always)]
    fn op_4_to_4(&mut self, f: impl Fn(u64, u64) -> u128) -> Result<(), ExecError> {
        let (a, b) = self.registers.pairs(self.word)?;
        let result = f(a, b);
        self.registers.append_pair(result as u64);
        self.registers.append_pair((result >> 64) as u64);
        Ok(())
    }
}

/// An open scope. A branch is a loop of one iteration that began somewhere else.
struct Scope {
    /// Register of the MARK.
    mark: usize,
    /// Where the next iteration begins.
    start: usize,
    index: u32,
    count: u32,
}

/// One cycle of a program (spec 02, 8.1).
struct Cycle<'a, W> {
    words: &'a [u32],
    window: &'a [u32; WINDOW_WORDS],
    input: &'a Half,
    output: &'a mut Half,
    /// `h`, modulo 256.
    output_at: u8,
    registers: Registers<'a, W>,
    scopes: Vec<Scope, SCOPES_MAX>,
    loop_index: u32,
}

impl<W: Watch> Cycle<'_, W> {
    /// Executes until the outermost loop has finished. Returns the number of executed words.
    fn run(mut self, ops_max: u32) -> Result<u32, ExecError> {
        let mut pc = 0;
        let mut executed = 0;
        while executed < ops_max {
            executed += 1;
            let Some(&word) = self.words.get(pc) else { return Err(ExecError::Invalid) };
            if self.registers.height > REGISTERS - RESULTS_MAX {
                return Err(ExecError::Invalid);
            }
            pc += 1;
            match op::opcode(word) {
                op::IN => {
                    let index = immediate(word) as u8;
                    self.registers.append(self.input[usize::from(index)].get());
                }
                op::MEMORY => {
                    let index = self
                        .loop_index
                        .wrapping_add(op::carry(word))
                        .wrapping_mul(op::step(word))
                        .wrapping_add(op::base(word)) as u8;
                    self.registers.append(self.window[usize::from(index)]);
                }
                op::LOOP => {
                    let count = immediate(word) as i64;
                    if count < 1 {
                        return Err(ExecError::Invalid);
                    }
                    // Each iteration executes a word, so no larger count comes to its end.
                    self.open(pc, u32::try_from(count).unwrap_or(u32::MAX))?;
                    self.loop_index = 0;
                }
                code @ (op::IF_LIKELY | op::IF_RANDOM) => {
                    let mask = if code == op::IF_LIKELY { 7 } else { 1 };
                    let is_true = self.registers.read(reg_a(word))? & mask != 0;
                    self.open(pc, 1)?;
                    // The word behind is the jump to the other side.
                    pc += usize::from(is_true);
                }
                op::JMP => pc += op::jump(word),
                op::END => match self.end()? {
                    End::Again { start } => pc = start,
                    End::Left => {}
                    End::Finished => return Ok(executed),
                },
                code => operate(&mut Operation { registers: &mut self.registers, word }, code)?,
            }
        }
        Err(ExecError::TooLong)
    }

    fn open(&mut self, start: usize, count: u32) -> Result<(), ExecError> {
        let mark = self.registers.height;
        self.registers.words[mark] = MARK;
        self.registers.height += 1;
        let scope = Scope { mark, start, index: 0, count };
        self.scopes.push(scope).map_err(|_| ExecError::Invalid)
    }

    /// Adds the variables of the innermost scope to the output, and begins its next iteration or
    /// leaves it.
    #[inline(always)]
    fn end(&mut self) -> Result<End, ExecError> {
        let scope = self.scopes.last_mut().ok_or(ExecError::Invalid)?;
        for value in &self.registers.words[scope.mark + 1..self.registers.height] {
            let sum = &mut self.output[usize::from(self.output_at)];
            *sum = U32::new(sum.get().wrapping_add(*value));
            self.output_at = self.output_at.wrapping_add(1);
        }
        scope.index += 1;
        if scope.index < scope.count {
            self.loop_index = scope.index;
            self.registers.height = scope.mark + 1;
            return Ok(End::Again { start: scope.start });
        }
        self.registers.height = scope.mark;
        self.scopes.pop();
        Ok(if self.scopes.is_empty() { End::Finished } else { End::Left })
    }
}

/// How execution goes on behind an END.
enum End {
    /// With the next iteration.
    Again { start: usize },
    /// Behind the END, in the enclosing scope.
    Left,
    /// Not at all: the outermost scope is closed.
    Finished,
}
