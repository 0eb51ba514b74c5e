//! A whole program for an item in each lane: loops, branches, whose sides are both executed, under
//! masks, and the steps between them (spec 02, 8.2 and 10.5).

use packetcrypt_core::randhash::SCOPES_MAX;
use packetcrypt_core::randhash::lower::{Lowered, Slot, Step};

use super::emitter::Emitter;
use super::encode::{self as i, Condition, Forward, R8, RAX, RCX, indexed};
use super::frame::Constant as C;
use super::operations::{Operand, Operation};

/// A scope of which the end is to come.
#[derive(Clone, Copy, Debug)]
enum Scope {
    Loop { start: usize, count: u16 },
    True { to_false_side: Forward },
    False { over_false_side: Forward },
}

/// Emits a program.
pub(super) struct Walk<'e, 'a> {
    pub(super) emitter: &'e mut Emitter<'a>,
    pub(super) lowered: &'e Lowered,
    scopes: heapless::Vec<Scope, SCOPES_MAX>,
    /// The depth of the innermost branch, if its sides are executed under masks.
    pub(super) masked: Option<usize>,
}

impl<'e, 'a> Walk<'e, 'a> {
    /// Emits a function that executes one cycle of a program. It takes the address of a frame.
    pub(super) fn emit(emitter: &'e mut Emitter<'a>, lowered: &'e Lowered) {
        let mut walk = Walk { emitter, lowered, scopes: heapless::Vec::new(), masked: None };
        walk.emitter.code.enter();
        walk.emitter.code.apply_general(i::Arithmetic::Xor, R8, R8, i::Bits::B32);
        for step in lowered.steps() {
            walk.step(step);
        }
        walk.add_pending();
        walk.emitter.code.leave();
    }

