//! Runs PacketCrypt's random programs as machine code.
//!
//! [`Jit`] compiles a program for many items side by side, or for one, when it is run for more than a
//! few. It needs x86-64 with AVX2 and an operating system, Windows or one like Unix, that lets a
//! program make memory executable; where something is missing [`Jit::new`] says what.
//! [`AnyExecutor`] is the choice between it and the interpreters of the core, made at run time:
//! programs that mine or check hold one.
//!
//! # What makes it safe
//!
//! A program is data from a hostile network. It is compiled from its lowered form
//! ([`packetcrypt_core::randhash::lower`]), in which every operand is a checked index: compiled code
//! reads and writes its own frame only, at displacements known when compiling, plus indexes that are
//! bounded. It calls functions of this crate only, whose addresses are in that frame, beyond what such
//! an index can reach; it has no other indirect jump, and only loops with constant counts whose sum is
//! checked against the operation limit beforehand. Memory is never writable and executable at once.
#![no_std]

extern crate alloc;

#[cfg(test)]
extern crate std;

#[cfg(not(all(target_arch = "x86_64", any(unix, windows))))]
mod elsewhere;
mod executor;
mod force;
mod jit;
#[cfg(all(target_arch = "x86_64", any(unix, windows)))]
mod memory;
#[cfg(all(target_arch = "x86_64", any(unix, windows)))]
mod x86_64;

pub use executor::{AnyExecutor, Executor, UnknownExecutorError};
pub use force::{
    BACKEND_VARIABLE, EXECUTOR_VARIABLE, EngineError, force, force_by_environment, require,
};
pub use jit::{Jit, JitError};
