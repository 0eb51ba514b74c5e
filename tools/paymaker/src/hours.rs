//! Blocks and wins by hour of the day (spec 05, 12.3 and 12.5).
//!
//! Every block handler tells of a block, and a log may come twice: a block counts once, by its hash.
//! The reference counts what it is told (16.19).

use std::collections::HashMap;

use jiff::{Timestamp, tz::TimeZone};

/// Counters of one hour of the day.
#[derive(Clone, Copy, Debug)]
struct Hour {
    weekday: i8,
    total: f64,
    wins: f64,
}

/// Hex digits of a hash that tell a block from all others; the id of a block event has as many.
const HASH_DIGITS: usize = 32;

/// Blocks that were counted, with the times of their events.
#[derive(Clone, Debug, Default)]
struct Counted(HashMap<Box<str>, f64>);

impl Counted {
    /// Whether the block is new.
    fn insert(&mut self, hash: &str, time_ms: f64) -> bool {
        let hash = hash.get(..HASH_DIGITS).unwrap_or(hash);
        if self.0.contains_key(hash) {
            return false;
        }
        self.0.insert(hash.into(), time_ms);
        true
    }
}

/// Counters by hour of the day in one time zone.
#[derive(Clone, Debug)]
pub(crate) struct Hours {
    zone: TimeZone,
    is_reference: bool,
    blocks: Counted,
    wins: Counted,
    hours: [Option<Hour>; 24],
}

impl Hours {
    /// No counters yet; `is_reference` counts everything that is told.
    #[must_use]
    pub(crate) fn new(zone: TimeZone, is_reference: bool) -> Self {
        let (blocks, wins) = (Counted::default(), Counted::default());
        Self { zone, is_reference, blocks, wins, hours: [None; 24] }
    }

    fn local(&self, time_ms: f64) -> Option<(usize, i8)> {
        // Times of events are bounded by the caller; what the calendar does not know is not counted.
        let local = Timestamp::from_millisecond(time_ms as i64).ok()?.to_zoned(self.zone.clone());
        Some((usize::try_from(local.hour()).ok()?, local.weekday().to_monday_zero_offset()))
    }

    fn at(&mut self, time_ms: f64) -> Option<&mut Hour> {
        let (hour, weekday) = self.local(time_ms)?;
        let fresh = Hour { weekday, total: 0.0, wins: 0.0 };
        let counter = self.hours[hour].get_or_insert(fresh);
        if counter.weekday != weekday {
            *counter = fresh;
        }
        Some(counter)
    }

    /// Counts a block of the chain, by its hash.
    pub(crate) fn count_block(&mut self, time_ms: f64, hash: &str) {
        if (self.is_reference || self.blocks.insert(hash, time_ms))
            && let Some(hour) = self.at(time_ms)
        {
            hour.total += 1.0;
        }
    }

    /// Counts a block of ours, by its hash; `false` when it was counted.
    pub(crate) fn count_win(&mut self, time_ms: f64, hash: &str) -> bool {
        let is_new = self.is_reference || self.wins.insert(hash, time_ms);
        if is_new && let Some(hour) = self.at(time_ms) {
            hour.wins += 1.0;
        }
        is_new
    }

    /// Forgets the hashes of blocks older than `expiry`: events that old are not taken any more.
    pub(crate) fn collect_garbage(&mut self, expiry: f64) {
        for counted in [&mut self.blocks, &mut self.wins] {
            counted.0.retain(|_, time_ms| *time_ms >= expiry);
        }
    }

    /// Blocks and wins of the known hours; the present hour is the last.
    #[must_use]
    pub(crate) fn lists(&self, now_ms: f64) -> (Vec<f64>, Vec<f64>) {
        let now = self.local(now_ms).map_or(23, |(hour, _)| hour);
        let order = (now + 1..24).chain(0..=now);
        order.filter_map(|hour| self.hours[hour]).map(|hour| (hour.total, hour.wins)).unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: f64 = 3_600_000.0;

    #[test]
    fn the_present_hour_is_last_and_another_day_starts_anew() {
        let mut hours = Hours::new(TimeZone::UTC, false);
        hours.count_block(2.0 * HOUR, "a");
        hours.count_block(2.0 * HOUR + 1.0, "b");
        hours.count_win(5.0 * HOUR, "b");
        assert_eq!(hours.lists(3.0 * HOUR), (vec![0.0, 2.0], vec![1.0, 0.0]));
        assert_eq!(hours.lists(5.0 * HOUR), (vec![2.0, 0.0], vec![0.0, 1.0]));
        hours.count_block(26.0 * HOUR, "c");
        assert_eq!(hours.lists(5.0 * HOUR).0, [1.0, 0.0]);
    }

    #[test]
    fn a_block_counts_once_whoever_tells_of_it() {
        let hash = "0123456789abcdef".repeat(4);
        for (is_reference, counted) in [(false, 1.0), (true, 3.0)] {
            let mut hours = Hours::new(TimeZone::UTC, is_reference);
            // Another handler an hour later, and one that names the block by the id alone.
            hours.count_block(10.0, &hash);
            hours.count_block(HOUR, &hash);
            hours.count_block(20.0, &hash[..32]);
            assert!(hours.count_win(10.0, &hash));
            assert_eq!(hours.count_win(HOUR, &hash), is_reference);
            assert_eq!(hours.count_win(20.0, &hash), is_reference);
            let (blocks, wins) = hours.lists(HOUR);
            assert_eq!(blocks.iter().sum::<f64>(), counted);
            assert_eq!(wins.iter().sum::<f64>(), counted);
        }
        let mut hours = Hours::new(TimeZone::UTC, false);
        hours.count_block(10.0, &hash);
        hours.collect_garbage(10.0);
        assert_eq!(hours.blocks.0.len(), 1);
        hours.collect_garbage(11.0);
        assert_eq!(hours.blocks.0.len(), 0);
    }

    #[test]
    fn the_hour_is_local() {
        let zone = TimeZone::fixed(jiff::tz::offset(3));
        let mut hours = Hours::new(zone, false);
        hours.count_block(0.0, "a");
        assert!(hours.hours[3].is_some());
    }
}
