//! Machine code of x86-64: exactly the instructions that programs need.
//!
//! Vector instructions have two encodings: VEX (AVX2) and EVEX (AVX-512). Memory is always addressed
//! relative to one register, [`BASE`], with a 32-bit displacement that is known when compiling, and
//! an index register or none. Each form is compared with an independent decoder in the tests below.

mod general;

pub(super) use general::{Arithmetic, Bits, Condition, Forward, Rotation};

/// The register that holds the address of the frame: RBX, which functions that are called keep.
pub(super) const BASE: u8 = 3;

/// Bytes that are written at once, of which those that count are kept.
const PIECE_BYTES: usize = 8;

/// A vector register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vector(pub(super) u8);

/// A general register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct General(pub(super) u8);

/// Results of functions.
pub(super) const RAX: General = General(0);
/// The amount of shifts.
pub(super) const RCX: General = General(1);
/// The third argument of a function; the high half of the widest products.
pub(super) const RDX: General = General(2);
/// The second argument of a function.
pub(super) const RSI: General = General(6);
/// The first argument of a function.
pub(super) const RDI: General = General(7);
/// In bytes: the output position where it is the same for all lanes, else the rows pending.
pub(super) const R8: General = General(8);
/// The same in code for a single item: functions that are called keep it.
pub(super) const R12: General = General(12);

/// A place in the frame: at a displacement, and at what an index register adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: u32,
    pub(super) index: Option<General>,
}

/// The place at a displacement.
pub(super) const fn place(at: u32) -> Place {
    Place { at, index: None }
}

/// The place at a displacement and an index.
pub(super) const fn indexed(at: u32, index: General) -> Place {
    Place { at, index: Some(index) }
}

/// The last operand of a vector instruction: a register or memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Vector(Vector),
    Place(Place),
}

impl From<Vector> for Source {
    fn from(vector: Vector) -> Source {
        Source::Vector(vector)
    }
}

impl From<Place> for Source {
    fn from(place: Place) -> Source {
        Source::Place(place)
    }
}

/// How many bits of the vector registers an instruction works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    X128 = 0,
    Y256 = 1,
    Z512 = 2,
}

/// A vector instruction: prefix (0 none, 1 = 66, 2 = F3, 3 = F2), opcode map, opcode, and the W bit
/// of either encoding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instruction {
    prefix: u8,
    map: u8,
    opcode: u8,
    vex_w: bool,
    evex_w: bool,
}

const fn instruction(map: u8, opcode: u8) -> Instruction {
    Instruction { prefix: 1, map, opcode, vex_w: false, evex_w: false }
}

impl Instruction {
    /// On 64-bit lanes: W is set in the EVEX encoding.
    const fn quad(self) -> Instruction {
        Instruction { evex_w: true, ..self }
    }

    /// W is set in both encodings.
    const fn wide(self) -> Instruction {
        Instruction { vex_w: true, evex_w: true, ..self }
    }

    const fn prefix(self, prefix: u8) -> Instruction {
        Instruction { prefix, ..self }
    }
}

macro_rules! instructions {
    ($list:ident: $($name:ident = $value:expr;)*) => {
        $(pub(super) const $name: Instruction = $value;)*
        /// Every such instruction with its name.
        #[cfg(test)]
        pub(super) const $list: &[(&str, Instruction)] = &[$((stringify!($name), $name),)*];
    };
}

// Three operands: to, first, second or memory.
instructions! {
    NAMED:
    PADDB = instruction(1, 0xfc);
    PADDW = instruction(1, 0xfd);
    PADDD = instruction(1, 0xfe);
    PADDQ = instruction(1, 0xd4).quad();
    PSUBB = instruction(1, 0xf8);
    PSUBW = instruction(1, 0xf9);
    PSUBD = instruction(1, 0xfa);
    PSUBQ = instruction(1, 0xfb).quad();
    PAND = instruction(1, 0xdb);
    POR = instruction(1, 0xeb);
    PXOR = instruction(1, 0xef);
    PMULLW = instruction(1, 0xd5);
    PMULHW = instruction(1, 0xe5);
    PMULHUW = instruction(1, 0xe4);
    PMADDWD = instruction(1, 0xf5);
    PMULUDQ = instruction(1, 0xf4).quad();
    PMINUB = instruction(1, 0xda);
    PACKUSWB = instruction(1, 0x67);
    PUNPCKLDQ = instruction(1, 0x62);
    PUNPCKHDQ = instruction(1, 0x6a);
    PSHUFB = instruction(2, 0x00);
    PMADDUBSW = instruction(2, 0x04);
    PMULDQ = instruction(2, 0x28).quad();
    PMULLD = instruction(2, 0x40);
    PMINUD = instruction(2, 0x3b);
    PMAXUD = instruction(2, 0x3f);
    PSLLVD = instruction(2, 0x47);
    PSLLVQ = instruction(2, 0x47).wide();
    PSRLVD = instruction(2, 0x45);
    PSRLVQ = instruction(2, 0x45).wide();
    PSRAVD = instruction(2, 0x46);
}

