//! Events: the results of uploads and the lines of pay logs (spec 05, 6.3, 10.3 and 10.4).
//!
//! The order of keys is that of the reference. Times are milliseconds since the epoch.

use std::fmt;

use packetcrypt_core::bytes::{CompactTarget, Hash32};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{ids, json};

/// A post of announcements was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnnsEvent {
    /// Always "anns".
    #[serde(rename = "type")]
    kind: AnnsTag,
    /// Announcements that are new.
    pub accepted: u32,
    /// Announcements that were known before or came twice in the post.
    pub dup: u32,
    #[serde(default)]
    inval: u32,
    #[serde(default)]
    bad_hash: u32,
    #[serde(default)]
    runt: u32,
    #[serde(default)]
    internal_err: u32,
    /// Who is paid.
    pub pay_to: String,
    /// Accepted announcements without a signing key (spec 05, 6.3: ours counts accepted ones only).
    pub unsigned: u32,
    #[serde(default)]
    total_len: u32,
    /// Target of the announcement with the least work.
    #[serde(with = "word")]
    pub target: CompactTarget,
    /// When.
    pub time: u64,
    /// [`ids::ann_post_id`] of the body.
    pub event_id: String,
}

/// What distinguishes one [`AnnsEvent`] from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnsCounts {
    /// Announcements that are new.
    pub accepted: u32,
    /// Announcements that were known before or came twice in the post.
    pub dup: u32,
    /// Accepted announcements without a signing key.
    pub unsigned: u32,
    /// Target of the announcement with the least work.
    pub target: CompactTarget,
}

impl AnnsEvent {
    /// The event of a post.
    #[must_use]
    pub fn new(counts: &AnnsCounts, pay_to: &str, time: u64, event_id: String) -> Self {
        let AnnsCounts { accepted, dup, unsigned, target } = *counts;
        Self {
            kind: AnnsTag::Anns,
            accepted,
            dup,
            inval: 0,
            bad_hash: 0,
            runt: 0,
            internal_err: 0,
            pay_to: pay_to.to_owned(),
            unsigned,
            total_len: 0,
            target,
            time,
            event_id,
        }
    }

    /// One line of a pay log, without the newline.
    #[must_use]
    pub fn to_line(&self) -> String {
        json::to_line(self)
    }
}

/// A share was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShareEvent {
    /// Always "share".
    #[serde(rename = "type")]
    kind: ShareTag,
    /// Who is paid.
    pub pay_to: String,
    /// Whether the share was taken as a block.
    pub block: bool,
    /// When.
    pub time: u64,
    /// [`ids::share_event_id`] of the share.
    pub event_id: String,
    /// Hash of the block, only when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "display_hash")]
    pub header_hash: Option<Hash32>,
    /// Share target of the work.
    #[serde(with = "word")]
    pub target: CompactTarget,
    /// Announcements of the commitment; a decimal text in JSON.
    #[serde(default, with = "decimal")]
    pub ann_count: u64,
    /// Least work target of the commitment.
    #[serde(default, with = "word")]
    pub ann_min_work: CompactTarget,
    /// See [`crate::compact::encryptions`].
    #[serde(default)]
    pub encryptions: f64,
}

/// What a [`ShareEvent`] is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct ShareFacts {
    /// Hash of the block when the share was taken as one.
    pub block: Option<Hash32>,
    /// Share target of the work.
    pub target: CompactTarget,
    /// Announcements of the commitment.
    pub ann_count: u64,
    /// Least work target of the commitment.
    pub ann_min_work: CompactTarget,
    /// See [`crate::compact::encryptions`].
    pub encryptions: f64,
}

impl ShareEvent {
    /// The event of a share.
    #[must_use]
    pub fn new(facts: &ShareFacts, pay_to: &str, time: u64, event_id: String) -> Self {
        Self {
            kind: ShareTag::Share,
            pay_to: pay_to.to_owned(),
            block: facts.block.is_some(),
            time,
            event_id,
            header_hash: facts.block,
            target: facts.target,
            ann_count: facts.ann_count,
            ann_min_work: facts.ann_min_work,
            encryptions: facts.encryptions,
        }
    }

    /// One line of a pay log, without the newline.
    #[must_use]
    pub fn to_line(&self) -> String {
        json::to_line(self)
    }

