//! Messages and files of the PacketCrypt pool protocol.
