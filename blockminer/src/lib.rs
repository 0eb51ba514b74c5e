//! The block miner: collects announcements, builds trees over them, and mines blocks with them
//! (spec 04, 13 and spec 05, 9).
//!
//! ```text
//!  sprayer (UDP) ──┐
//!                  ├─> intake ──> store (arena, classes) ──> choice ──> tree ──> job
//!  handlers (HTTP) ┘   checks                                            │       │
//!  pool ── work, blocks ─────────────────────────────────────────────────┴──> mining threads
//!                                                                                │ solutions
//!  block handlers <── uploads <── checked shares <── prover <─────────────────────┘
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`config`] | settings |
//! | [`class`], [`store`] | announcements in memory, what they are worth, recycling |
//! | [`choose`] | the best set of classes |
//! | [`tree`], [`job`] | the tree over a set, a work put into it |
//! | [`share`] | a solution made into an upload, and checked |
//! | [`fetch`] | which handlers announcements are downloaded from |
//! | [`stats`] | figures |
//! | [`measure`] | what `packetcrypt bench blk` and `bench ingest` measure |
//!
//! Mining, building trees, taking announcements in and checking shares run on threads of their
//! own; the rest is asynchronous. [`start`] starts it all, [`Running::join`] waits for the end.

pub mod choose;
pub mod class;
pub mod config;
mod doubt;
pub mod fetch;
pub mod job;
pub mod measure;
pub mod share;
pub mod stats;
pub mod store;
pub mod tree;

mod chain;
mod hash;
mod intake;
mod jobs;
mod observe;
mod peers;
mod prove;
mod run;
mod search;
mod spray;
mod upload;

pub use config::{Config, ConfigError, SprayerConfig};
pub use run::{RunError, Running, StartError, start};
pub use stats::Stats;

/// The proof version of the blocks that are mined (spec 04, 8).
pub const PROOF_VERSION: u64 = packetcrypt_core::block::versions::CURRENT;
