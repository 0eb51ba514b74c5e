//! Blocks and wins by hour of the day (spec 05, 12.3 and 12.5).

use jiff::{Timestamp, tz::TimeZone};

/// Counters of one hour of the day.
#[derive(Clone, Copy, Debug)]
struct Hour {
    weekday: i8,
    total: f64,
    wins: f64,
}

/// Counters by hour of the day in one time zone.
#[derive(Clone, Debug)]
pub(crate) struct Hours {
    zone: TimeZone,
    hours: [Option<Hour>; 24],
}

impl Hours {
    /// No counters yet.
    #[must_use]
    pub(crate) fn new(zone: TimeZone) -> Self {
        Self { zone, hours: [None; 24] }
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

    /// Counts a block of the chain.
    pub(crate) fn count_block(&mut self, time_ms: f64) {
        if let Some(hour) = self.at(time_ms) {
            hour.total += 1.0;
        }
    }

    /// Counts a block of ours.
    pub(crate) fn count_win(&mut self, time_ms: f64) {
        if let Some(hour) = self.at(time_ms) {
            hour.wins += 1.0;
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
        let mut hours = Hours::new(TimeZone::UTC);
        hours.count_block(2.0 * HOUR);
        hours.count_block(2.0 * HOUR + 1.0);
        hours.count_win(5.0 * HOUR);
        assert_eq!(hours.lists(3.0 * HOUR), (vec![0.0, 2.0], vec![1.0, 0.0]));
        assert_eq!(hours.lists(5.0 * HOUR), (vec![2.0, 0.0], vec![0.0, 1.0]));
        hours.count_block(26.0 * HOUR);
        assert_eq!(hours.lists(5.0 * HOUR).0, [1.0, 0.0]);
    }

    #[test]
    fn the_hour_is_local() {
        let zone = TimeZone::fixed(jiff::tz::offset(3));
        let mut hours = Hours::new(zone);
        hours.count_block(0.0);
        assert!(hours.hours[3].is_some());
    }
}
