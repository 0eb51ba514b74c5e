//! Wall time behind a trait.
//!
//! Payments depend on times in events (spec 05, 12); a test that waits for an hour proves nothing
//! more than one that sets the clock. Time-outs of sockets do not go through here: they are
//! real time in every test.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Says what time it is.
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    /// Milliseconds since the epoch, UTC.
    fn now_ms(&self) -> u64;

    /// Milliseconds since some moment of this process. Goes on evenly however the clock is set, so
    /// that a step of the clock can be told from time that passed.
    fn steady_ms(&self) -> u64;
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        // A clock set before 1970 reads as 0: wrong by no more than it was.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn steady_ms(&self) -> u64 {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        let since = FIRST.get_or_init(Instant::now).elapsed();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands still until it is moved. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct TestClock {
    now_ms: Arc<AtomicU64>,
    steady_ms: Arc<AtomicU64>,
}

impl TestClock {
    /// A clock that shows `now_ms` milliseconds since the epoch.
    pub fn new(now_ms: u64) -> Self {
        Self { now_ms: Arc::new(AtomicU64::new(now_ms)), steady_ms: Arc::default() }
    }

    /// Lets `ms` pass.
    pub fn advance_ms(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
        self.steady_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets the clock, backwards too; no time passes.
    pub fn set_ms(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn steady_ms(&self) -> u64 {
        self.steady_ms.load(Ordering::SeqCst)
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now_ms(&self) -> u64 {
        (**self).now_ms()
    }

    fn steady_ms(&self) -> u64 {
        (**self).steady_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_past_2020_and_the_test_clock_obeys() {
        assert!(SystemClock.now_ms() > 1_577_836_800_000);
        let clock = TestClock::new(5);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        clock.advance_ms(10);
        assert_eq!((shared.now_ms(), shared.steady_ms()), (15, 10));
        clock.set_ms(1);
        assert_eq!((shared.now_ms(), shared.steady_ms()), (1, 10));
        let first = SystemClock.steady_ms();
        assert!(SystemClock.steady_ms() >= first);
    }
}
