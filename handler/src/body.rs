//! Memory for bodies: bounded, taken as bytes come, used again.
//!
//! One source may take a part of it only, so that a few stalled bodies of one do not keep all others
//! out. A body begins small and moves to a larger piece each time it has filled its piece, so that many
//! slow clients do not take much. Pieces are kept and used again: fresh memory would cost a page
//! fault every four KiB, which is dearer than receiving into it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use packetcrypt_proto::ANNOUNCEMENT_BYTES;

use crate::admit::Overload;

/// Lengths of pieces below the greatest. A full post of the announcement miner is the third.
const PIECES_BYTES: [usize; 3] = [4 << 10, 64 << 10, 1024 * ANNOUNCEMENT_BYTES];

/// The memory that bodies may take.
#[derive(Debug)]
pub(crate) struct BodyMemory {
    /// Lengths of pieces, ascending; the last is that of the longest body.
    lengths: Vec<usize>,
    bytes_max: usize,
    bytes_per_source_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Bytes in the pieces of bodies.
    used: usize,
    /// The part of each source that is held to its bound.
    used_by: HashMap<IpAddr, usize>,
    /// Bytes in free pieces.
    free: usize,
    /// Free pieces of each length.
    pieces: Vec<Vec<Box<[u8]>>>,
}

/// A body in memory.
#[derive(Debug)]
pub(crate) struct Body {
    piece: Box<[u8]>,
    /// Which length its piece has; None before the first.
    tier: Option<usize>,
    len: usize,
    /// Who sends it; None when no bound of its own holds for it.
    source: Option<IpAddr>,
    memory: Arc<BodyMemory>,
}

impl BodyMemory {
    /// Memory for `bytes_max`, of which a body takes at most `body_bytes_max` and the bodies of
    /// one source `bytes_per_source_max`.
    pub(crate) fn new(
        bytes_max: usize,
        bytes_per_source_max: usize,
        body_bytes_max: usize,
    ) -> Arc<Self> {
        let smaller = PIECES_BYTES.into_iter().filter(|bytes| *bytes < body_bytes_max);
        let lengths: Vec<usize> = smaller.chain([body_bytes_max]).collect();
        let pieces = lengths.iter().map(|_| Vec::new()).collect();
        let state = Mutex::new(State { used: 0, used_by: HashMap::new(), free: 0, pieces });
        Arc::new(Self { lengths, bytes_max, bytes_per_source_max, state })
    }

    /// Bytes that bodies take.
    pub(crate) fn used(&self) -> usize {
        self.lock().used
    }

    /// A piece of a greater length instead of one of `from`; what was in it is anybody's.
    fn exchange(
        &self,
        source: Option<IpAddr>,
        from: Option<usize>,
        tier: usize,
    ) -> Result<Box<[u8]>, Overload> {
        let more = self.lengths[tier] - from.map_or(0, |tier| self.lengths[tier]);
        let mut state = self.lock();
        if state.used + more > self.bytes_max {
            return Err(Overload::BodyMemory);
        }
        if let Some(source) = source {
            let used = state.used_by.get(&source).copied().unwrap_or(0);
            if used + more > self.bytes_per_source_max {
                return Err(Overload::SourceBodyMemory);
            }
            state.used_by.insert(source, used + more);
        }
        state.used += more;
        if let Some(piece) = state.pieces[tier].pop() {
            state.free -= piece.len();
            return Ok(piece);
        }
        // Free pieces of other lengths make room: the sum stays within the bound.
        while state.used + state.free > self.bytes_max {
            let Some(piece) = state.pieces.iter_mut().rev().find_map(Vec::pop) else { break };
            state.free -= piece.len();
        }
        drop(state);
        Ok(vec![0; self.lengths[tier]].into_boxed_slice())
    }

