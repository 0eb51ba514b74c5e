//! I/O of the PacketCrypt programs: engines, HTTP, sprayer, pool client, pay log.
