//! A round of a download: everything of a handler that is new, in pieces that several connections
//! fetch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::have::Piece;

/// Failures in a round before it is given up.
const FAILURES_MAX: u32 = 4;

/// The round of one handler that is under way, if any; its connections wait here for pieces.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    state: Mutex<State>,
    /// There are pieces, or the last one is done.
    news: Notify,
    /// The round has ended.
    end: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Piece>,
    /// Pieces that are being fetched.
    under_way: u32,
    /// The first byte of each file that did not come, of pieces that were given up.
    lost: BTreeMap<u64, u64>,
    failures: u32,
    failure: Option<String>,
    bytes: u64,
}

/// How a round ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RoundEnd {
    /// Bytes that came.
    pub(super) bytes: u64,
    /// The first byte of each file that did not come.
    pub(super) lost: BTreeMap<u64, u64>,
    /// What went wrong.
    pub(super) failure: Option<String>,
}

impl Rounds {
    /// Has these pieces fetched, the first ones first, and waits until each of them came or was
    /// given up.
    pub(super) async fn fetch(&self, pieces: Vec<Piece>) -> RoundEnd {
        *self.locked() = State { waiting: pieces.into(), ..State::default() };
        self.news.notify_waiters();
        self.news.notify_one();
        loop {
            let end = self.end.notified();
            {
                let mut state = self.locked();
                if state.waiting.is_empty() && state.under_way == 0 {
                    let State { bytes, lost, failure, .. } = std::mem::take(&mut *state);
                    return RoundEnd { bytes, lost, failure };
                }
            }
            end.await;
        }
    }

    /// Gives up what is not under way.
    pub(super) fn give_up(&self, why: &str) {
        let mut state = self.locked();
        state.give_up_waiting();
        state.failure.get_or_insert_with(|| why.to_owned());
        drop(state);
        self.end.notify_one();
    }

    /// The next piece to fetch, which is then to be [`done`](Rounds::done).
    pub(super) async fn next(&self) -> Piece {
        loop {
            let news = self.news.notified();
            {
                let mut state = self.locked();
                if let Some(piece) = state.waiting.pop_front() {
                    state.under_way += 1;
                    if !state.waiting.is_empty() {
                        // One notice may stand for several pieces.
                        self.news.notify_one();
                    }
                    return piece;
                }
            }
            news.await;
        }
    }

    /// A piece came up to the byte `came`. With a failure the rest is fetched again by whoever is
    /// free, until there were too many.
    pub(super) fn done(&self, piece: Piece, came: u64, failure: Option<String>) {
        let mut state = self.locked();
        state.under_way -= 1;
        state.bytes += came - piece.from;
        if let Some(failure) = failure {
            state.failures += 1;
            state.failure = Some(failure);
        }
        if came < piece.to {
            state.waiting.push_front(Piece { from: came, ..piece });
            if state.failures >= FAILURES_MAX {
                state.give_up_waiting();
            } else {
                self.news.notify_one();
            }
        }
        if state.waiting.is_empty() && state.under_way == 0 {
            if state.lost.is_empty() {
                // What failed came in the end.
                state.failure = None;
            }
            drop(state);
            self.end.notify_one();
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn give_up_waiting(&mut self) {
        for piece in std::mem::take(&mut self.waiting) {
            let first = self.lost.entry(piece.file).or_insert(piece.from);
            *first = piece.from.min(*first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn piece(file: u64, from: u64, to: u64) -> Piece {
        Piece { file, from, to }
    }

    #[tokio::test]
    async fn a_round_ends_when_every_piece_came() {
        let rounds = Arc::new(Rounds::default());
        assert_eq!(rounds.fetch(Vec::new()).await, RoundEnd::default());
        let fetching = rounds.clone();
        let pieces = vec![piece(2, 0, 10), piece(2, 10, 20), piece(1, 5, 9)];
        let round = tokio::spawn(async move { fetching.fetch(pieces).await });
        let first = rounds.next().await;
        assert_eq!(first, piece(2, 0, 10));
        let second = rounds.next().await;
        // A part came; the rest is fetched again, and that nothing is missing counts.
        rounds.done(second, 12, Some("broken".to_owned()));
        assert_eq!(rounds.next().await, piece(2, 12, 20));
        rounds.done(piece(2, 12, 20), 20, None);
        rounds.done(first, 10, None);
        let last = rounds.next().await;
        rounds.done(last, 9, None);
        let end = round.await.unwrap();
        assert_eq!(end, RoundEnd { bytes: 24, ..RoundEnd::default() });
    }

    #[tokio::test]
    async fn too_many_failures_end_it_and_tell_what_is_missing() {
        let rounds = Arc::new(Rounds::default());
        let fetching = rounds.clone();
        let pieces = vec![piece(2, 0, 10), piece(2, 10, 20), piece(1, 5, 9)];
        let round = tokio::spawn(async move { fetching.fetch(pieces).await });
        for _ in 0..FAILURES_MAX {
            let next = rounds.next().await;
            rounds.done(next, next.from, Some("gone".to_owned()));
        }
        let end = round.await.unwrap();
        assert_eq!((end.bytes, end.failure.as_deref()), (0, Some("gone")));
        assert_eq!(end.lost, BTreeMap::from([(1, 5), (2, 0)]));
        // The next round starts from nothing.
        let fetching = rounds.clone();
        let round = tokio::spawn(async move { fetching.fetch(vec![piece(1, 5, 9)]).await });
        let next = rounds.next().await;
        rounds.give_up("dropped");
        rounds.done(next, 9, None);
        assert_eq!(round.await.unwrap().bytes, 4);
    }
}
