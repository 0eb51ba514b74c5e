//! Why a share gets an error reply: the reasons that block miners know (spec 05, 10.1) and ours.

use packetcrypt_core::bytes::CompactTarget;
use packetcrypt_proto::share::ShareRejection;

use crate::stats::Outcome;

/// Why a post to `/submit` is answered with an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// One of the reference's reasons.
    #[error("{0}")]
    Known(ShareRejection),
    /// The body did not arrive in time or broke off.
    #[error("body did not arrive")]
    BodyLost,
    /// The address is longer than any event may carry.
    #[error("payto too long")]
    PayToTooLong,
    /// An announcement with a target that the node must not be asked about (spec 06, 1.5).
    #[error("announcement [{index}] work target [{target}] is not well-formed")]
    BadTarget {
        /// Index of the announcement in the proof.
        index: usize,
        /// Its work target.
        target: CompactTarget,
    },
    /// A commitment whose least work is no target.
    #[error("commitment least work target [{0}] is not well-formed")]
    BadLeastWork(CompactTarget),
    /// As [`ShareRejection::FailedValidation`], found before the node was asked.
    #[error("Failed validation of share [{0}]")]
    InvalidHere(String),
    /// The node does not answer, so the share could not be checked.
    #[error("Unable to check share [{0}]")]
    NodeAway(String),
    /// As many shares of one work as may be remembered.
    #[error("overloaded")]
    TooManyShares,
    /// The event could not be made durable.
    #[error("Unable to log share")]
    NotLogged,
}

impl From<ShareRejection> for Refusal {
    fn from(known: ShareRejection) -> Self {
        Self::Known(known)
    }
}

impl Refusal {
    /// The HTTP status of the reply.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Known(known) => known.status(),
            Self::BodyLost => 408,
            Self::NotLogged => 500,
            Self::TooManyShares => 501,
            Self::NodeAway(_) => 503,
            Self::PayToTooLong
            | Self::BadTarget { .. }
            | Self::BadLeastWork(_)
            | Self::InvalidHere(_) => 400,
        }
    }

    /// Where the request is counted.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Known(known) => outcome_of(known),
            Self::BodyLost | Self::PayToTooLong => Outcome::Malformed,
            Self::BadTarget { .. } | Self::BadLeastWork(_) => Outcome::BadAnnouncement,
            Self::InvalidHere(_) => Outcome::InvalidHere,
            Self::TooManyShares => Outcome::TooManyShares,
            Self::NodeAway(_) | Self::NotLogged => Outcome::Failed,
        }
    }
}

fn outcome_of(known: &ShareRejection) -> Outcome {
    match known {
        ShareRejection::TooBig
        | ShareRejection::NoContent
        | ShareRejection::NotParsable
        | ShareRejection::FirstElement => Outcome::Malformed,
        ShareRejection::WrongWork { .. } => Outcome::WrongWork,
        ShareRejection::ParentOutOfRange { .. }
        | ShareRejection::NoSigningKey { .. }
        | ShareRejection::WrongSigningKey { .. } => Outcome::BadAnnouncement,
        ShareRejection::FailedValidation { .. } => Outcome::InvalidAtNode,
        ShareRejection::Overloaded => Outcome::Crowded,
        // The share behind a refused block is paid: it was accepted.
        ShareRejection::BlockRefused { .. } | ShareRejection::AlreadyHaveBlock => Outcome::Accepted,
        _ => Outcome::Failed,
    }
}

/// Tells the two forms of a refused block apart by the text of the node (spec 05, 10.1).
pub(crate) fn block_refused(text: String) -> Refusal {
    if text.starts_with("rejected: already have block") {
        return ShareRejection::AlreadyHaveBlock.into();
    }
    ShareRejection::BlockRefused { text }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_texts() {
        let of = |refusal: Refusal| (refusal.status(), refusal.to_string());
        assert_eq!(of(ShareRejection::TooBig.into()), (400, "too big".to_owned()));
        assert_eq!(
            of(Refusal::BadTarget { index: 2, target: CompactTarget(0x2000_0000) }),
            (400, "announcement [2] work target [20000000] is not well-formed".to_owned())
        );
        assert_eq!(of(Refusal::TooManyShares), (501, "overloaded".to_owned()));
        assert_eq!(block_refused("rejected: already have block x".into()).status(), 409);
        let now = block_refused("rejected: 1.0 ErrDuplicateBlock: already have block".into());
        assert_eq!(now.status(), 400);
        assert_eq!(now.outcome(), Outcome::Accepted);
    }
}
