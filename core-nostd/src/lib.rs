//! PacketCrypt consensus without std, allocation or C.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod announcement;
pub mod backend;
pub mod block;
pub mod bytes;
pub mod cryptocycle;
pub mod difficulty;
pub mod error;
pub mod merkle;
pub mod params;
pub mod primitives;
pub mod randhash;

pub use backend::Backend;
pub use bytes::{CompactTarget, Hash32, Hash64};
pub use error::{AnnError, ExecError, ProgramError};
