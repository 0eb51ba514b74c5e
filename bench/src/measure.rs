//! Rounds in which two sides take turns on some threads, and their medians.

use std::fs;
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use packetcrypt_net::hw;

use crate::report::{Figure, Row};
use crate::scaling::{self, Rates};
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
}

/// What one thread measured.
#[derive(Default)]
struct OfThread {
    rounds: Vec<Round>,
    /// Our side and the control, alone and together; nothing with one thread.
    rates: Option<[Rates; 2]>,
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
        let phases = scaling::phases(self.options.quick, unit.is_long());
        let barrier = Barrier::new(threads);
        let on_thread = |number: usize, on_round: &dyn Fn(usize)| {
            let phase = |work: &mut dyn FnMut() -> u64| {
                barrier.wait();
                rate(unit, length, work)
            };
            let mut measured = OfThread::default();
            ours(number, &mut |ours| {
                baseline(number, &mut |baseline| {
                    ours();
                    baseline();
                    for round in 1..=rounds {
                        on_round(round);
                        let (ours, baseline) = (phase(ours), phase(baseline));
                        measured.rounds.push(Round { ours, baseline });
                    }
                });
                if threads > 1 {
                    measured.rates =
                        Some(scaling::take_turns(number, &barrier, threads, phases, ours));
                }
            });
            measured
        };
        let on_thread = &on_thread;
        let of_threads: Vec<OfThread> = thread::scope(|scope| {
            let (begun, rounds_begun) = mpsc::channel();
            let all: Vec<_> = (0..threads)
                .map(|number| {
                    let begun = (number == 0).then(|| begun.clone());
                    scope.spawn(move || {
                        keep_apart(number, threads);
                        on_thread(number, &|round| {
                            if let Some(begun) = &begun {
                                // Whoever listens does so to the last round.
                                let _ = begun.send(round);
                            }
                        })
                    })
                })
                .collect();
            drop(begun);
            for round in rounds_begun {
                (self.progress)(Progress::Round { work, round, rounds });
            }
            all.into_iter().map(|thread| thread.join().expect("a measuring thread")).collect()
        });
        row(work, unit, &of_threads)
    }
}

/// Pins a thread to a CPU of its own, where all CPUs have one. Where two share a CPU for a part of
/// a round they are measured as half as fast.
fn keep_apart(number: usize, threads: usize) {
    let cpus = hw::available_cpus();
    if threads > 1 && threads == cpus.len() {
        // Elsewhere than on Linux the scheduler decides.
        let _ = hw::pin_thread(cpus.cpus()[number]);
    }
}

/// Repeats work for some time, once at least; units a second of wall or CPU time.
pub(crate) fn rate(unit: Unit, length: Duration, work: &mut dyn FnMut() -> u64) -> f64 {
    let cpu_start = cpu_time();
    let start = Instant::now();
    let mut units = 0;
    loop {
        units += work();
        if start.elapsed() >= length {
            break;
        }
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

fn row(work: &'static str, unit: Unit, of_threads: &[OfThread]) -> Row {
    let rounds = of_threads[0].rounds.len();
    let threads = of_threads.len() as f64;
    let sum = |round: usize, rate: fn(&Round) -> f64| -> f64 {
        of_threads.iter().map(|thread| rate(&thread.rounds[round])).sum()
    };
    let ours = |round: usize| sum(round, |r| r.ours);
    let baseline = |round: usize| sum(round, |r| r.baseline);
    let figure = |value: &dyn Fn(usize) -> f64| Figure::of((0..rounds).map(value).collect());
    let rates: Option<Vec<&[Rates; 2]>> =
        of_threads.iter().map(|thread| thread.rates.as_ref()).collect();
    let scaling = |side: usize| {
        let rates = rates.as_ref()?.iter().map(|sides| &sides[side]);
        Some(scaling::figure(&rates.collect::<Vec<_>>()))
    };
    Row {
        work,
        unit: unit.name(),
        ours: figure(&|round| unit.value(ours(round), threads)),
        baseline: figure(&|round| unit.value(baseline(round), threads)),
        ratio: figure(&|round| ours(round) / baseline(round)),
        scaling: scaling(0),
        control: scaling(1),
        rounds,
    }
}
