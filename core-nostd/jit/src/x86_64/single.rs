//! The code for a single item: a word for each slot, general registers, nothing kept in them.
//!
//! Announcements of different jobs are checked by some items of a program, so what counts is that
//! it is compiled quickly: a step becomes a few instructions on memory, the sooner the fewer.
//! Operations that need many are calls of functions.

mod frame;
mod functions;
mod operations;

use packetcrypt_core::randhash::SCOPES_MAX;
use packetcrypt_core::randhash::lower::{Lowered, Slot, Step, WINDOW_SLOT};

use super::encode::{
    Arithmetic, Bits, Code, Condition, Forward, PADDD, R12, RAX, Vector, Width, indexed,
};
use super::operations::Operand;
pub(super) use frame::Frame;
use frame::{OUTPUT, POSITION_BITS, index, slot};

/// A vector for a moment.
const SUMS: Vector = Vector(0);

/// A scope of which the end is to come.
#[derive(Clone, Copy, Debug)]
enum Scope {
    Loop { start: usize, count: u16 },
    True { to_false_side: Forward },
    False { over_false_side: Forward },
}

/// Emits a function that executes one cycle of a program. It takes the address of a [`Frame`].
pub(super) fn emit(code: &mut Code<'_>, lowered: &Lowered) {
    let mut walk = Walk { code, lowered, scopes: heapless::Vec::new() };
    walk.code.enter_keeping();
    walk.code.apply_general(Arithmetic::Xor, R12, R12, Bits::B32);
    for step in lowered.steps() {
        walk.step(step);
    }
    walk.code.leave_keeping();
}

struct Walk<'w, 'c> {
    code: &'w mut Code<'c>,
    lowered: &'w Lowered,
    scopes: heapless::Vec<Scope, SCOPES_MAX>,
}

impl Walk<'_, '_> {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Compute { opcode, to, a, b } => {
                operations::emit(self.code, opcode, to, a, Operand::Slots(b));
            }
            Step::ComputeImmediate { opcode, to, a, b } => {
                operations::emit(self.code, opcode, to, a, Operand::Constant(b));
            }
            Step::Memory { to, first, step } => self.memory(to, first, step),
            Step::Loop { count } => {
                self.code.set_word(index(self.scopes.len()), 0);
                let start = self.code.here();
                self.open(Scope::Loop { start, count });
            }
            Step::If { condition, mask, .. } => {
                self.code.test_word(slot(condition), mask.into());
                let to_false_side = self.code.jump_if(Condition::Zero);
                self.open(Scope::True { to_false_side });
            }
            Step::Again { outputs } | Step::Else { outputs } | Step::Join { outputs } => {
                self.output(self.lowered.outputs(outputs));
                self.close();
            }
        }
    }

    fn open(&mut self, scope: Scope) {
        // There is room: lowering has the same limit of nesting.
        let _ = self.scopes.push(scope);
    }

    /// The next iteration, the false side of a branch, or what is behind the scope.
    fn close(&mut self) {
        match self.scopes.pop() {
            Some(Scope::Loop { start, count }) => {
                let at = index(self.scopes.len());
                self.code.increment_word(at);
                self.code.compare_word(at, count.into());
                self.code.jump_back(Condition::Below, start);
            }
            Some(Scope::True { to_false_side }) => {
                let over_false_side = self.code.jump();
                self.code.land(to_false_side);
                self.open(Scope::False { over_false_side });
            }
            Some(Scope::False { over_false_side }) => self.code.land(over_false_side),
            None => {}
        }
    }

    /// Loads a word of the window, whose number is taken modulo 256.
    fn memory(&mut self, to: Slot, first: u8, step: u8) {
        let is_loop = |scope: &Scope| matches!(scope, Scope::Loop { .. });
        let depth = self.scopes.iter().rposition(is_loop).unwrap_or(0);
        self.code.multiply_word(RAX, index(depth), 4 * u32::from(step));
        self.code.apply_constant(Arithmetic::Add, RAX, 4 * u32::from(first));
        self.code.apply_constant(Arithmetic::And, RAX, 4 * 255);
        self.code.load_word(RAX, indexed(slot(WINDOW_SLOT as Slot).at, RAX));
        self.code.store_word(slot(to), RAX);
    }

    /// Adds values to the output at its position, behind which there is room for all of them, and
    /// moves the position.
    fn output(&mut self, slots: &[Slot]) {
        if slots.is_empty() {
            return;
        }
        // What was computed in a scope is mostly side by side: four words at once.
        let mut number = 0;
        while let [first, ..] = slots[number..] {
            let to = indexed(OUTPUT + 4 * number as u32, R12);
            let four = slots[number..].first_chunk();
            if four.is_some_and(|four| *four == [first, first + 1, first + 2, first + 3]) {
                self.code.load_any(Width::X128, SUMS, slot(first));
                self.code.op(PADDD, Width::X128, SUMS, SUMS, to.into());
                self.code.store_any(Width::X128, to, SUMS);
                number += 4;
            } else {
                self.code.load_word(RAX, slot(first));
                self.code.add_to_word(to, RAX);
                number += 1;
            }
        }
        self.code.apply_constant(Arithmetic::Add, R12, 4 * slots.len() as u32);
        self.code.apply_constant(Arithmetic::And, R12, POSITION_BITS);
    }
}
