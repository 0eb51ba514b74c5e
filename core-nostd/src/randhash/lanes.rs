//! The lanes interpreter: sixteen items of a program in lock step (spec 02, 10.5).
//!
//! A program is lowered once; each step is then decoded once for sixteen items, and its work is a
//! loop over them that compilers turn into vector instructions. Both sides of a branch are executed
//! under complementary masks. As no value lives behind the scope it was made in, only END looks at
//! the mask: masked lanes compute what nobody reads.
#![allow(unsafe_code)] // The same code is compiled for several instruction sets.

use heapless::Vec;
use zerocopy::little_endian::U32;

use super::lower::{INPUT_SLOT, Lowered, OUTPUTS_MAX, Outputs, SLOTS, Slot, Step, WINDOW_SLOT};
use super::operations::{Operate, operate};
use super::{Execute, Interpreter, Program, SCOPES_MAX};
use crate::backend::Backend;
use crate::cryptocycle::State;
use crate::error::ExecError;
use crate::params::{OPS_MAX, WINDOW_WORDS};

/// Items that run in lock step.
const LANES: usize = 16;
/// With fewer items left, one at a time is faster.
const ITEMS_MIN: usize = 3;
/// Words of output with room behind it, so that an END need not look where the output ends: what
/// it adds beyond is added to the beginning when the cycle is over.
const OUTPUT_ROWS: usize = WINDOW_WORDS + OUTPUTS_MAX + 1;

/// The values of a slot or an output word in all lanes.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Row([u32; LANES]);

impl Row {
    const ZERO: Row = Row([0; LANES]);
}

/// Which lanes do what they execute, a bit each.
type Mask = u16;

/// Runs programs over sixteen items at a time, without machine code of its own: some 240 KiB.
#[derive(Clone)]
pub struct LanesInterpreter {
    backend: Backend,
    ops_max: u32,
    loaded: Loaded,
    lowered: Lowered,
    machine: Machine,
    one: Interpreter,
}

/// What is known of the program that was loaded last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loaded {
    /// It was not yet run over so many items that lowering it pays.
    AsWords,
    Lowered,
    /// It must be interpreted.
    Unusual,
}

impl LanesInterpreter {
    /// A lanes interpreter with the limit of the consensus, compiled for the instruction set of a
    /// back end.
    #[must_use]
    pub const fn new(backend: Backend) -> LanesInterpreter {
        LanesInterpreter::with_limit(backend, OPS_MAX)
    }

    /// A lanes interpreter with another limit, to test what happens at the limit.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_limit(backend: Backend, ops_max: u32) -> LanesInterpreter {
        LanesInterpreter {
            backend,
            ops_max,
            loaded: Loaded::Unusual,
            lowered: Lowered::new(),
            machine: Machine {
                slots: [Row::ZERO; SLOTS],
                output: [Row::ZERO; OUTPUT_ROWS],
                positions: [0; LANES],
            },
            one: Interpreter::with_limit(ops_max),
        }
    }

    fn lower(&mut self, program: &Program) {
        if self.loaded == Loaded::AsWords {
            let lowered = self.lowered.lower(program.words(), self.ops_max);
            self.loaded = if lowered.is_ok() { Loaded::Lowered } else { Loaded::Unusual };
        }
    }
}

impl core::fmt::Debug for LanesInterpreter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("LanesInterpreter")
            .field("backend", &self.backend)
            .field("loaded", &self.loaded)
            .finish_non_exhaustive()
    }
}

impl Execute for LanesInterpreter {
    fn load(&mut self, _: &Program) {
        self.loaded = Loaded::AsWords;
    }

    fn run(
        &mut self,
        program: &Program,
        items: &[u64],
        states: &mut [State],
        cycles: u32,
    ) -> Result<(), ExecError> {
        assert_eq!(items.len(), states.len(), "an item for each state");
        for (items, states) in items.chunks(LANES).zip(states.chunks_mut(LANES)) {
            if items.len() >= ITEMS_MIN {
                self.lower(program);
            }
            if items.len() < ITEMS_MIN || self.loaded == Loaded::Unusual {
                self.one.run(program, items, states, cycles)?;
            } else {
                self.machine.run(&self.lowered, program, items, states, cycles, self.backend);
            }
        }
        Ok(())
    }
}