    /// Whether output positions are kept for each lane.
    pub(super) fn diverges(&self) -> bool {
        self.lowered.diverges()
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Compute { opcode, to, a, b } => {
                self.emitter.compute(&Operation { opcode, to, a, b: Operand::Slots(b) });
            }
            Step::ComputeImmediate { opcode, to, a, b } => {
                self.emitter.compute(&Operation { opcode, to, a, b: Operand::Constant(b) });
            }
            Step::Memory { to, first, step } => self.memory(to, first, step),
            Step::Loop { count } => self.open_loop(count),
            Step::Again { outputs } => {
                self.output(outputs);
                self.again();
            }
            Step::If { condition, mask, .. } => self.branch(condition, mask),
            Step::Else { outputs } => {
                self.output(outputs);
                self.otherwise();
            }
            Step::Join { outputs } => {
                self.output(outputs);
                self.join();
            }
        }
    }

    /// Loads a word of the window, whose number is taken modulo 256.
    fn memory(&mut self, to: Slot, first: u8, step: u8) {
        let e = &mut *self.emitter;
        let layout = e.layout();
        let is_loop = |scope: &Scope| matches!(scope, Scope::Loop { .. });
        let depth = self.scopes.iter().rposition(is_loop).unwrap_or(0);
        e.code.multiply_word(RAX, layout.index(depth), u32::from(step) * layout.row());
        e.code.apply_constant(i::Arithmetic::Add, RAX, u32::from(first) * layout.row());
        e.code.apply_constant(i::Arithmetic::And, RAX, 255 * layout.row());
        let value = e.load(indexed(layout.window() as u32, RAX));
        e.define(to, value);
        e.end_step();
    }

    fn open(&mut self, scope: Scope) {
        // There is room: lowering has the same limit of nesting.
        let _ = self.scopes.push(scope);
    }

    fn open_loop(&mut self, count: u16) {
        let e = &mut *self.emitter;
        e.flush();
        e.forget();
        e.code.set_word(e.layout().index(self.scopes.len()), 0);
        let start = e.code.here();
        self.open(Scope::Loop { start, count });
    }

    fn again(&mut self) {
        self.emitter.forget();
        self.add_many_pending();
        if let Some(Scope::Loop { start, count }) = self.scopes.pop() {
            let e = &mut *self.emitter;
            let index = e.layout().index(self.scopes.len());
            e.code.increment_word(index);
            e.code.compare_word(index, count.into());
            e.code.jump_back(Condition::Below, start);
        }
    }

    fn branch(&mut self, condition: Slot, mask: u8) {
        self.emitter.flush();
        self.add_pending();
        let to_false_side = self.divide(condition, mask);
        self.open(Scope::True { to_false_side });
    }

    /// Divides the lanes. Where no condition is true, all go to the false side at once.
    fn divide(&mut self, condition: Slot, mask: u8) -> Forward {
        let depth = self.scopes.len();
        let around = self.masked.replace(depth);
        let diverges = self.diverges();
        let e = &mut *self.emitter;
        let layout = e.layout();
        if !diverges {
            e.code.store_word(layout.saved_position(depth), R8);
        }
        let all = u32::MAX >> (32 - layout.lanes());
        let condition = e.vector(condition);
        if e.target.is_evex {
            let bits = if mask == 1 { C::One } else { C::Seven };
            e.code.test(RAX, condition, layout.constant(bits));
        } else if mask == 1 {
            let signs = e.shift(i::PSLLD, condition, 31);
            e.code.signs(RAX, signs);
        } else {
            let bits = e.op_constant(i::PAND, condition, C::Seven);
            e.apply_constant(i::PCMPEQD, bits, C::Zero);
            e.code.signs(RAX, bits);
            e.code.apply_constant(i::Arithmetic::Xor, RAX, all);
        }
        e.end_step();
        match around {
            Some(around) => {
                e.code.apply_word(i::Arithmetic::And, RAX, layout.active(around));
                e.code.load_word(RCX, layout.active(around));
                e.code.apply_general(i::Arithmetic::Xor, RCX, RAX, i::Bits::B32);
            }
            None => {
                e.code.move_general(RCX, RAX, i::Bits::B32);
                e.code.apply_constant(i::Arithmetic::Xor, RCX, all);
            }
        }
        e.code.store_word(layout.otherwise(depth), RCX);
        e.code.test_general(RAX);
        let to_false_side = e.code.jump_if(Condition::Zero);
        self.set_mask(depth);
        to_false_side
    }

    /// The lanes of RAX, which are not none, execute what follows.
    fn set_mask(&mut self, depth: usize) {
        let e = &mut *self.emitter;
        let layout = e.layout();
        e.code.store_word(layout.active(depth), RAX);
        let mask = e.temporary();
        if e.target.is_evex {
            e.code.load_lanes(mask, layout.constant(C::Ones), RAX);
        } else {
            e.code.broadcast(e.target.width, mask, RAX);
            e.apply(i::PAND, mask, i::place(layout.lane_bits()));
            e.apply(i::PCMPEQD, mask, i::place(layout.lane_bits()));
        }
        e.code.store(e.target.width, layout.mask(depth), mask);
        e.end_step();
    }

    /// The end of the true side, and the beginning of the false side.
    fn otherwise(&mut self) {
        self.emitter.forget();
        self.add_pending();
        let Some(Scope::True { to_false_side }) = self.scopes.pop() else { return };
        let depth = self.scopes.len();
        let e = &mut *self.emitter;
        let layout = e.layout();
        e.code.load_word(RAX, layout.otherwise(depth));
        e.code.test_general(RAX);
        let over_false_side = e.code.jump_if(Condition::Zero);
        e.code.land(to_false_side);
        if !self.diverges() {
            self.emitter.code.load_word(R8, layout.saved_position(depth));
        }
        self.emitter.code.load_word(RAX, layout.otherwise(depth));
        self.set_mask(depth);
        self.open(Scope::False { over_false_side });
    }

    fn join(&mut self) {
        self.emitter.forget();
        self.add_pending();
        if let Some(Scope::False { over_false_side }) = self.scopes.pop() {
            self.emitter.code.land(over_false_side);
        }
        let is_branch = |scope: &Scope| !matches!(scope, Scope::Loop { .. });
        self.masked = self.scopes.iter().rposition(is_branch);
    }
}
