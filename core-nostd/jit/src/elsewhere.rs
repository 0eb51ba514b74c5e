//! Where there is no compiler: an engine that nobody can have.

use packetcrypt_core::Backend;
use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::randhash::{Planned, Program};

use crate::JitError;

/// No engine.
#[derive(Debug)]
pub(crate) enum Engine {}

impl Engine {
    pub(crate) fn new(_: Backend, _: u32) -> Result<Engine, JitError> {
        Err(JitError::Architecture)
    }

    pub(crate) fn load_ahead(&mut self, _: &[Planned<'_>]) {
        match *self {}
    }

    pub(crate) fn run(
        &mut self,
        _: &Program,
        _: &[u64],
        _: &mut [State],
        _: u32,
    ) -> Result<(), JitError> {
        match *self {}
    }

    pub(crate) fn listing(&mut self, _: &Program, _: bool) -> Result<&[u8], JitError> {
        match *self {}
    }
}
