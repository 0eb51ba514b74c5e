//! Cheap checks first: is this post, and is each announcement of it, worth a proof check?
//!
//! The order and the texts are those of spec 05, 6.1 and 6.2; miners and their operators know
//! them.

use std::sync::Arc;

use packetcrypt_core::announcement::Announcement;
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_proto::address::{self, HandlerAddressError};
use packetcrypt_proto::{headers, ids};

use crate::dedup::DedupTable;

/// Slots of parent blocks: the handler takes announcements for the last six (spec 05, 6.1).
pub const PARENT_SLOTS: usize = 6;
/// What the head of a post says (spec 05, 6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// `x-pc-sver`: by which rule the announcements belong to a handler.
    pub sver: u32,
    /// `x-pc-worknum`: parent height + 1.
    pub worknum: i32,
    /// `x-pc-payto`, unchecked.
    pub pay_to: String,
}

/// A block that announcements may be bound to, and the rules for them.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Its height.
    pub height: i32,
    /// Its hash, internal order.
    pub hash: Hash32,
    /// The key that signed announcements must name, if they may be signed.
    pub sig_key: Option<Hash32>,
    /// The greatest work bits that are taken (spec 05, 6.2).
    pub min_work: CompactTarget,
    /// The announcement version that is taken.
    pub ann_version: u8,
    /// Handlers of the pool.
    pub handlers: usize,
    /// Which of them this is.
    pub own_index: usize,
    /// Known announcements.
    pub known: Arc<DedupTable>,
}

/// Why a post is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A header is missing.
    #[error("Missing request header \"{0}\"")]
    MissingHeader(&'static str),
    /// A header is not what it should be.
    #[error("Invalid request header \"{0}\"")]
    InvalidHeader(&'static str),
    /// No block is known for the height's slot.
    #[error("server not ready")]
    NotReady,
    /// The height's slot holds another height.
    #[error("block number out of range, expect {expect} got {got}")]
    OtherHeight {
        /// Height in the slot.
        expect: i32,
        /// Height of the post.
        got: i64,
    },
    /// The pay-to address is nothing that any address looks like.
    #[error(transparent)]
    PayTo(#[from] HandlerAddressError),
    /// The body is no list of announcements.
    #[error("size not an even multiple of 1024")]
    BadSize,
    /// More announcements than a post may hold.
    #[error("post too big, at most {0} announcements")]
    TooBig(usize),
    /// An announcement is refused, and its post with it.
    #[error(transparent)]
    Announcement(#[from] AnnRefusal),
    /// Another block came to this height, or its slot passed on, while the post was checked.
    #[error("block number out of range")]
    BlockChanged,
    /// There is no room, or what must be durable can not be written now.
    #[error("overloaded")]
    Overloaded(Overload),
    /// The handler is ending.
    #[error("disconnected")]
    Disconnected,
    /// The source sent mostly invalid work.
    #[error("too much invalid work from your address, wait some minutes")]
    OverBudget,
}

/// What there is too much of, all told alike (spec 05, 6.1) and counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// Posts that wait for a worker: `input_queue_len`.
    Queue,
    /// Bytes of bodies: `body_memory_mib`.
    BodyMemory,
    /// Bytes of bodies of this source: `body_memory_per_source_mib`.
    SourceBodyMemory,
    /// Known announcements of the parent block: `dedup_capacity`.
    KnownAnnouncements,
    /// Nothing can be made durable: pay log or announcement files.
    Storage,
}

/// Why an announcement is refused (spec 05, 6.2), in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnnRefusal {
    /// Signed for another key than that of its block.
    #[error("wrong signing key")]
    WrongSigningKey,
    /// Signed, but its block has no key.
    #[error("unexpected signed ann")]
    UnexpectedSigned,
    /// Bound to another height than the post says.
    #[error("wrong parent block height, want {want} got {got}")]
    WrongHeight {
        /// Height of the post.
        want: i32,
        /// Height in the announcement.
        got: u32,
    },
    /// Work bits above the pool's.
    #[error("not enough work")]
    NotEnoughWork,
    /// A hash that the table of known hashes can not hold.
    #[error("zero or fff hash")]
    ZeroOrFffHash,
    /// Another handler of the pool takes it.
    #[error("submit elsewhere")]
    SubmitElsewhere,
    /// Not the version that the pool takes.
    #[error("unsupported ann version")]
    UnsupportedVersion,
    /// The proof is wrong; the name of the result in the numbering of the reference.
    #[error("check_ann() -> {0}")]
    Proof(&'static str),
}

impl Refusal {
    /// The HTTP status of the reply (spec 05, 6.1).
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Overloaded(_) | Refusal::Disconnected => 503,
            Refusal::TooBig(_) => 413,
            Refusal::OverBudget => 429,
            _ => 400,
        }
    }

    /// Whether the reply is the bare text (headers) and not JSON.
    pub fn is_plain_text(&self) -> bool {
        matches!(self, Refusal::MissingHeader(_) | Refusal::InvalidHeader(_))
    }
}

