//! End-to-end tests of the PacketCrypt pool.
