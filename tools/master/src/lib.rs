//! Master of a PacketCrypt pool.
