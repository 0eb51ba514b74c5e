//! Engines that the user forces, for a whole process.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use packetcrypt_core::Backend;
use packetcrypt_core::backend::UnavailableBackendError;

use crate::{AnyExecutor, Executor, JitError};

/// The environment variable that forces a back end, in the command and in tests.
pub const BACKEND_VARIABLE: &str = "PACKETCRYPT_BACKEND";
/// The environment variable that forces an executor, in the command and in tests.
pub const EXECUTOR_VARIABLE: &str = "PACKETCRYPT_EXECUTOR";

/// Why an engine that was asked for can not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineError {
    /// The CPU lacks the back end.
    Backend(UnavailableBackendError),
    /// Programs can not be compiled for the back end.
    Jit(JitError),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Backend(error) => error.fmt(f),
            EngineError::Jit(error) => write!(f, "executor jit can not be had: {error}"),
        }
    }
}

impl core::error::Error for EngineError {}

impl EngineError {
    /// The setting that asks for the engine, and the engine.
    #[must_use]
    pub fn asked(&self) -> (&'static str, &'static str) {
        match self {
            EngineError::Backend(error) => ("backend", error.0.name()),
            EngineError::Jit(_) => ("executor", Executor::Jit.name()),
        }
    }
}

/// Says whether engines that were asked for can be had; what was not asked for always can.
///
/// # Errors
/// [`EngineError`].
pub fn require(executor: Option<Executor>, backend: Option<Backend>) -> Result<(), EngineError> {
    if let Some(backend) = backend {
        backend.required().map_err(EngineError::Backend)?;
    }
    if executor == Some(Executor::Jit)
        && let Some(error) = AnyExecutor::wanted(executor, backend).refused()
    {
        return Err(EngineError::Jit(error));
    }
    Ok(())
}

/// Makes engines the best ones of this process ([`Backend::best`], [`Executor::best`]): what
/// everything uses that was not told otherwise. Call it before anything has chosen its engines.
///
/// # Errors
/// [`EngineError`] when one can not be had; nothing is forced then.
pub fn force(executor: Option<Executor>, backend: Option<Backend>) -> Result<(), EngineError> {
    require(executor, backend)?;
    if let Some(backend) = backend {
        backend.force().map_err(EngineError::Backend)?;
    }
    if let Some(executor) = executor {
        executor.force();
    }
    Ok(())
}

/// As [`force`], with the names that [`EXECUTOR_VARIABLE`] and [`BACKEND_VARIABLE`] have; `variable`
/// reads the environment, which this crate can not. For tests: a whole suite can be run with engines
/// that are not the best of the machine.
///
/// # Errors
/// [`EngineError`], or a name that no engine has.
pub fn force_by_environment<E>(
    variable: impl Fn(&'static str) -> Result<String, E>,
) -> Result<(), Box<dyn core::error::Error>> {
    let named = |name| variable(name).ok();
    let executor = named(EXECUTOR_VARIABLE).map(|name| name.parse()).transpose()?;
    let backend = named(BACKEND_VARIABLE).map(|name| name.parse()).transpose()?;
    Ok(force(executor, backend)?)
}
