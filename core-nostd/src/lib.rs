//! PacketCrypt consensus without std, allocation or C.
#![no_std]
