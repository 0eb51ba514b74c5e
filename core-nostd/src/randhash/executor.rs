//! Which implementation of [`Execute`] runs programs, chosen at run time.

use core::fmt;
use core::str::FromStr;

use super::{Execute, Interpreter, LanesInterpreter, Program};
use crate::backend::Backend;
use crate::cryptocycle::State;
use crate::error::ExecError;

/// The name of an implementation of [`Execute`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Executor {
    /// [`Interpreter`]: one item at a time, word by word.
    Interpreter,
    /// [`LanesInterpreter`]: sixteen items at a time.
    Lanes,
}

impl Executor {
    /// Every executor, the fastest first.
    pub const ALL: [Executor; 2] = [Executor::Lanes, Executor::Interpreter];

    /// The executor to use.
    #[must_use]
    pub fn best() -> Executor {
        Executor::ALL[0]
    }

    /// The name that [`FromStr`] reads.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Executor::Interpreter => "interpreter",
            Executor::Lanes => "lanes",
        }
    }
}

impl fmt::Display for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no [`Executor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownExecutorError;

impl fmt::Display for UnknownExecutorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown executor; these are known:")?;
        Executor::ALL.iter().try_for_each(|executor| write!(f, " {executor}"))
    }
}

impl core::error::Error for UnknownExecutorError {}

impl FromStr for Executor {
    type Err = UnknownExecutorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Executor::ALL.into_iter().find(|e| e.name() == text).ok_or(UnknownExecutorError)
    }
}

/// An implementation of [`Execute`] that was chosen at run time. It holds the memory of its
/// choice, some 240 KiB: box it.
#[derive(Debug)]
pub struct AnyExecutor(Choice);

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // There is one, and it is boxed as a whole.
enum Choice {
    Interpreter(Interpreter),
    Lanes(LanesInterpreter),
}

impl AnyExecutor {
    /// The executor of this name, with the kernels of a back end.
    #[must_use]
    pub fn new(executor: Executor, backend: Backend) -> AnyExecutor {
        AnyExecutor(match executor {
            Executor::Interpreter => Choice::Interpreter(Interpreter::new()),
            Executor::Lanes => Choice::Lanes(LanesInterpreter::new(backend)),
        })
    }

    /// The fastest executor on the widest back end of this machine.
    #[must_use]
    pub fn best() -> AnyExecutor {
        AnyExecutor::new(Executor::best(), Backend::best())
    }

    fn chosen(&mut self) -> &mut dyn Execute {
        match &mut self.0 {
            Choice::Interpreter(interpreter) => interpreter,
            Choice::Lanes(interpreter) => interpreter,
        }
    }
}

impl Execute for AnyExecutor {
    fn load(&mut self, program: &Program) {
        self.chosen().load(program);
    }

    fn run(
        &mut self,
        program: &Program,
        items: &[u64],
        states: &mut [State],
        cycles: u32,
    ) -> Result<(), ExecError> {
        self.chosen().run(program, items, states, cycles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for executor in Executor::ALL {
            assert_eq!(executor.name().parse(), Ok(executor));
        }
        assert_eq!("abacus".parse::<Executor>(), Err(UnknownExecutorError));
    }
}
