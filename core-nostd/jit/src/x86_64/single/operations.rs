//! The operations of spec 02, 6 on single words and pairs of them.

use packetcrypt_core::randhash::lower::Slot;
use packetcrypt_core::randhash::opcode as op;

use super::frame::{function, slot};
use super::functions::FUNCTIONS;
use crate::x86_64::encode::{
    self as i, Arithmetic, Bits, Code, General, Instruction, RAX, RCX, RDI, RDX, RSI, Rotation,
    Vector, Width,
};
use crate::x86_64::operations::Operand;

/// Vectors that hold the operands for a moment.
const A: Vector = Vector(0);
const B: Vector = Vector(1);

/// Emits an operation. The results go to the slot `to` and the slots behind.
pub(super) fn emit(code: &mut Code<'_>, opcode: u8, to: Slot, a: [Slot; 2], b: Operand) {
    Operation { code, to, a, b }.emit(opcode);
}

struct Operation<'o, 'c> {
    code: &'o mut Code<'c>,
    to: Slot,
    a: [Slot; 2],
    b: Operand,
}

impl Operation<'_, '_> {
    fn emit(&mut self, opcode: u8) {
        match opcode {
            op::BSWAP16 | op::BSWAP32 => self.swap(opcode == op::BSWAP16),
            op::ADD8 => self.vector(i::PADDB),
            op::ADD16 => self.vector(i::PADDW),
            op::SUB8 => self.vector(i::PSUBB),
            op::SUB16 => self.vector(i::PSUBW),
            op::MUL16 => self.vector(i::PMULLW),
            op::MUL8 => self.multiply8(),
            op::ADD32 => self.word(Arithmetic::Add),
            op::SUB32 => self.word(Arithmetic::Sub),
            op::AND => self.word(Arithmetic::And),
            op::OR => self.word(Arithmetic::Or),
            op::XOR => self.word(Arithmetic::Xor),
            op::MUL32 => self.multiply32(),
            op::SHLL32 => self.rotate32(Rotation::Left),
            op::SHRL32 => self.rotate32(Rotation::Right),
            op::SHRA32 => self.rotate32(Rotation::RightSigned),
            op::ROTL32 => self.rotate32(Rotation::RotateLeft),
            op::ADD8C => self.wide([i::PMOVZXBW; 2], i::PADDW),
            op::ADD16C => self.wide([i::PMOVZXWD; 2], i::PADDD),
            op::SUB8C => self.wide([i::PMOVZXBW; 2], i::PSUBW),
            op::SUB16C => self.wide([i::PMOVZXWD; 2], i::PSUBD),
            op::MUL8C => self.wide([i::PMOVSXBW; 2], i::PMULLW),
            op::MUL16C => self.wide([i::PMOVSXWD; 2], i::PMULLD),
            op::MULSU8C => self.wide([i::PMOVSXBW, i::PMOVZXBW], i::PMULLW),
            op::MULSU16C => self.wide([i::PMOVSXWD, i::PMOVZXWD], i::PMULLD),
            op::MULU8C => self.wide([i::PMOVZXBW; 2], i::PMULLW),
            op::MULU16C => self.wide([i::PMOVZXWD; 2], i::PMULLD),
            op::ADD32C | op::SUB32C | op::MUL32C | op::MULSU32C | op::MULU32C => {
                self.wide32(opcode);
            }
            op::ADD64..=op::MUL64 => self.pair(opcode),
            op::ADD64C..=op::MULU64C => self.wide_pair(opcode),
            _ => self.call(opcode),
        }
    }

    /// Loads the word A.
    fn load_a(&mut self, to: General) {
        self.code.load_word(to, slot(self.a[0]));
    }

    /// Loads the word B.
    fn load_b(&mut self, to: General) {
        match self.b {
            Operand::Slots([from, _]) => self.code.load_word(to, slot(from)),
            Operand::Constant(value) => self.code.set_general(to, (value as u32).into()),
        }
    }