/// A scope that is being executed.
#[derive(Clone, Copy)]
enum Scope {
    Loop {
        start: usize,
        index: u32,
        count: u32,
    },
    /// The true side of a branch; what the false side needs.
    True {
        otherwise: usize,
        join: usize,
        after: After,
    },
    False {
        after: After,
    },
}

/// What holds when the sides of a branch have joined.
#[derive(Clone, Copy)]
struct After {
    mask: Mask,
    /// Lanes whose condition is true.
    is_true: Mask,
    /// Where the output was before the branch, for all lanes.
    position: u32,
    /// The iteration of the loop around.
    index: u32,
}

/// The memory of a cycle.
#[derive(Clone)]
struct Machine {
    /// See [`Step`].
    slots: [Row; SLOTS],
    output: [Row; OUTPUT_ROWS],
    /// The output position `h` of each lane, below 256. When positions can not diverge only that
    /// of the first lane is kept.
    positions: [u32; LANES],
}

impl Machine {
    /// Runs at most [`LANES`] items.
    fn run(
        &mut self,
        lowered: &Lowered,
        program: &Program,
        items: &[u64],
        states: &mut [State],
        cycles: u32,
        backend: Backend,
    ) {
        self.load_windows(program, items);
        let mask = ((1_u32 << items.len()) - 1) as Mask;
        for cycle in 0..cycles {
            let is_even = cycle.is_multiple_of(2);
            self.load_halves(states, is_even);
            match backend {
                // SAFETY: a back end that is available offers the instructions.
                #[cfg(target_arch = "x86_64")]
                Backend::Avx2 if backend.is_available() => unsafe {
                    self.cycle_avx2(lowered, mask)
                },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Backend::Avx512 if backend.is_available() => unsafe {
                    self.cycle_avx512(lowered, mask);
                },
                _ => self.cycle(lowered, mask),
            }
            self.store_output(states, is_even);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn cycle_avx2(&mut self, lowered: &Lowered, mask: Mask) {
        self.cycle(lowered, mask);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,avx512f,avx512vl,avx512bw,avx512dq")]
    fn cycle_avx512(&mut self, lowered: &Lowered, mask: Mask) {
        self.cycle(lowered, mask);
    }

    fn load_windows(&mut self, program: &Program, items: &[u64]) {
        for (lane, item) in items.iter().enumerate() {
            for (row, word) in self.slots[WINDOW_SLOT..].iter_mut().zip(program.window(*item)) {
                row.0[lane] = *word;
            }
        }
    }

    fn load_halves(&mut self, states: &[State], is_even: bool) {
        self.output[WINDOW_WORDS..].fill(Row::ZERO);
        for (lane, state) in states.iter().enumerate() {
            let [first, second]: &[[U32; WINDOW_WORDS]; 2] = zerocopy::transmute_ref!(&state.0);
            let (input, output) = if is_even { (first, second) } else { (second, first) };
            for (row, word) in self.slots[INPUT_SLOT..WINDOW_SLOT].iter_mut().zip(input) {
                row.0[lane] = word.get();
            }
            for (row, word) in self.output.iter_mut().zip(output) {
                row.0[lane] = word.get();
            }
        }
    }

    fn store_output(&self, states: &mut [State], is_even: bool) {
        let (words, beyond) = self.output.split_at(WINDOW_WORDS);
        for (lane, state) in states.iter_mut().enumerate() {
            let [first, second]: &mut [[U32; WINDOW_WORDS]; 2] =
                zerocopy::transmute_mut!(&mut state.0);
            let output = if is_even { second } else { first };
            for ((word, row), beyond) in output.iter_mut().zip(words).zip(beyond) {
                *word = U32::new(row.0[lane].wrapping_add(beyond.0[lane]));
            }
        }
    }

    /// One cycle of the lanes of a mask.
    #[inline(always)]
    fn cycle(&mut self, lowered: &Lowered, mut mask: Mask) {
        self.positions = [0; LANES];
        let mut scopes: Vec<Scope, SCOPES_MAX> = Vec::new();
        let mut index = 0;
        let mut at = 0;
        while let Some(&step) = lowered.steps().get(at) {
            at += 1;
            match step {
                Step::Compute { opcode, to, a, b } => {
                    self.compute(opcode, to, a, Operand::Slots(b));
                }
                Step::ComputeImmediate { opcode, to, a, b } => {
                    self.compute(opcode, to, a, Operand::Constant(b));
                }
                Step::Memory { to, first, step } => {
                    let word = first.wrapping_add(step.wrapping_mul(index as u8));
                    self.slots[usize::from(to)] = self.slots[WINDOW_SLOT + usize::from(word)];
                }
                Step::Loop { count } => {
                    index = 0;
                    let scope = Scope::Loop { start: at, index, count: count.into() };
                    // There is room in all: lowering has the same limit of nesting.
                    let _ = scopes.push(scope);
                }
                Step::If { condition, mask: bits, otherwise, join } => {
                    let is_true = self.test(condition, bits.into());
                    let position = self.positions[0];
                    let after = After { mask, is_true, position, index };
                    let (otherwise, join) = (otherwise.into(), join.into());
                    if mask & is_true != 0 {
                        mask &= is_true;
                        let _ = scopes.push(Scope::True { otherwise, join, after });
                    } else {
                        at = otherwise;
                        let _ = scopes.push(Scope::False { after });
                    }
                }
                Step::Again { outputs } | Step::Else { outputs } | Step::Join { outputs } => {
                    self.output(lowered, outputs, mask);
                    match scopes.pop() {
                        Some(Scope::Loop { start, index: last, count }) => {
                            index = last + 1;
                            if index < count {
                                at = start;
                                let _ = scopes.push(Scope::Loop { start, index, count });
                            }
                        }
                        Some(Scope::True { otherwise, join, after }) => {
                            mask = after.mask & !after.is_true;
                            index = after.index;
                            if mask != 0 {
                                at = otherwise;
                                if !lowered.diverges() {
                                    self.positions[0] = after.position;
                                }
                                let _ = scopes.push(Scope::False { after });
                            } else {
                                at = join;
                                mask = after.mask;
                            }
                        }
                        Some(Scope::False { after }) => {
                            mask = after.mask;
                            index = after.index;
                        }
                        None => {}
                    }
                }
            }
        }
    }

    /// The lanes in which a slot has one of some bits set.
    #[inline(always)]
    fn test(&self, slot: Slot, bits: u32) -> Mask {
        let mut mask = 0;
        for (lane, value) in self.slots[usize::from(slot)].0.iter().enumerate() {
            mask |= Mask::from(value & bits != 0) << lane;
        }
        mask
    }

    /// END in the lanes of a mask.
    #[inline(always)]
    fn output(&mut self, lowered: &Lowered, outputs: Outputs, mask: Mask) {
        let slots = lowered.outputs(outputs);
        let moved = |position: u32| (position + outputs.len() as u32) % WINDOW_WORDS as u32;
        if !lowered.diverges() {
            let position = self.positions[0] as usize;
            let wanted: [u32; LANES] =
                core::array::from_fn(|lane| 0_u32.wrapping_sub(u32::from(mask >> lane & 1)));
            for (row, slot) in self.output[position..].iter_mut().zip(slots) {
                let values = &self.slots[usize::from(*slot)];
                for ((sum, value), wanted) in row.0.iter_mut().zip(values.0).zip(wanted) {
                    *sum = sum.wrapping_add(value & wanted);
                }
            }
            self.positions[0] = moved(self.positions[0]);
            return;
        }
        for lane in (0..LANES).filter(|lane| mask >> lane & 1 == 1) {
            let position = self.positions[lane] as usize;
            for (row, slot) in self.output[position..].iter_mut().zip(slots) {
                let value = self.slots[usize::from(*slot)].0[lane];
                row.0[lane] = row.0[lane].wrapping_add(value);
            }
            self.positions[lane] = moved(self.positions[lane]);
        }
    }

    #[inline(always)]
    fn compute(&mut self, opcode: u8, to: Slot, a: [Slot; 2], b: Operand) {
        // A lowered program holds no other opcodes.
        let _ = operate(&mut Operation { slots: &mut self.slots, to: to.into(), a, b }, opcode);
    }
}

#[derive(Clone, Copy)]
enum Operand {
    Slots([Slot; 2]),
    Constant(u64),
}

/// An operation in all lanes.
struct Operation<'a> {
    slots: &'a mut [Row; SLOTS],
    to: usize,
    a: [Slot; 2],
    b: Operand,
}

impl Operation<'_> {
    #[inline(always)]
    fn pairs(&self, [low, high]: [Slot; 2]) -> [u64; LANES] {
        let (low, high) = (&self.slots[usize::from(low)], &self.slots[usize::from(high)]);
        core::array::from_fn(|lane| u64::from(high.0[lane]) << 32 | u64::from(low.0[lane]))
    }

    #[inline(always)]
    fn a(&self) -> [u32; LANES] {
        self.slots[usize::from(self.a[0])].0
    }

    #[inline(always)]
    fn b(&self) -> [u32; LANES] {
        match self.b {
            Operand::Slots([slot, _]) => self.slots[usize::from(slot)].0,
            Operand::Constant(value) => [value as u32; LANES],
        }
    }

    #[inline(always)]
    fn pairs_b(&self) -> [u64; LANES] {
        match self.b {
            Operand::Slots(slots) => self.pairs(slots),
            Operand::Constant(value) => [value; LANES],
        }
    }

    #[inline(always)]
    fn write_pairs(&mut self, at: usize, values: &[u64; LANES]) {
        self.slots[at].0 = values.map(|value| value as u32);
        self.slots[at + 1].0 = values.map(|value| (value >> 32) as u32);
    }
}

impl Operate for Operation<'_> {
    #[inline(always)]
    fn op_1_to_1(&mut self, f: impl Fn(u32) -> u32) -> Result<(), ExecError> {
        self.slots[self.to].0 = self.a().map(f);
        Ok(())
    }

