//! What this miner knows of the chain: the block to be mined, and the blocks that announcements
//! were made on.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use packetcrypt_core::bytes::Hash32;
use tokio::sync::watch;

/// Blocks that are remembered. Older ones have no usable announcements (spec 04, 2.3).
const BLOCKS_MAX: usize = 300;
/// Replaced blocks that are remembered at a height.
const REPLACED_MAX: usize = 4;
/// The greatest age at which an announcement is usable, whatever its target (spec 04, 2.3).
const ANN_AGE_MAX: u32 = 259;

/// A block on which announcements were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    /// Its id in internal order.
    pub(crate) hash: Hash32,
    /// The key with which the pool signs announcements made on it.
    pub(crate) signing_key: Option<Hash32>,
    /// Ids of blocks that were at its height before a reorganisation.
    pub(crate) replaced: Vec<Hash32>,
}

/// The block that is to be mined next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    /// Its height.
    pub(crate) height: u32,
    /// Id of the block before it, in internal order.
    pub(crate) previous_block: Hash32,
}

/// The chain as the pool told it. Shared by all parts of the miner.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    known: RwLock<Known>,
    /// How many blocks below the one to be mined were missed.
    missed: watch::Sender<u32>,
}

#[derive(Debug, Default)]
struct Known {
    next: Option<Next>,
    /// What `next` was before, and until when a share for it may be sent.
    before: Option<(Hash32, Instant)>,
    parents: BTreeMap<u32, Parent>,
    /// Ids of blocks that an earlier process knew, until they are told again.
    remembered: BTreeMap<u32, Hash32>,
}

impl Chain {
    /// Remembers a block. When it takes the place of another one, returns its height: what was made
    /// on the other one, and on those above it, is worthless.
    pub(crate) fn learn_block(
        &self,
        height: u32,
        hash: Hash32,
        signing_key: Option<Hash32>,
    ) -> Option<u32> {
        let mut known = self.write();
        let replaced = known.put(height, hash, Some(signing_key));
        while known.parents.len() > BLOCKS_MAX {
            known.parents.pop_first();
        }
        while known.remembered.len() > BLOCKS_MAX {
            known.remembered.pop_first();
        }
        replaced
    }

    /// Takes over a new work. Shares for the one before are worth sending for `grace` more.
    /// Returns the height from which on the chain was replaced, as [`Chain::learn_block`].
    pub(crate) fn learn_work(&self, next: Next, grace: Duration) -> Option<u32> {
        let mut known = self.write();
        let replaced = next
            .height
            .checked_sub(1)
            .and_then(|parent| known.put(parent, next.previous_block, None));
        // Blocks that the pool had told of and that are above its tip now have left the chain.
        let first = |height: Option<&u32>| height.copied();
        let above = [
            first(known.parents.range(next.height..).next().map(|(height, _)| height)),
            first(known.remembered.range(next.height..).next().map(|(height, _)| height)),
        ];
        let above = above.into_iter().flatten().min();
        known.parents.split_off(&next.height);
        known.remembered.split_off(&next.height);
        if let Some(old) = known.next.replace(next)
            && old.previous_block != next.previous_block
        {
            known.before = Some((old.previous_block, Instant::now() + grace));
        }
        replaced.or(above)
    }

    /// Takes over what an earlier process knew of blocks on which announcements in the store were
    /// made. Another block at such a height is then a reorganisation.
    pub(crate) fn remember(&self, blocks: &[(u32, [u8; 32])]) {
        self.write().remembered = blocks.iter().map(|(at, hash)| (*at, Hash32(*hash))).collect();
    }

    /// The blocks that are known, for a later process.
    #[must_use]
    pub(crate) fn blocks(&self) -> Vec<(u32, [u8; 32])> {
        let known = self.read();
        let mut blocks = known.remembered.clone();
        blocks.extend(known.parents.iter().map(|(height, parent)| (*height, parent.hash)));
        blocks.into_iter().map(|(height, hash)| (height, hash.0)).collect()
    }

    /// The block to be mined next, `None` before the first work.
    #[must_use]
    pub(crate) fn next(&self) -> Option<Next> {
        self.read().next
    }

    /// The block at a height, if it is known.
    #[must_use]
    pub(crate) fn parent(&self, height: u32) -> Option<Parent> {
        self.read().parents.get(&height).cloned()
    }

    /// Remembers that a block is needed of which nothing is known, so that it is asked for. Only
    /// as far down as announcements may be worth something.
    pub(crate) fn miss(&self, height: u32) {
        let Some(next) = self.next() else { return };
        let depth = next.height.saturating_sub(height);
        if (1..=ANN_AGE_MAX).contains(&depth) {
            self.missed.send_if_modified(|deepest| {
                let is_deeper = depth > *deepest;
                *deepest = depth.max(*deepest);
                is_deeper
            });
        }
    }

    /// How many blocks below the one to be mined were missed, the greatest number so far.
    pub(crate) fn missed(&self) -> watch::Receiver<u32> {
        self.missed.subscribe()
    }

    /// Whether a share on this block may still be accepted: it is mined on, or was until lately.
    #[must_use]
    pub(crate) fn takes_shares_on(&self, previous_block: &Hash32) -> bool {
        let known = self.read();
        known.next.is_some_and(|next| next.previous_block == *previous_block)
            || known
                .before
                .is_some_and(|(before, until)| before == *previous_block && Instant::now() < until)
    }

