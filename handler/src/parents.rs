//! The parent blocks whose announcements are taken: six slots by height (spec 05, 6.1 and 6.4).
//!
//! Posts look at the slots from every core; only the committer changes them, so a table of known
//! hashes is never replaced while a batch is being written.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use packetcrypt_core::announcement::Announcement;
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_net::pool_client::PoolUpdate;
use packetcrypt_proto::blkinfo::BlockInfo;
use packetcrypt_proto::config::MasterConfig;

use crate::admit::{PARENT_SLOTS, Parent};
use crate::dedup::{DedupTable, Reservation};
use crate::publish::Store;
use crate::stats::ParentStats;

/// The slots.
#[derive(Debug, Default)]
pub(crate) struct Parents {
    slots: [ArcSwapOption<Parent>; PARENT_SLOTS],
}

impl Parents {
    /// What the slot holds.
    pub(crate) fn slot(&self, slot: usize) -> Option<Arc<Parent>> {
        self.slots[slot].load_full()
    }

    /// Whether announcements for this parent are still taken, into this very table.
    pub(crate) fn is_current(&self, parent: &Parent) -> bool {
        let slot = self.slots[slot_of(parent.height)].load();
        slot.as_ref().is_some_and(|now| Arc::ptr_eq(&now.known, &parent.known))
    }

    /// Puts a block into its slot without a follower.
    #[cfg(test)]
    pub(crate) fn set_for_test(&self, parent: Arc<Parent>) {
        self.slots[slot_of(parent.height)].store(Some(parent));
    }

    /// The blocks, highest first.
    pub(crate) fn stats(&self) -> Vec<ParentStats> {
        let mut stats: Vec<ParentStats> = self
            .slots
            .iter()
            .filter_map(|slot| slot.load_full())
            .map(|parent| ParentStats {
                height: parent.height,
                hash: parent.hash.display().to_string(),
                known: parent.known.len(),
                capacity: parent.known.capacity(),
            })
            .collect();
        stats.sort_by_key(|parent| std::cmp::Reverse(parent.height));
        stats
    }
}

/// Brings the slots up to date; belongs to the committer.
#[derive(Debug)]
pub(crate) struct Follower {
    parents: Arc<Parents>,
    public_url: String,
    dedup_capacity: usize,
    held: [Option<Held>; PARENT_SLOTS],
}

/// A block of a slot; it stays while the pool's configuration makes no sense.
#[derive(Debug)]
struct Held {
    block: BlockInfo,
    /// The easiest work target since the block came.
    min_work: CompactTarget,
    /// `None` while there is no memory for it.
    known: Option<Arc<DedupTable>>,
}

/// The rules of one configuration.
#[derive(Clone, Copy, Debug)]
struct Rules {
    handlers: usize,
    own_index: usize,
    ann_version: u8,
    min_work: CompactTarget,
}

impl Follower {
    /// A follower of nothing yet.
    pub(crate) fn new(parents: Arc<Parents>, public_url: String, dedup_capacity: usize) -> Self {
        Self { parents, public_url, dedup_capacity, held: Default::default() }
    }

    /// Takes over what the pool client reported.
    ///
    /// Unlike the reference, a changed list of handlers holds at once for all blocks, since
    /// miners follow it at once too; and of two work targets of a block the easier one holds,
    /// since some miners still follow the old one.
    pub(crate) fn apply(&mut self, report: &PoolUpdate, store: &mut Store) {
        for block in &report.new_blocks {
            self.hold(block);
        }
        let rules = self.rules(&report.config);
        for slot in 0..PARENT_SLOTS {
            let parent = rules.and_then(|rules| self.parent(slot, rules, store));
            self.parents.slots[slot].store(parent.map(Arc::new));
        }
        let heights = self.held.iter().flatten().map(|held| held.block.header.height);
        if let Some(highest) = heights.max() {
            let lowest = (highest + 1).saturating_sub(PARENT_SLOTS as i32);
            store.set_live_height(u32::try_from(lowest).unwrap_or(0));
        }
    }

    /// Takes a new block unless its slot holds a higher one.
    fn hold(&mut self, block: &BlockInfo) {
        let (height, hash) = (block.header.height, block.header.hash);
        if height < 0 {
            return;
        }
        let slot = &mut self.held[slot_of(height)];
        match slot {
            Some(held) if held.block.header.height > height => {}
            Some(held) if held.block.header.height == height && held.block.header.hash == hash => {
                held.block.sig_key = block.sig_key;
            }
            _ => {
                let min_work = CompactTarget(0);
                *slot = Some(Held { block: block.clone(), min_work, known: None });
            }
        }
    }

    /// What the slot shows under these rules.
    fn parent(&mut self, slot: usize, rules: Rules, store: &mut Store) -> Option<Parent> {
        let dedup_capacity = self.dedup_capacity;
        let held = self.held[slot].as_mut()?;
        let (height, hash) = (held.block.header.height, held.block.header.hash);
        if held.known.is_none() {
            held.known = known_of(height, hash, dedup_capacity, store);
        }
        held.min_work = held.min_work.max(rules.min_work);
        Some(Parent {
            height,
            hash,
            sig_key: held.block.sig_key,
            min_work: held.min_work,
            ann_version: rules.ann_version,
            handlers: rules.handlers,
            own_index: rules.own_index,
            known: held.known.clone()?,
        })
    }

    fn rules(&self, config: &MasterConfig) -> Option<Rules> {
        let urls = &config.submit_ann_urls;
        let Some(own_index) = urls.iter().position(|url| *url == self.public_url) else {
            tracing::error!(
                public_url = self.public_url, submit_ann_urls = ?urls,
                "public_url is not in the pool's list of handlers: refusing all posts"
            );
            return None;
        };
        let Some(min_work) = config.ann_target else {
            tracing::error!("the master's config.json has no annTarget: refusing all posts");
            return None;
        };
        let ann_version = config.ann_version();
        Some(Rules { handlers: urls.len(), own_index, ann_version, min_work })
    }
}

/// A table with what the files hold for this block: after a restart, or when a reorganisation
/// brings back a block that was here before.
fn known_of(
    height: i32,
    hash: Hash32,
    capacity: usize,
    store: &mut Store,
) -> Option<Arc<DedupTable>> {
    let table = DedupTable::new(capacity)
        .inspect_err(|error| tracing::error!(height, %error, "refusing posts for this block"))
        .ok()?;
    let mut lost = 0u64;
    store.announcements_of(u32::try_from(height).ok()?, &hash.0, |ann| {
        match table.reserve(Announcement::from_bytes(ann).key()) {
            Reservation::Fresh(entry) => table.commit(entry),
            Reservation::Committed | Reservation::Reserved => {}
            Reservation::Full => lost += 1,
        }
    });
    if lost > 0 {
        // The capacity was lowered. Taking announcements twice would be worse than none.
        tracing::error!(height, lost, "dedup_capacity is less than what is known already");
        return None;
    }
    if !table.is_empty() {
        tracing::info!(height, known = table.len(), "known announcements read again");
    }
    Some(Arc::new(table))
}

fn slot_of(height: i32) -> usize {
    height.rem_euclid(PARENT_SLOTS as i32) as usize
}

#[cfg(test)]
mod tests;
