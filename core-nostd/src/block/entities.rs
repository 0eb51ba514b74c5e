//! The entities between the header and the transactions of a block (spec 04, 8).
//!
//! [`Entities::decode`] reads what the node reads. Whether the bytes also are the ones that the node
//! would write is a separate question, answered by [`Entities::is_standard`]: bytes of another form
//! decode, and blocks with them are refused.

use crate::announcement::Announcement;
use crate::bytes::read_u32;

use super::error::EntityError;
use super::varint;

/// Type of the end entity.
pub const END: u64 = 0;
/// Type of the proof entity.
pub const PROOF: u64 = 1;
/// Type of the signature entity.
pub const SIGNATURES: u64 = 2;
/// Type of the content proof entity.
pub const CONTENT_PROOFS: u64 = 3;
/// Type of the version entity.
pub const VERSION: u64 = 4;

/// Announcements in a proof.
pub const ANNOUNCEMENTS: usize = 4;
/// Bytes of a proof entity in front of the tree proof: low nonce and announcements.
pub const PROOF_HEAD_BYTES: usize = 4 + ANNOUNCEMENTS * 1024;
/// Most bytes of a proof entity.
pub const PROOF_BYTES_MAX: usize = 131_072;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Decoded entities, borrowed from their bytes.
#[derive(Clone, Copy, Debug)]
pub struct Entities<'a> {
    /// The low nonce.
    pub low_nonce: u32,
    /// The four announcements in the order in which they were drawn.
    pub announcements: [&'a Announcement; ANNOUNCEMENTS],
    /// The tree proof.
    pub tree_proof: &'a [u8],
    /// The signature of each announcement that has one.
    pub signatures: [Option<&'a [u8; SIGNATURE_BYTES]>; ANNOUNCEMENTS],
    /// The content proof entity when present, even if empty.
    pub content_proofs: Option<&'a [u8]>,
    /// The proof version, 0 when there is no version entity.
    pub version: u64,
    /// Bytes that the entities claim: type, length and stated length of each, the end included.
    claimed: u64,
}

impl<'a> Entities<'a> {
    /// The entities of a proof without signatures that was not read from bytes, e.g. one just made.
    #[must_use]
    pub fn new(
        low_nonce: u32,
        announcements: [&'a Announcement; ANNOUNCEMENTS],
        tree_proof: &'a [u8],
    ) -> Entities<'a> {
        let mut entities = Entities {
            low_nonce,
            announcements,
            tree_proof,
            signatures: [None; ANNOUNCEMENTS],
            content_proofs: None,
            version: super::versions::CURRENT,
            claimed: 0,
        };
        entities.claimed = entities.canonical_bytes();
        entities
    }

    /// Decodes entities from the front of the bytes, through the end entity, and returns what
    /// follows. Nothing is consumed for a length stated with the end.
    ///
    /// # Errors
    /// [`EntityError`]. No length is trusted: all are bounded by the bytes that are there.
    pub fn decode(bytes: &'a [u8]) -> Result<(Entities<'a>, &'a [u8]), EntityError> {
        let mut decoder = Decoder::default();
        let mut rest = bytes;
        loop {
            let kind = varint::take(&mut rest)?;
            let len = varint::take(&mut rest)?;
            decoder.claim(kind, len);
            if kind == END {
                return Ok((decoder.finish()?, rest));
            }
            decoder.check_len(kind, len)?;
            let len = usize::try_from(len).map_err(|_| EntityError::Truncated)?;
            let (content, behind) = rest.split_at_checked(len).ok_or(EntityError::Truncated)?;
            decoder.entity(kind, content)?;
            rest = behind;
        }
    }

    /// Whether the bytes are as many as the node would write for these values (spec 04, 8, item 7):
    /// no entity twice, none unknown, none empty, no version 0, no length with the end.
    #[must_use]
    pub fn is_standard(&self) -> bool {
        self.claimed == self.canonical_bytes()
    }

    fn canonical_bytes(&self) -> u64 {
        let proof = entity_bytes(PROOF, (PROOF_HEAD_BYTES + self.tree_proof.len()) as u64);
        let signatures = self.signatures.iter().flatten().count() * SIGNATURE_BYTES;
        let content = self.content_proofs.map_or(0, <[u8]>::len);
        let version = if self.version > 0 { varint::len(self.version) } else { 0 };
        let unless_empty = |kind, len| if len == 0 { 0 } else { entity_bytes(kind, len as u64) };
        proof
            + unless_empty(SIGNATURES, signatures)
            + unless_empty(CONTENT_PROOFS, content)
            + unless_empty(VERSION, version)
            + entity_bytes(END, 0)
    }
}

/// Bytes of an entity: type, length, content. Saturates where a stated length is absurd.
fn entity_bytes(kind: u64, len: u64) -> u64 {
    len.saturating_add((varint::len(kind) + varint::len(len)) as u64)
}

/// What was read so far.
#[derive(Default)]
struct Decoder<'a> {
    proof: Option<Proof<'a>>,
    signatures: [Option<&'a [u8; SIGNATURE_BYTES]>; ANNOUNCEMENTS],
    content_proofs: Option<&'a [u8]>,
    version: u64,
    claimed: u64,
}

#[derive(Clone, Copy)]
struct Proof<'a> {
    low_nonce: u32,
    announcements: [&'a Announcement; ANNOUNCEMENTS],
    tree_proof: &'a [u8],
}

impl<'a> Decoder<'a> {
    fn claim(&mut self, kind: u64, len: u64) {
        self.claimed = self.claimed.saturating_add(entity_bytes(kind, len));
    }

    /// The rules about the stated length, before the bytes are looked at.
    fn check_len(&self, kind: u64, len: u64) -> Result<(), EntityError> {
        let proof = || self.proof.as_ref().ok_or(EntityError::BeforeProof { kind });
        match kind {
            PROOF if len <= PROOF_HEAD_BYTES as u64 || len > PROOF_BYTES_MAX as u64 => {
                Err(EntityError::ProofLen { len })
            }
            SIGNATURES => {
                let signed = proof()?.announcements.iter().filter(|ann| ann.is_signed()).count();
                let want = (signed * SIGNATURE_BYTES) as u64;
                if len == want { Ok(()) } else { Err(EntityError::SignaturesLen { len, want }) }
            }
            CONTENT_PROOFS => proof().map(drop),
            _ => Ok(()),
        }
    }

    fn entity(&mut self, kind: u64, content: &'a [u8]) -> Result<(), EntityError> {
        match kind {
            PROOF => self.proof = Some(Proof::split(content)?),
            SIGNATURES => self.take_signatures(content),
            CONTENT_PROOFS => self.content_proofs = Some(content),
            VERSION => {
                let mut rest = content;
                let wrong = EntityError::VersionLen { len: content.len() as u64 };
                self.version = varint::take(&mut rest).map_err(|error| match error {
                    super::VarintError::Truncated => wrong,
                    super::VarintError::NotShortest { .. } => EntityError::Varint(error),
                })?;
                if !rest.is_empty() {
                    return Err(wrong);
                }
            }
            // Skipped here and refused as non-standard.
            _ => {}
        }
        Ok(())
    }

    fn take_signatures(&mut self, content: &'a [u8]) {
        let Some(proof) = &self.proof else { return };
        let (signatures, _) = content.as_chunks::<SIGNATURE_BYTES>();
        let mut signatures = signatures.iter();
        for (slot, announcement) in self.signatures.iter_mut().zip(proof.announcements) {
            *slot = if announcement.is_signed() { signatures.next() } else { None };
        }
    }

    fn finish(self) -> Result<Entities<'a>, EntityError> {
        let Proof { low_nonce, announcements, tree_proof } =
            self.proof.ok_or(EntityError::NoProof)?;
        Ok(Entities {
            low_nonce,
            announcements,
            tree_proof,
            signatures: self.signatures,
            content_proofs: self.content_proofs,
            version: self.version,
            claimed: self.claimed,
        })
    }
}