    /// Takes a piece that no body uses any more. `counted` are the bytes that its body gives back.
    fn give_back(&self, source: Option<IpAddr>, piece: Box<[u8]>, tier: usize, counted: usize) {
        let mut state = self.lock();
        state.used -= counted;
        if let Some(source) = source
            && let Some(used) = state.used_by.get_mut(&source)
        {
            *used -= counted;
            if *used == 0 {
                state.used_by.remove(&source);
            }
        }
        if state.used + state.free + piece.len() <= self.bytes_max {
            state.free += piece.len();
            state.pieces[tier].push(piece);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held; if it did, the sums would still be right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body {
    /// An empty body, which takes nothing yet. For those of `source` its bound holds.
    pub(crate) fn new(memory: &Arc<BodyMemory>, source: Option<IpAddr>) -> Self {
        Self { piece: Box::default(), tier: None, len: 0, source, memory: Arc::clone(memory) }
    }

    /// The bytes received so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.piece[..self.len]
    }

    /// Room behind them; empty when the piece is full.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.piece[self.len..]
    }

    /// Says that `len` bytes of the room were filled.
    pub(crate) fn filled(&mut self, len: usize) {
        self.len += len.min(self.piece.len() - self.len);
    }

    /// Whether it is as long as a body may be.
    pub(crate) fn is_at_its_bound(&self) -> bool {
        self.tier == Some(self.memory.lengths.len() - 1) && self.len == self.piece.len()
    }

    /// Moves to the next larger piece. Must not be [at its bound](Self::is_at_its_bound).
    ///
    /// # Errors
    /// [`Overload`]: the memory for bodies is used up, or the part of this source.
    pub(crate) fn grow(&mut self) -> Result<(), Overload> {
        let tier = self.tier.map_or(0, |tier| tier + 1);
        let mut piece = self.memory.exchange(self.source, self.tier, tier)?;
        piece[..self.len].copy_from_slice(self.bytes());
        let old = std::mem::replace(&mut self.piece, piece);
        if let Some(old_tier) = self.tier.replace(tier) {
            self.memory.give_back(self.source, old, old_tier, 0);
        }
        Ok(())
    }
}

#[cfg(test)]
impl Body {
    /// A body of these bytes.
    pub(crate) fn holding(memory: &Arc<BodyMemory>, bytes: &[u8]) -> Self {
        let mut body = Self::new(memory, None);
        while body.len < bytes.len() {
            body.grow().unwrap();
            let rest = &bytes[body.len..];
            let len = rest.len().min(body.room().len());
            body.room()[..len].copy_from_slice(&rest[..len]);
            body.filled(len);
        }
        body
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(tier) = self.tier {
            let piece = std::mem::take(&mut self.piece);
            let counted = piece.len();
            self.memory.give_back(self.source, piece, tier, counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(body: &mut Body, value: u8) {
        let len = body.room().len();
        body.room().fill(value);
        body.filled(len);
    }

    #[test]
    fn bodies_grow_keep_their_bytes_and_give_their_memory_back() {
        let memory = BodyMemory::new(1 << 20, 1 << 20, 512 << 10);
        let mut body = Body::new(&memory, None);
        assert_eq!((memory.used(), body.room().len()), (0, 0));
        for (value, bytes) in [(1, 4 << 10), (2, 64 << 10), (3, 512 << 10)] {
            assert!(!body.is_at_its_bound());
            body.grow().unwrap();
            assert_eq!(memory.used(), bytes);
            fill(&mut body, value);
        }
        assert!(body.is_at_its_bound());
        let (first, rest) = body.bytes().split_at(4 << 10);
        assert!(first.iter().all(|&b| b == 1) && rest[..60 << 10].iter().all(|&b| b == 2));
        let mut second = Body::new(&memory, None);
        second.grow().unwrap();
        second.grow().unwrap();
        second.grow().unwrap();
        let mut third = Body::new(&memory, None);
        assert_eq!(third.grow(), Err(Overload::BodyMemory));
        drop(body);
        assert_eq!(memory.used(), 512 << 10);
        third.grow().unwrap();
        assert_eq!(third.room().len(), 4 << 10);
        drop((second, third));
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn one_source_can_not_take_all() {
        let memory = BodyMemory::new(16 << 10, 8 << 10, 4 << 10);
        let of = |last| Some(IpAddr::from([192, 0, 2, last]));
        let take = |source| {
            let mut body = Body::new(&memory, source);
            body.grow().map(|()| body)
        };
        let first = [take(of(1)).unwrap(), take(of(1)).unwrap()];
        assert_eq!(take(of(1)).unwrap_err(), Overload::SourceBodyMemory);
        let second = take(of(2)).unwrap();
        let listed = take(None).unwrap();
        assert_eq!(
            take(None).unwrap_err(),
            Overload::BodyMemory,
            "the bound of all is everybody's"
        );
        drop((first, second));
        let again = [take(of(1)).unwrap(), take(of(1)).unwrap()];
        drop((listed, again));
        assert!(memory.lock().used_by.is_empty() && memory.used() == 0);
    }

    #[test]
    fn free_pieces_are_used_again_and_count_in_the_bound() {
        let memory = BodyMemory::new(200 << 10, 200 << 10, 64 << 10);
        let full = |memory: &Arc<BodyMemory>| {
            let mut body = Body::new(memory, None);
            body.grow().unwrap();
            body.grow().unwrap();
            body
        };
        let bodies = [full(&memory), full(&memory), full(&memory)];
        let places = bodies.each_ref().map(|body| body.piece.as_ptr());
        drop(bodies);
        assert!(places.contains(&full(&memory).piece.as_ptr()));
        let small: Vec<_> = (0..50)
            .map(|_| {
                let mut body = Body::new(&memory, None);
                body.grow().unwrap();
                body
            })
            .collect();
        let state = memory.lock();
        assert!(state.used + state.free <= 200 << 10, "{} + {}", state.used, state.free);
        drop(state);
        drop(small);
        assert_eq!(memory.used(), 0);
    }
}
