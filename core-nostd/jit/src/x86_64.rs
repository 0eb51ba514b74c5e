//! The compiler for x86-64: 8 lanes with AVX2, 16 with AVX-512.

mod emitter;
mod encode;
mod frame;
mod operations;
mod output;
mod program;
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
use program::{Form, Walk};
use states::Group;
use store::{Entry, Forms, Store};

/// Up to as many items are run one by one: with more, side by side is faster.
const ONE_BY_ONE_MAX: usize = 2;

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
    /// Whose immediates are in the frame, for each form: where its code begins.
    framed: [Option<usize>; 2],
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
            framed: [None; 2],
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

    /// Whether a program can be run for so many items without compiling anything.
    pub(crate) fn is_ready(&self, program: &Program, items: usize) -> bool {
        let Some(at) = self.store.find(program.words()) else { return false };
        self.store.entry(at).missing(self.forms(items)) == [false; 2]
    }

    /// Compiles programs, and seals their code at once.
    pub(crate) fn load_ahead<'p>(&mut self, plans: impl Iterator<Item = &'p Planned<'p>> + Clone) {
        let is_new = |plan: &&Planned<'_>| self.store.find(plan.program.words()).is_none();
        if plans.clone().filter(is_new).count() > self.store.left() {
            self.clear();
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
            let group = Group {
                layout: self.layout,
                form,
                diverges: form == Form::Lanes && entry.diverges,
                program,
                items: &items[at..at + count],
            };
            let frame = bytes_of(&mut self.frame);
            if self.framed[form as usize].replace(code.start) != Some(code.start) {
                write_immediates(frame, self.layout, entry, form);
            }
            let code = self.store.sealed(code).as_ptr();
            // SAFETY: the code was compiled for the present program, is sealed, follows the calling
            // convention and uses nothing but the frame of this layout; the CPU has its
            // instructions, see `new`.
            let cycle = |frame: &mut [u8]| unsafe {
                let cycle: extern "sysv64" fn(*mut u8) = core::mem::transmute(code);
                cycle(frame.as_mut_ptr());
            };
            group.run(frame, &mut states[at..at + count], cycles, cycle);
            at += count;
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.store.clear();
        self.framed = [None; 2];
    }

    /// Writes the code of those forms of a program that are not there yet; returns its place.
    fn compile(&mut self, program: &Program, forms: Forms) -> Result<usize, CompileError> {
        let words = program.words();
        // Where there is no room beside others there may be without them.
        for _ in 0..2 {
            let found = self.store.find(words);
            if found.is_none() && self.store.left() == 0 {
                self.clear();
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
            self.clear();
        }
        Err(CompileError::Unusual)
    }

    /// Writes the code of a form of the lowered program; `None` when there is no room.
    fn write(&mut self, at: usize, form: Form) -> Option<()> {
        let width = if self.is_evex { Width::Z512 } else { Width::Y256 };
        let program = form as usize;
        let target = Target { layout: self.layout, width, is_evex: self.is_evex, program };
        let (entry, bytes) = self.store.writing(at);
        let code = Code::new(bytes, target.is_evex);
        let immediates = &mut entry.immediates[program];
        let mut emitter = Emitter::new(code, target, &mut self.homes, immediates);
        Walk::emit(&mut emitter, &self.lowered, form);
        let len = emitter.finished_len()?;
        self.store.wrote(at, form, len);
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

/// Writes the constants that the code of a form uses.
fn write_immediates(frame: &mut [u8], layout: Layout, entry: &Entry, form: Form) {
    let immediates = &entry.immediates[form as usize];
    for (number, immediate) in immediates.iter().enumerate() {
        let at = layout.immediate(form as usize, number).at as usize;
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
    fn check_code(code: &[u8], layout: Layout, diverges: bool) {
        let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
        let mut starts = Vec::new();
        let mut targets = Vec::new();
        let mut last = Mnemonic::INVALID;
        for instruction in &mut decoder {
            assert!(!instruction.is_invalid(), "at {:x}", instruction.ip());
            starts.push(instruction.ip());
            last = instruction.mnemonic();
            match instruction.flow_control() {
                FlowControl::Next => {}
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                    targets.push(instruction.near_branch64());
                }
                FlowControl::IndirectCall => {
                    let address = layout.add_pending().at;
                    assert_eq!(instruction.memory_displacement64(), address.into());
                    assert_eq!(instruction.memory_index(), Register::None);
                }
                FlowControl::Return => assert_eq!(instruction.next_ip(), code.len() as u64),
                other => panic!("{other:?} in compiled code"),
            }
            let is_memory = |number| instruction.op_kind(number) == OpKind::Memory;
            if !(0..instruction.op_count()).any(is_memory) {
                continue;
            }
            assert_eq!(instruction.memory_base(), Register::RBX);
            let at = instruction.memory_displacement64() as usize;
            let mut end = at + instruction.memory_size().size();
            let mut bound = layout.bytes();
            if instruction.memory_index() != Register::None {
                // A word of the window, a row of output, or a pending row.
                let is_pending = at >= layout.pending() as usize;
                let is_output = at >= layout.output() as usize;
                let rows = if is_pending { PENDING_ROWS - 1 } else { 255 };
                end += (rows * layout.row()) as usize;
                assert_eq!(is_pending, is_output && diverges);
                bound = match (is_pending, is_output) {
                    (true, _) => layout.lane_bits(),
                    (false, true) => layout.positions(),
                    (false, false) => layout.output(),
                } as usize;
            }
            assert!(end <= bound, "{end} at {:x}", instruction.ip());
        }
        assert_eq!(last, Mnemonic::Ret);
        for target in targets {
            assert!(starts.binary_search(&target).is_ok(), "a jump to {target:x}");
        }
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
                for is_one in [false, true] {
                    let diverges = !is_one && lowered.diverges();
                    check_code(engine.listing(&program, is_one).unwrap(), layout, diverges);
                }
            }
        }
    }
}
