//! A whole PacketCrypt pool in one process: embedded node, master, announcement handlers, block
//! handler, paymaker, announcement miner and block miner, all on loopback and talking real HTTP and
//! UDP.
//!
//! It is the first impression of the project, its end-to-end test, and the tool with which an
//! operator tries a configuration. [`run()`] does what `packetcrypt devnet` does: it starts
//! everything, shows what happens, and ends with a [`Summary`] that checks itself. Tests use
//! [`Pool`], which can also restart a role, reorganise the chain or send the node away.

pub mod config;
pub mod guard;
pub mod node;
pub mod pool;
mod ports;
mod roles;
pub mod run;
pub mod screen;
mod slot;
pub mod summary;
pub mod view;

pub use config::{Config, ConfigError};
pub use pool::{Pool, Role, StartError};
pub use run::{RunError, run};
pub use summary::Summary;
