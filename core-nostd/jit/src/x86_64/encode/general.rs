//! Instructions on general registers, jumps and calls.

use super::{BASE, Code, General, Place};

/// How many bits of general registers an instruction works on. With 32 the others become zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::x86_64) enum Bits {
    B32 = 0x40,
    B64 = 0x48,
}

/// An instruction with two operands, of which the first is also the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::x86_64) enum Arithmetic {
    Add = 0,
    Or = 1,
    And = 4,
    Sub = 5,
    Xor = 6,
}

impl Arithmetic {
    /// The opcode where the second operand is a register or a place.
    fn of_two(self) -> u8 {
        (self as u8) << 3 | 3
    }
}

/// A shift or a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::x86_64) enum Rotation {
    RotateLeft = 0,
    RotateRight = 1,
    Left = 4,
    Right = 5,
    RightSigned = 7,
}

/// A condition of a jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::x86_64) enum Condition {
    Below = 0x2,
    Zero = 0x4,
}

/// A place in the code that is jumped to from before it: where the distances have to be written.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(in crate::x86_64) struct Forward {
    at: usize,
}

impl Code<'_> {
    /// A 32-bit instruction with a register, or an operation number, and a place.
    #[inline(always)]
    fn general(&mut self, opcode: u8, reg: u8, to: Place) {
        self.general_of(opcode, reg, to, Bits::B32);
    }

    #[inline(always)]
    fn general_of(&mut self, opcode: u8, reg: u8, to: Place, bits: Bits) {
        let mode = 0x80 | (reg & 7) << 3;
        let rex = bits as u8 | (reg >> 3) << 2;
        // All of it at once: there is hardly anything else in the code for a single item.
        let (start, start_len) = match to.index {
            None => ([rex, opcode, mode | BASE, 0], 3),
            Some(index) => {
                let sib = (index.0 & 7) << 3 | BASE;
                ([rex | (index.0 >> 3) << 1, opcode, mode | 4, sib], 4)
            }
        };
        let at = u64::from(to.at) << (8 * start_len);
        self.put(u64::from(u32::from_le_bytes(start)) | at, start_len + 4);
    }

    /// The 32-bit constant at the end of an instruction.
    fn constant(&mut self, value: u32) {
        self.put(value.into(), 4);
    }

    /// An instruction with two registers, or an operation number and a register.
    fn general_pair(&mut self, opcode: u8, reg: u8, rm: u8, bits: Bits) {
        let rex = bits as u8 | (reg >> 3) << 2 | rm >> 3;
        let modrm = 0xc0 | (reg & 7) << 3 | rm & 7;
        self.put(u32::from_le_bytes([rex, opcode, modrm, 0]).into(), 3);
    }

    pub(in crate::x86_64) fn load_word(&mut self, to: General, from: Place) {
        self.general(0x8b, to.0, from);
    }

    pub(in crate::x86_64) fn store_word(&mut self, to: Place, from: General) {
        self.general(0x89, from.0, to);
    }

    pub(in crate::x86_64) fn set_word(&mut self, to: Place, value: u32) {
        self.general(0xc7, 0, to);
        self.constant(value);
    }

    pub(in crate::x86_64) fn increment_word(&mut self, to: Place) {
        self.general(0xff, 0, to);
    }

    pub(in crate::x86_64) fn compare_word(&mut self, at: Place, with: u32) {
        self.general(0x81, 7, at);
        self.constant(with);
    }

    pub(in crate::x86_64) fn test_word(&mut self, at: Place, bits: u32) {
        self.general(0xf7, 0, at);
        self.constant(bits);
    }

    /// `to = word * factor`.
    pub(in crate::x86_64) fn multiply_word(&mut self, to: General, from: Place, factor: u32) {
        self.general(0x69, to.0, from);
        self.constant(factor);
    }

    pub(in crate::x86_64) fn move_general(&mut self, to: General, from: General, bits: Bits) {
        self.general_pair(0x8b, to.0, from.0, bits);
    }

    pub(in crate::x86_64) fn test_general(&mut self, register: General) {
        self.general_pair(0x85, register.0, register.0, Bits::B32);
    }

    /// `to = to OP word`.
    pub(in crate::x86_64) fn apply_word(
        &mut self,
        operation: Arithmetic,
        to: General,
        from: Place,
    ) {
        self.general(operation.of_two(), to.0, from);
    }

    /// `to = to OP from`.
    pub(in crate::x86_64) fn apply_general(
        &mut self,
        operation: Arithmetic,
        to: General,
        from: General,
        bits: Bits,
    ) {
        self.general_pair(operation.of_two(), to.0, from.0, bits);
    }

    /// `to = to OP constant`.
    pub(in crate::x86_64) fn apply_constant(
        &mut self,
        operation: Arithmetic,
        to: General,
        value: u32,
    ) {
        self.general_pair(0x81, operation as u8, to.0, Bits::B32);
        self.constant(value);
    }

    pub(in crate::x86_64) fn compare_constant(&mut self, of: General, with: u32) {
        self.general_pair(0x81, 7, of.0, Bits::B32);
        self.constant(with);
    }

    /// `word += from`.
    pub(in crate::x86_64) fn add_to_word(&mut self, to: Place, from: General) {
        self.general(0x01, from.0, to);
    }

    /// All bits of `to` from the borrow of a subtraction, or the carry of an addition.
    pub(in crate::x86_64) fn spread_carry(&mut self, to: General) {
        self.general_pair(0x1b, to.0, to.0, Bits::B64);
    }

    pub(in crate::x86_64) fn negate(&mut self, register: General) {
        self.general_pair(0xf7, 3, register.0, Bits::B64);
    }

    /// Shifts or rotates by a constant below the number of bits.
    pub(in crate::x86_64) fn rotate(
        &mut self,
        by: Rotation,
        register: General,
        bits: Bits,
        amount: u8,
    ) {
        self.general_pair(0xc1, by as u8, register.0, bits);
        self.put(amount.into(), 1);
    }

    /// Shifts or rotates by RCX, modulo the number of bits.
    pub(in crate::x86_64) fn rotate_by_rcx(&mut self, by: Rotation, register: General, bits: Bits) {
        self.general_pair(0xd3, by as u8, register.0, bits);
    }

    pub(in crate::x86_64) fn swap_bytes(&mut self, register: General) {
        let rex = 0x40 | register.0 >> 3;
        self.put(u32::from_le_bytes([rex, 0x0f, 0xc8 | register.0 & 7, 0]).into(), 3);
    }

    /// `to = to * from`, the low bits.
    pub(in crate::x86_64) fn multiply(&mut self, to: General, from: General, bits: Bits) {
        let rex = bits as u8 | (to.0 >> 3) << 2 | from.0 >> 3;
        let modrm = 0xc0 | (to.0 & 7) << 3 | from.0 & 7;
        self.put(u32::from_le_bytes([rex, 0x0f, 0xaf, modrm]).into(), 4);
    }

    /// The 128 bits of `RAX * from` in RAX and RDX.
    pub(in crate::x86_64) fn multiply_whole(&mut self, from: General, is_signed: bool) {
        self.general_pair(0xf7, 4 + u8::from(is_signed), from.0, Bits::B64);
    }

    /// A word, with its sign, in all of a register.
    pub(in crate::x86_64) fn load_signed(&mut self, to: General, from: Place) {
        self.general_of(0x63, to.0, from, Bits::B64);
    }

    /// Stores all of a register: two words.
    pub(in crate::x86_64) fn store_pair(&mut self, to: Place, from: General) {
        self.general_of(0x89, from.0, to, Bits::B64);
    }

    pub(in crate::x86_64) fn set_general(&mut self, to: General, value: u64) {
        let opcode = 0xb8 | to.0 & 7;
        if let Ok(value) = u32::try_from(value) {
            let start = u16::from_le_bytes([0x40 | to.0 >> 3, opcode]);
            self.put(u64::from(start) | u64::from(value) << 16, 6);
        } else {
            self.put(u16::from_le_bytes([0x48 | to.0 >> 3, opcode]).into(), 2);
            self.put(value, 8);
        }
    }

    /// Jumps back to a position when a condition holds.
    pub(in crate::x86_64) fn jump_back(&mut self, condition: Condition, to: usize) {
        let distance = (to as u32).wrapping_sub(self.len as u32 + 6);
        let opcode = u64::from(u16::from_le_bytes([0x0f, 0x80 | condition as u8]));
        self.put(opcode | u64::from(distance) << 16, 6);
    }

    /// Jumps forward when a condition holds.
    pub(in crate::x86_64) fn jump_if(&mut self, condition: Condition) -> Forward {
        self.put(u64::from(u16::from_le_bytes([0x0f, 0x80 | condition as u8])), 6);
        Forward { at: self.len }
    }

    /// Jumps forward.
    pub(in crate::x86_64) fn jump(&mut self) -> Forward {
        self.put(0xe9, 5);
        Forward { at: self.len }
    }

    /// This is where a jump goes to.
    pub(in crate::x86_64) fn land(&mut self, jump: Forward) {
        let distance = self.len.wrapping_sub(jump.at) as u32;
        if let Some(bytes) = self.bytes[..jump.at].last_chunk_mut() {
            *bytes = distance.to_le_bytes();
        }
    }

    /// Calls the function whose address is in memory.
    pub(in crate::x86_64) fn call(&mut self, address: Place) {
        self.general(0xff, 2, address);
    }

    /// The address of the frame as the first argument of a function.
    pub(in crate::x86_64) fn set_frame_argument(&mut self) {
        // mov rdi, rbx
        self.put(0xdf_8948, 3);
    }

    /// The second argument of a function.
    pub(in crate::x86_64) fn set_argument(&mut self, value: u32) {
        // mov esi, value
        self.put(0xbe | u64::from(value) << 8, 5);
    }
}
