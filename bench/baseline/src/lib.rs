//! What the figures of PacketCrypt are compared with: the steps of the reference implementation,
//! on libsodium.
//!
//! Each function does what the reference does for one nonce, table item, announcement or tree, in
//! the same order and over the same lengths, without any of the shortcuts that the rest of this
//! project takes. libsodium runs as fast as it can on the CPU, see [`Kernels`]. Random programs run
//! in the core's portable interpreter. All answers are those of the core, and `packetcrypt bench`
//! checks that they are.

mod announcement;
mod block;
mod cycle;
#[cfg_attr(not(feature = "libsodium"), path = "without_sodium.rs")]
mod sodium;

pub use announcement::{Checker, Job, Search};
pub use block::{Nonces, tree_root};
pub use sodium::Libsodium;

/// Which implementations libsodium uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// The fastest that it has for this CPU: AVX2 at best.
    Fastest,
    /// Portable C.
    Portable,
}
