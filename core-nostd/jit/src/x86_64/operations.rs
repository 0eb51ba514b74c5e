//! The operations of spec 02, 6 on vectors of 32-bit lanes.
//!
//! There are no vector instructions for most of them. Bytes and halves of a lane are shifted and
//! multiplied in pieces, and counted through tables of nibbles.

mod quad;

use packetcrypt_core::randhash::lower::Slot;
use packetcrypt_core::randhash::opcode as op;

use super::emitter::Emitter;
use super::encode::{self as i, Instruction, Source, Vector};
use super::frame::Constant as C;

/// Operand B.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    Slots([Slot; 2]),
    Constant(u64),
}

/// Even and odd words of four, as a choice of PSHUFD and SHUFPS.
const EVEN_WORDS: u8 = 0b10_00_10_00;
const ODD_WORDS: u8 = 0b11_01_11_01;
/// The words of two pairs in turn.
const ZIP_WORDS: u8 = 0b11_01_10_00;

/// A step of the program: an operation and its operands.
pub(super) struct Operation {
    pub(super) opcode: u8,
    pub(super) to: Slot,
    pub(super) a: [Slot; 2],
    pub(super) b: Operand,
}

impl Emitter<'_> {
    /// Emits an operation.
    pub(super) fn compute(&mut self, operation: &Operation) {
        let Operation { opcode, to, .. } = *operation;
        match opcode {
            op::POPCNT8..=op::BSWAP32 => {
                let a = self.vector(operation.a[0]);
                let result = self.unary(opcode, a);
                self.define(to, result);
            }
            op::ADD8..=op::XOR => {
                let result = self.binary(operation);
                self.define(to, result);
            }
            op::ADD8C..=op::MULU32C => {
                let [low, high] = self.widening(operation);
                self.define(to, low);
                self.define(to + 1, high);
            }
            op::ADD64..=op::MUL64 => {
                let [low, high] = self.quad(operation);
                self.define(to, low);
                self.define(to + 1, high);
            }
            _ => {
                let results = self.quad_widening(operation);
                for (slot, result) in (to..).zip(results) {
                    self.define(slot, result);
                }
            }
        }
        self.end_step();
    }

    fn b(&mut self, operation: &Operation) -> Source {
        match operation.b {
            Operand::Slots([slot, _]) => self.source(slot),
            Operand::Constant(value) => self.immediate(value as u32).into(),
        }
    }

    fn b_high(&mut self, operation: &Operation) -> Source {
        match operation.b {
            Operand::Slots([_, slot]) => self.source(slot),
            Operand::Constant(value) => self.immediate((value >> 32) as u32).into(),
        }
    }

    /// Operand B in a register.
    fn b_vector(&mut self, operation: &Operation) -> Vector {
        match operation.b {
            Operand::Slots([slot, _]) => self.vector(slot),
            Operand::Constant(_) => {
                let place = self.b(operation);
                self.load(place)
            }
        }
    }

    fn unary(&mut self, opcode: u8, a: Vector) -> Vector {
        match opcode {
            op::POPCNT8 | op::POPCNT16 | op::POPCNT32 => {
                let [counts, high] = self.nibble_tables(a, C::Ones4, C::Ones4);
                self.apply(i::PADDB, counts, high);
                if opcode != op::POPCNT8 {
                    self.apply_constant(i::PMADDUBSW, counts, C::OneBytes);
                }
                if opcode == op::POPCNT32 {
                    self.apply_constant(i::PMADDWD, counts, C::OneHalves);
                }
                counts
            }
            op::CLZ8 | op::CLZ16 | op::CLZ32 => {
                let [zeros, high] = self.nibble_tables(a, C::LeadingLow, C::LeadingHigh);
                self.apply(i::PMINUB, zeros, high);
                match opcode {
                    op::CLZ8 => zeros,
                    op::CLZ16 => self.leading16(zeros),
                    _ => {
                        let zeros = self.leading16(zeros);
                        self.leading32(zeros)
                    }
                }
            }
            op::CTZ8 | op::CTZ16 | op::CTZ32 => {
                let [zeros, high] = self.nibble_tables(a, C::TrailingLow, C::TrailingHigh);
                self.apply(i::PMINUB, zeros, high);
                match opcode {
                    op::CTZ8 => zeros,
                    op::CTZ16 => self.trailing16(zeros),
                    _ => {
                        let zeros = self.trailing16(zeros);
                        self.trailing32(zeros)
                    }
                }
            }
            op::BSWAP16 => self.op_constant(i::PSHUFB, a, C::Swap16),
            _ => self.op_constant(i::PSHUFB, a, C::Swap32),
        }
    }

    /// What two tables say of the low and the high nibble of each byte.
    fn nibble_tables(&mut self, a: Vector, low_table: C, high_table: C) -> [Vector; 2] {
        let low_index = self.op_constant(i::PAND, a, C::Nibbles);
        let low = self.constant_op(i::PSHUFB, low_table, low_index);
        self.done(low_index);
        let high_index = self.shift(i::PSRLW, a, 4);
        self.apply_constant(i::PAND, high_index, C::Nibbles);
        let high = self.constant_op(i::PSHUFB, high_table, high_index);
        self.done(high_index);
        [low, high]
    }

    /// Leading zeros of halves from those of bytes: of the high byte, and when these are all eight
    /// also of the low byte.
    fn leading16(&mut self, zeros: Vector) -> Vector {
        let high = self.shift(i::PSRLW, zeros, 8);
        self.apply_constant(i::PAND, zeros, C::LowBytes);
        let all = self.shift(i::PSRLW, high, 3);
        self.apply(i::PMULLW, zeros, all);
        self.apply(i::PADDW, zeros, high);
        zeros
    }

    fn leading32(&mut self, zeros: Vector) -> Vector {
        let high = self.shift(i::PSRLD, zeros, 16);
        self.apply_constant(i::PAND, zeros, C::LowHalf);
        let all = self.shift(i::PSRLD, high, 4);
        self.apply(i::PMULLW, zeros, all);
        self.apply(i::PADDD, zeros, high);
        zeros
    }

    fn trailing16(&mut self, zeros: Vector) -> Vector {
        let high = self.shift(i::PSRLW, zeros, 8);
        self.apply_constant(i::PAND, zeros, C::LowBytes);
        let all = self.shift(i::PSRLW, zeros, 3);
        self.apply(i::PMULLW, high, all);
        self.apply(i::PADDW, zeros, high);
        zeros
    }

    fn trailing32(&mut self, zeros: Vector) -> Vector {
        let high = self.shift(i::PSRLD, zeros, 16);
        self.apply_constant(i::PAND, zeros, C::LowHalf);
        let all = self.shift(i::PSRLD, zeros, 4);
        self.apply(i::PMULLW, high, all);
        self.apply(i::PADDD, zeros, high);
        zeros
    }

    fn binary(&mut self, operation: &Operation) -> Vector {
        let a = self.vector(operation.a[0]);
        match operation.opcode {
            op::ADD8 => self.simple(i::PADDB, a, operation),
            op::ADD16 => self.simple(i::PADDW, a, operation),
            op::ADD32 => self.simple(i::PADDD, a, operation),
            op::SUB8 => self.simple(i::PSUBB, a, operation),
            op::SUB16 => self.simple(i::PSUBW, a, operation),
            op::SUB32 => self.simple(i::PSUBD, a, operation),
            op::MUL16 => self.simple(i::PMULLW, a, operation),
            op::MUL32 => self.simple(i::PMULLD, a, operation),
            op::AND => self.simple(i::PAND, a, operation),
            op::OR => self.simple(i::POR, a, operation),
            op::XOR => self.simple(i::PXOR, a, operation),
            op::MUL8 => {
                let b = self.b(operation);
                self.multiply8(a, b)
            }
            op::SHLL32 | op::SHRL32 | op::SHRA32 | op::ROTL32 => self.shift32(a, operation),
            op::SHLL16 | op::SHRL16 | op::SHRA16 | op::ROTL16 => self.shift16(a, operation),
            _ => self.shift8(a, operation),
        }
    }

    fn simple(&mut self, instruction: Instruction, a: Vector, operation: &Operation) -> Vector {
        let b = self.b(operation);
        self.op(instruction, a, b)
    }

    /// Products of bytes: of the even ones in place, of the odd ones with the factor left high.
    fn multiply8(&mut self, a: Vector, b: Source) -> Vector {
        let even = self.op(i::PMULLW, a, b);
        self.apply_constant(i::PAND, even, C::LowBytes);
        let odd = self.masked(b, C::HighBytes);
        let shifted = self.shift(i::PSRLW, a, 8);
        self.apply(i::PMULLW, odd, shifted);
        self.apply(i::POR, even, odd);
        even
    }

    fn shift32(&mut self, a: Vector, operation: &Operation) -> Vector {
        if let Operand::Constant(by) = operation.b {
            let by = by as u8 & 31;
            return match operation.opcode {
                op::SHLL32 => self.shift(i::PSLLD, a, by),
                op::SHRL32 => self.shift(i::PSRLD, a, by),
                op::SHRA32 => self.shift(i::PSRAD, a, by),
                _ => {
                    let left = self.shift(i::PSLLD, a, by);
                    // By 32: zero.
                    let right = self.shift(i::PSRLD, a, 32 - by);
                    self.apply(i::POR, left, right);
                    left
                }
            };
        }
        let b = self.b(operation);
        let by = self.masked(b, C::ThirtyOne);
        match operation.opcode {
            op::SHLL32 => self.op(i::PSLLVD, a, by),
            op::SHRL32 => self.op(i::PSRLVD, a, by),
            op::SHRA32 => self.op(i::PSRAVD, a, by),
            _ => {
                let left = self.op(i::PSLLVD, a, by);
                let rest = self.constant_op(i::PSUBD, C::ThirtyTwo, by);
                let right = self.op(i::PSRLVD, a, rest);
                self.apply(i::POR, left, right);
                left
            }
        }
    }

    /// Both halves are shifted as words that hold nothing else, or nothing else that stays.
    fn shift16(&mut self, a: Vector, operation: &Operation) -> Vector {
        let b = self.b_vector(operation);
        let by_low = self.op_constant(i::PAND, b, C::Fifteen);
        let by_high = self.shift(i::PSRLD, b, 16);
        self.apply_constant(i::PAND, by_high, C::Fifteen);
        let (low, high);
        match operation.opcode {
            op::SHLL16 => {
                low = self.op(i::PSLLVD, a, by_low);
                self.apply_constant(i::PAND, low, C::LowHalf);
                high = self.op_constant(i::PAND, a, C::HighHalf);
                self.apply(i::PSLLVD, high, by_high);
            }
            op::SHRL16 => {
                low = self.op_constant(i::PAND, a, C::LowHalf);
                self.apply(i::PSRLVD, low, by_low);
                high = self.op(i::PSRLVD, a, by_high);
                self.apply_constant(i::PAND, high, C::HighHalf);
            }
            op::SHRA16 => {
                low = self.shift(i::PSLLD, a, 16);
                self.apply(i::PSRAVD, low, by_low);
                self.shift_in_place(i::PSRLD, low, 16);
                high = self.op(i::PSRAVD, a, by_high);
                self.apply_constant(i::PAND, high, C::HighHalf);
            }
            _ => {
                low = self.op_constant(i::PSHUFB, a, C::LowHalfTwice);
                self.apply(i::PSLLVD, low, by_low);
                self.shift_in_place(i::PSRLD, low, 16);
                high = self.op_constant(i::PSHUFB, a, C::HighHalfTwice);
                self.apply(i::PSLLVD, high, by_high);
                self.apply_constant(i::PAND, high, C::HighHalf);
            }
        }
        self.apply(i::POR, low, high);
        low
    }

    /// Bytes are shifted by multiplying with powers of two: to the right with 2^(7-n), then by 7.
    fn shift8(&mut self, a: Vector, operation: &Operation) -> Vector {
        let is_right = matches!(operation.opcode, op::SHRL8 | op::SHRA8);
        let b = self.b(operation);
        let by = self.masked(b, C::SevenBytes);
        let table = if is_right { C::PowersDown } else { C::Powers };
        let powers = self.constant_op(i::PSHUFB, table, by);
        self.done(by);
        if operation.opcode == op::SHLL8 {
            return self.multiply8(a, powers.into());
        }
        let odd_powers = self.shift(i::PSRLW, powers, 8);
        self.apply_constant(i::PAND, powers, C::LowBytes);
        let (even, odd);
        if operation.opcode == op::SHRA8 {
            even = self.shift(i::PSLLW, a, 8);
            self.shift_in_place(i::PSRAW, even, 8);
            odd = self.shift(i::PSRAW, a, 8);
        } else {
            even = self.op_constant(i::PAND, a, C::LowBytes);
            odd = self.shift(i::PSRLW, a, 8);
        }
        self.apply(i::PMULLW, even, powers);
        self.apply(i::PMULLW, odd, odd_powers);
        if is_right {
            self.shift_in_place(i::PSRLW, even, 7);
            self.shift_in_place(i::PSLLW, odd, 1);
        } else {
            // A rotation: what left the byte comes back at its low end.
            let back = self.shift(i::PSRLW, even, 8);
            self.apply(i::POR, even, back);
            self.code.shift(i::PSLLW, self.target.width, back, odd, 8);
            self.apply(i::POR, odd, back);
        }
        self.apply_constant(i::PAND, even, C::LowBytes);
        self.apply_constant(i::PAND, odd, C::HighBytes);
        self.apply(i::POR, even, odd);
        even
    }

    fn widening(&mut self, operation: &Operation) -> [Vector; 2] {
        match operation.opcode {
            op::ADD8C | op::SUB8C | op::MUL8C | op::MULSU8C | op::MULU8C => {
                self.widening8(operation)
            }
            op::ADD16C | op::SUB16C => self.add_widening16(operation),
            op::MUL16C | op::MULSU16C | op::MULU16C => self.multiply_widening16(operation),
            op::ADD32C => {
                let (a, b) = (self.vector(operation.a[0]), self.b(operation));
                let sum = self.op(i::PADDD, a, b);
                let carry = self.above(a, sum);
                [sum, carry]
            }
            op::SUB32C => {
                let (a, b) = (self.vector(operation.a[0]), self.b(operation));
                let difference = self.op(i::PSUBD, a, b);
                let borrow = self.above_source(b, a);
                let high = self.constant_op(i::PSUBD, C::Zero, borrow);
                [difference, high]
            }
            _ => self.multiply_widening32(operation),
        }
    }

    /// 1 in the lanes where `greater > smaller` (unsigned), else 0.
    fn above(&mut self, greater: Vector, smaller: Vector) -> Vector {
        self.above_source(greater.into(), smaller)
    }

    fn above_source(&mut self, greater: Source, smaller: Vector) -> Vector {
        let excess = self.op(i::PMAXUD, smaller, greater);
        self.apply(i::PSUBD, excess, smaller);
        self.apply_constant(i::PMINUD, excess, C::One);
        excess
    }

    fn widening8(&mut self, operation: &Operation) -> [Vector; 2] {
        let (is_signed_a, is_signed_b, instruction) = match operation.opcode {
            op::ADD8C => (false, false, i::PADDW),
            op::SUB8C => (false, false, i::PSUBW),
            op::MUL8C => (true, true, i::PMULLW),
            op::MULSU8C => (true, false, i::PMULLW),
            _ => (false, false, i::PMULLW),
        };
        let a = self.vector(operation.a[0]);
        let b = self.b_vector(operation);
        let [low, high] = self.widen8(a, is_signed_a);
        let [low_b, high_b] = self.widen8(b, is_signed_b);
        self.apply(instruction, low, low_b);
        self.apply(instruction, high, high_b);
        [low, high]
    }

    /// Bytes as 16-bit values: the low two of each lane, and the high two.
    fn widen8(&mut self, a: Vector, is_signed: bool) -> [Vector; 2] {
        if !is_signed {
            return [C::LowBytesLow, C::HighBytesLow]
                .map(|choice| self.op_constant(i::PSHUFB, a, choice));
        }
        [C::LowBytesHigh, C::HighBytesHigh].map(|choice| {
            let wide = self.op_constant(i::PSHUFB, a, choice);
            self.shift_in_place(i::PSRAW, wide, 8);
            wide
        })
    }

    fn add_widening16(&mut self, operation: &Operation) -> [Vector; 2] {
        let instruction = if operation.opcode == op::ADD16C { i::PADDD } else { i::PSUBD };
        let a = self.vector(operation.a[0]);
        let b = self.b_vector(operation);
        let low = self.op_constant(i::PAND, a, C::LowHalf);
        let low_b = self.op_constant(i::PAND, b, C::LowHalf);
        let high = self.shift(i::PSRLD, a, 16);
        let high_b = self.shift(i::PSRLD, b, 16);
        self.apply(instruction, low, low_b);
        self.apply(instruction, high, high_b);
        [low, high]
    }

    /// Products of halves, of which one instruction gives the low and another the high halves.
    fn multiply_widening16(&mut self, operation: &Operation) -> [Vector; 2] {
        let (a, b) = (self.vector(operation.a[0]), self.b(operation));
        let is_signed = operation.opcode == op::MUL16C;
        let low = self.op(i::PMULLW, a, b);
        let high = self.op(if is_signed { i::PMULHW } else { i::PMULHUW }, a, b);
        if operation.opcode == op::MULSU16C {
            let signs = self.shift(i::PSRAW, a, 15);
            self.apply(i::PAND, signs, b);
            self.apply(i::PSUBW, high, signs);
        }
        let first = self.op_constant(i::PAND, low, C::LowHalf);
        let up = self.shift(i::PSLLD, high, 16);
        self.apply(i::POR, first, up);
        self.shift_in_place(i::PSRLD, low, 16);
        self.apply_constant(i::PAND, high, C::HighHalf);
        self.apply(i::POR, low, high);
        [first, low]
    }

    fn multiply_widening32(&mut self, operation: &Operation) -> [Vector; 2] {
        let a = self.vector(operation.a[0]);
        let b = self.b_vector(operation);
        let instruction = if operation.opcode == op::MUL32C { i::PMULDQ } else { i::PMULUDQ };
        let high = self.multiply_high32(instruction, a, b);
        if operation.opcode == op::MULSU32C {
            let signs = self.shift(i::PSRAD, a, 31);
            self.apply(i::PAND, signs, b);
            self.apply(i::PSUBD, high, signs);
        }
        let low = self.op(i::PMULLD, a, b);
        [low, high]
    }

    /// The high words of products of words, by an instruction that multiplies the even words.
    fn multiply_high32(&mut self, instruction: Instruction, a: Vector, b: Vector) -> Vector {
        let even = self.op(instruction, a, b);
        let odd = self.shift(i::PSRLQ, a, 32);
        let odd_b = self.shift(i::PSRLQ, b, 32);
        self.apply(instruction, odd, odd_b);
        self.done(odd_b);
        self.code.op_immediate(i::SHUFPS, self.target.width, even, even, odd.into(), ODD_WORDS);
        self.done(odd);
        self.code.shuffle_words(self.target.width, even, even, ZIP_WORDS);
        even
    }
}
