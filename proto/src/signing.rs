//! Keys that sign announcements for one pool (spec 05, 4.6).

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
use packetcrypt_core::bytes::Hash32;
use sha2::{Digest, Sha256};

use crate::ANNOUNCEMENT_BYTES;

/// The pool's secret, from which the key of every height follows. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSeed(String);

impl SigningSeed {
    /// The seed of a configuration, `None` (signing is off) when it is absent or empty.
    #[must_use]
    pub fn new(private_seed: Option<&str>) -> Option<Self> {
        private_seed.filter(|seed| !seed.is_empty()).map(|seed| Self(seed.to_owned()))
    }

    /// The key of a height: an announcement with parent height p is signed with that of p + 1.
    #[must_use]
    pub fn key(&self, height: i32) -> AnnSigningKey {
        let seed = Sha256::new().chain_update(&self.0).chain_update(height.to_le_bytes());
        AnnSigningKey(SigningKey::from_bytes(&seed.finalize().into()))
    }
}

impl fmt::Debug for SigningSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSeed(hidden)")
    }
}

/// The key pair of one height. Its secret half is never shown.
#[derive(Clone)]
pub struct AnnSigningKey(SigningKey);

impl AnnSigningKey {
    /// The public key, as it stands in announcements, work files and `blkinfo`.
    #[must_use]
    pub fn public(&self) -> Hash32 {
        Hash32(self.0.verifying_key().to_bytes())
    }

    /// Ed25519 signature over a whole announcement.
    #[must_use]
    pub fn sign(&self, announcement: &[u8; ANNOUNCEMENT_BYTES]) -> [u8; 64] {
        self.0.sign(announcement).to_bytes()
    }
}

impl fmt::Debug for AnnSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnnSigningKey(public {})", self.public().hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_seed_is_no_signing() {
        assert_eq!(SigningSeed::new(None), None);
        assert_eq!(SigningSeed::new(Some("")), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let seed = SigningSeed::new(Some("correct horse")).unwrap();
        let secret = hex::encode(seed.key(1).0.to_bytes());
        let shown = format!("{seed:?} {:?}", seed.key(1));
        assert!(!shown.contains("horse") && !shown.contains(&secret), "{shown}");
    }
}