impl<'a> Proof<'a> {
    fn split(content: &'a [u8]) -> Result<Proof<'a>, EntityError> {
        let wrong = EntityError::ProofLen { len: content.len() as u64 };
        let (head, tree_proof) = content.split_at_checked(PROOF_HEAD_BYTES).ok_or(wrong)?;
        let (announcements, _) = head[4..].as_chunks::<1024>();
        let [first, second, third, fourth] = announcements else { return Err(wrong) };
        Ok(Proof {
            low_nonce: read_u32(head, 0),
            announcements: [first, second, third, fourth].map(Announcement::from_bytes),
            tree_proof,
        })
    }
}

/// Writes entities one after the other into a buffer of the caller.
///
/// The miner writes proof and version; the block handler appends signatures and end; the node's
/// order is proof, signatures, content proofs, version, end. All read alike.
#[derive(Debug)]
pub struct EntityWriter<'o> {
    out: &'o mut [u8],
    len: usize,
}

/// The entities do not fit the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferFull;

impl core::fmt::Display for BufferFull {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the proof entities do not fit the buffer")
    }
}

impl core::error::Error for BufferFull {}

impl<'o> EntityWriter<'o> {
    /// Begins at the front of a buffer.
    pub fn new(out: &'o mut [u8]) -> Self {
        EntityWriter { out, len: 0 }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn written(&self) -> usize {
        self.len
    }

    /// Writes the proof entity.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn proof(
        &mut self,
        low_nonce: u32,
        announcements: &[&Announcement; ANNOUNCEMENTS],
        tree_proof: &[u8],
    ) -> Result<&mut Self, BufferFull> {
        self.head(PROOF, PROOF_HEAD_BYTES + tree_proof.len())?.put(&low_nonce.to_le_bytes())?;
        for announcement in announcements {
            self.put(announcement.to_bytes())?;
        }
        self.put(tree_proof)
    }

