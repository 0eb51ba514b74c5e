//! The compiler for x86-64: 8 lanes with AVX2, 16 with AVX-512.

mod emitter;
mod encode;
mod frame;
mod operations;
mod output;
mod program;
mod single;
mod states;
mod store;

use alloc::boxed::Box;
use alloc::vec;

use packetcrypt_core::Backend;
use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::randhash::lower::Lowered;
use packetcrypt_core::randhash::{Planned, Program};

use crate::JitError;
use crate::memory::RefusedError;
use emitter::{Emitter, Homes, Target};
use encode::{Code, Width};
use frame::{CONSTANTS, Layout};
use program::Walk;
use states::Group;
use store::{Entry, Form, Forms, Store};

/// Up to as many items are run one by one: with more, side by side is faster.
const ONE_BY_ONE_MAX: usize = 3;

/// A line of the cache: the alignment of the frame.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Why a program was not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompileError {
    /// It has no form that can be compiled, too much code or too many constants.
    Unusual,
    /// The operating system refused.
    Refused,
}

impl From<RefusedError> for CompileError {
    fn from(_: RefusedError) -> CompileError {
        CompileError::Refused
    }
}

/// Compiles programs and runs them.
#[derive(Debug)]
pub(crate) struct Engine {
    ops_max: u32,
    layout: Layout,
    is_evex: bool,
    frame: Box<[Line]>,
    /// Whose immediates are in the frame: where its code begins.
    framed: Option<usize>,
    single: Box<single::Frame>,
    homes: Box<Homes>,
    lowered: Box<Lowered>,
    store: Store,
}

impl Engine {
    /// An engine for a back end with this limit of executed words.
    pub(crate) fn new(backend: Backend, ops_max: u32) -> Result<Engine, JitError> {
        let (lanes, is_evex) = match backend {
            Backend::Avx2 => (8, false),
            Backend::Avx512 => (16, true),
            _ => return Err(JitError::Backend(backend)),
        };
        if !backend.is_available() {
            return Err(JitError::Backend(backend));
        }
        let engine = Engine::with_lanes(lanes, is_evex, ops_max);
        engine.map_err(|refused| JitError::Refused(refused.0))
    }

    fn with_lanes(lanes: usize, is_evex: bool, ops_max: u32) -> Result<Engine, RefusedError> {
        let layout = Layout::new(lanes);
        let mut frame = vec![Line([0; 64]); layout.bytes().div_ceil(64)].into_boxed_slice();
        let bytes = bytes_of(&mut frame);
        let constants = bytes[layout.constants() as usize..].chunks_mut(layout.row() as usize);
        for (row, constant) in constants.zip(CONSTANTS) {
            row.chunks_mut(constant.len()).for_each(|part| part.copy_from_slice(constant));
        }
        let bits = bytes[layout.lane_bits() as usize..].chunks_mut(4).take(lanes);
        for (lane, word) in bits.enumerate() {
            word.copy_from_slice(&(1_u32 << lane).to_le_bytes());
        }
        let at = layout.add_pending().at as usize;
        let address = output::add_pending_of(layout) as usize;
        bytes[at..at + size_of::<usize>()].copy_from_slice(&address.to_ne_bytes());
        Ok(Engine {
            ops_max,
            layout,
            is_evex,
            frame,
            framed: None,
            single: single::Frame::new(),
            homes: Box::new(Homes::new()),
            lowered: Box::new(Lowered::new()),
            store: Store::new()?,
        })
    }

    /// Which forms of the code run so many items.
    fn forms(&self, items: usize) -> Forms {
        let mut forms = [false; 2];
        forms[Form::Lanes as usize] = items > ONE_BY_ONE_MAX;
        forms[Form::One as usize] = (1..=ONE_BY_ONE_MAX).contains(&(items % self.layout.lanes()));
        forms
    }

