//! Messages and files of the PacketCrypt pool protocol (spec 05).
//!
//! This package does no I/O: every module holds one message or file of the protocol as a checked
//! type, with `parse` for what comes from outside and an encoder that prints what the reference
//! programs print, byte for byte. Bytes are parsed once, at the border, and every decoder is
//! bounded and does not panic on any input.
//!
//! | module | what |
//! |---|---|
//! | [`config`], [`work`], [`template`], [`blkinfo`] | what the master serves |
//! | [`share`], [`events`], [`reply`], [`headers`] | what is posted to handlers and answered |
//! | [`datagram`], [`anns_index`] | how announcements reach block miners |
//! | [`ids`], [`compact`], [`signing`], [`address`] | the functions that all roles must agree on |
//! | [`json`], [`number`], [`varint`] | how values are written |
//! | [`settings`] | what the settings of all roles have in common |
//!
//! Hashes are [`Hash32`](packetcrypt_core::bytes::Hash32) in internal order everywhere in memory;
//! JSON holds block hashes in display order (spec 05, 2.1).

pub mod address;
pub mod anns_index;
pub mod blkinfo;
pub mod compact;
pub mod config;
pub mod datagram;
pub mod events;
pub mod fields;
pub mod headers;
pub mod ids;
pub mod json;
pub mod number;
pub mod reply;
pub mod settings;
pub mod share;
pub mod signing;
pub mod template;
pub mod varint;
pub mod work;

/// Bytes of an announcement (spec 03, 2.1).
pub const ANNOUNCEMENT_BYTES: usize = 1024;
/// Bytes of a block header (spec 04).
pub const HEADER_BYTES: usize = 80;
/// Bytes of the commitment in the coinbase (spec 04).
pub const COMMITMENT_BYTES: usize = 48;
/// Most elements of a merkle branch: a tree of 2^32 transactions, far above what a block holds.
pub const MERKLE_BRANCH_LEN_MAX: usize = 32;
/// The value of `version` in `config.json` (spec 05, 4.2).
pub const PROTOCOL_VERSION: u32 = 3;
/// The value of `softVersion` in `config.json` (spec 05, 4.2).
pub const PROTOCOL_SOFT_VERSION: u32 = 1;
/// What our programs call themselves in `User-Agent` and `Server`.
pub const USER_AGENT: &str = concat!("packetcrypt/", env!("CARGO_PKG_VERSION"));
