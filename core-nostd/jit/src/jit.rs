//! The compiler as an implementation of `Execute`.

use alloc::boxed::Box;
use core::fmt;

use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::params::OPS_MAX;
use packetcrypt_core::randhash::{Execute, LanesInterpreter, Planned, Program};
use packetcrypt_core::{Backend, ExecError};

#[cfg(not(all(target_arch = "x86_64", any(unix, windows))))]
use crate::elsewhere::Engine;
#[cfg(all(target_arch = "x86_64", any(unix, windows)))]
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

/// Compiles programs and runs them: some 1.5 MiB, most of it code.
///
/// Loading is free; a program is compiled when it is announced or run, in one form for many items
/// side by side and in another for few, one by one, as needed. The code of some programs is kept, so that
/// they can be loaded by turns.
#[derive(Debug)]
pub struct Jit {
    engine: Engine,
    /// Runs programs that can not be compiled.
    fallback: Box<LanesInterpreter>,
}

impl Jit {
    /// A compiler for the instructions of a back end.
    ///
    /// # Errors
    /// [`JitError`] where it can not work: use a [`LanesInterpreter`].
    pub fn new(backend: Backend) -> Result<Jit, JitError> {
        Jit::with_limit(backend, OPS_MAX)
    }

    /// A compiler with another limit of executed words, to test what happens at the limit.
    ///
    /// # Errors
    /// As [`new`](Jit::new).
    #[doc(hidden)]
    pub fn with_limit(backend: Backend, ops_max: u32) -> Result<Jit, JitError> {
        Ok(Jit {
            engine: Engine::new(backend, ops_max)?,
            fallback: Box::new(LanesInterpreter::with_limit(backend, ops_max)),
        })
    }

    /// The machine code of a program, for many items side by side or for one; `None` when the
    /// program is not compiled.
    pub fn machine_code(&mut self, program: &Program, for_one_item: bool) -> Option<&[u8]> {
        self.engine.listing(program, for_one_item).ok()
    }
}

impl Execute for Jit {
    fn load(&mut self, program: &Program) {
        self.fallback.load(program);
    }

    fn load_ahead(&mut self, plans: &[Planned<'_>]) {
        self.engine.load_ahead(plans);
    }

    fn run(
        &mut self,
        program: &Program,
        items: &[u64],
        states: &mut [State],
        cycles: u32,
    ) -> Result<(), ExecError> {
        assert_eq!(items.len(), states.len(), "an item for each state");
        match self.engine.run(program, items, states, cycles) {
            Ok(()) => Ok(()),
            Err(_) => self.fallback.run(program, items, states, cycles),
        }
    }
}
