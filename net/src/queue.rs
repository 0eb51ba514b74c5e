//! A bounded queue that hands out the newest first and drops the oldest.
//!
//! Announcements lose value with every block, so what came last goes first, and what does not fit
//! is the oldest (spec 05, 7 and 8). Pushing never waits and never fails; what was dropped is
//! counted by its weight. Both threads and tasks can wait for an item.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A bounded queue, newest first. Clones share it.
#[derive(Debug)]
pub struct NewestFirst<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for NewestFirst<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    threads: Condvar,
    tasks: Notify,
    len_max: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(T, u64)>,
    weight: u64,
    counters: QueueCounters,
    closed: bool,
}

/// What went through a queue, by weight: `pushed == popped + dropped + queued`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct QueueCounters {
    /// Weight of everything pushed.
    pub pushed: u64,
    /// Weight handed out.
    pub popped: u64,
    /// Weight dropped because the queue was full or closed.
    pub dropped: u64,
    /// Weight waiting now.
    pub queued: u64,
}

impl<T> NewestFirst<T> {
    /// A queue of at most `len_max` items (at least one).
    pub fn new(len_max: usize) -> Self {
        let state = State {
            items: VecDeque::new(),
            weight: 0,
            counters: QueueCounters::default(),
            closed: false,
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                threads: Condvar::new(),
                tasks: Notify::new(),
                len_max: len_max.max(1),
            }),
        }
    }

    /// Adds an item that counts as `weight` (announcements in a batch, say). Returns the weight
    /// that had to be dropped for it: of the oldest item when full, of this one when closed.
    pub fn push(&self, item: T, weight: u64) -> u64 {
        let mut dropped = 0;
        {
            let mut state = self.lock();
            state.counters.pushed += weight;
            if state.closed {
                state.counters.dropped += weight;
                return weight;
            }
            while state.items.len() >= self.shared.len_max {
                let Some((_, oldest)) = state.items.pop_front() else { break };
                state.weight -= oldest;
                dropped += oldest;
            }
            state.counters.dropped += dropped;
            state.weight += weight;
            state.items.push_back((item, weight));
        }
        self.shared.threads.notify_one();
        self.shared.tasks.notify_one();
        dropped
    }

    /// The newest item, if there is one.
    pub fn try_pop(&self) -> Option<T> {
        let mut state = self.lock();
        Self::take_newest(&mut state)
    }

    /// The newest item; waits for one. None when the queue is closed and empty.
    pub async fn pop(&self) -> Option<T> {
        loop {
            let notified = self.shared.tasks.notified();
            {
                let mut state = self.lock();
                if let Some(item) = Self::take_newest(&mut state) {
                    if !state.items.is_empty() {
                        // A permit stands for "there is something", not for one item.
                        self.shared.tasks.notify_one();
                    }
                    return Some(item);
                }
                if state.closed {
                    self.shared.tasks.notify_one();
                    return None;
                }
            }
            notified.await;
        }
    }

    /// As [`pop`](Self::pop) for a thread; None also when `timeout` has passed.
    pub fn pop_timeout(&self, timeout: Duration) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            if let Some(item) = Self::take_newest(&mut state) {
                return Some(item);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return None;
            }
            let waited = self.shared.threads.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the queue: what is in it can still be taken, what comes later is dropped and counted.
    pub fn close(&self) {
        self.lock().closed = true;
        self.shared.threads.notify_all();
        self.shared.tasks.notify_waiters();
        self.shared.tasks.notify_one();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Items waiting.
    pub fn len(&self) -> usize {
        self.lock().items.len()
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What went through so far.
    pub fn counters(&self) -> QueueCounters {
        let state = self.lock();
        QueueCounters { queued: state.weight, ..state.counters }
    }

    fn take_newest(state: &mut State<T>) -> Option<T> {
        let (item, weight) = state.items.pop_back()?;
        state.weight -= weight;
        state.counters.popped += weight;
        Some(item)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under the lock.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_first_oldest_dropped_and_weights_conserved() {
        let queue = NewestFirst::new(3);
        for (item, weight) in [(1, 10), (2, 20), (3, 30)] {
            assert_eq!(queue.push(item, weight), 0);
        }
        assert_eq!(queue.push(4, 40), 10);
        assert_eq!(queue.try_pop(), Some(4));
        let c = queue.counters();
        assert_eq!((c.pushed, c.popped, c.dropped, c.queued), (100, 40, 10, 50));
        queue.close();
        assert_eq!(queue.push(5, 5), 5);
        assert_eq!(queue.pop_timeout(Duration::from_secs(9)), Some(3));
        assert_eq!(queue.try_pop(), Some(2));
        assert_eq!(queue.pop_timeout(Duration::from_secs(9)), None);
        let c = queue.counters();
        assert_eq!(c.pushed, c.popped + c.dropped + c.queued);
    }

    #[tokio::test]
    async fn every_waiting_task_is_served_and_closing_wakes_all() {
        let queue = NewestFirst::new(100);
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let mut taken = 0;
                    while queue.pop().await.is_some() {
                        taken += 1;
                    }
                    taken
                })
            })
            .collect();
        for i in 0..50 {
            queue.push(i, 1);
            tokio::task::yield_now().await;
        }
        queue.close();
        let mut taken = 0;
        for task in tasks {
            taken += task.await.unwrap();
        }
        assert_eq!(taken, 50);
    }

    #[test]
    fn a_thread_is_woken() {
        let queue = NewestFirst::new(2);
        let other = queue.clone();
        let thread = std::thread::spawn(move || other.pop_timeout(Duration::from_secs(20)));
        queue.push(7, 1);
        assert_eq!(thread.join().unwrap(), Some(7));
    }
}
