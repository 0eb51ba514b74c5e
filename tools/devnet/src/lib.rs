//! A whole PacketCrypt pool with an embedded node in one process.
pub mod node;
