//! The upload of a share and everything the block handler answers to it (spec 05, 9.4 and 10.1).

use std::fmt;

use packetcrypt_core::block::entities as element;
use packetcrypt_core::bytes::{CompactTarget, Hash32, read_u32, read_u64};
use serde::Serialize;
use serde_json::Value;

use crate::{ANNOUNCEMENT_BYTES, COMMITMENT_BYTES, HEADER_BYTES, ids, json, varint, work};

/// Most bytes of an upload.
pub const UPLOAD_BYTES_MAX: usize = 65_535;
/// Announcements in a proof.
pub const PROOF_ANNOUNCEMENTS: usize = element::ANNOUNCEMENTS;

/// A share as a block miner uploads it: the right shape, nothing proved yet.
#[derive(Clone, PartialEq, Eq)]
pub struct ShareUpload {
    commitment: [u8; COMMITMENT_BYTES],
    header_and_proof: Vec<u8>,
    /// Where the content of element 1 lies.
    proof_at: usize,
}

impl ShareUpload {
    /// An upload of our own miner.
    ///
    /// # Errors
    /// [`ShareRejection::FirstElement`] when the bytes have not the shape that handlers want.
    pub fn new(
        commitment: [u8; COMMITMENT_BYTES],
        header_and_proof: Vec<u8>,
    ) -> Result<Self, ShareRejection> {
        let proof_at = check_shape(&header_and_proof).ok_or(ShareRejection::FirstElement)?;
        Ok(Self { commitment, header_and_proof, proof_at })
    }

    /// Parses the body of a POST.
    ///
    /// # Errors
    /// [`ShareRejection::TooBig`], [`ShareRejection::NoContent`], [`ShareRejection::NotParsable`]
    /// and [`ShareRejection::FirstElement`].
    pub fn parse(body: &[u8]) -> Result<Self, ShareRejection> {
        if body.len() > UPLOAD_BYTES_MAX {
            return Err(ShareRejection::TooBig);
        }
        if body.is_empty() {
            return Err(ShareRejection::NoContent);
        }
        let value: Value = serde_json::from_slice(body).map_err(|_| ShareRejection::NotParsable)?;
        let bytes = |key| {
            let text = value.get(key).and_then(Value::as_str).ok_or(ShareRejection::NotParsable)?;
            hex::decode(text).map_err(|_| ShareRejection::NotParsable)
        };
        let commitment = bytes("coinbase_commit")?;
        let header_and_proof = bytes("header_and_proof")?;
        let commitment = commitment.try_into().map_err(|_| ShareRejection::NotParsable)?;
        Self::new(commitment, header_and_proof)
    }