    /// Writes the signature entity, unless there are none.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn signatures(
        &mut self,
        signatures: &[Option<&[u8; SIGNATURE_BYTES]>; ANNOUNCEMENTS],
    ) -> Result<&mut Self, BufferFull> {
        let count = signatures.iter().flatten().count();
        if count > 0 {
            self.head(SIGNATURES, count * SIGNATURE_BYTES)?;
            for signature in signatures.iter().flatten() {
                self.put(*signature)?;
            }
        }
        Ok(self)
    }

    /// Writes the content proof entity, unless it is empty.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn content_proofs(&mut self, proofs: &[u8]) -> Result<&mut Self, BufferFull> {
        if !proofs.is_empty() {
            self.head(CONTENT_PROOFS, proofs.len())?.put(proofs)?;
        }
        Ok(self)
    }

    /// Writes the version entity, unless the version is 0.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn version(&mut self, version: u64) -> Result<&mut Self, BufferFull> {
        if version > 0 {
            let (bytes, len) = varint::encode(version);
            self.head(VERSION, len)?.put(&bytes[..len])?;
        }
        Ok(self)
    }

    /// Writes the end entity.
    ///
    /// # Errors
    /// [`BufferFull`].
    pub fn end(&mut self) -> Result<&mut Self, BufferFull> {
        self.head(END, 0)
    }

    fn head(&mut self, kind: u64, len: usize) -> Result<&mut Self, BufferFull> {
        for value in [kind, len as u64] {
            let (bytes, len) = varint::encode(value);
            self.put(&bytes[..len])?;
        }
        Ok(self)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<&mut Self, BufferFull> {
        let end = self.len + bytes.len();
        self.out.get_mut(self.len..end).ok_or(BufferFull)?.copy_from_slice(bytes);
        self.len = end;
        Ok(self)
    }
}
