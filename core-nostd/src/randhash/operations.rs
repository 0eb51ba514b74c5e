//! What every operation computes (spec 02, 6.2 to 6.6), for one item or for many side by side.

use super::opcode as op;
use crate::error::ExecError;

/// Something that can apply a function to the operands of an operation and keep the results.
pub(super) trait Operate {
    fn op_1_to_1(&mut self, f: impl Fn(u32) -> u32) -> Result<(), ExecError>;
    fn op_2_to_1(&mut self, f: impl Fn(u32, u32) -> u32) -> Result<(), ExecError>;
    fn op_2_to_2(&mut self, f: impl Fn(u32, u32) -> u64) -> Result<(), ExecError>;
    fn op_4_to_2(&mut self, f: impl Fn(u64, u64) -> u64) -> Result<(), ExecError>;
    fn op_4_to_4(&mut self, f: impl Fn(u64, u64) -> u128) -> Result<(), ExecError>;
}

/// Does the operation of an opcode.
///
/// # Errors
/// [`ExecError::Invalid`] when it is no operation, and what the machine has to say.
#[inline(always)]
pub(super) fn operate<M: Operate>(m: &mut M, code: u8) -> Result<(), ExecError> {
    match code {
        op::POPCNT8 => m.op_1_to_1(|a| each8(a, |a| a.count_ones() as u8)),
        op::POPCNT16 => m.op_1_to_1(|a| each16(a, |a| a.count_ones() as u16)),
        op::POPCNT32 => m.op_1_to_1(u32::count_ones),
        op::CLZ8 => m.op_1_to_1(|a| each8(a, |a| a.leading_zeros() as u8)),
        op::CLZ16 => m.op_1_to_1(|a| each16(a, |a| a.leading_zeros() as u16)),
        op::CLZ32 => m.op_1_to_1(u32::leading_zeros),
        op::CTZ8 => m.op_1_to_1(|a| each8(a, |a| a.trailing_zeros() as u8)),
        op::CTZ16 => m.op_1_to_1(|a| each16(a, |a| a.trailing_zeros() as u16)),
        op::CTZ32 => m.op_1_to_1(u32::trailing_zeros),
        op::BSWAP16 => m.op_1_to_1(|a| each16(a, u16::swap_bytes)),
        op::BSWAP32 => m.op_1_to_1(u32::swap_bytes),

        op::ADD8 => m.op_2_to_1(|a, b| zip8(a, b, u8::wrapping_add)),
        op::ADD16 => m.op_2_to_1(|a, b| zip16(a, b, u16::wrapping_add)),
        op::ADD32 => m.op_2_to_1(u32::wrapping_add),
        op::SUB8 => m.op_2_to_1(|a, b| zip8(a, b, u8::wrapping_sub)),
        op::SUB16 => m.op_2_to_1(|a, b| zip16(a, b, u16::wrapping_sub)),
        op::SUB32 => m.op_2_to_1(u32::wrapping_sub),
        // The wrapping shifts take their amount modulo the width.
        op::SHLL8 => m.op_2_to_1(|a, b| zip8(a, b, |a, b| a.wrapping_shl(b.into()))),
        op::SHLL16 => m.op_2_to_1(|a, b| zip16(a, b, |a, b| a.wrapping_shl(b.into()))),
        op::SHLL32 => m.op_2_to_1(u32::wrapping_shl),
        op::SHRL8 => m.op_2_to_1(|a, b| zip8(a, b, |a, b| a.wrapping_shr(b.into()))),
        op::SHRL16 => m.op_2_to_1(|a, b| zip16(a, b, |a, b| a.wrapping_shr(b.into()))),
        op::SHRL32 => m.op_2_to_1(u32::wrapping_shr),
        op::SHRA8 => m.op_2_to_1(|a, b| zip8(a, b, |a, b| (a as i8).wrapping_shr(b.into()) as u8)),
        op::SHRA16 => {
            m.op_2_to_1(|a, b| zip16(a, b, |a, b| (a as i16).wrapping_shr(b.into()) as u16))
        }
        op::SHRA32 => m.op_2_to_1(|a, b| (a as i32).wrapping_shr(b) as u32),
        op::ROTL8 => m.op_2_to_1(|a, b| zip8(a, b, |a, b| a.rotate_left(b.into()))),
        op::ROTL16 => m.op_2_to_1(|a, b| zip16(a, b, |a, b| a.rotate_left(b.into()))),
        op::ROTL32 => m.op_2_to_1(u32::rotate_left),
        op::MUL8 => m.op_2_to_1(|a, b| zip8(a, b, u8::wrapping_mul)),
        op::MUL16 => m.op_2_to_1(|a, b| zip16(a, b, u16::wrapping_mul)),
        op::MUL32 => m.op_2_to_1(u32::wrapping_mul),
        op::AND => m.op_2_to_1(|a, b| a & b),
        op::OR => m.op_2_to_1(|a, b| a | b),
        op::XOR => m.op_2_to_1(|a, b| a ^ b),

        op::ADD8C => m.op_2_to_2(|a, b| wide8(a, b, |a, b| u16::from(a) + u16::from(b))),
        op::ADD16C => m.op_2_to_2(|a, b| wide16(a, b, |a, b| u32::from(a) + u32::from(b))),
        op::ADD32C => m.op_2_to_2(|a, b| u64::from(a) + u64::from(b)),
        op::SUB8C => {
            m.op_2_to_2(|a, b| wide8(a, b, |a, b| u16::from(a).wrapping_sub(u16::from(b))))
        }
        op::SUB16C => {
            m.op_2_to_2(|a, b| wide16(a, b, |a, b| u32::from(a).wrapping_sub(u32::from(b))))
        }
        op::SUB32C => m.op_2_to_2(|a, b| u64::from(a).wrapping_sub(u64::from(b))),
        op::MUL8C => {
            m.op_2_to_2(|a, b| wide8(a, b, |a, b| (i16::from(a as i8) * i16::from(b as i8)) as u16))
        }
        op::MUL16C => m.op_2_to_2(|a, b| {
            wide16(a, b, |a, b| (i32::from(a as i16) * i32::from(b as i16)) as u32)
        }),
        op::MUL32C => m.op_2_to_2(|a, b| (i64::from(a as i32) * i64::from(b as i32)) as u64),
        op::MULSU8C => m.op_2_to_2(|a, b| {
            wide8(a, b, |a, b| (i16::from(a as i8).wrapping_mul(i16::from(b))) as u16)
        }),
        op::MULSU16C => m.op_2_to_2(|a, b| {
            wide16(a, b, |a, b| (i32::from(a as i16).wrapping_mul(i32::from(b))) as u32)
        }),
        op::MULSU32C => m.op_2_to_2(|a, b| (i64::from(a as i32)).wrapping_mul(i64::from(b)) as u64),
        op::MULU8C => m.op_2_to_2(|a, b| wide8(a, b, |a, b| u16::from(a) * u16::from(b))),
        op::MULU16C => m.op_2_to_2(|a, b| wide16(a, b, |a, b| u32::from(a) * u32::from(b))),
        op::MULU32C => m.op_2_to_2(|a, b| u64::from(a) * u64::from(b)),

        op::ADD64 => m.op_4_to_2(u64::wrapping_add),
        op::SUB64 => m.op_4_to_2(u64::wrapping_sub),
        op::SHLL64 => m.op_4_to_2(|a, b| a.wrapping_shl(b as u32)),
        op::SHRL64 => m.op_4_to_2(|a, b| a.wrapping_shr(b as u32)),
        op::SHRA64 => m.op_4_to_2(|a, b| (a as i64).wrapping_shr(b as u32) as u64),
        op::ROTL64 => m.op_4_to_2(|a, b| a.rotate_left(b as u32 & 63)),
        op::ROTR64 => m.op_4_to_2(|a, b| a.rotate_right(b as u32 & 63)),
        op::MUL64 => m.op_4_to_2(u64::wrapping_mul),

        op::ADD64C => m.op_4_to_4(|a, b| u128::from(a) + u128::from(b)),
        // A borrow sets the high half.
        op::SUB64C => m.op_4_to_4(|a, b| u128::from(a).wrapping_sub(u128::from(b))),
        op::MUL64C => m.op_4_to_4(|a, b| (i128::from(a as i64) * i128::from(b as i64)) as u128),
        op::MULSU64C => {
            m.op_4_to_4(|a, b| (i128::from(a as i64)).wrapping_mul(i128::from(b)) as u128)
        }
        op::MULU64C => m.op_4_to_4(|a, b| u128::from(a) * u128::from(b)),

        _ => Err(ExecError::Invalid),
    }
}