    /// The same share told again: never a second block (spec 05, 16.1).
    #[must_use]
    pub fn without_block(&self) -> Self {
        Self { block: false, header_hash: None, ..self.clone() }
    }
}

/// The chain has a new block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockEvent {
    /// Always "block".
    #[serde(rename = "type")]
    kind: BlockTag,
    /// Hash of the block.
    #[serde(with = "required_display_hash")]
    pub hash: Hash32,
    /// Its height.
    pub height: i32,
    /// Its difficulty as the node tells it.
    pub difficulty: f64,
    /// When the block handler noticed.
    pub time: u64,
    /// [`ids::block_event_id`] of the hash.
    pub event_id: String,
}

impl BlockEvent {
    /// The event of a block.
    #[must_use]
    pub fn new(hash: Hash32, height: i32, difficulty: f64, time: u64) -> Self {
        let event_id = ids::block_event_id(&hash);
        Self { kind: BlockTag::Block, hash, height, difficulty, time, event_id }
    }

    /// One line of a pay log, without the newline.
    #[must_use]
    pub fn to_line(&self) -> String {
        json::to_line(self)
    }
}

/// Any event of a pay log.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A post of announcements.
    Anns(AnnsEvent),
    /// A share.
    Share(ShareEvent),
    /// A block.
    Block(BlockEvent),
}

impl Event {
    /// One line of a pay log, without the newline.
    #[must_use]
    pub fn to_line(&self) -> String {
        match self {
            Self::Anns(event) => event.to_line(),
            Self::Share(event) => event.to_line(),
            Self::Block(event) => event.to_line(),
        }
    }
}

macro_rules! tag {
    ($name:ident, $variant:ident, $text:literal) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        enum $name {
            #[serde(rename = $text)]
            $variant,
        }
    };
}

tag!(AnnsTag, Anns, "anns");
tag!(ShareTag, Share, "share");
tag!(BlockTag, Block, "block");

mod word {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        target: &CompactTarget,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_u32(target.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<CompactTarget, D::Error> {
        u32::deserialize(from).map(CompactTarget)
    }
}

mod decimal {
    use super::*;

    pub(super) fn serialize<S: Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

mod display_hash {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        hash: &Option<Hash32>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match hash {
            Some(hash) => to.collect_str(&hash.display()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Hash32>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| Hash32::from_display_hex(&text).map_err(|e| D::Error::custom(Shown(e))))
            .transpose()
    }
}

mod required_display_hash {
    use super::*;

    pub(super) fn serialize<S: Serializer>(hash: &Hash32, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&hash.display())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Hash32, D::Error> {
        let text = String::deserialize(from)?;
        Hash32::from_display_hex(&text).map_err(|e| D::Error::custom(Shown(e)))
    }
}

struct Shown<E>(E);

impl<E: fmt::Display> fmt::Display for Shown<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_is_no_block_has_no_header_hash() {
        let facts = ShareFacts {
            block: None,
            target: CompactTarget(486_801_404),
            ann_count: 100_000,
            ann_min_work: CompactTarget(537_001_984),
            encryptions: 1_889_033_063_580.0,
        };
        let event = ShareEvent::new(&facts, "a", 5, "id".into());
        let line = r#"{"type":"share","payTo":"a","block":false,"time":5,"eventId":"id","target":486801404,"annCount":"100000","annMinWork":537001984,"encryptions":1889033063580}"#;
        assert_eq!(event.to_line(), line);
        assert_eq!(serde_json::from_str::<ShareEvent>(line).unwrap(), event);
        let block = ShareFacts { block: Some(Hash32([1; 32])), ..facts };
        let block = ShareEvent::new(&block, "a", 5, "id".into());
        assert!(block.to_line().contains(r#""eventId":"id","headerHash":"0101"#));
        assert_eq!(serde_json::from_str::<ShareEvent>(&block.to_line()).unwrap(), block);
        assert_eq!(block.without_block(), event);
    }

    #[test]
    fn an_event_of_another_kind_is_not_mistaken() {
        let block = BlockEvent::new(Hash32([1; 32]), 3, 2.5, 9).to_line();
        assert!(serde_json::from_str::<ShareEvent>(&block).is_err());
        assert!(serde_json::from_str::<AnnsEvent>(&block).is_err());
        assert_eq!(serde_json::from_str::<BlockEvent>(&block).unwrap().height, 3);
    }
}
