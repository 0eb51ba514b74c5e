//! The bounded queue between the executors and the workers.
//!
//! Posts pass it twice: as they came, some taken together so that their event ids can be hashed side
//! by side, and again one by one for their proofs, so that every worker has its share of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::admit::{Overload, Refusal};
use crate::post::Post;
use crate::sift::Sifted;

/// Posts that a worker takes together: their event ids are hashed side by side.
pub(crate) const TAKEN_TOGETHER: usize = 4;
/// How long a worker waits for so many, while more bodies are on their way. It waits only when the
/// queue is nearly empty, so that it costs latency and no rate.
const GATHER_TIME: Duration = Duration::from_millis(2);

/// What a worker does next.
#[derive(Debug)]
pub(crate) enum Work {
    /// All checks but the proofs, at most [`TAKEN_TOGETHER`] posts.
    Sift(Vec<Post>),
    /// The proofs of one post.
    Prove(Sifted),
}

/// The queue, see the module.
#[derive(Debug)]
pub(crate) struct PostQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
    len_max: usize,
    /// Bodies that are being received.
    coming: AtomicUsize,
}

#[derive(Debug)]
struct QueueState {
    /// As they came: at most `len_max`.
    posts: VecDeque<Post>,
    /// Those that wait for their proofs: at most [`TAKEN_TOGETHER`] a worker.
    sifted: VecDeque<Sifted>,
    is_closed: bool,
}

/// Says that a body is being received, until it is dropped.
#[derive(Debug)]
pub(crate) struct Coming<'q>(&'q PostQueue);

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.0.coming.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PostQueue {
    /// An empty queue of at most `len_max` posts as they came.
    pub(crate) fn new(len_max: usize) -> Arc<Self> {
        let state = QueueState {
            posts: VecDeque::with_capacity(len_max),
            sifted: VecDeque::new(),
            is_closed: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            len_max,
            coming: AtomicUsize::new(0),
        })
    }

    /// Posts that wait for a worker.
    pub(crate) fn len(&self) -> usize {
        let state = self.lock();
        state.posts.len() + state.sifted.len()
    }

    /// Whether one more post would be refused now.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().posts.len() >= self.len_max
    }

    /// A body is being received, whose post may come.
    pub(crate) fn expect(&self) -> Coming<'_> {
        self.coming.fetch_add(1, Ordering::Relaxed);
        Coming(self)
    }

    /// Puts the post behind the others, or answers it.
    pub(crate) fn push(&self, post: Post) {
        let mut state = self.lock();
        let refusal = if state.is_closed {
            Refusal::Disconnected
        } else if state.posts.len() >= self.len_max {
            Refusal::Overloaded(Overload::Queue)
        } else {
            state.posts.push_back(post);
            drop(state);
            self.changed.notify_one();
            return;
        };
        drop(state);
        post.answer(Err(refusal));
    }

    /// Puts posts that passed all other checks where their proofs are waited for.
    pub(crate) fn push_sifted(&self, posts: impl Iterator<Item = Sifted>) {
        let mut state = self.lock();
        state.sifted.extend(posts);
        let is_more_than_one = state.sifted.len() > 1;
        drop(state);
        // The worker that puts them here takes the first one itself.
        if is_more_than_one {
            self.changed.notify_all();
        }
    }

    /// What to do next; waits for it. None when the queue is closed and empty.
    ///
    /// Proofs go first: what was begun is finished, and there is a bound to how much is begun.
    pub(crate) fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        let mut gathers_until = None;
        loop {
            if let Some(sifted) = state.sifted.pop_front() {
                return Some(Work::Prove(sifted));
            }
            if state.posts.is_empty() {
                if state.is_closed {
                    return None;
                }
                gathers_until = None;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let now = Instant::now();
            let until = *gathers_until.get_or_insert(now + GATHER_TIME);
            let is_worth_waiting = state.posts.len() < TAKEN_TOGETHER
                && !state.is_closed
                && self.coming.load(Ordering::Relaxed) > 0;
            if !is_worth_waiting || now >= until {
                let len = state.posts.len().min(TAKEN_TOGETHER);
                return Some(Work::Sift(state.posts.drain(..len).collect()));
            }
            let waited = self.changed.wait_timeout(state, until - now);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// No more posts; those that wait are still worked off.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Nothing panics while the lock is held; if it did, the queue would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
