//! Which proof versions and announcement versions a block may have (spec 04, 7 and 8).

use crate::params::VERSION_1_HEIGHT_MIN;
use crate::params::{PROOF_VERSION_2_HEIGHT_MIN, PROOF_VERSION_MAX, PROOF_VERSIONS_0_1_HEIGHT_MAX};

/// The proof version that we produce, and the greatest that we accept.
pub const CURRENT: u64 = PROOF_VERSION_MAX;

/// The height gate: whether a block of this height may have this proof version.
///
/// As the node it judges versions above 2 as 2; that we refuse them is a rule of its own
/// ([`is_known`]).
#[must_use]
pub const fn allowed_at(proof_version: u64, height: u32) -> bool {
    if proof_version >= 2 {
        height >= PROOF_VERSION_2_HEIGHT_MIN
    } else {
        height <= PROOF_VERSIONS_0_1_HEIGHT_MAX
    }
}

/// Whether the version is one of 0, 1 and 2.
#[must_use]
pub const fn is_known(proof_version: u64) -> bool {
    proof_version <= PROOF_VERSION_MAX
}

/// Whether a block of this proof version may hold an announcement of this version and parent.
#[must_use]
pub const fn announcement_allowed(
    announcement_version: u8,
    parent_height: u32,
    proof_version: u64,
) -> bool {
    if announcement_version == 0 {
        proof_version < 2
    } else {
        parent_height >= VERSION_1_HEIGHT_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_of_version_0_need_an_old_proof() {
        assert!(announcement_allowed(0, 0, 1));
        assert!(!announcement_allowed(0, 0, 2));
        assert!(announcement_allowed(1, 103_869, 2));
        assert!(!announcement_allowed(1, 103_868, 0));
        assert!(!announcement_allowed(255, 103_868, 2));
    }

    #[test]
    fn version_3_is_not_known() {
        assert!(is_known(0) && is_known(2));
        assert!(!is_known(3) && !is_known(u64::MAX));
    }
}
