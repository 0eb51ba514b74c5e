//! The compiler as an implementation of `Execute`.

use alloc::boxed::Box;
use core::fmt;

use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::params::OPS_MAX;
use packetcrypt_core::randhash::lower::Lowered;
use packetcrypt_core::randhash::{Execute, LanesInterpreter, Program};
use packetcrypt_core::{Backend, ExecError};

#[cfg(all(target_arch = "x86_64", unix))]
use crate::x86_64::Engine;

/// Why programs can not be compiled here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JitError {
    /// There is no compiler for this architecture or operating system.
    Architecture,
    /// There is no compiler for this back end, or the CPU lacks it.
    Backend(Backend),
    /// The operating system does not let memory become executable: its error number.
    Refused(i32),
}

impl fmt::Display for JitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JitError::Architecture => {
                f.write_str("there is no compiler for this architecture or operating system")
            }
            JitError::Backend(backend) => {
                write!(f, "the compiler needs avx2 or avx512, the back end is {backend}")
            }
            JitError::Refused(number) => {
                write!(f, "the operating system refuses executable memory (error {number})")
            }
        }
    }
}

impl core::error::Error for JitError {}

/// There is no compiler here, so there is never an engine.
#[cfg(not(all(target_arch = "x86_64", unix)))]
#[derive(Debug)]
enum Engine {}

/// Items of a program that are interpreted before it is compiled, if they come in calls of few and
/// nobody said how many there will be: compiling takes the time of about as many. Checks of
/// announcements of different jobs run one item of a program, then load another.
const INTERPRETED_MAX: usize = 2;

/// Compiles programs and runs them: some 2 MiB, most of it code.
///
/// Loading is free; a program is compiled when it is run for more than a few items or was loaded for
/// them, once for few a call and once for many if both happen.
#[derive(Debug)]
pub struct Jit {
    engine: Engine,
    ops_max: u32,
    /// Items of a program that may be interpreted before it is compiled.
    interpreted_max: usize,
    /// The same of the loaded program.
    interpreted_now_max: usize,
    /// Items of the loaded program that were interpreted so.
    interpreted: usize,
    loaded: Loaded,
    lowered: Box<Lowered>,
    /// Runs programs that can not be compiled.
    fallback: Box<LanesInterpreter>,
}

/// What is known of the program that was loaded last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loaded {
    /// It was not yet run.
    AsWords,
    Lowered,
    /// It can not be compiled.
    Fallback,
}

impl Jit {
    /// A compiler for the instructions of a back end.
    ///
    /// # Errors
    /// [`JitError`] where it can not work: use a [`LanesInterpreter`].
    pub fn new(backend: Backend) -> Result<Jit, JitError> {
        let interpreted_max = INTERPRETED_MAX;
        Ok(Jit { interpreted_max, ..Jit::with_limit(backend, OPS_MAX)? })
    }

    /// A compiler with another limit of executed words that compiles for the first item already, to
    /// test compiled code and what happens at the limit.
    ///
    /// # Errors
    /// As [`new`](Jit::new).
    #[doc(hidden)]
    pub fn with_limit(backend: Backend, ops_max: u32) -> Result<Jit, JitError> {
        #[cfg(all(target_arch = "x86_64", unix))]
        let engine = Engine::new(backend)
            .ok_or(JitError::Backend(backend))?
            .map_err(|refused| JitError::Refused(refused.0))?;
        #[cfg(not(all(target_arch = "x86_64", unix)))]
        let engine: Engine = Err(JitError::Architecture)?;
        Ok(Jit {
            engine,
            ops_max,
            interpreted_max: 0,
            interpreted_now_max: 0,
            interpreted: 0,
            loaded: Loaded::Fallback,
            lowered: Box::new(Lowered::new()),
            fallback: Box::new(LanesInterpreter::with_limit(backend, ops_max)),
        })
    }

    /// The machine code of a program, for many items side by side or for one; `None` when the
    /// program is not compiled. It is the loaded program then.
    pub fn machine_code(&mut self, program: &Program, for_one_item: bool) -> Option<&[u8]> {
        self.load(program);
        self.lower(program);
        if self.loaded != Loaded::Lowered {
            return None;
        }
        #[cfg(all(target_arch = "x86_64", unix))]
        return self.engine.listing(&self.lowered, for_one_item).ok();
        #[cfg(not(all(target_arch = "x86_64", unix)))]
        {
            let _ = for_one_item;
            match self.engine {}
        }
    }

    fn lower(&mut self, program: &Program) {
        if self.loaded == Loaded::AsWords {
            let lowered = self.lowered.lower(program.words(), self.ops_max);
            self.loaded = if lowered.is_ok() { Loaded::Lowered } else { Loaded::Fallback };
        }
    }
}

impl Execute for Jit {
    fn load(&mut self, program: &Program) {
        self.loaded = Loaded::AsWords;
        self.interpreted = 0;
        self.interpreted_now_max = self.interpreted_max;
        self.fallback.load(program);
        #[cfg(all(target_arch = "x86_64", unix))]
        self.engine.forget();
    }

    fn load_for(&mut self, program: &Program, items: usize) {
        self.load(program);
        if items > self.interpreted_max {
            self.interpreted_now_max = 0;
        }
    }

    fn run(
        &mut self,
        program: &Program,
        items: &[u64],
        states: &mut [State],
        cycles: u32,
    ) -> Result<(), ExecError> {
        assert_eq!(items.len(), states.len(), "an item for each state");
        if self.interpreted + items.len() <= self.interpreted_now_max {
            self.interpreted += items.len();
            return self.fallback.run(program, items, states, cycles);
        }
        self.lower(program);
        if self.loaded == Loaded::Lowered {
            #[cfg(all(target_arch = "x86_64", unix))]
            if self.engine.run(&self.lowered, program, items, states, cycles).is_ok() {
                return Ok(());
            }
            self.loaded = Loaded::Fallback;
        }
        self.fallback.run(program, items, states, cycles)
    }
}
