use super::*;
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

fn post(counters: &Arc<Counters>, budget: &Arc<BodyBudget>) -> (Post, oneshot::Receiver<Answer>) {
    let mut body = Body::new(budget);
    body.reserve(2048).unwrap();
    body.bytes.resize(2048, 0);
    let head = Head { sver: 1, worknum: 13, pay_to: "abc".to_owned() };
    let source = IpAddr::from([127, 0, 0, 1]);
    Post::new(head, parent(), body, source, Arc::clone(counters))
}

#[test]
fn bodies_are_booked_as_they_grow_and_given_back() {
    let budget = BodyBudget::new(10_000);
    let mut first = Body::new(&budget);
    first.reserve(4096).unwrap();
    assert_eq!(budget.used(), 4096);
    first.bytes.resize(4096, 1);
    first.reserve(10).unwrap();
    assert_eq!(budget.used(), 8192);
    let mut second = Body::new(&budget);
    assert_eq!(second.reserve(4096), Err(NoRoom));
    assert_eq!(budget.used(), 8192);
    drop(first);
    second.reserve(4096).unwrap();
    drop(second);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_full_or_closed_queue_answers_at_once() {
    let (counters, budget) = (counters(), BodyBudget::new(1 << 20));
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
    assert!(queue.pop().is_some(), "what waited before is still worked off");
    assert!(queue.pop().is_none());
    let stats = counters.snapshot();
    assert_eq!((stats.posts.overloaded, stats.posts.lost, stats.posts.in_flight), (2, 1, 0));
    assert_eq!((stats.announcements.overloaded, stats.announcements.lost), (4, 2));
}

#[test]
fn who_waits_no_more_is_noticed() {
    let (counters, budget) = (counters(), BodyBudget::new(1 << 20));
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
