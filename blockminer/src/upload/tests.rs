use super::*;

fn reply(status: u16, body: &str) -> Result<Response, ClientError> {
    let body = Bytes::from(body.to_owned());
    Ok(Response { status, headers: Default::default(), body })
}

fn answer(status: u16, body: &str) -> Answer {
    answer_of(reply(status, body), false, |_| ())
}

fn rejected(reason: &str) -> Answer {
    Answer::Done(ShareOutcome::Rejected(reason.to_owned()))
}

#[test]
fn results_are_objects_or_texts() {
    let share = Answer::Done(ShareOutcome::Accepted { block: false });
    let block = Answer::Done(ShareOutcome::Accepted { block: true });
    assert_eq!(answer(200, r#"{"result":{"block":true},"error":[],"warn":[]}"#), block);
    assert_eq!(answer(200, r#"{"result":{"block":false},"error":[],"warn":["x"]}"#), share);
    assert_eq!(answer(200, r#"{"result":"OK","error":[],"warn":[]}"#), share);
}

#[test]
fn a_duplicate_is_one_unless_we_were_the_first() {
    let body = r#"{"result":{"block":false},"error":[],"warn":["Duplicate share"]}"#;
    assert_eq!(answer(200, body), Answer::Done(ShareOutcome::Duplicate));
    let second = answer_of(reply(200, body), true, |_| ());
    assert_eq!(second, Answer::Done(ShareOutcome::Accepted { block: false }));
    let body = r#"{"result":"","error":["already have block"],"warn":[]}"#;
    assert_eq!(answer(409, body), rejected("already have block"));
    let second = answer_of(reply(409, body), true, |_| ());
    assert_eq!(second, Answer::Done(ShareOutcome::Accepted { block: true }));
}

#[test]
fn what_may_pass_is_tried_again() {
    for (status, body) in [
        (500, "server not ready"),
        (501, "overloaded"),
        (503, r#"{"result":"","error":["overloaded"],"warn":[]}"#),
        (500, r#"{"result":"","error":["no currentWork"],"warn":[]}"#),
        (502, "<html>"),
        (408, r#"{"result":"","error":["body did not arrive"],"warn":[]}"#),
        (408, "request took too long"),
        (429, "<html>"),
    ] {
        assert!(matches!(answer(status, body), Answer::Again { may_be_known: false, .. }));
    }
    let error = ClientError::Timeout { url: "u".to_owned(), limit_ms: 1 };
    assert!(matches!(
        answer_of(Err(error), false, |_| ()),
        Answer::Again { may_be_known: true, .. }
    ));
}

#[test]
fn what_is_wrong_with_the_share_is_final() {
    let stale = r#"{"result":"","error":["Share is for wrong work, expecting previous hash [aa] but got [bb]"],"warn":[]}"#;
    assert_eq!(answer(400, stale), Answer::OtherWork);
    let invalid = r#"{"result":"","error":["Failed validation of share [{}]"],"warn":[]}"#;
    assert_eq!(answer(400, invalid), rejected("Failed validation of share [{}]"));
    assert_eq!(answer(404, r#"{"error":"not found"}"#), rejected("status 404"));
    assert_eq!(answer(405, ""), rejected("status 405"));
}

#[test]
fn nonsense_is_told_apart() {
    assert!(matches!(answer(200, "<html>"), Answer::Nonsense(_)));
    assert!(matches!(answer(200, "{}"), Answer::Nonsense(_)));
    assert!(matches!(answer(200, ""), Answer::Nonsense(_)));
}

fn outgoing(counters: &Arc<ShareCounters>, number: u32) -> Outgoing {
    Outgoing {
        body: Bytes::new(),
        number,
        event_id: String::new(),
        previous_block: Hash32::ZERO,
        height: 1,
        ticket: counters.found(),
        attempts: 0,
        nonsense: 0,
        may_be_known: false,
    }
}

#[tokio::test]
async fn the_newest_goes_first_and_the_oldest_is_lost() {
    let counters = Arc::new(ShareCounters::default());
    let queue = UploadQueue::new(2);
    let outgoing = |number| outgoing(&counters, number);
    for number in 0..3 {
        queue.push(outgoing(number));
    }
    assert_eq!(counters.figures().lost, 1);
    let (place, newest) = queue.pop().await.unwrap();
    assert_eq!(newest.number, 2);
    queue.push(outgoing(3));
    // Back to its place, behind the newer one; the oldest of three makes room.
    queue.pause(place, newest);
    assert_eq!(queue.len(), 2);
    queue.put_back(place);
    assert_eq!(queue.pop().await.unwrap().1.number, 3);
    assert_eq!(queue.pop().await.unwrap().1.number, 2);
    queue.push(outgoing(4));
    queue.close();
    queue.push(outgoing(5));
    let figures = counters.figures();
    assert!(figures.is_conserved());
    assert_eq!((figures.found, figures.lost, figures.in_flight), (6, 6, 0));
}

#[tokio::test]
async fn at_the_end_nothing_pauses_any_longer() {
    let counters = Arc::new(ShareCounters::default());
    let queue = UploadQueue::new(9);
    for number in 1..=3 {
        queue.push(outgoing(&counters, number));
    }
    for _ in 0..2 {
        let (place, share) = queue.pop().await.unwrap();
        queue.pause(place, share);
    }
    queue.end();
    for number in [3, 2, 1] {
        assert_eq!(queue.pop().await.unwrap().1.number, number);
    }
    assert!(queue.pop().await.is_none());
}

#[tokio::test]
async fn the_last_shares_are_given_out_before_the_end() {
    let counters = Arc::new(ShareCounters::default());
    let queue = Arc::new(UploadQueue::new(9));
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.pop().await.map(|(_, share)| share.number) })
        })
        .collect();
    queue.push(outgoing(&counters, 1));
    queue.end();
    let mut given = Vec::new();
    for uploader in waiting {
        given.push(uploader.await.unwrap());
    }
    given.sort();
    assert_eq!(given, [None, None, Some(1)]);
    assert!(queue.pop().await.is_none());
}
