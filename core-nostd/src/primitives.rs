//! The hash functions and ciphers of spec 01, in the forms that this system needs.

pub mod blake2b;
pub mod chacha20;
pub mod ed25519;
pub mod poly1305;
pub mod sha256;
pub mod x25519;

pub use blake2b::{compress32, compress64};
pub use chacha20::expand;
pub use sha256::dsha256;
