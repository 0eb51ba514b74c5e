//! The accepted shares of one work, so that none is paid twice (spec 05, 16.1).
//!
//! Two posts of the same share may be in progress at once. The second waits for the first: when
//! that one is accepted the second is a duplicate, when it fails the second is checked for itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Event id of a share (spec 05, 2.2).
pub(crate) type ShareId = String;

type Slot<E> = Arc<tokio::sync::Mutex<Option<E>>>;

/// Accepted shares by id, with the event of each.
#[derive(Debug)]
pub(crate) struct Duplicates<E> {
    slots: Arc<Mutex<HashMap<ShareId, Slot<E>>>>,
    len_max: usize,
}

/// What is known of a share.
#[derive(Debug)]
pub(crate) enum Claim<E> {
    /// Not accepted so far; the holder checks it.
    Fresh(Claimed<E>),
    /// Accepted before, with this event.
    Duplicate(E),
    /// As many shares as may be remembered.
    Full,
}

/// The right to check one share. Dropped without [`Claimed::accept`] the share is forgotten.
#[derive(Debug)]
pub(crate) struct Claimed<E> {
    id: ShareId,
    /// Taken out on drop.
    guard: Option<OwnedMutexGuard<Option<E>>>,
    slots: Arc<Mutex<HashMap<ShareId, Slot<E>>>>,
}

impl<E: Clone> Duplicates<E> {
    pub(crate) fn new(len_max: usize) -> Self {
        Self { slots: Arc::default(), len_max }
    }

    /// Claims a share, after any other post of the same share has been decided.
    pub(crate) async fn claim(&self, id: ShareId) -> Claim<E> {
        let slot = {
            let mut slots = lock(&self.slots);
            let full = slots.len() >= self.len_max;
            match slots.entry(id.clone()) {
                Entry::Occupied(found) => found.get().clone(),
                Entry::Vacant(_) if full => return Claim::Full,
                Entry::Vacant(place) => place.insert(Slot::default()).clone(),
            }
        };
        let guard = slot.lock_owned().await;
        match &*guard {
            Some(event) => Claim::Duplicate(event.clone()),
            None => Claim::Fresh(Claimed { id, guard: Some(guard), slots: self.slots.clone() }),
        }
    }
}

impl<E> Claimed<E> {
    /// Remembers the share with its event.
    pub(crate) fn accept(mut self, event: E) {
        if let Some(guard) = &mut self.guard {
            **guard = Some(event);
        }
    }
}

impl<E> Drop for Claimed<E> {
    fn drop(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        let mut slots = lock(&self.slots);
        // The slot is held by the map and by this guard, and by each post that waits for it. Nobody
        // new can come to hold it while the map is locked.
        let mutex = OwnedMutexGuard::mutex(&guard);
        if guard.is_none() && Arc::strong_count(mutex) <= 2 {
            slots.remove(&self.id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing between lock and unlock leaves the map half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ShareId {
        n.to_string()
    }

    async fn fresh(set: &Duplicates<u32>, n: u8) -> Claimed<u32> {
        match set.claim(id(n)).await {
            Claim::Fresh(claimed) => claimed,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_accepted_share_is_a_duplicate_and_a_refused_one_is_not() {
        let set = Duplicates::new(10);
        drop(fresh(&set, 1).await);
        assert_eq!(lock(&set.slots).len(), 0);
        fresh(&set, 1).await.accept(7);
        assert!(matches!(set.claim(id(1)).await, Claim::Duplicate(7)));
        assert!(matches!(set.claim(id(2)).await, Claim::Fresh(_)));
    }

    #[tokio::test]
    async fn the_second_post_waits_for_the_first() {
        let set = Arc::new(Duplicates::new(10));
        for accepted in [false, true] {
            let first = fresh(&set, 3).await;
            let second = tokio::spawn({
                let set = set.clone();
                async move { set.claim(id(3)).await }
            });
            while Arc::strong_count(&lock(&set.slots)[&id(3)]) < 3 {
                tokio::task::yield_now().await;
            }
            assert!(!second.is_finished());
            if accepted {
                first.accept(1);
                assert!(matches!(second.await.unwrap(), Claim::Duplicate(1)));
            } else {
                drop(first);
                assert!(matches!(second.await.unwrap(), Claim::Fresh(_)));
            }
        }
    }

    #[tokio::test]
    async fn full_refuses_new_shares_and_still_knows_the_old() {
        let set = Duplicates::new(1);
        fresh(&set, 1).await.accept(5);
        assert!(matches!(set.claim(id(2)).await, Claim::Full));
        assert!(matches!(set.claim(id(1)).await, Claim::Duplicate(5)));
    }
}
