//! Programs that were generated lately.

use crate::backend::Backend;
use crate::error::ProgramError;
use crate::randhash::{Execute, Generator, Program};

/// Programs that are kept: as many as a part of mixed jobs needs at a time.
pub(super) const PROGRAMS_MAX: usize = super::batch::MIXED_MAX;

/// A bounded cache of programs by seed. A program is a function of its seed alone, so what is or is
/// not there can not change a result.
#[derive(Debug)]
pub(super) struct Programs {
    slots: [Slot; PROGRAMS_MAX],
    /// Counts the uses.
    clock: u64,
    generator: Generator,
}

#[derive(Debug)]
struct Slot {
    seed: Option<[u8; 32]>,
    /// When it was used last.
    used: u64,
    program: Program,
}

impl Programs {
    pub(super) const fn new(insns_max: usize) -> Programs {
        const EMPTY: Slot = Slot { seed: None, used: 0, program: Program::EMPTY };
        Programs {
            slots: [EMPTY; PROGRAMS_MAX],
            clock: 0,
            generator: Generator::with_limit(insns_max),
        }
    }

    /// The program of a seed, generated unless it is there: then the one that was not used for the
    /// longest time gives way.
    ///
    /// # Errors
    /// [`ProgramError`] when there is no such program; that is not kept.
    pub(super) fn of_seed(
        &mut self,
        seed: &[u8; 32],
        backend: Backend,
    ) -> Result<&Program, ProgramError> {
        let at = self.place_of(seed, backend)?;
        Ok(self.at(at))
    }

    /// The place of the program of a seed, which is as [`of_seed`](Programs::of_seed) says. It stays
    /// there until as many others as [`PROGRAMS_MAX`] are asked for.
    pub(super) fn place_of(
        &mut self,
        seed: &[u8; 32],
        backend: Backend,
    ) -> Result<usize, ProgramError> {
        self.clock += 1;
        let found = self.slots.iter().position(|slot| slot.seed.as_ref() == Some(seed));
        let at = match found {
            Some(at) => at,
            None => self.make(seed, backend)?,
        };
        self.slots[at].used = self.clock;
        Ok(at)
    }

    /// The program at a place.
    pub(super) fn at(&self, place: usize) -> &Program {
        &self.slots[place].program
    }

    fn make(&mut self, seed: &[u8; 32], backend: Backend) -> Result<usize, ProgramError> {
        let oldest = (0..PROGRAMS_MAX).min_by_key(|at| self.slots[*at].used).unwrap_or(0);
        let slot = &mut self.slots[oldest];
        slot.seed = None;
        self.generator.generate_on(seed, &mut slot.program, backend)?;
        slot.seed = Some(*seed);
        Ok(oldest)
    }
}

/// What runs programs, and which one it has loaded.
pub(super) struct Loader<'e> {
    pub(super) exec: &'e mut dyn Execute,
    loaded: Option<[u8; 32]>,
}

impl<'e> Loader<'e> {
    pub(super) fn new(exec: &'e mut dyn Execute) -> Loader<'e> {
        Loader { exec, loaded: None }
    }

    /// Loads the program of a seed, unless it is the one that is loaded.
    pub(super) fn load(&mut self, seed: &[u8; 32], program: &Program) {
        if self.loaded.as_ref() != Some(seed) {
            self.exec.load(program);
            self.loaded = Some(*seed);
        }
    }
}