impl Head {
    /// Reads the three headers; `find` looks one up by its lower-case name.
    pub fn parse<'a>(find: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, Refusal> {
        Ok(Self {
            sver: parse_header(headers::SOFTWARE_VERSION, &find)?,
            worknum: parse_header(headers::WORK_NUMBER, &find)?,
            pay_to: parse_header(headers::PAY_TO, &find)?,
        })
    }

    /// The parent height of the post.
    pub fn parent_height(&self) -> i64 {
        i64::from(self.worknum) - 1
    }

    /// Index of the slot of the parent height.
    pub fn slot(&self) -> usize {
        self.parent_height().rem_euclid(PARENT_SLOTS as i64) as usize
    }

    /// Checks the head against what the slot of its height holds.
    pub fn admit(&self, in_slot: Option<&Arc<Parent>>) -> Result<Arc<Parent>, Refusal> {
        let Some(parent) = in_slot else { return Err(Refusal::NotReady) };
        if i64::from(parent.height) != self.parent_height() {
            return Err(Refusal::OtherHeight { expect: parent.height, got: self.parent_height() });
        }
        address::has_handler_characters(&self.pay_to)?;
        Ok(Arc::clone(parent))
    }
}

/// The announcements of a body; `anns_max` is the greatest number.
pub fn announcements(body: &[u8], anns_max: usize) -> Result<&[Announcement], Refusal> {
    match Announcement::slice_from_bytes(body) {
        // Ours: an empty body is a size that is not a multiple, too (spec 05, 6.1).
        None | Some([]) => Err(Refusal::BadSize),
        Some(anns) if anns.len() > anns_max => Err(Refusal::TooBig(anns_max)),
        Some(anns) => Ok(anns),
    }
}

impl Parent {
    /// All checks of one announcement but the proof, in the order of spec 05, 6.1.
    pub fn check_cheaply(
        &self,
        sver: u32,
        ann: &Announcement,
        hash: u64,
    ) -> Result<(), AnnRefusal> {
        if ann.is_signed() {
            match self.sig_key {
                None => return Err(AnnRefusal::UnexpectedSigned),
                Some(key) if *ann.signing_key() != key.0 => {
                    return Err(AnnRefusal::WrongSigningKey);
                }
                Some(_) => {}
            }
        }
        let height = ann.parent_block_height();
        if i64::from(height) != i64::from(self.height) {
            return Err(AnnRefusal::WrongHeight { want: self.height, got: height });
        }
        if ann.work_bits() > self.min_work {
            return Err(AnnRefusal::NotEnoughWork);
        }
        if hash == 0 || hash == u64::MAX {
            return Err(AnnRefusal::ZeroOrFffHash);
        }
        if !self.owns(sver, ann, hash) {
            return Err(AnnRefusal::SubmitElsewhere);
        }
        if ann.version() != self.ann_version {
            return Err(AnnRefusal::UnsupportedVersion);
        }
        if ann.version() == 0 || !ann.work_bits().is_well_formed() {
            // Steps 0a and 1 of the proof check (spec 03, 2.9), which also guard the others.
            return Err(AnnRefusal::Proof("INVAL"));
        }
        Ok(())
    }

    /// Whether this handler takes the announcement. The content hash decides by which rule, since
    /// `x-pc-sver` is not part of the announcement: under both rules it could be sold twice.
    fn owns(&self, sver: u32, ann: &Announcement, hash: u64) -> bool {
        let has_content = *ann.content_hash() != [0; 32];
        let owner = if sver < 2 {
            ids::owner_by_dedup_hash(hash, self.handlers)
        } else {
            ids::owner_by_hard_nonce(ann.hard_nonce(), self.handlers)
        };
        has_content == (sver >= 2) && owner == self.own_index
    }
}

