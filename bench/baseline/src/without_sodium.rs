//! In place of libsodium where the baseline was built without it: the core's plain primitives.

use packetcrypt_core::primitives::{chacha20::KeyStream, compress32, compress64, poly1305, x25519};

use crate::Kernels;

/// The primitives, ready to be called.
#[derive(Debug)]
pub struct Libsodium(());

impl Libsodium {
    /// There is nothing to pick.
    #[must_use]
    pub fn start(_: Kernels) -> Libsodium {
        Libsodium(())
    }

    /// What it is, to be shown.
    #[must_use]
    pub fn name(&self) -> &'static str {
        "plain primitives (built without libsodium)"
    }

    pub(crate) fn prefetch(&self, _: &[u8; 1024]) {}

    pub(crate) fn stream(&self, key: &[u8; 32], nonce: &[u8; 12], out: &mut [u8]) {
        KeyStream::new(key, nonce).write(0, out);
    }

    pub(crate) fn stream_xor(&self, key: &[u8; 32], nonce: &[u8; 12], block: u32, data: &mut [u8]) {
        KeyStream::new(key, nonce).apply(block, data);
    }

    pub(crate) fn tag(&self, key: &[u8; 32], message: &[u8], tail: &[u8; 16]) -> [u8; 16] {
        poly1305::tag(key, message, tail)
    }

    /// BLAKE2b with a digest of `N` bytes, 32 or 64.
    pub(crate) fn blake2b<const N: usize>(&self, message: &[u8]) -> [u8; N] {
        let mut digest = [0; N];
        match N {
            32 => digest.copy_from_slice(&compress32(message).0),
            _ => digest.copy_from_slice(&compress64(message).0),
        }
        digest
    }

    pub(crate) fn x25519_base(&self, scalar: &[u8; 32]) -> [u8; 32] {
        x25519::x25519_base(scalar)
    }

    pub(crate) fn x25519(&self, scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
        x25519::x25519(scalar, point)
    }
}
