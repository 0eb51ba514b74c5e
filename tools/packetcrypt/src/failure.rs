//! Why a command did not do what it was asked for, as exit code and text.

use std::fmt;
use std::process::ExitCode;

use crate::layers::SettingsError;

/// Exit code of a command that failed, and of `check` for what is invalid.
const FAILED: u8 = 1;
/// Exit code of wrong usage and wrong settings, which clap uses as well.
const USAGE: u8 = 2;

/// Exit code of a block handler that the master does not list, as the reference (spec 05, 10.5).
const NOT_LISTED: u8 = 100;

/// Why a command ends with an exit code other than 0.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It began and could not go on.
    Failed(String),
    /// What is wanted is not understood or not possible.
    Usage(String),
    /// What was checked is not valid; it has been said already.
    Invalid,
    /// The master does not list this handler.
    NotListed(String),
}

impl Failure {
    /// A failure at work.
    pub(crate) fn failed(cause: impl fmt::Display) -> Self {
        Self::Failed(cause.to_string())
    }

    /// Wrong usage.
    pub(crate) fn usage(cause: impl fmt::Display) -> Self {
        Self::Usage(cause.to_string())
    }

    /// What to print.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Failed(text) | Self::Usage(text) | Self::NotListed(text) => Some(text),
            Self::Invalid => None,
        }
    }

    /// What the process ends with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(_) | Self::Invalid => ExitCode::from(FAILED),
            Self::Usage(_) => ExitCode::from(USAGE),
            Self::NotListed(_) => ExitCode::from(NOT_LISTED),
        }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::usage(error)
    }
}
