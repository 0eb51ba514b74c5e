//! Answers to the public (spec 05, 16.19).
//!
//! Who is paid may be asked by anybody, and the answer goes over the whole history. So requests have
//! places of their own, are answered one after the other, share an answer while nothing happens,
//! and pause after each computation for longer than it took: all of the public together gets a part
//! of one core, and handlers' logs never queue behind it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use packetcrypt_proto::json;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use crate::service::Service;
use crate::whotopay::WhoToPay;

/// Requests that may wait for their answer; one more is answered 501.
pub(crate) const PLACES: usize = 16;
/// The pause after a computation, in times of what it took: the public has a quarter of a core.
const PAUSE_FACTOR: u32 = 3;

/// The public's share of the paymaker.
pub(crate) struct Public {
    service: Arc<Service>,
    places: Arc<Semaphore>,
    turn: Mutex<Turn>,
}

/// What belongs to the request whose turn it is.
#[derive(Debug)]
struct Turn {
    /// No computation before this.
    not_before: Instant,
    /// The last answer for all times, as text.
    written: Option<(Arc<WhoToPay>, Bytes)>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Too many requests wait.
    Overloaded,
    /// The history is not read yet, or the paymaker ends.
    NotReady,
}

impl Public {
    pub(crate) fn new(service: Arc<Service>) -> Self {
        let turn = Turn { not_before: Instant::now(), written: None };
        Self { service, places: Arc::new(Semaphore::new(PLACES)), turn: Mutex::new(turn) }
    }

    /// Who is paid by events up to `max_time`, as text.
    pub(crate) async fn who_to_pay(self: &Arc<Self>, max_time: f64) -> Result<Bytes, NoAnswer> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| NoAnswer::Overloaded)?;
        let public = self.clone();
        // Goes on when the client goes away: else the place would be free while the work is done.
        let answer = tokio::spawn(async move {
            let _place = place;
            public.answer(max_time).await
        });
        answer.await.ok().flatten().ok_or(NoAnswer::NotReady)
    }

    async fn answer(&self, max_time: f64) -> Option<Bytes> {
        let mut turn = self.turn.lock().await;
        if let Some(text) = turn.still_good(&self.service, max_time) {
            return Some(text);
        }
        tokio::time::sleep_until(turn.not_before).await;
        let begun = Instant::now();
        let service = self.service.clone();
        let computed = tokio::task::spawn_blocking(move || {
            let answer = service.compute(max_time)?;
            let text = Bytes::from(json::to_tabbed(&*answer));
            Some((answer, text))
        });
        let (answer, text) = computed.await.ok()??;
        turn.not_before = begun + pause_after(begun.elapsed());
        if max_time == f64::INFINITY {
            turn.written = Some((answer, text.clone()));
        }
        Some(text)
    }
}

/// From the beginning of a computation to that of the next.
fn pause_after(took: Duration) -> Duration {
    took * (1 + PAUSE_FACTOR)
}

impl Turn {
    fn still_good(&self, service: &Service, max_time: f64) -> Option<Bytes> {
        if max_time != f64::INFINITY {
            return None;
        }
        let (answer, text) = self.written.as_ref()?;
        service.still_good().filter(|good| Arc::ptr_eq(good, answer)).map(|_| text.clone())
    }
}

#[cfg(test)]
mod tests {
    use packetcrypt_net::TestClock;

    use super::*;
    use crate::service::tests::{START, service, share};

    fn public(dir: &std::path::Path) -> Arc<Public> {
        Arc::new(Public::new(Arc::new(service(dir, &TestClock::new(START)))))
    }

    #[tokio::test]
    async fn one_more_than_there_are_places_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let public = public(dir.path());
        let held = public.places.clone().try_acquire_many_owned(PLACES as u32).unwrap();
        assert_eq!(public.who_to_pay(f64::INFINITY).await, Err(NoAnswer::Overloaded));
        drop(held);
        assert!(public.who_to_pay(f64::INFINITY).await.is_ok());
        assert_eq!(public.places.available_permits(), PLACES);
    }

    #[tokio::test]
    async fn what_is_computed_waits_and_what_is_known_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let public = public(dir.path());
        let first = public.who_to_pay(f64::INFINITY).await.unwrap();
        public.turn.lock().await.not_before = Instant::now() + Duration::from_secs(3600);
        assert_eq!(public.who_to_pay(f64::INFINITY).await.unwrap().as_ptr(), first.as_ptr());
        // Handlers are not held up by who waits.
        let waiting = public.who_to_pay(1.0);
        assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());
        public.service.post(share(START).as_bytes()).unwrap();
        // The place is kept although the client has gone.
        assert_eq!(public.places.available_permits(), PLACES - 1);
    }

    #[test]
    fn the_public_has_a_quarter_of_a_core() {
        assert_eq!(pause_after(Duration::from_millis(10)), Duration::from_millis(40));
    }
}
