//! Drawing and looking for variables as spec 02, 7.1 and 7.7 say it, word by word: the oracle of the
//! fast form.

use zerocopy::transmute;

use super::{Entry, Kind, Source, generate_into};
use crate::error::ProgramError;
use crate::params::INSNS_MAX;
use crate::primitives::expand;
use crate::randhash::{Program, VARIABLES_MAX};

/// Words of one block of the random stream.
const BLOCK_WORDS: usize = 16;

/// An entry of the variable stack: not yet used as an operand.
const FREE: u8 = 0;
/// Used as an operand.
const USED: u8 = 1;
/// The beginning of a scope.
const MARK: u8 = 2;

/// Generates programs the plain way, with any implementation of the byte expander: what the fast way
/// is compared with, in tests and in measurements.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct PlainGenerator {
    variables: [u8; VARIABLES_MAX],
}

impl PlainGenerator {
    /// A generator with the limit of the consensus.
    #[must_use]
    pub const fn new() -> PlainGenerator {
        PlainGenerator { variables: [FREE; VARIABLES_MAX] }
    }

    /// Makes the program of a seed and its memory; `expand` fills some bytes with the expanded seed
    /// for a number.
    ///
    /// # Errors
    /// [`ProgramError::TooBig`] when it has more than [`INSNS_MAX`] words.
    pub fn generate(
        &mut self,
        expand: &mut dyn FnMut(u32, &mut [u8]),
        program: &mut Program,
    ) -> Result<(), ProgramError> {
        program.start(|memory| expand(0, memory));
        let block_of = |num: u32| {
            let mut block = [0; 4 * BLOCK_WORDS];
            expand(num, &mut block);
            block
        };
        let mut source = PlainSource::new(block_of, &mut self.variables);
        program.overwrite(|memory| generate_into(&mut memory[..INSNS_MAX], &mut source, &mut ()))
    }
}

impl Default for PlainGenerator {
    fn default() -> Self {
        PlainGenerator::new()
    }
}

/// The random stream block by block, and a byte for each entry of the variable stack.
pub(super) struct PlainSource<'v, F> {
    block_of: F,
    block: [u32; BLOCK_WORDS],
    count: u64,
    variables: &'v mut [u8],
}

impl<'v> PlainSource<'v, ()> {
    /// The stream of a seed.
    pub(super) fn of_seed(
        seed: &[u8; 32],
        variables: &'v mut [u8],
    ) -> PlainSource<'v, impl FnMut(u32) -> [u8; 4 * BLOCK_WORDS]> {
        let block_of = |num| {
            let mut block = [0; 4 * BLOCK_WORDS];
            expand(seed, num, &mut block);
            block
        };
        PlainSource::new(block_of, variables)
    }
}

impl<'v, F: FnMut(u32) -> [u8; 4 * BLOCK_WORDS]> PlainSource<'v, F> {
    fn new(block_of: F, variables: &'v mut [u8]) -> PlainSource<'v, F> {
        PlainSource { block_of, block: [0; BLOCK_WORDS], count: 0, variables }
    }
}

impl<F: FnMut(u32) -> [u8; 4 * BLOCK_WORDS]> Source for PlainSource<'_, F> {
    fn draw(&mut self) -> u32 {
        let at = (self.count % BLOCK_WORDS as u64) as usize;
        if at == 0 {
            let bytes = (self.block_of)((self.count / BLOCK_WORDS as u64) as u32);
            let words: [[u8; 4]; BLOCK_WORDS] = transmute!(bytes);
            self.block = words.map(u32::from_le_bytes);
        }
        self.count += 1;
        self.block[at]
    }

    fn draws(&self) -> u64 {
        self.count
    }

    fn append(&mut self, end: usize, entry: Entry) -> Option<()> {
        let value = if entry == Entry::Mark { MARK } else { FREE };
        self.variables.get_mut(end..end + entry.len())?.fill(value);
        Some(())
    }

    fn search(&mut self, kind: Kind, lo: usize, hi: usize, start: usize) -> usize {
        let mut j = start;
        loop {
            if j >= hi {
                j = lo + 1;
            }
            // The first variable of a scope is the second half of no pair.
            if kind == Kind::Single || j > lo + 1 {
                let is_free = self.variables[j] == FREE
                    && (kind == Kind::Single || self.variables[j - 1] == FREE);
                if self.toss(8) || is_free {
                    return j;
                }
            }
            j += 1;
        }
    }

    fn mark_used(&mut self, index: usize) {
        self.variables[index] = USED;
    }
}