    fn store_word(&mut self) {
        self.code.store_word(slot(self.to), RAX);
    }

    fn store_pair(&mut self) {
        self.code.store_pair(slot(self.to), RAX);
    }

    /// Loads a pair of slots. In two pieces: what was just stored in two can not be loaded in one
    /// until it is in the cache.
    fn load_slots(&mut self, to: General, [low, high]: [Slot; 2]) {
        self.code.load_word(to, slot(high));
        self.code.rotate(Rotation::Left, to, Bits::B64, 32);
        self.code.load_word(RDX, slot(low));
        self.code.apply_general(Arithmetic::Or, to, RDX, Bits::B64);
    }

    /// Loads the pair A into RAX and the pair B into RCX.
    fn load_pairs(&mut self) {
        self.load_slots(RAX, self.a);
        match self.b {
            Operand::Slots(slots) => self.load_slots(RCX, slots),
            Operand::Constant(value) => self.code.set_general(RCX, value),
        }
    }

    /// Loads the words A and B into vectors.
    fn load_vectors(&mut self) {
        self.code.load_low(A, Ok(slot(self.a[0])));
        match self.b {
            Operand::Slots([from, _]) => self.code.load_low(B, Ok(slot(from))),
            Operand::Constant(_) => {
                self.load_b(RAX);
                self.code.load_low(B, Err(RAX));
            }
        }
    }

    fn word(&mut self, operation: Arithmetic) {
        self.load_a(RAX);
        match self.b {
            Operand::Slots([from, _]) => self.code.apply_word(operation, RAX, slot(from)),
            Operand::Constant(value) => self.code.apply_constant(operation, RAX, value as u32),
        }
        self.store_word();
    }

    /// The bytes in the other order; those of each half are those of the other half, turned.
    fn swap(&mut self, is_of_halves: bool) {
        self.load_a(RAX);
        self.code.swap_bytes(RAX);
        if is_of_halves {
            self.code.rotate(Rotation::RotateLeft, RAX, Bits::B32, 16);
        }
        self.store_word();
    }

    fn multiply32(&mut self) {
        self.load_a(RAX);
        self.load_b(RCX);
        self.code.multiply(RAX, RCX, Bits::B32);
        self.store_word();
    }

    fn rotate32(&mut self, by: Rotation) {
        self.load_a(RAX);
        self.rotate(by, Bits::B32);
        self.store_word();
    }

    /// Shifts or rotates RAX by B modulo the number of bits.
    fn rotate(&mut self, by: Rotation, bits: Bits) {
        match self.b {
            Operand::Constant(value) => {
                let mask = if bits == Bits::B32 { 31 } else { 63 };
                self.code.rotate(by, RAX, bits, value as u8 & mask);
            }
            Operand::Slots(_) => {
                self.load_b(RCX);
                self.code.rotate_by_rcx(by, RAX, bits);
            }
        }
    }

    /// On the bytes or halves of words.
    fn vector(&mut self, instruction: Instruction) {
        self.load_vectors();
        self.code.op(instruction, Width::X128, A, A, B.into());
        self.code.store_low(slot(self.to), A);
    }

    fn multiply8(&mut self) {
        self.load_vectors();
        self.code.convert(i::PMOVZXBW, Width::X128, A, A);
        self.code.convert(i::PMOVZXBW, Width::X128, B, B);
        self.code.op(i::PMULLW, Width::X128, A, A, B.into());
        // The low bytes: without the high ones nothing is too large to be packed.
        self.code.shift(i::PSLLW, Width::X128, A, A, 8);
        self.code.shift(i::PSRLW, Width::X128, A, A, 8);
        self.code.op(i::PACKUSWB, Width::X128, A, A, A.into());
        self.code.store_low(slot(self.to), A);
    }