// Two operands: to, the low half of a vector.
instructions! {
    CONVERSIONS:
    PMOVSXBW = instruction(2, 0x20);
    PMOVSXWD = instruction(2, 0x23);
    PMOVZXBW = instruction(2, 0x30);
    PMOVZXWD = instruction(2, 0x33);
}

/// VEX only: all bits of the lanes that are equal.
pub(super) const PCMPEQD: Instruction = instruction(1, 0x76);
/// With an immediate: words of `first` and `second`.
pub(super) const SHUFPS: Instruction = instruction(1, 0xc6).prefix(0);
/// With an immediate, one operand.
pub(super) const PSHUFD: Instruction = instruction(1, 0x70);
const LOAD: Instruction = instruction(1, 0x6f);
const STORE: Instruction = instruction(1, 0x7f);
const FROM_GENERAL: Instruction = instruction(1, 0x6e);
/// From and to places that are not aligned.
const LOAD_ANY: Instruction = instruction(1, 0x6f).prefix(2);
const STORE_ANY: Instruction = instruction(1, 0x7f).prefix(2);
const TO_GENERAL: Instruction = instruction(1, 0x7e);
const STORE_LOW: Instruction = instruction(1, 0xd6).quad();
const BROADCAST: Instruction = instruction(2, 0x58);
/// VEX only.
const SIGNS: Instruction = instruction(1, 0x50).prefix(0);
/// EVEX only: the lanes in which two operands have a bit in common, into a mask register.
const TEST: Instruction = instruction(2, 0x27);

/// A shift by a constant: the opcode, the operation in the place of a register, the lane width.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shift {
    instruction: Instruction,
    operation: u8,
}

macro_rules! shifts {
    ($($name:ident = $opcode:literal / $operation:literal $($quad:ident)?;)*) => {
        $(pub(super) const $name: Shift =
            Shift { instruction: instruction(1, $opcode)$(.$quad())?, operation: $operation };)*
        /// Every shift with its name.
        #[cfg(test)]
        pub(super) const NAMED_SHIFTS: &[(&str, Shift)] = &[$((stringify!($name), $name),)*];
    };
}

shifts! {
    PSRLW = 0x71 / 2;
    PSRAW = 0x71 / 4;
    PSLLW = 0x71 / 6;
    PSRLD = 0x72 / 2;
    PSRAD = 0x72 / 4;
    PSLLD = 0x72 / 6;
    PSRLQ = 0x73 / 2 quad;
}

/// Code as it is written. What does not fit is dropped, and noted.
#[derive(Debug)]
pub(super) struct Code<'m> {
    bytes: &'m mut [u8],
    len: usize,
    is_full: bool,
    is_evex: bool,
}