    /// The body of a POST.
    #[must_use]
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Wire {
            coinbase_commit: String,
            header_and_proof: String,
        }
        json::to_line(&Wire {
            coinbase_commit: hex::encode(self.commitment),
            header_and_proof: hex::encode(&self.header_and_proof),
        })
    }

    /// The commitment for the coinbase: magic, least work target, root, count.
    #[must_use]
    pub fn commitment(&self) -> &[u8; COMMITMENT_BYTES] {
        &self.commitment
    }

    /// Least work target of the commitment.
    #[must_use]
    pub fn ann_min_work(&self) -> CompactTarget {
        CompactTarget(read_u32(&self.commitment, 4))
    }

    /// Announcement count of the commitment.
    #[must_use]
    pub fn ann_count(&self) -> u64 {
        read_u64(&self.commitment, 40)
    }

    /// Header, then the elements, without the end element.
    #[must_use]
    pub fn header_and_proof(&self) -> &[u8] {
        &self.header_and_proof
    }

    /// The elements alone.
    #[must_use]
    pub fn proof(&self) -> &[u8] {
        &self.header_and_proof[HEADER_BYTES..]
    }

    /// The header as uploaded. Of its fields only merkle root and nonce are the miner's to choose:
    /// see [`ShareUpload::effective_header`].
    #[must_use]
    pub fn header(&self) -> &[u8; HEADER_BYTES] {
        self.header_and_proof.first_chunk().expect("the shape was checked")
    }

    /// Hash of the previous block that the miner worked on.
    #[must_use]
    pub fn previous_hash(&self) -> Hash32 {
        work::previous_hash(self.header())
    }

    /// The merkle root that the miner made of coinbase and commitment.
    #[must_use]
    pub fn merkle_root(&self) -> Hash32 {
        Hash32(*self.header()[36..].first_chunk().expect("a header holds a merkle root"))
    }

    /// The header that counts: merkle root and nonce of the upload, the rest of the pool's work
    /// (spec 05, 10.2 step 2).
    #[must_use]
    pub fn effective_header(&self, work_header: &[u8; HEADER_BYTES]) -> [u8; HEADER_BYTES] {
        let mut header = *work_header;
        let uploaded = self.header();
        header[36..68].copy_from_slice(&uploaded[36..68]);
        header[76..80].copy_from_slice(&uploaded[76..80]);
        header
    }

    /// The low nonce.
    #[must_use]
    pub fn low_nonce(&self) -> u32 {
        read_u32(&self.header_and_proof, self.proof_at)
    }

    /// The four announcements.
    #[must_use]
    pub fn announcements(&self) -> &[[u8; ANNOUNCEMENT_BYTES]; PROOF_ANNOUNCEMENTS] {
        let (announcements, _) =
            self.header_and_proof[self.proof_at + 4..].as_chunks::<ANNOUNCEMENT_BYTES>();
        announcements.first_chunk().expect("the shape was checked")
    }

    /// `eventId` of the share under this effective header.
    #[must_use]
    pub fn event_id(&self, effective_header: &[u8; HEADER_BYTES]) -> String {
        ids::share_event_id(effective_header, self.low_nonce())
    }
}

impl fmt::Debug for ShareUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.header_and_proof.len();
        write!(f, "ShareUpload(low nonce {}, {bytes} bytes)", self.low_nonce())
    }
}

/// Where the content of element 1 lies when the bytes are a header and whole elements, the first of
/// them a proof that is long enough, none of them the end element.
///
/// The end element belongs to the handler: an upload that ends the sequence itself could make the
/// node stop reading before the handler's signatures. A type of nine bytes, which the reference can
/// not read, is none (spec 05, 10.1); a length of nine bytes never fits.
fn check_shape(header_and_proof: &[u8]) -> Option<usize> {
    let mut rest = header_and_proof.get(HEADER_BYTES..)?;
    let mut proof_at = None;
    while !rest.is_empty() {
        let kind = varint::read(&mut rest).ok()?;
        let content = varint::read_bytes(&mut rest).ok()?;
        if proof_at.is_none() {
            if kind != element::PROOF || content.len() <= element::PROOF_HEAD_BYTES {
                return None;
            }
            proof_at = Some(header_and_proof.len() - rest.len() - content.len());
        } else if kind == element::END || kind > u64::from(u32::MAX) {
            return None;
        }
    }
    proof_at
}

/// Everything the block handler refuses a share for, with the status and text of the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShareRejection {
    /// The handler has not started yet. Not JSON.
    NotReady,
    /// Too many requests in progress. Not JSON.
    Overloaded,
    /// The body is longer than [`UPLOAD_BYTES_MAX`].
    TooBig,
    /// The body is empty.
    NoContent,
    /// Not JSON, a member is missing or no text, not hex, or the commitment has not 48 bytes.
    NotParsable,
    /// What follows the header is no proof of the right shape.
    FirstElement,
    /// The handler knows no work yet.
    NoCurrentWork,
    /// The share is for another block.
    WrongWork {
        /// Previous hash of the current work.
        expected: Hash32,
        /// Previous hash of the share.
        got: Hash32,
    },
    /// The block template could not be read.
    NoTemplate,
    /// The parent of an announcement is too new, or too old for the pool.
    ParentOutOfRange {
        /// Parent height of the announcement.
        height: u32,
    },
    /// A signed announcement, but the pool has no seed.
    NoSigningKey {
        /// Which of the four.
        index: usize,
        /// Its signing key.
        key: Hash32,
    },
    /// An announcement signed with a foreign key.
    WrongSigningKey {
        /// Which of the four.
        index: usize,
        /// The pool's key of that height.
        want: Hash32,
        /// The announcement's.
        got: Hash32,
    },
    /// The template's coinbase has no placeholder.
    NoCommitPattern,
    /// The node, or our own validator with the same words, refuses the share: its error object as
    /// JSON, without the call stack.
    FailedValidation {
        /// JSON of the error object.
        error_json: String,
    },
    /// The node answered something else than it should.
    UnexpectedResult {
        /// The result as text.
        result: String,
    },
    /// The node refuses the block.
    BlockRefused {
        /// Its text, without the call stack.
        text: String,
    },
    /// The node has this block.
    AlreadyHaveBlock,
}

