//! Engines that the user forces: options of every command.

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use packetcrypt_core::Backend;
use packetcrypt_jit::{BACKEND_VARIABLE, EXECUTOR_VARIABLE, Executor, force};

use crate::failure::Failure;
use crate::layers::{Layers, Origin};

/// What everything that hashes uses, where it is not the best of the machine.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Engines {
    /// Instruction set of everything that hashes: avx512, avx2, neon or soft [default: the best of
    /// this machine]
    #[arg(long, global = true, value_name = "NAME", env = BACKEND_VARIABLE)]
    backend: Option<Backend>,
    /// What runs random programs: jit, lanes or interpreter [default: the best]
    #[arg(long, global = true, value_name = "NAME", env = EXECUTOR_VARIABLE)]
    executor: Option<Executor>,
    /// Which of them the environment names.
    #[arg(skip)]
    by_environment: ByEnvironment,
}

#[derive(Clone, Copy, Debug, Default)]
struct ByEnvironment {
    backend: bool,
    executor: bool,
}

impl Engines {
    /// Notes which of them come from the environment.
    pub(crate) fn note_sources(&mut self, matches: &ArgMatches) {
        let is_variable = |id| matches.value_source(id) == Some(ValueSource::EnvVariable);
        self.by_environment =
            ByEnvironment { backend: is_variable("backend"), executor: is_variable("executor") };
    }

    /// Makes them those of this process.
    pub(crate) fn force(self) -> Result<(), Failure> {
        force(self.executor, self.backend).map_err(|error| {
            let (setting, name) = error.asked();
            Failure::usage(format!("{setting} {name} was asked for: {error}"))
        })
    }

    /// Puts them over the keys `backend` and `executor` of a role that has them. What the
    /// environment names stays below what the command line says by `--set`.
    pub(crate) fn set(self, layers: &mut Layers) {
        let by = self.by_environment;
        let texts = [
            ("backend", BACKEND_VARIABLE, by.backend, self.backend.map(Backend::name)),
            ("executor", EXECUTOR_VARIABLE, by.executor, self.executor.map(Executor::name)),
        ];
        for (key, variable, is_variable, text) in texts {
            let Some(text) = text else { continue };
            let origin = if is_variable {
                Origin::Environment(variable.to_owned())
            } else {
                Origin::CommandLine(format!("--{key}"))
            };
            if !is_variable || !layers.is_from_command_line(key) {
                layers.set_text(key, text, origin);
            }
        }
    }
}