    /// Compiles programs, and seals their code at once.
    pub(crate) fn load_ahead(&mut self, plans: &[Planned<'_>]) {
        let is_new = |plan: &&Planned<'_>| self.store.find(plan.program.words()).is_none();
        if plans.iter().filter(is_new).count() > self.store.left() && self.clear().is_err() {
            return;
        }
        for plan in plans {
            // The last items of many, and items that are wanted several times, leave few.
            let mut forms = self.forms(plan.items);
            forms[Form::One as usize] = true;
            // Whether it can be compiled is seen when it is run.
            let _ = self.compile(plan.program, forms);
        }
        let _ = self.store.seal();
    }

    /// Runs a program over items. After an error nothing was run.
    pub(crate) fn run(
        &mut self,
        program: &Program,
        items: &[u64],
        states: &mut [State],
        cycles: u32,
    ) -> Result<(), CompileError> {
        // All before the first item: an error leaves the states as they were.
        let at = self.compile(program, self.forms(items.len()))?;
        self.store.seal()?;
        let entry = self.store.entry(at);
        let mut at = 0;
        while at < items.len() {
            let left = items.len() - at;
            let form = if left <= ONE_BY_ONE_MAX { Form::One } else { Form::Lanes };
            let count = if form == Form::One { 1 } else { left.min(self.layout.lanes()) };
            let code = entry.code(form).ok_or(CompileError::Unusual)?;
            let (items, states) = (&items[at..at + count], &mut states[at..at + count]);
            let address = self.store.sealed(code).as_ptr();
            match form {
                Form::Lanes => {
                    let frame = bytes_of(&mut self.frame);
                    if self.framed.replace(code.start) != Some(code.start) {
                        write_immediates(frame, self.layout, entry);
                    }
                    let (layout, diverges) = (self.layout, entry.diverges);
                    // SAFETY: the code was compiled for the present program, is sealed, follows the
                    // calling convention and uses nothing but the frame of this layout; the CPU has
                    // its instructions, see `new`.
                    let cycle = |frame: &mut [u8]| unsafe {
                        let cycle: extern "sysv64" fn(*mut u8) = core::mem::transmute(address);
                        cycle(frame.as_mut_ptr());
                    };
                    Group { layout, diverges, program, items }.run(frame, states, cycles, cycle);
                }
                Form::One => {
                    // SAFETY: as above, and it uses nothing but this frame.
                    let cycle = |frame: &mut single::Frame| unsafe {
                        let cycle: extern "sysv64" fn(&mut single::Frame) =
                            core::mem::transmute(address);
                        cycle(frame);
                    };
                    self.single.run(program, items[0], &mut states[0], cycles, cycle);
                }
            }
            at += count;
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<(), RefusedError> {
        self.framed = None;
        self.store.clear()
    }

    /// Writes the code of those forms of a program that are not there yet; returns its place.
    fn compile(&mut self, program: &Program, forms: Forms) -> Result<usize, CompileError> {
        let words = program.words();
        // Where there is no room beside others there may be without them.
        for _ in 0..2 {
            let found = self.store.find(words);
            if found.is_none() && self.store.left() == 0 {
                self.clear()?;
            }
            let at = found.unwrap_or_else(|| self.store.add(words));
            let entry = self.store.entry_mut(at);
            let missing = entry.missing(forms);
            if missing == [false; 2] {
                return Ok(at);
            }
            if entry.is_unusual || self.lowered.lower(words, self.ops_max).is_err() {
                entry.is_unusual = true;
                return Err(CompileError::Unusual);
            }
            entry.diverges = self.lowered.diverges();
            let mut wanted = [Form::Lanes, Form::One].into_iter().filter(|f| missing[*f as usize]);
            if wanted.all(|form| self.write(at, form).is_some()) {
                return Ok(at);
            }
            self.clear()?;
        }
        Err(CompileError::Unusual)
    }

    /// Writes the code of a form of the lowered program; `None` when there is no room.
    fn write(&mut self, at: usize, form: Form) -> Option<()> {
        let (entry, bytes) = self.store.writing(at);
        let len = match form {
            Form::Lanes => {
                let is_evex = self.is_evex;
                let width = if is_evex { Width::Z512 } else { Width::Y256 };
                let target = Target { layout: self.layout, width, is_evex };
                let code = Code::new(bytes, is_evex);
                let mut emitter =
                    Emitter::new(code, target, &mut self.homes, &mut entry.immediates);
                Walk::emit(&mut emitter, &self.lowered);
                emitter.finished_len()
            }
            Form::One => {
                let mut code = Code::new(bytes, false);
                single::emit(&mut code, &self.lowered);
                code.finished_len()
            }
        };
        self.store.wrote(at, form, len?);
        Some(())
    }

    /// The code for many items, or for one.
    pub(crate) fn listing(
        &mut self,
        program: &Program,
        is_one: bool,
    ) -> Result<&[u8], CompileError> {
        let form = if is_one { Form::One } else { Form::Lanes };
        let mut forms = [false; 2];
        forms[form as usize] = true;
        let at = self.compile(program, forms)?;
        self.store.seal()?;
        let code = self.store.entry(at).code(form).ok_or(CompileError::Unusual)?;
        Ok(self.store.sealed(code))
    }
}

/// Writes the constants that the code for lanes uses.
fn write_immediates(frame: &mut [u8], layout: Layout, entry: &Entry) {
    for (number, immediate) in entry.immediates.iter().enumerate() {
        let at = layout.immediate(number).at as usize;
        let row = &mut frame[at..at + layout.row() as usize];
        row.chunks_mut(4).for_each(|word| word.copy_from_slice(&immediate.to_le_bytes()));
    }
}

fn bytes_of(frame: &mut [Line]) -> &mut [u8] {
    // SAFETY: a line is 64 bytes without padding, and any bytes are good ones.
    unsafe { core::slice::from_raw_parts_mut(frame.as_mut_ptr().cast(), 64 * frame.len()) }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use iced_x86::{Decoder, DecoderOptions, FlowControl, Mnemonic, OpKind, Register};
    use packetcrypt_core::params::OPS_MAX;
    use packetcrypt_core::randhash::Generator;

    use super::frame::PENDING_ROWS;
    use super::*;

    /// Looks at every instruction of some code: memory is that of the frame, jumps stay inside.
    /// `bound` says where a place ends that the displacement and an index, which is none or not,
    /// lead to, and how far the index does; `is_function` whether a displacement holds an address.
    fn check_code(
        code: &[u8],
        bound: impl Fn(usize, Register) -> (usize, usize),
        is_function: impl Fn(usize) -> bool,
    ) {
        let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
        let mut starts = Vec::new();
        let mut targets = Vec::new();
        let mut last = Mnemonic::INVALID;
        for instruction in &mut decoder {
            assert!(!instruction.is_invalid(), "at {:x}", instruction.ip());
            starts.push(instruction.ip());
            last = instruction.mnemonic();
            let at = instruction.memory_displacement64() as usize;
            match instruction.flow_control() {
                FlowControl::Next => {}
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                    targets.push(instruction.near_branch64());
                }
                FlowControl::IndirectCall => {
                    assert!(is_function(at) && instruction.memory_index() == Register::None);
                }
                FlowControl::Return => assert_eq!(instruction.next_ip(), code.len() as u64),
                other => panic!("{other:?} in compiled code"),
            }
            let is_memory = |number| instruction.op_kind(number) == OpKind::Memory;
            if !(0..instruction.op_count()).any(is_memory) {
                continue;
            }
            assert_eq!(instruction.memory_base(), Register::RBX);
            if instruction.flow_control() == FlowControl::IndirectCall {
                continue;
            }
            let (bound, index_max) = bound(at, instruction.memory_index());
            let end = at + index_max + instruction.memory_size().size();
            assert!(end <= bound, "{end} at {:x}", instruction.ip());
        }
        assert_eq!(last, Mnemonic::Ret);
        for target in targets {
            assert!(starts.binary_search(&target).is_ok(), "a jump to {target:x}");
        }
    }

    fn check_lanes(code: &[u8], layout: Layout, diverges: bool) {
        let bound = |at: usize, index: Register| {
            if index == Register::None {
                return (layout.bytes(), 0);
            }
            // A word of the window, a row of output, or a pending row.
            let is_pending = at >= layout.pending() as usize;
            let is_output = at >= layout.output() as usize;
            let rows = if is_pending { PENDING_ROWS - 1 } else { 255 };
            assert_eq!(is_pending, is_output && diverges);
            let bound = match (is_pending, is_output) {
                (true, _) => layout.lane_bits(),
                (false, true) => layout.positions(),
                (false, false) => layout.output(),
            };
            (bound as usize, (rows * layout.row()) as usize)
        };
        check_code(code, bound, |at| at == layout.add_pending().at as usize);
    }

    /// Also the code for AVX-512 where this machine can not run it.
    #[test]
    fn compiled_code_stays_inside_of_its_frame() {
        let mut lowered = Lowered::new();
        let mut program = Program::EMPTY;
        let mut engines = [(8, false), (16, true)]
            .map(|(lanes, is_evex)| Engine::with_lanes(lanes, is_evex, OPS_MAX).unwrap());
        for number in 0..200_u8 {
            Generator::new().generate(&[number; 32], &mut program).unwrap();
            lowered.lower(program.words(), OPS_MAX).unwrap();
            for engine in &mut engines {
                let layout = engine.layout;
                check_lanes(engine.listing(&program, false).unwrap(), layout, lowered.diverges());
                let code = engine.listing(&program, true).unwrap();
                check_code(code, single::Frame::bound, single::Frame::is_function);
            }
        }
    }
}