/// The word that an operation of the classes [`Op1To1`](super::opcode::Class::Op1To1) and
/// [`Op2To1`](super::opcode::Class::Op2To1) gives, for compilers that call a function; `None` for
/// other opcodes.
#[inline(always)]
#[must_use]
pub fn word_operation<const OPCODE: u8>(a: u32, b: u32) -> Option<u32> {
    let mut words = Words { a, b, result: 0 };
    operate(&mut words, OPCODE).ok().map(|()| words.result)
}

/// Operands that are words, and the result.
struct Words {
    a: u32,
    b: u32,
    result: u32,
}

impl Operate for Words {
    #[inline(always)]
    fn op_1_to_1(&mut self, f: impl Fn(u32) -> u32) -> Result<(), ExecError> {
        self.result = f(self.a);
        Ok(())
    }

    #[inline(always)]
    fn op_2_to_1(&mut self, f: impl Fn(u32, u32) -> u32) -> Result<(), ExecError> {
        self.result = f(self.a, self.b);
        Ok(())
    }

    fn op_2_to_2(&mut self, _: impl Fn(u32, u32) -> u64) -> Result<(), ExecError> {
        Err(ExecError::Invalid)
    }

    fn op_4_to_2(&mut self, _: impl Fn(u64, u64) -> u64) -> Result<(), ExecError> {
        Err(ExecError::Invalid)
    }

    fn op_4_to_4(&mut self, _: impl Fn(u64, u64) -> u128) -> Result<(), ExecError> {
        Err(ExecError::Invalid)
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
