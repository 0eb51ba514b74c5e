use std::net::IpAddr;

use super::*;
use crate::admit::{Head, Parent};
use crate::body::{Body, BodyMemory};
use crate::post::Answer;
use crate::stats::Counters;
use packetcrypt_net::metrics::Metrics;
use tokio::sync::oneshot;

fn counters() -> Arc<Counters> {
    Arc::new(Counters::new(&mut Metrics::new("handler")))
}

fn post(counters: &Arc<Counters>, budget: &Arc<BodyMemory>) -> (Post, oneshot::Receiver<Answer>) {
    let body = Body::holding(budget, &[0; 2048]);
    let head = Head { sver: 1, worknum: 13, pay_to: "abc".to_owned() };
    let source = IpAddr::from([127, 0, 0, 1]);
    Post::new(head, Arc::new(Parent::sample(10)), body, source, Arc::clone(counters))
}

/// How many posts a worker gets, none of which was sifted before.
fn taken(queue: &PostQueue) -> Option<usize> {
    queue.next().map(|work| match work {
        Work::Sift(posts) => posts.len(),
        Work::Prove(_) => panic!("nothing was sifted"),
    })
}

#[test]
fn a_full_or_closed_queue_answers_at_once() {
    let (counters, budget) = (counters(), BodyMemory::new(1 << 20, 1 << 20, 1 << 20));
    let queue = PostQueue::new(1);
    let (first, _first_answer) = post(&counters, &budget);
    let (second, mut second_answer) = post(&counters, &budget);
    let (third, mut third_answer) = post(&counters, &budget);
    queue.push(first);
    assert!(queue.is_full());
    queue.push(second);
    assert_eq!(second_answer.try_recv().unwrap(), Err(Refusal::Overloaded(Overload::Queue)));
    queue.close();
    queue.push(third);
    assert_eq!(third_answer.try_recv().unwrap(), Err(Refusal::Disconnected));
    assert_eq!(taken(&queue), Some(1), "what waited before is still worked off");
    assert_eq!(taken(&queue), None);
    let stats = counters.snapshot();
    assert_eq!((stats.posts.overloaded, stats.posts.lost, stats.posts.in_flight), (2, 1, 0));
    assert_eq!((stats.announcements.overloaded, stats.announcements.lost), (4, 2));
}

#[test]
fn who_waits_no_more_is_noticed() {
    let (counters, budget) = (counters(), BodyMemory::new(1 << 20, 1 << 20, 1 << 20));
    let (post, answer) = post(&counters, &budget);
    assert!(!post.is_abandoned());
    drop(answer);
    assert!(post.is_abandoned());
    drop(post);
    assert_eq!((counters.snapshot().timeouts, counters.snapshot().posts.lost), (1, 1));
    assert_eq!(budget.used(), 0);
}

#[test]
fn some_are_taken_together_also_while_more_come() {
    let (counters, budget) = (counters(), BodyMemory::new(1 << 20, 1 << 20, 1 << 20));
    let queue = PostQueue::new(20);
    let coming = queue.expect();
    for _ in 0..TAKEN_TOGETHER + 1 {
        queue.push(post(&counters, &budget).0);
    }
    assert_eq!(taken(&queue), Some(TAKEN_TOGETHER));
    // What comes does not come in time: the wait for it ends.
    assert_eq!(taken(&queue), Some(1));
    drop(coming);
    queue.push(post(&counters, &budget).0);
    assert_eq!(taken(&queue), Some(1));
}

#[test]
fn proofs_go_before_new_posts_and_are_worked_off_at_the_end() {
    let (counters, budget) = (counters(), BodyMemory::new(1 << 20, 1 << 20, 1 << 20));
    let queue = PostQueue::new(20);
    let sifted = [(); 3].map(|()| Sifted::of(post(&counters, &budget).0));
    queue.push(post(&counters, &budget).0);
    queue.push_sifted(sifted.into_iter());
    assert_eq!(queue.len(), 4);
    queue.close();
    for _ in 0..3 {
        assert!(matches!(queue.next(), Some(Work::Prove(_))));
    }
    assert_eq!(taken(&queue), Some(1));
    assert!(queue.next().is_none());
}
