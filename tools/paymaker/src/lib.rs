//! Paymaker of a PacketCrypt pool.
