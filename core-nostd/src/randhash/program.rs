//! A program and the memory it reads (spec 02, 4).

use zerocopy::IntoBytes;

use crate::error::ProgramError;
use crate::params::{INSNS_MAX, MEMORY_WORDS, WINDOW_WORDS, WINDOWS};
use crate::primitives::expand;

/// A program together with its memory, of which its own words are the beginning.
#[derive(Clone)]
pub struct Program {
    memory: [u32; MEMORY_WORDS],
    len: usize,
}

impl Program {
    /// No program: it can not be run.
    pub const EMPTY: Program = Program { memory: [0; MEMORY_WORDS], len: 0 };

    /// Begins a program: `fill` writes the expanded seed into the memory. Until
    /// [`overwrite`](Program::overwrite) there is no program in it.
    pub(super) fn start(&mut self, fill: impl FnOnce(&mut [u8])) {
        self.len = 0;
        fill(self.memory.as_mut_bytes());
        for word in &mut self.memory {
            *word = u32::from_le(*word);
        }
    }

    /// Lets `write` put the program over the beginning of the memory and say how long it is. A
    /// failure leaves no program.
    pub(super) fn overwrite(
        &mut self,
        write: impl FnOnce(&mut [u32]) -> Result<usize, ProgramError>,
    ) -> Result<(), ProgramError> {
        self.len = write(&mut self.memory)?;
        Ok(())
    }

    /// Puts a program that was not generated over the memory fill of a seed.
    ///
    /// Nothing is checked but the length: running it gives
    /// [`ExecError::Invalid`](crate::ExecError::Invalid) where it is wrong.
    ///
    /// # Errors
    /// [`ProgramError::TooBig`] above [`INSNS_MAX`] words.
    pub fn assemble(&mut self, seed: &[u8; 32], words: &[u32]) -> Result<(), ProgramError> {
        self.start(|memory| expand(seed, 0, memory));
        self.overwrite(|memory| {
            if words.len() > INSNS_MAX {
                return Err(ProgramError::TooBig);
            }
            memory[..words.len()].copy_from_slice(words);
            Ok(words.len())
        })
    }

    /// The words of the program.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.memory[..self.len]
    }

    /// The program memory M, as MEMORY sees it through an item's window.
    #[must_use]
    pub fn memory(&self) -> &[u32; MEMORY_WORDS] {
        &self.memory
    }

    /// The words of memory that an item sees (spec 02, 8.1).
    #[must_use]
    pub fn window(&self, item: u64) -> &[u32; WINDOW_WORDS] {
        let at = (item % WINDOWS) as usize;
        self.memory[at..].first_chunk().expect("the last window ends with the memory")
    }
}

impl Default for Program {
    fn default() -> Self {
        Program::EMPTY
    }
}

impl core::fmt::Debug for Program {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Program").field("len", &self.len).finish_non_exhaustive()
    }
}