impl<'m> Code<'m> {
    /// Code with VEX or with EVEX encodings.
    pub(super) fn new(bytes: &'m mut [u8], is_evex: bool) -> Code<'m> {
        Code { bytes, len: 0, is_full: false, is_evex }
    }

    /// Makes the code one that did not fit.
    pub(super) fn give_up(&mut self) {
        self.is_full = true;
    }

    /// The number of bytes, or `None` when they did not fit.
    pub(super) fn finished_len(&self) -> Option<usize> {
        (!self.is_full).then_some(self.len)
    }

    /// The position of the next instruction.
    pub(super) fn here(&self) -> usize {
        self.len
    }

    /// Appends the first `len` bytes of a little-endian number.
    #[inline(always)]
    fn put(&mut self, value: u64, len: usize) {
        match self.bytes.get_mut(self.len..self.len + PIECE_BYTES) {
            Some(bytes) => {
                bytes.copy_from_slice(&value.to_le_bytes());
                self.len += len;
            }
            None => self.is_full = true,
        }
    }

    /// Appends ModRM, SIB and displacement of a place.
    #[inline(always)]
    fn put_place(&mut self, reg: u8, to: Place) {
        let mode = 0x80 | (reg & 7) << 3;
        match to.index {
            None => self.put(u64::from(mode | BASE) | u64::from(to.at) << 8, 5),
            Some(index) => {
                let sib = (index.0 & 7) << 3 | BASE;
                let start = u64::from(mode | 4) | u64::from(sib) << 8;
                self.put(start | u64::from(to.at) << 16, 6);
            }
        }
    }

    /// A vector instruction in either encoding. `mask`: the number of a mask register, and whether
    /// masked lanes become zero; EVEX only.
    #[inline(always)]
    fn vector(
        &mut self,
        instruction: Instruction,
        width: Width,
        [reg, first]: [u8; 2],
        source: Source,
        immediate: Option<u8>,
        mask: u8,
    ) {
        // Bits 3 and 4 of the register in ModRM, or bit 3 of an index.
        let (b, x) = match source {
            Source::Vector(vector) => (vector.0 >> 3 & 1, vector.0 >> 4 & 1),
            Source::Place(place) => (0, place.index.map_or(0, |index| index.0 >> 3)),
        };
        let r = reg >> 3 & 1;
        let Instruction { prefix, map, opcode, vex_w, evex_w } = instruction;
        let (prefix, len) = if self.is_evex {
            let p0 = (r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | (reg >> 4 & 1 ^ 1) << 4 | map;
            let p1 = u8::from(evex_w) << 7 | (!first & 0xf) << 3 | 4 | prefix;
            let p2 = (width as u8) << 5 | (first >> 4 & 1 ^ 1) << 3 | mask;
            (u64::from(u32::from_le_bytes([0x62, p0, p1, p2])) | u64::from(opcode) << 32, 5)
        } else {
            let last = (!first & 0xf) << 3 | (width as u8) << 2 | prefix;
            if map == 1 && !vex_w && b == 0 && x == 0 {
                let bytes = [0xc5, (r ^ 1) << 7 | last, opcode, 0];
                (u64::from(u32::from_le_bytes(bytes)), 3)
            } else {
                let p0 = (r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | map;
                let bytes = [0xc4, p0, u8::from(vex_w) << 7 | last, opcode];
                (u64::from(u32::from_le_bytes(bytes)), 4)
            }
        };
        match source {
            Source::Place(place) => {
                self.put(prefix, len);
                self.put_place(reg, place);
            }
            Source::Vector(vector) => {
                let modrm = 0xc0 | (reg & 7) << 3 | vector.0 & 7;
                self.put(prefix | u64::from(modrm) << (8 * len), len + 1);
            }
        }
        if let Some(immediate) = immediate {
            self.put(immediate.into(), 1);
        }
    }

    /// `to = first OP source`.
    #[inline(always)]
    pub(super) fn op(
        &mut self,
        instruction: Instruction,
        width: Width,
        to: Vector,
        first: Vector,
        source: Source,
    ) {
        self.vector(instruction, width, [to.0, first.0], source, None, 0);
    }

    /// `to = first OP source` with an immediate.
    pub(super) fn op_immediate(
        &mut self,
        instruction: Instruction,
        width: Width,
        to: Vector,
        first: Vector,
        source: Source,
        immediate: u8,
    ) {
        self.vector(instruction, width, [to.0, first.0], source, Some(immediate), 0);
    }

    /// `to = from shifted by a constant`.
    #[inline(always)]
    pub(super) fn shift(&mut self, shift: Shift, width: Width, to: Vector, from: Vector, by: u8) {
        self.vector(shift.instruction, width, [shift.operation, to.0], from.into(), Some(by), 0);
    }

    /// Words of `from`, chosen by two bits each in every 128 bits.
    pub(super) fn shuffle_words(&mut self, width: Width, to: Vector, from: Vector, choice: u8) {
        self.vector(PSHUFD, width, [to.0, 0], from.into(), Some(choice), 0);
    }

    /// Moves a whole vector, from an aligned place or a register.
    #[inline(always)]
    pub(super) fn load(&mut self, width: Width, to: Vector, from: Source) {
        self.vector(LOAD, width, [to.0, 0], from, None, 0);
    }

    /// Stores a whole vector at an aligned place.
    #[inline(always)]
    pub(super) fn store(&mut self, width: Width, to: Place, from: Vector) {
        self.vector(STORE, width, [from.0, 0], to.into(), None, 0);
    }

    /// A word in every lane.
    pub(super) fn broadcast(&mut self, width: Width, to: Vector, from: General) {
        let low = Source::Vector(Vector(from.0));
        self.vector(FROM_GENERAL, Width::X128, [to.0, 0], low, None, 0);
        self.vector(BROADCAST, width, [to.0, 0], to.into(), None, 0);
    }

    /// The low half of a vector, each of its lanes twice as wide.
    pub(super) fn convert(
        &mut self,
        conversion: Instruction,
        width: Width,
        to: Vector,
        from: Vector,
    ) {
        self.vector(conversion, width, [to.0, 0], from.into(), None, 0);
    }

    /// A word from memory, or of a general register, in the low lane; the others become zero.
    pub(super) fn load_low(&mut self, to: Vector, from: Result<Place, General>) {
        let from = from.map_or_else(|general| Vector(general.0).into(), Source::from);
        self.vector(FROM_GENERAL, Width::X128, [to.0, 0], from, None, 0);
    }

    /// Moves a whole vector from any place. VEX only.
    pub(super) fn load_any(&mut self, width: Width, to: Vector, from: Place) {
        self.vector(LOAD_ANY, width, [to.0, 0], from.into(), None, 0);
    }

    /// Stores a whole vector at any place. VEX only.
    pub(super) fn store_any(&mut self, width: Width, to: Place, from: Vector) {
        self.vector(STORE_ANY, width, [from.0, 0], to.into(), None, 0);
    }

    /// Stores the word in the low lane.
    pub(super) fn store_low(&mut self, to: Place, from: Vector) {
        self.vector(TO_GENERAL, Width::X128, [from.0, 0], to.into(), None, 0);
    }

    /// Stores the two low words.
    pub(super) fn store_low_pair(&mut self, to: Place, from: Vector) {
        self.vector(STORE_LOW, Width::X128, [from.0, 0], to.into(), None, 0);
    }

    /// The sign bits of the words of a 256-bit vector. VEX only.
    pub(super) fn signs(&mut self, to: General, from: Vector) {
        self.vector(SIGNS, Width::Y256, [to.0, 0], from.into(), None, 0);
    }

    /// The lanes in which a vector has bits of another: through mask register 1. EVEX only.
    pub(super) fn test(&mut self, to: General, from: Vector, bits: Place) {
        self.vector(TEST, Width::Z512, [1, from.0], bits.into(), None, 0);
        // kmovw to, k1
        self.put(u64::from(u32::from_le_bytes([0xc5, 0xf8, 0x93, 0xc1 | to.0 << 3])), 4);
    }

    /// A vector from memory in the lanes of a mask, zero in the others. EVEX only.
    pub(super) fn load_lanes(&mut self, to: Vector, from: Place, lanes: General) {
        // kmovw k1, lanes
        self.put(u64::from(u32::from_le_bytes([0xc5, 0xf8, 0x92, 0xc8 | lanes.0])), 4);
        self.vector(LOAD, Width::Z512, [to.0, 0], from.into(), None, 0x81);
    }

    /// Begins the function, whose argument is the address of the frame. The stack is aligned then.
    pub(super) fn enter(&mut self) {
        // push rbx; mov rbx, rdi
        self.put(0xfb89_4853, 4);
    }

    /// Begins a function that also uses R12, and calls others.
    pub(super) fn enter_keeping(&mut self) {
        // push rbx; push r12; push rax, for the alignment of the stack; mov rbx, rdi
        self.put(0x00fb_8948_5054_4153, 7);
    }

    /// Leaves it. Upper halves of vectors were not used.
    pub(super) fn leave_keeping(&mut self) {
        // pop rcx; pop r12; pop rbx; ret
        self.put(0xc3_5b5c_4159, 5);
    }

    /// Leaves the function. The upper halves of the vectors become zero, as the caller expects.
    pub(super) fn leave(&mut self) {
        // pop rbx; vzeroupper; ret
        self.put(0xc3_77f8_c55b, 5);
    }
}

#[cfg(test)]
mod tests;
