//! The memory that the code for a single item works on.

use alloc::boxed::Box;
use core::mem::offset_of;

use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::params::WINDOW_WORDS;
use packetcrypt_core::randhash::lower::{INPUT_SLOT, OUTPUTS_MAX, SLOTS, Slot, WINDOW_SLOT};
use packetcrypt_core::randhash::{Program, SCOPES_MAX};

use super::functions::{FUNCTIONS, Function};
use crate::x86_64::encode::{Place, place};

/// The bits of a position, in bytes.
pub(super) const POSITION_BITS: u32 = 4 * WINDOW_WORDS as u32 - 1;
/// Words of output with those that are added beyond its end.
const OUTPUT_WORDS: usize = 2 * WINDOW_WORDS;

const _: () = assert!(OUTPUT_WORDS > WINDOW_WORDS - 1 + OUTPUTS_MAX);

/// Slots, output and what the code itself needs. Code addresses it with displacements that are fixed
/// when it is compiled, and with two indexes that are bounded: the word of a MEMORY read, masked to
/// the window, and the output position, masked to the output.
#[derive(Debug)]
#[repr(C, align(64))]
pub(in crate::x86_64) struct Frame {
    slots: [u32; SLOTS],
    output: [u32; OUTPUT_WORDS],
    /// The iteration of the loop at each depth.
    indexes: [u32; SCOPES_MAX],
    /// By opcode.
    functions: [Option<Function>; FUNCTIONS.len()],
}

/// Displacement of the output.
pub(super) const OUTPUT: u32 = offset_of!(Frame, output) as u32;

pub(super) const fn slot(slot: Slot) -> Place {
    place(offset_of!(Frame, slots) as u32 + 4 * slot as u32)
}

pub(super) const fn index(depth: usize) -> Place {
    place(offset_of!(Frame, indexes) as u32 + 4 * depth as u32)
}

/// The address of the function of an opcode.
pub(super) const fn function(opcode: u8) -> Place {
    let size = size_of::<Option<Function>>() as u32;
    place(offset_of!(Frame, functions) as u32 + size * opcode as u32)
}

impl Frame {
    pub(in crate::x86_64) fn new() -> Box<Frame> {
        Box::new(Frame {
            slots: [0; SLOTS],
            output: [0; OUTPUT_WORDS],
            indexes: [0; SCOPES_MAX],
            functions: FUNCTIONS,
        })
    }

    /// Runs cycles of a program over the state of an item; `cycle` is its code.
    pub(in crate::x86_64) fn run(
        &mut self,
        program: &Program,
        item: u64,
        state: &mut State,
        cycles: u32,
        cycle: impl Fn(&mut Frame),
    ) {
        self.slots[WINDOW_SLOT..].copy_from_slice(program.window(item));
        for number in 0..cycles {
            let (words, _) = state.0.as_chunks_mut();
            let (first, second) = words.split_at_mut(WINDOW_WORDS);
            let (input, output) =
                if number.is_multiple_of(2) { (first, second) } else { (second, first) };
            read(&mut self.slots[INPUT_SLOT..WINDOW_SLOT], input);
            let (sums, beyond) = self.output.split_at_mut(WINDOW_WORDS);
            read(sums, output);
            beyond.fill(0);
            cycle(self);
            let (sums, beyond) = self.output.split_at(WINDOW_WORDS);
            for ((word, sum), beyond) in output.iter_mut().zip(sums).zip(beyond) {
                *word = sum.wrapping_add(*beyond).to_le_bytes();
            }
        }
    }
}

#[cfg(test)]
impl Frame {
    /// Where the part of the frame ends that a displacement and an index lead to, and how far the
    /// index does.
    pub(in crate::x86_64) fn bound(at: usize, index: iced_x86::Register) -> (usize, usize) {
        use iced_x86::Register;
        let output = offset_of!(Frame, output);
        match index {
            Register::None => (offset_of!(Frame, functions), 0),
            Register::RAX => {
                assert_eq!(at, slot(WINDOW_SLOT as Slot).at as usize);
                (output, 4 * (WINDOW_WORDS - 1))
            }
            Register::R12 => {
                assert!(at >= output);
                (offset_of!(Frame, indexes), 4 * (WINDOW_WORDS - 1))
            }
            other => panic!("index {other:?}"),
        }
    }

    /// Whether a displacement is that of the address of a function.
    pub(in crate::x86_64) fn is_function(at: usize) -> bool {
        let is_its = |(opcode, function_of): (u8, &Option<Function>)| {
            function_of.is_some() && at == function(opcode).at as usize
        };
        (0..).zip(&FUNCTIONS).any(is_its)
    }
}

fn read(to: &mut [u32], words: &[[u8; 4]]) {
    for (to, word) in to.iter_mut().zip(words) {
        *to = u32::from_le_bytes(*word);
    }
}