impl ShareRejection {
    /// Status of the HTTP reply.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Overloaded => 501,
            Self::NotReady
            | Self::NoCurrentWork
            | Self::NoTemplate
            | Self::NoCommitPattern
            | Self::UnexpectedResult { .. } => 500,
            Self::AlreadyHaveBlock => 409,
            _ => 400,
        }
    }

    /// Whether the reply is the bare text instead of a JSON reply.
    #[must_use]
    pub fn is_plain_text(&self) -> bool {
        matches!(self, Self::NotReady | Self::Overloaded)
    }

    /// Whether a text of a handler says that the share was for another block.
    #[must_use]
    pub fn is_stale_text(text: &str) -> bool {
        text.contains("Share is for wrong work, expecting previous hash")
    }
}

impl fmt::Display for ShareRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("server not ready"),
            Self::Overloaded => f.write_str("overloaded"),
            Self::TooBig => f.write_str("too big"),
            Self::NoContent => f.write_str("no content"),
            Self::NotParsable => f.write_str("Upload is not parsable as json"),
            Self::FirstElement => f.write_str("First element after header must be Pcp"),
            Self::NoCurrentWork => f.write_str("no currentWork"),
            Self::WrongWork { expected, got } => write!(
                f,
                "Share is for wrong work, expecting previous hash [{}] but got [{}]",
                expected.hex(),
                got.hex()
            ),
            Self::NoTemplate => f.write_str("Unable to get block template"),
            Self::ParentOutOfRange { height } => {
                write!(f, "announcement parent block [{height}] out of range")
            }
            Self::NoSigningKey { index, key } => write!(
                f,
                "announcement [{index}] needs signing key [{}] but no key is configured",
                key.hex()
            ),
            Self::WrongSigningKey { index, want, got } => write!(
                f,
                "announcement [{index}] invalid signing key want [{}] got [{}]",
                want.hex(),
                got.hex()
            ),
            Self::NoCommitPattern => f.write_str("Commit pattern not present in blockTemplate"),
            Self::FailedValidation { error_json } => {
                write!(f, "Failed validation of share [{error_json}]")
            }
            Self::UnexpectedResult { result } => {
                write!(f, "Unexpected result from btcd [{result}]")
            }
            Self::BlockRefused { text } => write!(f, "error submitting block [{text}]"),
            Self::AlreadyHaveBlock => f.write_str("already have block"),
        }
    }
}

impl std::error::Error for ShareRejection {}

/// Warnings of the block handler, in the order in which they are given (spec 05, 10.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareWarning {
    /// The address is not one that can be paid.
    Address(String),
    /// The header `x-pc-sver` is missing or empty.
    OutOfDate,
}

