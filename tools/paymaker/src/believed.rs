//! The clock, as far as it is believed (spec 05, 16.7).
//!
//! Times of events are judged by the clock: what is ahead of it is refused, and the newest event
//! decides what is too old to be remembered. A clock that is set forward by a day and back again
//! would so take a day of everybody's pay, the more as handlers on the same machine write their
//! events by it. A step forward is therefore not believed before it has lasted; until then logs
//! from beyond it are refused as too early, and their senders keep them.

use packetcrypt_net::Clock;

use crate::event::AHEAD_MS_MAX;

/// How long a step of the clock forward must last, ms. Shorter than the ten slots of a minute that
/// know their events, so that no handler's log is late for them when the step was right.
const STEP_LASTS_MS: u64 = 300_000;

/// The believed time: the clock's, but for a step forward that has not lasted.
#[derive(Debug)]
pub(crate) struct BelievedTime {
    /// The clock when it was last believed, and the steady time then, ms.
    clock_ms: u64,
    steady_ms: u64,
    /// Steady time when a step was first seen, ms.
    stepped_ms: Option<u64>,
}

impl BelievedTime {
    /// Believes the clock as it is now.
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        Self { clock_ms: clock.now_ms(), steady_ms: clock.steady_ms(), stepped_ms: None }
    }

    /// The time now, ms. `newest_ms`, the time of the newest event known, is believed too: a clock
    /// that was wrong at the start of the machine is right at once when it is set to that.
    pub(crate) fn now_ms(&mut self, clock: &dyn Clock, newest_ms: f64) -> f64 {
        let (now_ms, steady_ms) = (clock.now_ms(), clock.steady_ms());
        let passed_ms = self.clock_ms.saturating_add(steady_ms.saturating_sub(self.steady_ms));
        let known_ms = (passed_ms as f64).max(newest_ms);
        if now_ms as f64 > known_ms + AHEAD_MS_MAX {
            let first_ms = *self.stepped_ms.get_or_insert_with(|| {
                tracing::warn!(
                    now_ms,
                    known_ms,
                    "the clock was set forward: believed when it stays so for {STEP_LASTS_MS} ms"
                );
                steady_ms
            });
            if steady_ms.saturating_sub(first_ms) < STEP_LASTS_MS {
                return known_ms;
            }
            tracing::warn!(now_ms, "the clock that was set forward is believed");
        }
        *self = Self { clock_ms: now_ms, steady_ms, stepped_ms: None };
        now_ms as f64
    }
}

#[cfg(test)]
mod tests {
    use packetcrypt_net::TestClock;

    use super::*;

    const DAY: u64 = 86_400_000;

    #[test]
    fn a_step_forward_is_believed_only_once_it_has_lasted() {
        let clock = TestClock::new(100 * DAY);
        let mut believed = BelievedTime::new(&clock);
        let mut now = |newest: u64| believed.now_ms(&clock, newest as f64);
        // Time that passes is no step, however much.
        clock.advance_ms(3 * DAY);
        assert_eq!(now(0), (103 * DAY) as f64);
        // Steps back and small ones forward are what clocks do.
        clock.set_ms(102 * DAY);
        assert_eq!(now(0), (102 * DAY) as f64);
        clock.set_ms(102 * DAY + 600_000);
        assert_eq!(now(0), (102 * DAY + 600_000) as f64);
        // A day forward and back.
        clock.set_ms(103 * DAY + 600_000);
        assert_eq!(now(0), (102 * DAY + 600_000) as f64);
        clock.advance_ms(STEP_LASTS_MS - 1);
        assert_eq!(now(0), (102 * DAY + 600_000 + STEP_LASTS_MS - 1) as f64);
        clock.set_ms(103 * DAY);
        clock.set_ms(102 * DAY + 900_000);
        assert_eq!(now(0), (102 * DAY + 900_000) as f64);
        // One that stays. The time it must last begins anew.
        clock.set_ms(110 * DAY);
        assert!(now(0) < (103 * DAY) as f64);
        clock.advance_ms(STEP_LASTS_MS - 1);
        assert!(now(0) < (103 * DAY) as f64);
        clock.advance_ms(1);
        assert_eq!(now(0), (110 * DAY + STEP_LASTS_MS) as f64);
    }

    #[test]
    fn a_clock_that_was_wrong_at_the_start_is_right_when_set_to_what_is_known() {
        let clock = TestClock::new(0);
        let mut believed = BelievedTime::new(&clock);
        let newest = (20_000 * DAY) as f64;
        assert_eq!(believed.now_ms(&clock, newest), 0.0);
        clock.set_ms(20_000 * DAY + 600_000);
        assert_eq!(believed.now_ms(&clock, newest), newest + 600_000.0);
    }
}
