//! Rounds of repeated work on some threads, and their medians.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::Options;
use crate::report::Row;

/// Rounds and their length.
const QUICK: (usize, Duration) = (5, Duration::from_millis(150));
const FULL: (usize, Duration) = (9, Duration::from_millis(600));

/// How a row counts.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    /// Units a second of all threads together, under this name.
    PerSecond(&'static str),
    /// Milliseconds that one thread takes for one unit.
    Milliseconds,
    /// Microseconds that one thread takes for one unit.
    Microseconds,
}

/// Calls a piece of work, which says how many units it did, over and over.
pub(crate) type Repeat<'a> = &'a mut dyn FnMut(&mut dyn FnMut() -> u64);

/// Measures work that `prepare` makes ready on each thread, given its number, and hands over to be
/// repeated, once.
pub(crate) fn measure(
    options: &Options,
    work: &'static str,
    unit: Unit,
    prepare: impl Fn(usize, Repeat<'_>) + Sync,
) -> Row {
    let (rounds, length) = if options.quick { QUICK } else { FULL };
    let barrier = Barrier::new(options.threads);
    let thread = |number: usize| {
        let mut rates = Vec::new();
        prepare(number, &mut |work| {
            work();
            for _ in 0..rounds {
                barrier.wait();
                let start = Instant::now();
                let mut units = 0;
                while start.elapsed() < length {
                    units += work();
                }
                rates.push(units as f64 / start.elapsed().as_secs_f64());
            }
        });
        rates
    };
    let thread = &thread;
    let of_threads: Vec<Vec<f64>> = thread::scope(|scope| {
        let handles: Vec<_> =
            (0..options.threads).map(|number| scope.spawn(move || thread(number))).collect();
        handles.into_iter().map(|handle| handle.join().expect("a measuring thread")).collect()
    });
    let sum = |round: usize| of_threads.iter().map(|rates| rates[round]).sum::<f64>();
    let time = |rate: f64, scale: f64| options.threads as f64 * scale / rate;
    let (unit, values): (_, Vec<f64>) = match unit {
        Unit::PerSecond(name) => (name, (0..rounds).map(sum).collect()),
        Unit::Milliseconds => ("ms", (0..rounds).map(|round| time(sum(round), 1e3)).collect()),
        Unit::Microseconds => ("us", (0..rounds).map(|round| time(sum(round), 1e6)).collect()),
    };
    row(work, unit, values)
}

fn row(work: &'static str, unit: &'static str, mut values: Vec<f64>) -> Row {
    values.sort_by(f64::total_cmp);
    let (min, max) = (values[0], values[values.len() - 1]);
    Row { work, unit, median: values[values.len() / 2], min, max, rounds: values.len() }
}
