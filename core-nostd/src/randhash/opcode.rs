//! The instruction set and the fields of an instruction word (spec 02, 5 and 6).

use core::ops::Range;

macro_rules! opcodes {
    ($($name:ident = $number:literal),* $(,)?) => {
        $(
            #[doc = concat!("Opcode ", stringify!($number), ".")]
            pub const $name: u8 = $number;
        )*

        /// The name of an opcode, or `None` for an invalid one.
        #[must_use]
        pub fn name(opcode: u8) -> Option<&'static str> {
            match opcode {
                $($number => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

opcodes! {
    POPCNT8 = 1, POPCNT16 = 2, POPCNT32 = 3,
    CLZ8 = 4, CLZ16 = 5, CLZ32 = 6,
    CTZ8 = 7, CTZ16 = 8, CTZ32 = 9,
    BSWAP16 = 10, BSWAP32 = 11,
    ADD8 = 12, ADD16 = 13, ADD32 = 14,
    SUB8 = 15, SUB16 = 16, SUB32 = 17,
    SHLL8 = 18, SHLL16 = 19, SHLL32 = 20,
    SHRL8 = 21, SHRL16 = 22, SHRL32 = 23,
    SHRA8 = 24, SHRA16 = 25, SHRA32 = 26,
    ROTL8 = 27, ROTL16 = 28, ROTL32 = 29,
    MUL8 = 30, MUL16 = 31, MUL32 = 32,
    AND = 33, OR = 34, XOR = 35,
    ADD8C = 36, ADD16C = 37, ADD32C = 38,
    SUB8C = 39, SUB16C = 40, SUB32C = 41,
    MUL8C = 42, MUL16C = 43, MUL32C = 44,
    MULSU8C = 45, MULSU16C = 46, MULSU32C = 47,
    MULU8C = 48, MULU16C = 49, MULU32C = 50,
    ADD64 = 51, SUB64 = 52,
    SHLL64 = 53, SHRL64 = 54, SHRA64 = 55,
    ROTL64 = 56, ROTR64 = 57,
    MUL64 = 58,
    ADD64C = 59, SUB64C = 60,
    MUL64C = 61, MULSU64C = 62, MULU64C = 63,
    IN = 64, MEMORY = 65,
    LOOP = 66,
    IF_LIKELY = 67, IF_RANDOM = 68,
    JMP = 69, END = 70,
}

/// A class of operations: the number of operands and of results they have, and what they cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A to one word.
    Op1To1,
    /// A and B to one word.
    Op2To1,
    /// A and B to two words.
    Op2To2,
    /// A and B, as 64-bit pairs, to two words.
    Op4To2,
    /// A and B, as 64-bit pairs, to four words.
    Op4To4,
}

impl Class {
    /// The class of an opcode, or `None` when it is no operation on registers.
    #[must_use]
    pub const fn of(opcode: u8) -> Option<Class> {
        match opcode {
            POPCNT8..ADD8 => Some(Class::Op1To1),
            ADD8..ADD8C => Some(Class::Op2To1),
            ADD8C..ADD64 => Some(Class::Op2To2),
            ADD64..ADD64C => Some(Class::Op4To2),
            ADD64C..IN => Some(Class::Op4To4),
            _ => None,
        }
    }

    /// The opcodes of the class.
    #[must_use]
    pub const fn opcodes(self) -> Range<u8> {
        match self {
            Class::Op1To1 => POPCNT8..ADD8,
            Class::Op2To1 => ADD8..ADD8C,
            Class::Op2To2 => ADD8C..ADD64,
            Class::Op4To2 => ADD64..ADD64C,
            Class::Op4To4 => ADD64C..IN,
        }
    }

    /// What one operation takes from the budget of the generator.
    #[must_use]
    pub const fn cost(self) -> u32 {
        match self {
            Class::Op1To1 => 1,
            Class::Op2To1 => 2,
            Class::Op2To2 => 4,
            Class::Op4To2 => 8,
            Class::Op4To4 => 16,
        }
    }

    /// Words that one operation appends to the variable stack.
    #[must_use]
    pub const fn results(self) -> usize {
        match self {
            Class::Op1To1 | Class::Op2To1 => 1,
            Class::Op2To2 | Class::Op4To2 => 2,
            Class::Op4To4 => 4,
        }
    }
}

/// Position of REGA.
pub const REG_A_SHIFT: u32 = 9;
/// Position of REGB, and of IMM.
pub const REG_B_SHIFT: u32 = 20;
/// HAS_IMM: operand B is the immediate.
pub const HAS_IMM: u32 = 1 << 18;
/// PATTERN: the immediate has the second form.
pub const PATTERN: u32 = 1 << 19;
/// Position of JUMP.
pub const JUMP_SHIFT: u32 = 8;
/// Position of the 4-bit field CARRY.
pub const CARRY_SHIFT: u32 = 9;

/// OP: the opcode, which need not be a valid one.
#[must_use]
pub const fn opcode(word: u32) -> u8 {
    word as u8
}

/// REGA, below 512.
#[must_use]
pub const fn reg_a(word: u32) -> usize {
    (word >> REG_A_SHIFT & 0x1ff) as usize
}

/// REGB, below 512.
#[must_use]
pub const fn reg_b(word: u32) -> usize {
    (word >> REG_B_SHIFT & 0x1ff) as usize
}

/// Whether operand B is the immediate.
#[must_use]
pub const fn has_imm(word: u32) -> bool {
    word & HAS_IMM != 0
}

/// JUMP, below 2^24.
#[must_use]
pub const fn jump(word: u32) -> usize {
    (word >> JUMP_SHIFT) as usize
}

/// CARRY of a MEMORY word, below 16.
#[must_use]
pub const fn carry(word: u32) -> u32 {
    word >> CARRY_SHIFT & 0xf
}

/// STEP of a MEMORY word, below 16.
#[must_use]
pub const fn step(word: u32) -> u32 {
    word >> 13 & 0xf
}

/// BASE of a MEMORY word, below 2^15.
#[must_use]
pub const fn base(word: u32) -> u32 {
    word >> 17
}

/// The 64-bit immediate value of a word (spec 02, 5.1).
#[must_use]
pub const fn immediate(word: u32) -> u64 {
    if word & PATTERN == 0 {
        return (word as i32 >> REG_B_SHIFT) as i64 as u64;
    }
    let a = word >> 20 & 0x1f;
    let b = word >> 25 & 0x1f;
    let is_short = word >> 30 & 1 == 1;
    let sign = (word >> 31) as u64;
    let ones = if is_short { i64::MAX as u64 } else { u64::MAX };
    (ones ^ 1 << a ^ 1 << b) | sign << 63
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_contiguous_and_complete() {
        let classes = [Class::Op1To1, Class::Op2To1, Class::Op2To2, Class::Op4To2, Class::Op4To4];
        let counts = classes.map(|class| class.opcodes().len());
        assert_eq!(counts, [11, 24, 15, 8, 5]);
        assert_eq!(classes[0].opcodes().start, 1);
        for pair in classes.windows(2) {
            assert_eq!(pair[0].opcodes().end, pair[1].opcodes().start);
        }
        for code in 0..=u8::MAX {
            let class = Class::of(code);
            assert_eq!(class, classes.into_iter().find(|class| class.opcodes().contains(&code)));
        }
        assert!((1..=END).all(|code| name(code).is_some()));
        assert_eq!((name(0), name(END + 1)), (None, None));
    }
}
