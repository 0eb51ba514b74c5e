//! PacketCrypt in one command.

fn main() {}
