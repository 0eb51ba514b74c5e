//! What runs programs, chosen at run time.

use alloc::boxed::Box;
use core::fmt;
use core::str::FromStr;
use core::sync::atomic::{AtomicU8, Ordering};

use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::randhash::{Execute, Interpreter, LanesInterpreter, Planned, Program};
use packetcrypt_core::{Backend, ExecError};

use crate::{Jit, JitError};

/// The name of an implementation of [`Execute`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Executor {
    /// [`Jit`]: machine code.
    Jit,
    /// [`LanesInterpreter`]: sixteen items at a time.
    Lanes,
    /// [`Interpreter`]: one item at a time, word by word.
    Interpreter,
}

/// What [`Executor::force`] was told: a place in [`Executor::ALL`], or a number that is none.
static FORCED: AtomicU8 = AtomicU8::new(u8::MAX);

impl Executor {
    /// Every executor, the fastest first.
    pub const ALL: [Executor; 3] = [Executor::Jit, Executor::Lanes, Executor::Interpreter];

    /// Makes an executor the [best](Executor::best) one of this process, for users who force it.
    /// Call it before anything has chosen its executor.
    pub(crate) fn force(self) {
        let place = (0..).zip(Executor::ALL).find(|(_, executor)| *executor == self);
        FORCED.store(place.map_or(u8::MAX, |(place, _)| place), Ordering::Relaxed);
    }

    /// The one to ask for where nobody asks for another: where it can not work [`AnyExecutor`] is
    /// the next best.
    fn preferred() -> Executor {
        let forced = Executor::ALL.get(usize::from(FORCED.load(Ordering::Relaxed)));
        forced.copied().unwrap_or(Executor::Jit)
    }

    /// The executor to use on this machine: the [forced](crate::force) one, else the fastest.
    #[must_use]
    pub fn best() -> Executor {
        AnyExecutor::best().executor()
    }

    /// The name that [`FromStr`] reads.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Executor::Jit => "jit",
            Executor::Lanes => "lanes",
            Executor::Interpreter => "interpreter",
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

/// An implementation of [`Execute`] that was chosen at run time, with its memory.
#[derive(Debug)]
pub struct AnyExecutor {
    choice: Choice,
    backend: Backend,
    refused: Option<JitError>,
}

#[derive(Debug)]
enum Choice {
    Jit(Box<Jit>),
    Lanes(Box<LanesInterpreter>),
    Interpreter(Box<Interpreter>),
}

impl AnyExecutor {
    /// The executor of this name, with the instructions of a back end. Where programs can not be
    /// compiled it is [`Executor::Lanes`] instead of [`Executor::Jit`], and
    /// [`refused`](AnyExecutor::refused) says why.
    #[must_use]
    pub fn new(executor: Executor, backend: Backend) -> AnyExecutor {
        let lanes = || Choice::Lanes(Box::new(LanesInterpreter::new(backend)));
        let (choice, refused) = match executor {
            Executor::Jit => match Jit::new(backend) {
                Ok(jit) => (Choice::Jit(Box::new(jit)), None),
                Err(error) => (lanes(), Some(error)),
            },
            Executor::Lanes => (lanes(), None),
            Executor::Interpreter => (Choice::Interpreter(Box::new(Interpreter::new())), None),
        };
        AnyExecutor { choice, backend, refused }
    }

    /// The executor and the back end that somebody asked for, the best ones where nobody did.
    #[must_use]
    pub fn wanted(executor: Option<Executor>, backend: Option<Backend>) -> AnyExecutor {
        let executor = executor.unwrap_or_else(Executor::preferred);
        AnyExecutor::new(executor, backend.unwrap_or_else(Backend::best))
    }

    /// The best executor on the best back end: the forced ones, else the fastest and the widest of
    /// this machine.
    #[must_use]
    pub fn best() -> AnyExecutor {
        AnyExecutor::wanted(None, None)
    }

    /// Which executor it is.
    #[must_use]
    pub fn executor(&self) -> Executor {
        match self.choice {
            Choice::Jit(_) => Executor::Jit,
            Choice::Lanes(_) => Executor::Lanes,
            Choice::Interpreter(_) => Executor::Interpreter,
        }
    }

    /// Why it does not compile although that was asked for.
    #[must_use]
    pub fn refused(&self) -> Option<JitError> {
        self.refused
    }

    fn chosen(&mut self) -> &mut dyn Execute {
        match &mut self.choice {
            Choice::Jit(jit) => &mut **jit,
            Choice::Lanes(lanes) => &mut **lanes,
            Choice::Interpreter(interpreter) => &mut **interpreter,
        }
    }
}

/// What programs say when they start: executor, back end, and why it is not another.
impl fmt::Display for AnyExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.executor(), self.backend)?;
        match self.refused {
            Some(error) => write!(f, " (not jit: {error})"),
            None => Ok(()),
        }
    }
}

impl Execute for AnyExecutor {
    fn load(&mut self, program: &Program) {
        self.chosen().load(program);
    }

    fn load_ahead(&mut self, plans: &[Planned<'_>]) {
        self.chosen().load_ahead(plans);
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

    #[test]
    fn what_can_not_be_compiled_is_interpreted_in_lanes() {
        let soft = AnyExecutor::new(Executor::Jit, Backend::Soft);
        assert_eq!(soft.executor(), Executor::Lanes);
        assert!(soft.refused().is_some());
        let best = AnyExecutor::best();
        assert_eq!(best.executor() == Executor::Jit, best.refused().is_none());
        for executor in [Executor::Lanes, Executor::Interpreter] {
            let asked = AnyExecutor::new(executor, Backend::best());
            assert_eq!((asked.executor(), asked.refused()), (executor, None));
        }
    }
}
