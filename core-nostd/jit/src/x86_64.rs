//! The compiler for x86-64: 8 lanes with AVX2, 16 with AVX-512.

mod emitter;
mod encode;
mod frame;
mod operations;
mod output;
mod program;
mod states;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use packetcrypt_core::Backend;
use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::randhash::Program;
use packetcrypt_core::randhash::lower::Lowered;

use crate::memory::{CodeMemory, RefusedError};
use emitter::{Emitter, Homes, Target};
use encode::{Code, Width};
use frame::{CONSTANTS, Layout};
use program::{Form, Walk};
use states::Group;

/// Bytes for the code of one program: some ten times of what the longest known one needs.
const CODE_BYTES: usize = 1 << 20;
/// Up to as many items are run one by one: with more, side by side is faster.
const ONE_BY_ONE_MAX: usize = 2;

/// A line of the cache: the alignment of the frame.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Why a program was not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompileError {
    /// It has too much code or too many constants.
    TooLong,
    /// The operating system refused.
    Refused,
}

/// Compiles and runs lowered programs.
#[derive(Debug)]
pub(crate) struct Engine {
    layout: Layout,
    is_evex: bool,
    frame: Box<[Line]>,
    homes: Box<Homes>,
    immediates: Vec<u32>,
    /// Where code is written first.
    code: Box<[u8]>,
    /// The code for lanes and the code for one item.
    forms: [Compiled; 2],
}

#[derive(Debug)]
struct Compiled {
    memory: CodeMemory,
    /// Bytes of the code; 0 when there is none of the present program.
    len: usize,
}

impl Compiled {
    fn new() -> Result<Compiled, RefusedError> {
        let mut memory = CodeMemory::new(CODE_BYTES)?;
        // Where this is forbidden it shall be known at once.
        memory.write(&[0])?;
        Ok(Compiled { memory, len: 0 })
    }
}

impl Engine {
    /// An engine for a back end, or `None` when it is not one of this machine with vectors.
    pub(crate) fn new(backend: Backend) -> Option<Result<Engine, RefusedError>> {
        if !backend.is_available() {
            return None;
        }
        match backend {
            Backend::Avx2 => Some(Engine::with_lanes(8, false)),
            Backend::Avx512 => Some(Engine::with_lanes(16, true)),
            _ => None,
        }
    }

    fn with_lanes(lanes: usize, is_evex: bool) -> Result<Engine, RefusedError> {
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
            layout,
            is_evex,
            frame,
            homes: Box::new(Homes::new()),
            immediates: Vec::new(),
            code: vec![0; CODE_BYTES].into_boxed_slice(),
            forms: [Compiled::new()?, Compiled::new()?],
        })
    }

    /// Forgets the code of the program before.
    pub(crate) fn forget(&mut self) {
        self.forms.iter_mut().for_each(|form| form.len = 0);
    }

    /// Runs a program over items. After an error nothing was run.
    pub(crate) fn run(
        &mut self,
        lowered: &Lowered,
        program: &Program,
        items: &[u64],
        states: &mut [State],
        cycles: u32,
    ) -> Result<(), CompileError> {
        // All before the first item: an error leaves the states as they were.
        if items.len() > ONE_BY_ONE_MAX {
            self.compile(lowered, Form::Lanes)?;
        }
        if (1..=ONE_BY_ONE_MAX).contains(&(items.len() % self.layout.lanes())) {
            self.compile(lowered, Form::One)?;
        }
        let mut at = 0;
        while at < items.len() {
            let left = items.len() - at;
            let form = if left <= ONE_BY_ONE_MAX { Form::One } else { Form::Lanes };
            let count = if form == Form::One { 1 } else { left.min(self.layout.lanes()) };
            let group = Group {
                layout: self.layout,
                form,
                diverges: form == Form::Lanes && lowered.diverges(),
                program,
                items: &items[at..at + count],
            };
            let code = self.forms[form as usize].memory.start();
            // SAFETY: the code of the form was just compiled or is of the present program, it
            // follows the calling convention and uses nothing but the frame of this layout; the CPU
            // has its instructions, see `new`.
            let cycle = |frame: &mut [u8]| unsafe {
                let cycle: extern "sysv64" fn(*mut u8) = core::mem::transmute(code);
                cycle(frame.as_mut_ptr());
            };
            group.run(bytes_of(&mut self.frame), &mut states[at..at + count], cycles, cycle);
            at += count;
        }
        Ok(())
    }

    fn compile(&mut self, lowered: &Lowered, form: Form) -> Result<(), CompileError> {
        let program = form as usize;
        if self.forms[program].len != 0 {
            return Ok(());
        }
        let width = if self.is_evex { Width::Z512 } else { Width::Y256 };
        let target = Target { layout: self.layout, width, is_evex: self.is_evex, program };
        let (homes, immediates) = (&mut *self.homes, &mut self.immediates);
        let code = Code::new(&mut self.code, target.is_evex);
        let mut emitter = Emitter::new(code, target, homes, immediates);
        Walk::emit(&mut emitter, lowered, form);
        let len = emitter.finished_len().ok_or(CompileError::TooLong)?;
        let memory = &mut self.forms[program].memory;
        memory.write(&self.code[..len]).map_err(|_| CompileError::Refused)?;
        let bytes = bytes_of(&mut self.frame);
        for (number, immediate) in self.immediates.iter().enumerate() {
            let at = self.layout.immediate(program, number).at as usize;
            let row = &mut bytes[at..at + self.layout.row() as usize];
            row.chunks_mut(4).for_each(|word| word.copy_from_slice(&immediate.to_le_bytes()));
        }
        self.forms[program].len = len;
        Ok(())
    }

    /// The code for many items, or for one.
    pub(crate) fn listing(
        &mut self,
        lowered: &Lowered,
        is_one: bool,
    ) -> Result<&[u8], CompileError> {
        let form = if is_one { Form::One } else { Form::Lanes };
        self.compile(lowered, form)?;
        let Compiled { memory, len } = &self.forms[form as usize];
        Ok(memory.bytes(*len))
    }
}

fn bytes_of(frame: &mut [Line]) -> &mut [u8] {
    // SAFETY: a line is 64 bytes without padding, and any bytes are good ones.
    unsafe { core::slice::from_raw_parts_mut(frame.as_mut_ptr().cast(), 64 * frame.len()) }
}

#[cfg(test)]
mod tests {
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
        let mut engines =
            [Engine::with_lanes(8, false).unwrap(), Engine::with_lanes(16, true).unwrap()];
        for number in 0..200_u8 {
            Generator::new().generate(&[number; 32], &mut program).unwrap();
            lowered.lower(program.words(), OPS_MAX).unwrap();
            for engine in &mut engines {
                engine.forget();
                let layout = engine.layout;
                for is_one in [false, true] {
                    let diverges = !is_one && lowered.diverges();
                    check_code(engine.listing(&lowered, is_one).unwrap(), layout, diverges);
                }
            }
        }
    }
}