    #[inline(always)]
    fn op_2_to_1(&mut self, f: impl Fn(u32, u32) -> u32) -> Result<(), ExecError> {
        let (a, b) = (self.a(), self.b());
        self.slots[self.to].0 = core::array::from_fn(|lane| f(a[lane], b[lane]));
        Ok(())
    }

    #[inline(always)]
    fn op_2_to_2(&mut self, f: impl Fn(u32, u32) -> u64) -> Result<(), ExecError> {
        let (a, b) = (self.a(), self.b());
        let results = core::array::from_fn(|lane| f(a[lane], b[lane]));
        self.write_pairs(self.to, &results);
        Ok(())
    }

    #[inline(always)]
    fn op_4_to_2(&mut self, f: impl Fn(u64, u64) -> u64) -> Result<(), ExecError> {
        let (a, b) = (self.pairs(self.a), self.pairs_b());
        let results = core::array::from_fn(|lane| f(a[lane], b[lane]));
        self.write_pairs(self.to, &results);
        Ok(())
    }

    #[inline(always)]
    fn op_4_to_4(&mut self, f: impl Fn(u64, u64) -> u128) -> Result<(), ExecError> {
        let (a, b) = (self.pairs(self.a), self.pairs_b());
        let results: [u128; LANES] = core::array::from_fn(|lane| f(a[lane], b[lane]));
        self.write_pairs(self.to, &results.map(|result| result as u64));
        self.write_pairs(self.to + 2, &results.map(|result| (result >> 64) as u64));
        Ok(())
    }
}
