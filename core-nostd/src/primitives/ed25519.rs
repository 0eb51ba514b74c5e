//! Ed25519 as the chain node verifies it (spec 04, 9).

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};

/// Whether `signature` is one of `message` under the public key.
///
/// Consensus: the plain form. The strict one also refuses keys and nonces of small order, which
/// the node accepts.
#[must_use]
pub fn verify(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public_key)
        .is_ok_and(|key| key.verify(message, &Signature::from_bytes(signature)).is_ok())
}

/// The signature of `message` under the key pair of a 32-byte seed.
#[must_use]
pub fn sign(seed: &[u8; 32], message: &[u8]) -> [u8; 64] {
    SigningKey::from_bytes(seed).sign(message).to_bytes()
}

/// The public key of a 32-byte seed.
#[must_use]
pub fn public_key(seed: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(seed).verifying_key().to_bytes()
}