impl fmt::Display for ShareWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(
                f,
                "Address [{address}] is not a valid pkt address, WORK WILL NOT BE CREDITED"
            ),
            Self::OutOfDate => {
                f.write_str("Your miner is out of date and will stop working soon, please update")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shape(content_bytes: usize, tail: &[u8]) -> Vec<u8> {
        let mut bytes = vec![5; HEADER_BYTES];
        varint::write(element::PROOF, &mut bytes);
        varint::write_bytes(&vec![7; content_bytes], &mut bytes);
        bytes.extend_from_slice(tail);
        bytes
    }

    fn body(commitment: &str, header_and_proof: &str) -> String {
        format!(r#"{{"coinbase_commit":"{commitment}","header_and_proof":"{header_and_proof}"}}"#)
    }

    #[test]
    fn what_is_uploaded_is_read() {
        let upload = ShareUpload::new([3; COMMITMENT_BYTES], shape(4101, &[4, 1, 2])).unwrap();
        assert_eq!(upload.low_nonce(), 0x0707_0707);
        assert_eq!(upload.announcements(), &[[7; ANNOUNCEMENT_BYTES]; 4]);
        assert_eq!(upload.ann_min_work(), CompactTarget(0x0303_0303));
        assert_eq!(upload.ann_count(), 0x0303_0303_0303_0303);
        assert_eq!(ShareUpload::parse(upload.to_json().as_bytes()), Ok(upload.clone()));
        let effective = upload.effective_header(&[1; HEADER_BYTES]);
        assert_eq!(&effective[..36], &[1; 36]);
        assert_eq!(&effective[36..68], &[5; 32]);
        assert_eq!(&effective[68..76], &[1; 8]);
        assert_eq!(&effective[76..], &[5; 4]);
    }

    #[test]
    fn bodies_that_are_no_uploads() {
        let parse = |body: &str| ShareUpload::parse(body.as_bytes()).unwrap_err();
        let commitment = "00".repeat(COMMITMENT_BYTES);
        let good = hex::encode(shape(4101, &[]));
        assert_eq!(parse(""), ShareRejection::NoContent);
        assert_eq!(parse(&" ".repeat(65_536)), ShareRejection::TooBig);
        for text in ["zzz", "null", "3", "[]", "{}", r#"{"coinbase_commit": "00"}"#] {
            assert_eq!(parse(text), ShareRejection::NotParsable, "{text}");
        }
        for commitment in ["", "00", &"00".repeat(49), &"zz".repeat(48)] {
            assert_eq!(parse(&body(commitment, &good)), ShareRejection::NotParsable);
        }
        for proof in ["0", "zz", "\\u0130"] {
            assert_eq!(parse(&body(&commitment, proof)), ShareRejection::NotParsable);
        }
        // The packet that ends the reference's process (spec 05, 16.5), with a whole commitment.
        assert_eq!(parse(&body(&commitment, "00")), ShareRejection::FirstElement);
    }

    #[test]
    fn proofs_of_another_shape() {
        let second = |tail: &[u8]| shape(4101, tail);
        let mut other_type = shape(4101, &[]);
        other_type[HEADER_BYTES] = 2;
        let mut endless = shape(4101, &[]);
        endless[HEADER_BYTES] = 0xff;
        let bad = [
            Vec::new(),
            vec![0; HEADER_BYTES],
            shape(4100, &[4, 1, 2]),
            shape(4101, &[])[..4000].to_vec(),
            second(&[4]),
            second(&[4, 2, 2]),
            second(&[4, 0xff, 1, 2]),
            second(&[0xff, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2]),
            second(&[0, 0]),
            second(&[4, 1, 2, 0, 0]),
            other_type,
            endless,
        ];
        for bytes in bad {
            let error = ShareUpload::new([0; COMMITMENT_BYTES], bytes).unwrap_err();
            assert_eq!(error, ShareRejection::FirstElement);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            start in proptest::collection::vec(any::<u8>(), 0..90),
            fill in 0..4300usize,
            tail in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let bytes = [start, vec![1; fill], tail].concat();
            if let Ok(upload) = ShareUpload::new([0; COMMITMENT_BYTES], bytes) {
                let _ = (upload.low_nonce(), upload.announcements(), upload.header());
            }
        }

        #[test]
        fn changed_uploads_read_within_their_bytes(at in 80..100usize, byte: u8, cut in 0..5000usize) {
            let mut bytes = shape(4200, &[4, 1, 2]);
            bytes[at] = byte;
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            if let Ok(upload) = ShareUpload::new([0; COMMITMENT_BYTES], bytes) {
                let _ = (upload.low_nonce(), upload.announcements(), upload.header());
            }
        }
    }
}
