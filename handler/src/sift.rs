//! All checks of a post but the proofs, and its event id: what needs one pass over its bytes.
//!
//! Posts that are sifted together are hashed side by side, each as a whole and announcement by
//! announcement, so that each byte comes from memory once.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use packetcrypt_core::announcement::Announcement;
use packetcrypt_core::backend::Backend;
use packetcrypt_core::bytes::Hash32;
use packetcrypt_core::primitives::blake2b::compress32_twofold;
use packetcrypt_proto::ANNOUNCEMENT_BYTES;

use crate::admit::{Parent, Refusal, announcements};
use crate::post::Post;
use crate::verify::Workers;

/// A post that passed all checks but those of its proofs.
#[derive(Debug)]
pub(crate) struct Sifted {
    /// The post.
    pub(crate) post: Post,
    /// What of it is new.
    pub(crate) found: Found,
    /// Its event id.
    pub(crate) event_id: [u8; 16],
}

/// What is known of a post when it was sifted.
#[derive(Debug)]
pub(crate) struct Found {
    /// Index and dedup hash of what is not known yet, each hash once, in order of the index.
    pub(crate) candidates: Vec<(u32, u64)>,
    /// The greatest work bits.
    pub(crate) work_bits_max: u32,
}

impl Workers {
    /// All checks of some posts but the proofs, and their event ids. What passes them goes back to
    /// the queue.
    pub(crate) fn sift_all(&self, posts: Vec<Post>, backend: Backend) {
        // Abandoned ones are dropped: nobody would learn what became of them.
        let posts = posts.into_iter().filter(|post| !post.is_abandoned());
        let anns_max = self.front.post_anns_max;
        let is_list = |_: &Self, post: &Post| match announcements(post.body.bytes(), anns_max) {
            Ok(_) => Ok(()),
            Err(refusal) => Err((refusal, 1)),
        };
        let lists = posts.filter_map(|post| self.guard(post, is_list));
        let posts: Vec<Post> = lists.map(|(post, ())| post).collect();
        let (sieves, wholes) = sift_together(&posts, backend);
        let each = posts.into_iter().zip(sieves).zip(wholes);
        let sifted = each.filter_map(|((post, sieve), whole)| {
            let (post, found) = self.guard(post, |_, post| sieve.found(post))?;
            Some(Sifted { post, found, event_id: event_id(&whole) })
        });
        let sifted: Vec<Sifted> = sifted.collect();
        self.front.queue.push_sifted(sifted.into_iter());
    }
}

/// Hashes some posts, and checks each until something of it is refused: what was seen of them, and
/// the hashes of the whole bodies of those of which nothing was refused.
fn sift_together(posts: &[Post], backend: Backend) -> (Vec<Sieve>, Vec<Hash32>) {
    let bodies: Vec<&[[u8; ANNOUNCEMENT_BYTES]]> =
        posts.iter().map(|post| post.body.bytes().as_chunks().0).collect();
    let mut sieves: Vec<Sieve> = bodies.iter().map(|body| Sieve::new(body.len())).collect();
    let mut wholes = vec![Hash32::ZERO; posts.len()];
    let look = |number: usize, first: usize, hashes: &[Hash32]| {
        let anns = &bodies[number][first..first + hashes.len()];
        sieves[number].look(&posts[number], anns, hashes)
    };
    compress32_twofold(&bodies, &mut wholes, look, backend);
    (sieves, wholes)
}

/// What was seen of a post so far.
struct Sieve {
    /// Index and dedup hash of what was checked.
    hashes: Vec<(u32, u64)>,
    work_bits_max: u32,
    /// The refusal of the first announcement that is refused and what was spent until then, or a
    /// panic, which costs this post alone.
    outcome: thread::Result<Result<(), (Refusal, u64)>>,
}

impl Sieve {
    fn new(anns: usize) -> Self {
        Self { hashes: Vec::with_capacity(anns), work_bits_max: 0, outcome: Ok(Ok(())) }
    }

    /// Checks the next announcements of the post; false when the rest is not worth hashing.
    fn look(&mut self, post: &Post, anns: &[[u8; ANNOUNCEMENT_BYTES]], hashes: &[Hash32]) -> bool {
        self.outcome = catch_unwind(AssertUnwindSafe(|| self.check(post, anns, hashes)));
        matches!(self.outcome, Ok(Ok(())))
    }

    fn check(
        &mut self,
        post: &Post,
        anns: &[[u8; ANNOUNCEMENT_BYTES]],
        hashes: &[Hash32],
    ) -> Result<(), (Refusal, u64)> {
        // A post has at most 2^20 announcements.
        let first = self.hashes.len() as u32;
        for ((index, bytes), hash) in (first..).zip(anns).zip(hashes) {
            let (ann, hash) = (Announcement::from_bytes(bytes), dedup_hash(hash));
            let checked = post.parent.check_cheaply(post.head.sver, ann, hash);
            checked.map_err(|refusal| (refusal.into(), u64::from(index) + 1))?;
            self.work_bits_max = self.work_bits_max.max(ann.work_bits().0);
            self.hashes.push((index, hash));
        }
        Ok(())
    }