fn parse_header<'a, T: std::str::FromStr>(
    name: &'static str,
    find: impl Fn(&str) -> Option<&'a [u8]>,
) -> Result<T, Refusal> {
    let value = find(name).ok_or(Refusal::MissingHeader(name))?;
    // Header values that are no visible ASCII are refused, as the reference's library does.
    let is_text = value.iter().all(|&byte| byte == b'\t' || (0x20..0x7f).contains(&byte));
    let text = std::str::from_utf8(value).ok().filter(|_| is_text);
    text.and_then(|text| text.parse().ok()).ok_or(Refusal::InvalidHeader(name))
}

#[cfg(test)]
impl Parent {
    /// A block of height 12 in a pool of one handler.
    pub(crate) fn sample(capacity: usize) -> Self {
        Self {
            height: 12,
            hash: Hash32([3; 32]),
            sig_key: None,
            min_work: CompactTarget(0x207f_ffff),
            ann_version: 1,
            handlers: 1,
            own_index: 0,
            known: Arc::new(DedupTable::new(capacity).unwrap()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN_BYTES: usize = 1024;
    type AnnBytes = [u8; ANN_BYTES];

    fn parent() -> Parent {
        Parent {
            height: 100,
            hash: Hash32([1; 32]),
            sig_key: None,
            min_work: CompactTarget(0x2000_0fff),
            ann_version: 1,
            handlers: 1,
            own_index: 0,
            known: Arc::new(DedupTable::new(10).unwrap()),
        }
    }

    fn ann() -> AnnBytes {
        let mut ann = [0; ANN_BYTES];
        ann[0] = 1;
        ann[8..12].copy_from_slice(&0x2000_0fff_u32.to_le_bytes());
        ann[12..16].copy_from_slice(&100u32.to_le_bytes());
        ann
    }

    fn head(sver: &str, worknum: &str, pay_to: &str) -> Result<Head, Refusal> {
        Head::parse(|name| {
            let value = match name {
                "x-pc-sver" => sver,
                "x-pc-worknum" => worknum,
                "x-pc-payto" => pay_to,
                other => panic!("{other}"),
            };
            (value != "-").then_some(value.as_bytes())
        })
    }

    #[test]
    fn headers_in_order_of_the_table() {
        let text = |head: Result<Head, Refusal>| head.unwrap_err().to_string();
        assert_eq!(text(head("-", "-", "-")), "Missing request header \"x-pc-sver\"");
        assert_eq!(text(head("x", "-", "-")), "Invalid request header \"x-pc-sver\"");
        assert_eq!(text(head("-1", "5", "a")), "Invalid request header \"x-pc-sver\"");
        assert_eq!(text(head("1", "-", "a")), "Missing request header \"x-pc-worknum\"");
        assert_eq!(text(head("1", "2147483648", "a")), "Invalid request header \"x-pc-worknum\"");
        assert_eq!(text(head("1", "5", "-")), "Missing request header \"x-pc-payto\"");
        assert_eq!(text(head("1", "5", "\u{e9}")), "Invalid request header \"x-pc-payto\"");
        let head = head("1", "-2147483648", "abc").unwrap();
        assert_eq!(head.parent_height(), -2_147_483_649);
        assert!(head.slot() < PARENT_SLOTS);
    }

    #[test]
    fn the_head_meets_its_slot() {
        let parent = Arc::new(parent());
        let admit = |worknum: &str, pay_to: &str, slot: Option<&Arc<Parent>>| {
            let head = head("1", worknum, pay_to).unwrap();
            head.admit(slot).map(|_| ()).map_err(|refusal| refusal.to_string())
        };
        assert_eq!(admit("101", "abc", None).unwrap_err(), "server not ready");
        assert_eq!(
            admit("107", "abc", Some(&parent)).unwrap_err(),
            "block number out of range, expect 100 got 106"
        );
        assert_eq!(admit("101", "a-b", Some(&parent)).unwrap_err(), "invalid payto a-b");
        assert_eq!(admit("101", "", Some(&parent)).unwrap_err(), "invalid payto ");
        assert_eq!(admit("101", &"a".repeat(64), Some(&parent)).unwrap_err(), "payto too long");
        assert_eq!(admit("101", &"a".repeat(63), Some(&parent)), Ok(()));
    }

    #[test]
    fn bodies() {
        assert_eq!(announcements(&[], 3), Err(Refusal::BadSize));
        assert_eq!(announcements(&[0; 1023], 3), Err(Refusal::BadSize));
        assert_eq!(announcements(&[0; 1025], 3), Err(Refusal::BadSize));
        assert_eq!(announcements(&[0; 3072], 3).unwrap().len(), 3);
        assert_eq!(announcements(&[0; 4096], 3), Err(Refusal::TooBig(3)));
    }

    #[test]
    fn the_order_of_the_checks() {
        let mut parent = parent();
        let mut bad = [0xff; ANN_BYTES];
        let check = |parent: &Parent, bad: &AnnBytes, hash| {
            parent
                .check_cheaply(1, Announcement::from_bytes(bad), hash)
                .map_err(|refusal| refusal.to_string())
        };
        let refused = |text: &str| Err(text.to_owned());
        assert_eq!(check(&parent, &bad, 0), refused("unexpected signed ann"));
        parent.sig_key = Some(Hash32([7; 32]));
        assert_eq!(check(&parent, &bad, 0), refused("wrong signing key"));
        bad[56..88].copy_from_slice(&[7; 32]);
        let want = "wrong parent block height, want 100 got 4294967295";
        assert_eq!(check(&parent, &bad, 0), refused(want));
        bad[12..16].copy_from_slice(&100u32.to_le_bytes());
        assert_eq!(check(&parent, &bad, 0), refused("not enough work"));
        bad[8..12].copy_from_slice(&0x1f80_0000_u32.to_le_bytes());
        assert_eq!(check(&parent, &bad, 0), refused("zero or fff hash"));
        assert_eq!(check(&parent, &bad, u64::MAX), refused("zero or fff hash"));
        assert_eq!(check(&parent, &bad, 5), refused("submit elsewhere"));
        bad[24..56].copy_from_slice(&[0; 32]);
        assert_eq!(check(&parent, &bad, 5), refused("unsupported ann version"));
        bad[0] = 1;
        assert_eq!(check(&parent, &bad, 5), refused("check_ann() -> INVAL"));
        bad[8..12].copy_from_slice(&0x2000_0fff_u32.to_le_bytes());
        assert_eq!(check(&parent, &bad, 5), Ok(()));
        bad[56..88].copy_from_slice(&[0; 32]);
        assert_eq!(check(&parent, &bad, 5), Ok(()), "unsigned is always allowed");
    }

    #[test]
    fn version_zero_is_refused_also_by_a_pool_that_asks_for_it() {
        let mut parent = parent();
        parent.ann_version = 0;
        let mut old = ann();
        old[0] = 0;
        assert_eq!(
            parent.check_cheaply(1, Announcement::from_bytes(&old), 5),
            Err(AnnRefusal::Proof("INVAL"))
        );
    }

    #[test]
    fn owners_by_both_rules() {
        let check = |parent: &Parent, sver, ann: &AnnBytes, hash| {
            parent.check_cheaply(sver, Announcement::from_bytes(ann), hash)
        };
        let mut parent = parent();
        parent.handlers = 3;
        parent.own_index = 2;
        let mut ann = ann();
        ann[4..8].copy_from_slice(&5u32.to_le_bytes());
        assert_eq!(check(&parent, 0, &ann, 8), Ok(()));
        assert_eq!(check(&parent, 1, &ann, 9), Err(AnnRefusal::SubmitElsewhere));
        assert_eq!(check(&parent, 2, &ann, 8), Err(AnnRefusal::SubmitElsewhere));
        ann[30] = 1;
        assert_eq!(check(&parent, 1, &ann, 8), Err(AnnRefusal::SubmitElsewhere));
        assert_eq!(check(&parent, 2, &ann, 9), Ok(()));
        ann[4] = 6;
        assert_eq!(check(&parent, 7, &ann, 8), Err(AnnRefusal::SubmitElsewhere));
    }
}
