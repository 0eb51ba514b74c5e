//! From an upload and the pool's work to the share the node checks and the block it takes
//! (spec 05, 10.2).

use packetcrypt_core::block::commitment::Commitment;
use packetcrypt_core::block::header::BlockHeader;
use packetcrypt_core::block::{coinbase, entities};
use packetcrypt_core::bytes::{CompactTarget, Hash32, read_u32};
use packetcrypt_proto::share::{ShareRejection, ShareUpload};
use packetcrypt_proto::signing::SigningSeed;
use packetcrypt_proto::template::BlockTemplate;
use packetcrypt_proto::varint;

use crate::refusal::Refusal;

// Offsets in an announcement (spec 05, 6.2).
const WORK_BITS_AT: usize = 8;
const PARENT_HEIGHT_AT: usize = 12;
const SIGNING_KEY_AT: usize = 56;

/// Announcements are usable from this age on (spec 05, 10.1).
const AGE_BLOCKS_MIN: i32 = 3;
/// And up to this one, whatever their work (spec 04, 2.3).
const AGE_BLOCKS_MAX: i32 = 259;

/// A share as the node wants it.
#[derive(Clone, Debug)]
pub(crate) struct Assembled {
    /// Header and elements, the end element included.
    header_and_proof: Vec<u8>,
    /// The coinbase with witness and commitment.
    pub(crate) coinbase: Vec<u8>,
    /// Id of the block.
    pub(crate) hash: Hash32,
    /// Identifier of the share (spec 05, 2.2), of the effective header.
    pub(crate) event_id: String,
}

impl Assembled {
    /// The share as a block without transactions.
    pub(crate) fn share(&self) -> Vec<u8> {
        [&self.header_and_proof[..], &[0]].concat()
    }

    /// The whole block.
    pub(crate) fn block(&self, template: &BlockTemplate) -> Vec<u8> {
        let mut block = self.header_and_proof.clone();
        varint::write(template.transactions.len() as u64, &mut block);
        block.extend_from_slice(&self.coinbase);
        for transaction in template.transactions.iter().skip(1) {
            block.extend_from_slice(transaction);
        }
        block
    }
}

/// Puts a share together: the pool's header fields, signatures and coinbase.
///
/// # Errors
/// The refusals of the announcements' parents and keys, and of a template without placeholder.
pub(crate) fn assemble(
    upload: &ShareUpload,
    template: &BlockTemplate,
    seed: Option<&SigningSeed>,
) -> Result<Assembled, Refusal> {
    check_parents(upload, template.height)?;
    let signatures = signatures(upload, seed)?;
    let header = upload.effective_header(&template.header);
    let mut header_and_proof = upload.header_and_proof().to_vec();
    header_and_proof[..header.len()].copy_from_slice(&header);
    if !signatures.is_empty() {
        varint::write(entities::SIGNATURES, &mut header_and_proof);
        varint::write_bytes(&signatures, &mut header_and_proof);
    }
    varint::write(entities::END, &mut header_and_proof);
    varint::write_bytes(&[], &mut header_and_proof);
    let mut coinbase = template.transactions.first().cloned().unwrap_or_default();
    coinbase::put_commitment(&mut coinbase, &Commitment(*upload.commitment()))
        .map_err(|_| ShareRejection::NoCommitPattern)?;
    Ok(Assembled {
        header_and_proof,
        coinbase,
        hash: BlockHeader(header).id(),
        event_id: upload.event_id(&header),
    })
}

/// Parents above `height - 3` must never reach the node: it would shift a big number by 2^32 bits
/// (spec 06, 1.5). Those too old to be usable it need not be asked about.
fn check_parents(upload: &ShareUpload, height: i32) -> Result<(), Refusal> {
    for announcement in upload.announcements() {
        let word = read_u32(announcement, PARENT_HEIGHT_AT);
        let parent = word.cast_signed();
        let too_new = height > AGE_BLOCKS_MIN && parent > height - AGE_BLOCKS_MIN;
        let too_old = height.saturating_sub(parent) > AGE_BLOCKS_MAX;
        if too_new || too_old || parent < 0 {
            return Err(ShareRejection::ParentOutOfRange { height: word }.into());
        }
    }
    Ok(())
}

/// Signatures of the signed announcements, one behind the other.
fn signatures(upload: &ShareUpload, seed: Option<&SigningSeed>) -> Result<Vec<u8>, Refusal> {
    let mut signatures = Vec::new();
    for (index, announcement) in upload.announcements().iter().enumerate() {
        let mut got = Hash32::ZERO;
        got.0.copy_from_slice(&announcement[SIGNING_KEY_AT..SIGNING_KEY_AT + 32]);
        if got.is_zero() {
            continue;
        }
        let Some(seed) = seed else {
            return Err(ShareRejection::NoSigningKey { index, key: got }.into());
        };
        let parent = read_u32(announcement, PARENT_HEIGHT_AT).cast_signed();
        let key = seed.key(parent.wrapping_add(1));
        if key.public() != got {
            let want = key.public();
            return Err(ShareRejection::WrongSigningKey { index, want, got }.into());
        }
        signatures.extend_from_slice(&key.sign(announcement));
    }
    Ok(signatures)
}

/// Targets whose mantissa is 0 and the like make the node fail inside (spec 06, 1.5).
pub(crate) fn check_targets(upload: &ShareUpload) -> Result<(), Refusal> {
    for (index, announcement) in upload.announcements().iter().enumerate() {
        let target = CompactTarget(read_u32(announcement, WORK_BITS_AT));
        if !target.is_well_formed() {
            return Err(Refusal::BadTarget { index, target });
        }
    }
    let least_work = upload.ann_min_work();
    if !least_work.is_well_formed() {
        return Err(Refusal::BadLeastWork(least_work));
    }
    Ok(())
}
