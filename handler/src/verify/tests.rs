use super::*;
use crate::body::BodyMemory;
use crate::dedup::DedupTable;
use packetcrypt_core::bytes::CompactTarget;
use packetcrypt_net::metrics::Metrics;

fn parent() -> Arc<Parent> {
    Arc::new(Parent {
        height: 12,
        hash: Hash32([3; 32]),
        sig_key: None,
        min_work: CompactTarget(0x207f_ffff),
        ann_version: 1,
        handlers: 1,
        own_index: 0,
        known: Arc::new(DedupTable::new(10).unwrap()),
    })
}

fn counters() -> Arc<Counters> {
    Arc::new(Counters::new(&mut Metrics::new("handler")))
}

fn post(counters: &Arc<Counters>, budget: &Arc<BodyMemory>) -> (Post, oneshot::Receiver<Answer>) {
    let body = Body::holding(budget, &[0; 2048]);
    let head = Head { sver: 1, worknum: 13, pay_to: "abc".to_owned() };
    let source = IpAddr::from([127, 0, 0, 1]);
    Post::new(head, parent(), body, source, Arc::clone(counters))
}

#[test]
fn a_full_or_closed_queue_answers_at_once() {
    let (counters, budget) = (counters(), BodyMemory::new(1 << 20, 1 << 20));
    let queue = PostQueue::new(1);
    let (first, _first_answer) = post(&counters, &budget);
    let (second, mut second_answer) = post(&counters, &budget);
    let (third, mut third_answer) = post(&counters, &budget);
    queue.push(first);
    assert!(queue.is_full());
    queue.push(second);
    assert_eq!(second_answer.try_recv().unwrap(), Err(Refusal::Overloaded));
    queue.close();
    queue.push(third);
    assert_eq!(third_answer.try_recv().unwrap(), Err(Refusal::Disconnected));
    assert_eq!(queue.pop(2).len(), 1, "what waited before is still worked off");
    assert!(queue.pop(2).is_empty());
    let stats = counters.snapshot();
    assert_eq!((stats.posts.overloaded, stats.posts.lost, stats.posts.in_flight), (2, 1, 0));
    assert_eq!((stats.announcements.overloaded, stats.announcements.lost), (4, 2));
}

#[test]
fn who_waits_no_more_is_noticed() {
    let (counters, budget) = (counters(), BodyMemory::new(1 << 20, 1 << 20));
    let (post, answer) = post(&counters, &budget);
    assert!(!post.is_abandoned());
    drop(answer);
    assert!(post.is_abandoned());
    drop(post);
    assert_eq!((counters.snapshot().timeouts, counters.snapshot().posts.lost), (1, 1));
    assert_eq!(budget.used(), 0);
}

#[test]
fn each_hash_is_a_candidate_once_and_known_ones_are_none() {
    let parent = parent();
    if let crate::dedup::Reservation::Fresh(entry) = parent.known.reserve(7) {
        parent.known.commit(entry);
    }
    let hashes = vec![(0, 9), (1, 7), (2, 5), (3, 9), (4, 5), (5, 6)];
    assert_eq!(candidates(hashes, &parent), [(0, 9), (2, 5), (5, 6)]);
}

#[test]
fn names_of_proof_errors_are_those_of_the_reference() {
    let text = |error| proof_refusal(error).to_string();
    assert_eq!(text(AnnError::InvalItem4), "check_ann() -> INVAL_ITEM4");
    assert_eq!(text(AnnError::InsufPow(Hash32::ZERO)), "check_ann() -> INSUF_POW");
    assert_eq!(text(AnnError::SoftNonceHigh), "check_ann() -> SOFT_NONCE_HIGH");
    for error in [AnnError::Inval, AnnError::BadProgram, AnnError::BadProgramExec] {
        assert_eq!(text(error), "check_ann() -> INVAL");
    }
}

#[test]
fn a_worker_takes_its_part_of_the_queue() {
    let (counters, budget) = (counters(), BodyMemory::new(1 << 20, 1 << 20));
    let queue = PostQueue::new(20);
    for _ in 0..11 {
        queue.push(post(&counters, &budget).0);
    }
    assert_eq!([2, 8, 1, 1].map(|takers| queue.pop(takers).len()), [4, 1, 4, 2]);
}

#[test]
fn event_ids_are_those_of_each_body_alone() {
    let body = |len: usize, seed: u8| (0..len).map(|i| seed ^ (i % 251) as u8).collect::<Vec<u8>>();
    let full = FULL_POST_BYTES;
    let bodies = [full, 1024, full, full, full - 1024, full, full, 2048]
        .into_iter()
        .zip(1..)
        .map(|(len, seed)| body(len, seed))
        .collect::<Vec<_>>();
    for backend in Backend::available() {
        let ids = event_ids(bodies.iter().map(Vec::as_slice), backend);
        for (id, body) in ids.iter().zip(&bodies) {
            assert_eq!(*id, compress32(body).0[..16], "{backend}");
        }
        assert_eq!(ids.len(), bodies.len());
    }
}
