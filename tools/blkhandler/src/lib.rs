//! Block handler of a PacketCrypt pool.
