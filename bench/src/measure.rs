//! Rounds in which two sides take turns on some threads, and their medians.

use std::fs;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use packetcrypt_net::hw;

use crate::report::{Figure, Row};
use crate::{Bench, Progress};

/// Rounds, those of work that takes long, and how long each side works in one at least.
const QUICK: (usize, usize, Duration) = (5, 3, Duration::from_millis(150));
const FULL: (usize, usize, Duration) = (9, 5, Duration::from_millis(600));

/// How a row counts.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    /// Units a second of all threads together, under this name.
    PerSecond(&'static str),
    /// Units a second of CPU time, under this name.
    PerCpuSecond(&'static str),
    /// Milliseconds that one thread takes for one unit.
    Milliseconds,
    /// Microseconds that one thread takes for one unit.
    Microseconds,
}

impl Unit {
    /// Whether one unit takes the baseline a good part of a second.
    fn is_long(self) -> bool {
        matches!(self, Unit::PerCpuSecond(_) | Unit::Milliseconds)
    }

    fn name(self) -> &'static str {
        match self {
            Unit::PerSecond(name) | Unit::PerCpuSecond(name) => name,
            Unit::Milliseconds => "ms",
            Unit::Microseconds => "us",
        }
    }

    /// The value that is shown, from the units a second of one or more threads together.
    fn value(self, rate: f64, threads: f64) -> f64 {
        match self {
            Unit::PerSecond(_) => rate,
            Unit::PerCpuSecond(_) => rate / threads,
            Unit::Milliseconds => threads * 1e3 / rate,
            Unit::Microseconds => threads * 1e6 / rate,
        }
    }
}

/// Calls a piece of work, which says how many units it did, over and over.
pub(crate) type Repeat<'a> = &'a mut dyn FnMut(&mut dyn FnMut() -> u64);

/// Units a second of one thread in one round.
struct Round {
    ours: f64,
    baseline: f64,
    /// Ours while all other threads wait; only thread 0 has it.
    alone: Option<f64>,
}

impl Bench<'_> {
    /// Says that the data of a row are made now.
    pub(crate) fn preparing(&mut self, work: &'static str) {
        (self.progress)(Progress::Preparing(work));
    }

    /// Measures two sides of the same work. Each makes its work ready on each thread, given the
    /// number of the thread, and hands it over to be repeated, once.
    pub(crate) fn measure(
        &mut self,
        work: &'static str,
        unit: Unit,
        ours: impl Fn(usize, Repeat<'_>) + Sync,
        baseline: impl Fn(usize, Repeat<'_>) + Sync,
    ) -> Row {
        let threads = self.options.threads;
        let (short, long, length) = if self.options.quick { QUICK } else { FULL };
        let rounds = if unit.is_long() { long } else { short };
        let barrier = Barrier::new(threads);
        let on_thread = |number: usize, on_round: &mut dyn FnMut(usize)| {
            let phase = |work: &mut dyn FnMut() -> u64| {
                barrier.wait();
                rate(unit, length, work)
            };
            let mut of_rounds = Vec::new();
            ours(number, &mut |ours| {
                baseline(number, &mut |baseline| {
                    ours();
                    baseline();
                    for round in 1..=rounds {
                        on_round(round);
                        let (ours_rate, baseline) = (phase(ours), phase(baseline));
                        barrier.wait();
                        let alone = (threads > 1 && number == 0).then(|| rate(unit, length, ours));
                        of_rounds.push(Round { ours: ours_rate, baseline, alone });
                    }
                });
            });
            of_rounds
        };
        let on_thread = &on_thread;
        let of_threads: Vec<Vec<Round>> = thread::scope(|scope| {
            let others: Vec<_> = (1..threads)
                .map(|number| {
                    scope.spawn(move || {
                        keep_apart(number, threads);
                        on_thread(number, &mut |_| ())
                    })
                })
                .collect();
            let first = on_thread(0, &mut |round| {
                (self.progress)(Progress::Round { work, round, rounds });
            });
            let others = others.into_iter().map(|other| other.join().expect("a measuring thread"));
            core::iter::once(first).chain(others).collect()
        });
        row(work, unit, &of_threads)
    }
}

/// Pins a thread beside the first, which is left where it is, to a CPU of its own if there is one.
/// Where two share a CPU for a part of a round they are measured as half as fast.
fn keep_apart(number: usize, threads: usize) {
    let cpus = hw::available_cpus();
    if threads == cpus.len() {
        // Elsewhere than on Linux the scheduler decides.
        let _ = hw::pin_thread(cpus.cpus()[number]);
    }
}

/// Repeats work for some time; units a second of wall or CPU time.
fn rate(unit: Unit, length: Duration, work: &mut dyn FnMut() -> u64) -> f64 {
    let cpu_start = cpu_time();
    let start = Instant::now();
    let mut units = 0;
    while start.elapsed() < length {
        units += work();
    }
    let wall = start.elapsed();
    let cpu = cpu_start.and_then(|start| Some(cpu_time()? - start));
    let elapsed = match (unit, cpu) {
        (Unit::PerCpuSecond(_), Some(cpu)) => cpu,
        _ => wall,
    };
    units as f64 / elapsed.as_secs_f64()
}

/// CPU time of this thread; `None` where the system does not tell.
fn cpu_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

fn row(work: &'static str, unit: Unit, of_threads: &[Vec<Round>]) -> Row {
    let rounds = of_threads[0].len();
    let threads = of_threads.len() as f64;
    let sum = |round: usize, rate: fn(&Round) -> f64| -> f64 {
        of_threads.iter().map(|rounds| rate(&rounds[round])).sum()
    };
    let ours = |round: usize| sum(round, |r| r.ours);
    let baseline = |round: usize| sum(round, |r| r.baseline);
    let figure = |value: &dyn Fn(usize) -> f64| Figure::of((0..rounds).map(value).collect());
    let scaling = of_threads[0]
        .iter()
        .all(|round| round.alone.is_some())
        .then(|| figure(&|round| ours(round) / of_threads[0][round].alone.unwrap_or(f64::NAN)));
    Row {
        work,
        unit: unit.name(),
        ours: figure(&|round| unit.value(ours(round), threads)),
        baseline: figure(&|round| unit.value(baseline(round), threads)),
        ratio: figure(&|round| ours(round) / baseline(round)),
        scaling,
        rounds,
    }
}
