//! The interpreter: what every word computes, written to be read beside spec 02, 6 and 8.
//!
//! It trusts nothing about a program: whatever the generator does not make ends in
//! [`ExecError::Invalid`].

use heapless::Vec;
use zerocopy::little_endian::U32;

use super::opcode::{self as op, immediate, reg_a, reg_b};
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
    fn op_1_to_1(&mut self, word: u32, f: impl Fn(u32) -> u32) -> Result<(), ExecError> {
        let a = self.read(reg_a(word))?;
        self.append(f(a));
        Ok(())
    }

    #[inline(always)]
    fn op_2_to_1(&mut self, word: u32, f: impl Fn(u32, u32) -> u32) -> Result<(), ExecError> {
        let (a, b) = (self.read(reg_a(word))?, self.operand_b(word)?);
        self.append(f(a, b));
        Ok(())
    }

    #[inline(always)]
    fn op_2_to_2(&mut self, word: u32, f: impl Fn(u32, u32) -> u64) -> Result<(), ExecError> {
        let (a, b) = (self.read(reg_a(word))?, self.operand_b(word)?);
        self.append_pair(f(a, b));
        Ok(())
    }

    #[inline(always)]
    fn pairs(&self, word: u32) -> Result<(u64, u64), ExecError> {
        let a = self.read_pair(reg_a(word))?;
        let b = if op::has_imm(word) { immediate(word) } else { self.read_pair(reg_b(word))? };
        Ok((a, b))
    }

    #[inline(always)]
    fn op_4_to_2(&mut self, word: u32, f: impl Fn(u64, u64) -> u64) -> Result<(), ExecError> {
        let (a, b) = self.pairs(word)?;
        self.append_pair(f(a, b));
        Ok(())
    }

    #[inline(always)]
    fn op_4_to_4(&mut self, word: u32, f: impl Fn(u64, u64) -> u128) -> Result<(), ExecError> {
        let (a, b) = self.pairs(word)?;
        let result = f(a, b);
        self.append_pair(result as u64);
        self.append_pair((result >> 64) as u64);
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
                code => compute(&mut self.registers, code, word)?,
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

/// The operations on registers (spec 02, 6.2 to 6.6).
#[inline(always)]
fn compute<W: Watch>(r: &mut Registers<'_, W>, code: u8, word: u32) -> Result<(), ExecError> {
    match code {
        op::POPCNT8 => r.op_1_to_1(word, |a| each8(a, |a| a.count_ones() as u8)),
        op::POPCNT16 => r.op_1_to_1(word, |a| each16(a, |a| a.count_ones() as u16)),
        op::POPCNT32 => r.op_1_to_1(word, u32::count_ones),
        op::CLZ8 => r.op_1_to_1(word, |a| each8(a, |a| a.leading_zeros() as u8)),
        op::CLZ16 => r.op_1_to_1(word, |a| each16(a, |a| a.leading_zeros() as u16)),
        op::CLZ32 => r.op_1_to_1(word, u32::leading_zeros),
        op::CTZ8 => r.op_1_to_1(word, |a| each8(a, |a| a.trailing_zeros() as u8)),
        op::CTZ16 => r.op_1_to_1(word, |a| each16(a, |a| a.trailing_zeros() as u16)),
        op::CTZ32 => r.op_1_to_1(word, u32::trailing_zeros),
        op::BSWAP16 => r.op_1_to_1(word, |a| each16(a, u16::swap_bytes)),
        op::BSWAP32 => r.op_1_to_1(word, u32::swap_bytes),

        op::ADD8 => r.op_2_to_1(word, |a, b| zip8(a, b, u8::wrapping_add)),
        op::ADD16 => r.op_2_to_1(word, |a, b| zip16(a, b, u16::wrapping_add)),
        op::ADD32 => r.op_2_to_1(word, u32::wrapping_add),
        op::SUB8 => r.op_2_to_1(word, |a, b| zip8(a, b, u8::wrapping_sub)),
        op::SUB16 => r.op_2_to_1(word, |a, b| zip16(a, b, u16::wrapping_sub)),
        op::SUB32 => r.op_2_to_1(word, u32::wrapping_sub),
        // The wrapping shifts take their amount modulo the width.
        op::SHLL8 => r.op_2_to_1(word, |a, b| zip8(a, b, |a, b| a.wrapping_shl(b.into()))),
        op::SHLL16 => r.op_2_to_1(word, |a, b| zip16(a, b, |a, b| a.wrapping_shl(b.into()))),
        op::SHLL32 => r.op_2_to_1(word, u32::wrapping_shl),
        op::SHRL8 => r.op_2_to_1(word, |a, b| zip8(a, b, |a, b| a.wrapping_shr(b.into()))),
        op::SHRL16 => r.op_2_to_1(word, |a, b| zip16(a, b, |a, b| a.wrapping_shr(b.into()))),
        op::SHRL32 => r.op_2_to_1(word, u32::wrapping_shr),
        op::SHRA8 => {
            r.op_2_to_1(word, |a, b| zip8(a, b, |a, b| (a as i8).wrapping_shr(b.into()) as u8))
        }
        op::SHRA16 => {
            r.op_2_to_1(word, |a, b| zip16(a, b, |a, b| (a as i16).wrapping_shr(b.into()) as u16))
        }
        op::SHRA32 => r.op_2_to_1(word, |a, b| (a as i32).wrapping_shr(b) as u32),
        op::ROTL8 => r.op_2_to_1(word, |a, b| zip8(a, b, |a, b| a.rotate_left(b.into()))),
        op::ROTL16 => r.op_2_to_1(word, |a, b| zip16(a, b, |a, b| a.rotate_left(b.into()))),
        op::ROTL32 => r.op_2_to_1(word, u32::rotate_left),
        op::MUL8 => r.op_2_to_1(word, |a, b| zip8(a, b, u8::wrapping_mul)),
        op::MUL16 => r.op_2_to_1(word, |a, b| zip16(a, b, u16::wrapping_mul)),
        op::MUL32 => r.op_2_to_1(word, u32::wrapping_mul),
        op::AND => r.op_2_to_1(word, |a, b| a & b),
        op::OR => r.op_2_to_1(word, |a, b| a | b),
        op::XOR => r.op_2_to_1(word, |a, b| a ^ b),

        op::ADD8C => r.op_2_to_2(word, |a, b| wide8(a, b, |a, b| u16::from(a) + u16::from(b))),
        op::ADD16C => r.op_2_to_2(word, |a, b| wide16(a, b, |a, b| u32::from(a) + u32::from(b))),
        op::ADD32C => r.op_2_to_2(word, |a, b| u64::from(a) + u64::from(b)),
        op::SUB8C => {
            r.op_2_to_2(word, |a, b| wide8(a, b, |a, b| u16::from(a).wrapping_sub(u16::from(b))))
        }
        op::SUB16C => {
            r.op_2_to_2(word, |a, b| wide16(a, b, |a, b| u32::from(a).wrapping_sub(u32::from(b))))
        }
        op::SUB32C => r.op_2_to_2(word, |a, b| u64::from(a).wrapping_sub(u64::from(b))),
        op::MUL8C => r.op_2_to_2(word, |a, b| {
            wide8(a, b, |a, b| (i16::from(a as i8) * i16::from(b as i8)) as u16)
        }),
        op::MUL16C => r.op_2_to_2(word, |a, b| {
            wide16(a, b, |a, b| (i32::from(a as i16) * i32::from(b as i16)) as u32)
        }),
        op::MUL32C => r.op_2_to_2(word, |a, b| (i64::from(a as i32) * i64::from(b as i32)) as u64),
        op::MULSU8C => r.op_2_to_2(word, |a, b| {
            wide8(a, b, |a, b| (i16::from(a as i8).wrapping_mul(i16::from(b))) as u16)
        }),
        op::MULSU16C => r.op_2_to_2(word, |a, b| {
            wide16(a, b, |a, b| (i32::from(a as i16).wrapping_mul(i32::from(b))) as u32)
        }),
        op::MULSU32C => {
            r.op_2_to_2(word, |a, b| (i64::from(a as i32)).wrapping_mul(i64::from(b)) as u64)
        }
        op::MULU8C => r.op_2_to_2(word, |a, b| wide8(a, b, |a, b| u16::from(a) * u16::from(b))),
        op::MULU16C => r.op_2_to_2(word, |a, b| wide16(a, b, |a, b| u32::from(a) * u32::from(b))),
        op::MULU32C => r.op_2_to_2(word, |a, b| u64::from(a) * u64::from(b)),

        op::ADD64 => r.op_4_to_2(word, u64::wrapping_add),
        op::SUB64 => r.op_4_to_2(word, u64::wrapping_sub),
        op::SHLL64 => r.op_4_to_2(word, |a, b| a.wrapping_shl(b as u32)),
        op::SHRL64 => r.op_4_to_2(word, |a, b| a.wrapping_shr(b as u32)),
        op::SHRA64 => r.op_4_to_2(word, |a, b| (a as i64).wrapping_shr(b as u32) as u64),
        op::ROTL64 => r.op_4_to_2(word, |a, b| a.rotate_left(b as u32 & 63)),
        op::ROTR64 => r.op_4_to_2(word, |a, b| a.rotate_right(b as u32 & 63)),
        op::MUL64 => r.op_4_to_2(word, u64::wrapping_mul),

        op::ADD64C => r.op_4_to_4(word, |a, b| u128::from(a) + u128::from(b)),
        // A borrow sets the high half.
        op::SUB64C => r.op_4_to_4(word, |a, b| u128::from(a).wrapping_sub(u128::from(b))),
        op::MUL64C => {
            r.op_4_to_4(word, |a, b| (i128::from(a as i64) * i128::from(b as i64)) as u128)
        }
        op::MULSU64C => {
            r.op_4_to_4(word, |a, b| (i128::from(a as i64)).wrapping_mul(i128::from(b)) as u128)
        }
        op::MULU64C => r.op_4_to_4(word, |a, b| u128::from(a) * u128::from(b)),

        _ => Err(ExecError::Invalid),
    }
}

fn lanes8(a: u32) -> [u8; 4] {
    a.to_le_bytes()
}

fn lanes16(a: u32) -> [u16; 2] {
    [a as u16, (a >> 16) as u16]
}

fn join16([low, high]: [u16; 2]) -> u32 {
    u32::from(high) << 16 | u32::from(low)
}

fn each8(a: u32, f: impl Fn(u8) -> u8) -> u32 {
    u32::from_le_bytes(lanes8(a).map(f))
}

fn each16(a: u32, f: impl Fn(u16) -> u16) -> u32 {
    join16(lanes16(a).map(f))
}

fn zip8(a: u32, b: u32, f: impl Fn(u8, u8) -> u8) -> u32 {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (lanes8(a), lanes8(b));
    u32::from_le_bytes([f(a0, b0), f(a1, b1), f(a2, b2), f(a3, b3)])
}

fn zip16(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    let ([a0, a1], [b0, b1]) = (lanes16(a), lanes16(b));
    join16([f(a0, b0), f(a1, b1)])
}

fn wide8(a: u32, b: u32, f: impl Fn(u8, u8) -> u16) -> u64 {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (lanes8(a), lanes8(b));
    let low = join16([f(a0, b0), f(a1, b1)]);
    let high = join16([f(a2, b2), f(a3, b3)]);
    u64::from(high) << 32 | u64::from(low)
}

fn wide16(a: u32, b: u32, f: impl Fn(u16, u16) -> u32) -> u64 {
    let ([a0, a1], [b0, b1]) = (lanes16(a), lanes16(b));
    u64::from(f(a1, b1)) << 32 | u64::from(f(a0, b0))
}
