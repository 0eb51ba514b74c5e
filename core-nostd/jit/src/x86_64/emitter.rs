//! Vector registers as a cache of slots, and the instructions built on it.
//!
//! A value is written to its slot when its register is wanted for something else, or when a scope
//! begins: inside of it, registers hold other things. A value of a scope is dead behind the END of
//! the scope, and never written when it was in a register until then.

use alloc::vec::Vec;

use packetcrypt_core::randhash::lower::{SLOTS, Slot};

use super::encode::{Code, Instruction, PAND, Place, Shift, Source, Vector, Width};
use super::frame::{Constant, IMMEDIATES_MAX, Layout};

/// Most vector registers.
const VECTORS_MAX: usize = 32;
/// In place of a register: none.
const NOWHERE: u8 = u8::MAX;
/// In place of a slot: none.
const NOTHING: Slot = Slot::MAX;

/// The kind of code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) layout: Layout,
    pub(super) width: Width,
    /// AVX-512 instead of AVX2.
    pub(super) is_evex: bool,
}

impl Target {
    const fn vectors(self) -> u32 {
        if self.is_evex { 32 } else { 16 }
    }
}

/// Where values are.
#[derive(Clone, Debug)]
pub(super) struct Homes {
    /// For each slot: the register that holds it.
    vectors: [u8; SLOTS],
    /// For each register: the slot it holds.
    slots: [Slot; VECTORS_MAX],
    /// The register that was last taken from a value.
    taken: u32,
    /// Registers that hold something; that hold what is not in its slot; that can not be taken.
    held: u32,
    dirty: u32,
    pinned: u32,
}

impl Homes {
    pub(super) const fn new() -> Homes {
        Homes {
            vectors: [NOWHERE; SLOTS],
            slots: [NOTHING; VECTORS_MAX],
            taken: 0,
            held: 0,
            dirty: 0,
            pinned: 0,
        }
    }
}