    /// Whether this block is mined on now.
    #[must_use]
    pub(crate) fn is_mined_on(&self, previous_block: &Hash32) -> bool {
        self.read().next.is_some_and(|next| next.previous_block == *previous_block)
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        // No step under the lock panics half way.
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// `signing_key` is `None` when it is not told, which leaves a known one as it is.
    fn put(
        &mut self,
        height: u32,
        hash: Hash32,
        signing_key: Option<Option<Hash32>>,
    ) -> Option<u32> {
        let Some(old) = self.parents.get_mut(&height) else {
            let before = self.remembered.remove(&height);
            let replaced: Vec<_> = before.filter(|before| *before != hash).into_iter().collect();
            let is_other = !replaced.is_empty();
            // A block whose signing key is not told is left for later: without it nothing can be
            // said of announcements that are signed.
            if let Some(signing_key) = signing_key {
                self.parents.insert(height, Parent { hash, signing_key, replaced });
            }
            return is_other.then_some(height);
        };
        if old.hash == hash {
            if let Some(signing_key) = signing_key {
                old.signing_key = signing_key;
            }
            return None;
        }
        let mut replaced = std::mem::take(&mut old.replaced);
        replaced.retain(|other| *other != hash);
        replaced.push(old.hash);
        if replaced.len() > REPLACED_MAX {
            replaced.remove(0);
        }
        match signing_key {
            Some(signing_key) => *old = Parent { hash, signing_key, replaced },
            None => {
                self.parents.remove(&height);
            }
        }
        Some(height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(3600);

    fn hash(byte: u8) -> Hash32 {
        Hash32([byte; 32])
    }

    fn next(height: u32, byte: u8) -> Next {
        Next { height, previous_block: hash(byte) }
    }

    #[test]
    fn a_replaced_block_is_told_once() {
        let chain = Chain::default();
        assert_eq!(chain.learn_block(10, hash(1), None), None);
        assert_eq!(chain.learn_block(10, hash(1), None), None);
        assert_eq!(chain.learn_block(10, hash(2), None), Some(10));
        assert_eq!(chain.parent(10).unwrap().replaced, [hash(1)]);
        // And back again.
        assert_eq!(chain.learn_block(10, hash(1), None), Some(10));
        assert_eq!(chain.parent(10).unwrap().replaced, [hash(2)]);
    }

    #[test]
    fn work_on_another_parent_is_a_reorganisation() {
        let chain = Chain::default();
        chain.learn_block(10, hash(1), None);
        assert_eq!(chain.learn_work(next(11, 1), GRACE), None);
        assert_eq!(chain.learn_work(next(11, 2), GRACE), Some(10));
        // The hash that was believed is forgotten until the new block is told.
        assert_eq!(chain.parent(10), None);
    }

    #[test]
    fn a_lower_tip_takes_blocks_off() {
        let chain = Chain::default();
        for height in 10..14 {
            chain.learn_block(height, hash(height as u8), None);
        }
        assert_eq!(chain.learn_work(next(14, 13), GRACE), None);
        assert_eq!(chain.learn_work(next(12, 11), GRACE), Some(12));
        assert_eq!(chain.parent(12), None);
        assert!(chain.parent(11).is_some());
    }

    #[test]
    fn a_block_that_was_replaced_while_the_miner_was_off_is_told() {
        let before = Chain::default();
        for height in 10..14 {
            before.learn_block(height, hash(height as u8), None);
        }
        let chain = Chain::default();
        chain.remember(&before.blocks());
        assert_eq!(chain.blocks(), before.blocks());
        assert_eq!(chain.learn_block(10, hash(10), None), None);
        assert_eq!(chain.learn_block(11, hash(1), None), Some(11));
        assert_eq!(chain.parent(11).unwrap().replaced, [hash(11)]);
        // The tip is lower than it was.
        assert_eq!(chain.learn_work(next(13, 12), GRACE), Some(13));
        assert_eq!(chain.learn_work(next(13, 12), GRACE), None);
    }

    #[test]
    fn shares_for_the_work_before_are_worth_sending_for_a_while() {
        let chain = Chain::default();
        assert!(!chain.takes_shares_on(&hash(1)));
        chain.learn_work(next(11, 1), GRACE);
        chain.learn_work(next(12, 2), GRACE);
        assert!(chain.takes_shares_on(&hash(1)) && !chain.is_mined_on(&hash(1)));
        assert!(chain.takes_shares_on(&hash(2)) && chain.is_mined_on(&hash(2)));
        chain.learn_work(next(13, 3), Duration::ZERO);
        assert!(!chain.takes_shares_on(&hash(1)));
        assert!(!chain.takes_shares_on(&hash(2)));
        // The same work again changes nothing.
        chain.learn_work(next(13, 3), GRACE);
        assert!(!chain.takes_shares_on(&hash(2)));
    }

    #[test]
    fn blocks_are_missed_only_as_deep_as_announcements_are_usable() {
        let chain = Chain::default();
        let missed = chain.missed();
        chain.miss(10);
        assert_eq!(*missed.borrow(), 0, "without a work nothing is below anything");
        chain.learn_work(next(1000, 1), GRACE);
        for (height, depth) in [(1000, 0), (1200, 0), (999, 1), (960, 40), (980, 40), (740, 40)] {
            chain.miss(height);
            assert_eq!(*missed.borrow(), depth, "{height}");
        }
        chain.miss(741);
        assert_eq!(*missed.borrow(), 259);
    }

    #[test]
    fn memory_of_blocks_is_bounded() {
        let chain = Chain::default();
        for height in 0..1000 {
            chain.learn_block(height, hash(1), None);
        }
        assert_eq!(chain.parent(699), None);
        assert!(chain.parent(700).is_some());
    }
}