    /// On the bytes or halves of words that are made twice as wide.
    fn wide(&mut self, conversions: [Instruction; 2], instruction: Instruction) {
        self.load_vectors();
        for (vector, conversion) in [A, B].into_iter().zip(conversions) {
            self.code.convert(conversion, Width::X128, vector, vector);
        }
        self.code.op(instruction, Width::X128, A, A, B.into());
        self.code.store_low_pair(slot(self.to), A);
    }

    /// On words that are made twice as wide.
    fn wide32(&mut self, opcode: u8) {
        if matches!(opcode, op::MUL32C | op::MULSU32C) {
            self.code.load_signed(RAX, slot(self.a[0]));
        } else {
            self.load_a(RAX);
        }
        match self.b {
            Operand::Slots([from, _]) if opcode == op::MUL32C => {
                self.code.load_signed(RCX, slot(from));
            }
            Operand::Constant(value) if opcode == op::MUL32C => {
                self.code.set_general(RCX, value as i32 as i64 as u64);
            }
            _ => self.load_b(RCX),
        }
        match opcode {
            op::ADD32C => self.code.apply_general(Arithmetic::Add, RAX, RCX, Bits::B64),
            op::SUB32C => self.code.apply_general(Arithmetic::Sub, RAX, RCX, Bits::B64),
            _ => self.code.multiply(RAX, RCX, Bits::B64),
        }
        self.store_pair();
    }

    /// On pairs, with the low pair of the result.
    fn pair(&mut self, opcode: u8) {
        match opcode {
            op::ADD64 | op::SUB64 | op::MUL64 => {
                self.load_pairs();
                match opcode {
                    op::ADD64 => self.code.apply_general(Arithmetic::Add, RAX, RCX, Bits::B64),
                    op::SUB64 => self.code.apply_general(Arithmetic::Sub, RAX, RCX, Bits::B64),
                    _ => self.code.multiply(RAX, RCX, Bits::B64),
                }
            }
            _ => {
                self.load_slots(RAX, self.a);
                let by = match opcode {
                    op::SHLL64 => Rotation::Left,
                    op::SHRL64 => Rotation::Right,
                    op::SHRA64 => Rotation::RightSigned,
                    op::ROTL64 => Rotation::RotateLeft,
                    _ => Rotation::RotateRight,
                };
                self.rotate(by, Bits::B64);
            }
        }
        self.store_pair();
    }

    /// On pairs, with both pairs of the result.
    fn wide_pair(&mut self, opcode: u8) {
        self.load_pairs();
        match opcode {
            op::ADD64C => {
                self.code.apply_general(Arithmetic::Add, RAX, RCX, Bits::B64);
                self.code.spread_carry(RDX);
                self.code.negate(RDX);
            }
            op::SUB64C => {
                self.code.apply_general(Arithmetic::Sub, RAX, RCX, Bits::B64);
                self.code.spread_carry(RDX);
            }
            op::MULSU64C => {
                // As of a number without sign, of which B is subtracted above if A has one.
                self.code.move_general(RSI, RAX, Bits::B64);
                self.code.rotate(Rotation::RightSigned, RSI, Bits::B64, 63);
                self.code.apply_general(Arithmetic::And, RSI, RCX, Bits::B64);
                self.code.multiply_whole(RCX, false);
                self.code.apply_general(Arithmetic::Sub, RDX, RSI, Bits::B64);
            }
            _ => self.code.multiply_whole(RCX, opcode == op::MUL64C),
        }
        self.store_pair();
        self.code.store_pair(slot(self.to + 2), RDX);
    }

    /// By a function.
    fn call(&mut self, opcode: u8) {
        if FUNCTIONS[usize::from(opcode)].is_none() {
            // A lowered program holds no other opcodes.
            self.code.give_up();
            return;
        }
        self.load_a(RDI);
        if opcode >= op::ADD8 {
            self.load_b(RSI);
        }
        self.code.call(function(opcode));
        self.store_word();
    }
}
