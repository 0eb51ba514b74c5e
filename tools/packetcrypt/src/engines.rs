//! Engines that the user forces: options of every command.

use clap::Args;
use packetcrypt_core::Backend;
use packetcrypt_jit::{BACKEND_VARIABLE, EXECUTOR_VARIABLE, Executor, force};

use crate::failure::Failure;
use crate::layers::{Layers, Origin};

/// What everything that hashes uses, where it is not the best of the machine.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Engines {
    /// Instruction set of everything that hashes: avx512, avx2, neon or soft [default: the best of
    /// this machine]
    #[arg(long, global = true, value_name = "NAME", env = BACKEND_VARIABLE)]
    backend: Option<Backend>,
    /// What runs random programs: jit, lanes or interpreter [default: the best]
    #[arg(long, global = true, value_name = "NAME", env = EXECUTOR_VARIABLE)]
    executor: Option<Executor>,
}

impl Engines {
    /// Makes them those of this process.
    pub(crate) fn force(self) -> Result<(), Failure> {
        force(self.executor, self.backend).map_err(|error| {
            let (setting, name) = error.asked();
            Failure::usage(format!("{setting} {name} was asked for: {error}"))
        })
    }

    /// Puts them over the keys `backend` and `executor` of a role that has them.
    pub(crate) fn set(self, layers: &mut Layers) {
        let texts = [
            ("backend", BACKEND_VARIABLE, self.backend.map(Backend::name)),
            ("executor", EXECUTOR_VARIABLE, self.executor.map(Executor::name)),
        ];
        for (key, variable, text) in texts {
            if let Some(text) = text {
                let origin = Origin::CommandLine(format!("--{key} or {variable}"));
                layers.set_text(key, text, origin);
            }
        }
    }
}