    fn found(self, post: &Post) -> Result<Found, (Refusal, u64)> {
        self.outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
        let candidates = candidates(self.hashes, &post.parent);
        Ok(Found { candidates, work_bits_max: self.work_bits_max })
    }
}

/// The dedup hash (spec 05, 2.2) in the hash of an announcement.
fn dedup_hash(hash: &Hash32) -> u64 {
    let [word, ..] = hash.0.as_chunks().0 else { return 0 };
    u64::from_le_bytes(*word)
}

/// The event id (spec 05, 2.2) in the hash of a body.
fn event_id(hash: &Hash32) -> [u8; 16] {
    std::array::from_fn(|i| hash.0[i])
}

/// The first occurrence of each hash that is not known yet, in order of the index. The others are
/// duplicates, of an announcement whose proof was checked before or is checked now.
fn candidates(mut hashes: Vec<(u32, u64)>, parent: &Parent) -> Vec<(u32, u64)> {
    // Nothing else in this loop, so that the waits for the memory of many hashes overlap.
    hashes.retain(|&(_, hash)| !parent.known.is_committed(hash));
    let mut seen = HashSet::with_capacity(hashes.len());
    hashes.retain(|&(_, hash)| seen.insert(hash));
    hashes
}

#[cfg(test)]
impl Sifted {
    /// A post in which nothing was found.
    pub(crate) fn of(post: Post) -> Self {
        let found = Found { candidates: Vec::new(), work_bits_max: 0 };
        Self { post, found, event_id: [0; 16] }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use packetcrypt_core::primitives::compress32;
    use packetcrypt_net::metrics::Metrics;

    use super::*;
    use crate::admit::{AnnRefusal, Head};
    use crate::body::{Body, BodyMemory};
    use crate::dedup::Reservation;
    use crate::stats::Counters;

    #[test]
    fn each_hash_is_a_candidate_once_and_known_ones_are_none() {
        let parent = Parent::sample(10);
        if let Reservation::Fresh(entry) = parent.known.reserve(7) {
            parent.known.commit(entry);
        }
        let hashes = vec![(0, 9), (1, 7), (2, 5), (3, 9), (4, 5), (5, 6)];
        assert_eq!(candidates(hashes, &parent), [(0, 9), (2, 5), (5, 6)]);
    }

    /// Announcements that pass the cheap checks, different ones for each seed.
    fn anns(seed: u8, count: usize) -> Vec<[u8; ANNOUNCEMENT_BYTES]> {
        let ann = |number: usize| {
            let mut ann = [0; ANNOUNCEMENT_BYTES];
            ann[0] = 1;
            ann[8..12].copy_from_slice(&(0x207f_ff00 + number as u32 % 7).to_le_bytes());
            ann[12] = 12;
            ann[100..108].copy_from_slice(&(number as u64).to_le_bytes());
            ann[108] = seed;
            ann
        };
        (0..count).map(ann).collect()
    }

    fn post(anns: &[[u8; ANNOUNCEMENT_BYTES]], memory: &Arc<BodyMemory>) -> Post {
        let body = Body::holding(memory, anns.as_flattened());
        let head = Head { sver: 1, worknum: 13, pay_to: "abc".to_owned() };
        let counters = Arc::new(Counters::new(&mut Metrics::new("handler")));
        let source = IpAddr::from([127, 0, 0, 1]);
        Post::new(head, Arc::new(Parent::sample(1000)), body, source, counters).0
    }

    #[test]
    fn posts_that_are_sifted_together_are_as_each_alone() {
        let memory = BodyMemory::new(8 << 20, 8 << 20, 1 << 20);
        let bodies: Vec<_> = [1, 300, 40, 1024, 1024, 40, 17, 64].into_iter().zip(0..).collect();
        let mut bodies: Vec<_> = bodies.iter().map(|&(len, seed)| anns(seed, len)).collect();
        // Refused at the first, in the middle, and at the last announcement.
        for (body, at) in [(1, 0), (2, 19), (3, 1023)] {
            bodies[body][at][12] = 11;
        }
        for backend in Backend::available() {
            let posts: Vec<_> = bodies.iter().map(|body| post(body, &memory)).collect();
            let (sieves, wholes) = sift_together(&posts, backend);
            for ((sieve, whole), body) in sieves.into_iter().zip(&wholes).zip(&bodies) {
                let post = post(body, &memory);
                let bad = body.iter().position(|ann| ann[12] == 11);
                let found = sieve.found(&post);
                if let Some(at) = bad {
                    let refusal = AnnRefusal::WrongHeight { want: 12, got: 11 };
                    let (told, cost) = found.unwrap_err();
                    assert_eq!((told, cost), (refusal.into(), at as u64 + 1), "{backend}");
                    continue;
                }
                let found = found.unwrap();
                let each: Vec<_> =
                    (0..).zip(body.iter().map(|ann| dedup_hash(&compress32(ann)))).collect();
                assert_eq!(found.candidates, each, "{backend}");
                let bits = body.iter().map(|ann| Announcement::from_bytes(ann).work_bits().0).max();
                assert_eq!(Some(found.work_bits_max), bits);
                assert_eq!(event_id(whole), compress32(body.as_flattened()).0[..16], "{backend}");
            }
        }
    }
}