/// Writes instructions and knows what registers hold.
pub(super) struct Emitter<'a> {
    pub(super) code: Code<'a>,
    pub(super) target: Target,
    homes: &'a mut Homes,
    immediates: &'a mut Vec<u32>,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(
        code: Code<'a>,
        target: Target,
        homes: &'a mut Homes,
        immediates: &'a mut Vec<u32>,
    ) -> Emitter<'a> {
        immediates.clear();
        let mut emitter = Emitter { code, target, homes, immediates };
        emitter.forget();
        emitter
    }

    pub(super) fn layout(&self) -> Layout {
        self.target.layout
    }

    /// The bytes of the code, or `None` when something had no room.
    pub(super) fn finished_len(&self) -> Option<usize> {
        self.code.finished_len().filter(|_| self.immediates.len() <= IMMEDIATES_MAX)
    }

    /// A register that holds nothing, until [`done`](Emitter::done) or the end of the step.
    #[inline(always)]
    pub(super) fn temporary(&mut self) -> Vector {
        let all = u32::MAX >> (32 - self.target.vectors());
        let homes = &mut *self.homes;
        let free = all & !(homes.held | homes.pinned);
        let index = if free != 0 {
            free.trailing_zeros()
        } else {
            // Of the values that the step does not use, in turn.
            let candidates = homes.held & !homes.pinned;
            if candidates == 0 {
                // No step uses all registers.
                self.code.give_up();
                return Vector(0);
            }
            let behind = candidates & u32::MAX.checked_shl(homes.taken + 1).unwrap_or(0);
            let next = if behind != 0 { behind } else { candidates }.trailing_zeros();
            homes.taken = next;
            let slot = homes.slots[next as usize & 31];
            homes.vectors[usize::from(slot)] = NOWHERE;
            let bit = 1 << next;
            homes.held &= !bit;
            if homes.dirty & bit != 0 {
                homes.dirty &= !bit;
                let to = self.target.layout.slot(slot);
                self.code.store(self.target.width, to, Vector(next as u8));
            }
            next
        };
        self.homes.pinned |= 1 << index;
        Vector(index as u8)
    }

    /// Gives back a temporary register.
    #[inline(always)]
    pub(super) fn done(&mut self, vector: Vector) {
        self.homes.pinned &= !(1 << vector.0);
    }

    /// Ends a step: all its temporary registers are free.
    #[inline(always)]
    pub(super) fn end_step(&mut self) {
        self.homes.pinned = 0;
    }

    /// Keeps a temporary register over the end of a step.
    pub(super) fn keep(&mut self, vector: Vector) {
        self.homes.pinned |= 1 << vector.0;
    }

    fn pin(&mut self, index: u8) {
        self.homes.pinned |= 1 << index;
    }

    /// A slot in a register. It stays there until the end of the step.
    #[inline(always)]
    pub(super) fn vector(&mut self, slot: Slot) -> Vector {
        let home = self.homes.vectors[usize::from(slot)];
        if home != NOWHERE {
            self.pin(home);
            return Vector(home);
        }
        let vector = self.temporary();
        self.code.load(self.target.width, vector, self.target.layout.slot(slot).into());
        self.hold(slot, vector);
        self.pin(vector.0);
        vector
    }

    /// A slot where it is: in a register or in memory.
    #[inline(always)]
    pub(super) fn source(&mut self, slot: Slot) -> Source {
        let home = self.homes.vectors[usize::from(slot)];
        if home == NOWHERE {
            return self.target.layout.slot(slot).into();
        }
        self.pin(home);
        Vector(home).into()
    }

    fn hold(&mut self, slot: Slot, vector: Vector) {
        self.homes.vectors[usize::from(slot)] = vector.0;
        self.homes.slots[usize::from(vector.0) & 31] = slot;
        self.homes.held |= 1 << vector.0;
    }

    /// A register, which is given away, becomes the value of a slot.
    #[inline(always)]
    pub(super) fn define(&mut self, slot: Slot, vector: Vector) {
        let before = self.homes.vectors[usize::from(slot)];
        if before != NOWHERE {
            // A value of a scope that is closed.
            self.homes.held &= !(1 << before);
            self.homes.dirty &= !(1 << before);
        }
        self.hold(slot, vector);
        self.homes.dirty |= 1 << vector.0;
        self.pin(vector.0);
    }

    /// Writes all values to their slots.
    pub(super) fn flush(&mut self) {
        let mut dirty = self.homes.dirty;
        while dirty != 0 {
            let index = dirty.trailing_zeros();
            dirty &= dirty - 1;
            let place = self.target.layout.slot(self.homes.slots[index as usize & 31]);
            self.code.store(self.target.width, place, Vector(index as u8));
        }
        self.homes.dirty = 0;
    }

    /// Registers hold nothing from here on: code is reached from elsewhere, or values are dead.
    pub(super) fn forget(&mut self) {
        let mut held = self.homes.held;
        while held != 0 {
            let index = held.trailing_zeros() as usize & 31;
            held &= held - 1;
            self.homes.vectors[usize::from(self.homes.slots[index])] = NOWHERE;
        }
        self.homes.held = 0;
        self.homes.dirty = 0;
        self.homes.pinned = 0;
    }

    /// `first OP source` in a new register.
    #[inline(always)]
    pub(super) fn op(
        &mut self,
        instruction: Instruction,
        first: Vector,
        source: impl Into<Source>,
    ) -> Vector {
        let to = self.temporary();
        self.code.op(instruction, self.target.width, to, first, source.into());
        to
    }

    /// `to = to OP source`.
    #[inline(always)]
    pub(super) fn apply(
        &mut self,
        instruction: Instruction,
        to: Vector,
        source: impl Into<Source>,
    ) {
        self.code.op(instruction, self.target.width, to, to, source.into());
    }

    /// `first OP to` in the place of `to`.
    #[inline(always)]
    pub(super) fn apply_to(&mut self, instruction: Instruction, first: Vector, to: Vector) {
        self.code.op(instruction, self.target.width, to, first, to.into());
    }

    /// `to OP constant` in the place of `to`.
    #[inline(always)]
    pub(super) fn apply_constant(
        &mut self,
        instruction: Instruction,
        to: Vector,
        constant: Constant,
    ) {
        let place = self.layout().constant(constant);
        self.apply(instruction, to, place);
    }

    /// `first OP constant` in a new register.
    #[inline(always)]
    pub(super) fn op_constant(
        &mut self,
        instruction: Instruction,
        first: Vector,
        constant: Constant,
    ) -> Vector {
        let place = self.layout().constant(constant);
        self.op(instruction, first, place)
    }

    /// `constant OP source` in a new register.
    #[inline(always)]
    pub(super) fn constant_op(
        &mut self,
        instruction: Instruction,
        constant: Constant,
        source: impl Into<Source>,
    ) -> Vector {
        let to = self.load(self.layout().constant(constant));
        self.apply(instruction, to, source);
        to
    }

    /// The bits of a source that are set in a constant, in a new register.
    #[inline(always)]
    pub(super) fn masked(&mut self, source: Source, constant: Constant) -> Vector {
        match source {
            Source::Vector(vector) => self.op_constant(PAND, vector, constant),
            Source::Place(_) => self.constant_op(PAND, constant, source),
        }
    }

    /// A vector from memory, or of another register, in a new register.
    #[inline(always)]
    pub(super) fn load(&mut self, from: impl Into<Source>) -> Vector {
        let to = self.temporary();
        self.code.load(self.target.width, to, from.into());
        to
    }

    /// Shifted by a constant, in a new register.
    #[inline(always)]
    pub(super) fn shift(&mut self, shift: Shift, from: Vector, by: u8) -> Vector {
        let to = self.temporary();
        self.code.shift(shift, self.target.width, to, from, by);
        to
    }

    /// Shifted by a constant, in place.
    #[inline(always)]
    pub(super) fn shift_in_place(&mut self, shift: Shift, to: Vector, by: u8) {
        self.code.shift(shift, self.target.width, to, to, by);
    }

    /// A constant of the program in all lanes.
    pub(super) fn immediate(&mut self, value: u32) -> Place {
        let known = self.immediates.iter().position(|immediate| *immediate == value);
        let number = known.unwrap_or_else(|| {
            self.immediates.push(value);
            self.immediates.len() - 1
        });
        self.layout().immediate(number.min(IMMEDIATES_MAX - 1))
    }
}
