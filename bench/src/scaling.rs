//! How the rate of some threads together compares with that of one of them.
//!
//! The CPUs of a virtual machine are not equally fast, and not the same from one second to the next:
//! other guests work on the other halves of their cores. So one thread and all of them take turns,
//! in many short phases, and it is another thread each time that works alone. All threads together
//! are compared with the mean of the two phases around them. A control goes along: a loop that
//! stays in registers, so that what it lacks for the number of threads is what the machine did
//! not give.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Duration;

use crate::measure::{Unit, rate};
use crate::report::Figure;

/// How often all threads work together, and for how long: for one unit at least.
#[derive(Clone, Copy)]
pub(crate) struct Phases {
    together: usize,
    length: Duration,
}

/// How long a phase of the control is.
const CONTROL: Duration = Duration::from_millis(10);

/// The phases of a run, and of work of which one unit takes long.
pub(crate) fn phases(is_quick: bool, is_long: bool) -> Phases {
    let (together, length_ms) = match (is_quick, is_long) {
        (true, true) => (5, 0),
        (true, false) => (15, 30),
        (false, true) => (15, 0),
        (false, false) => (41, 100),
    };
    Phases { together, length: Duration::from_millis(length_ms) }
}

/// Units a second of one thread.
#[derive(Default)]
pub(crate) struct Rates {
    /// Of each phase in which one thread works; 0 where it was another one.
    alone: Vec<f64>,
    /// Of each phase between two of those.
    together: Vec<f64>,
}

/// The part that one thread has in the phases: the rates of the work, and those of the control.
pub(crate) fn take_turns(
    number: usize,
    barrier: &Barrier,
    threads: usize,
    phases: Phases,
    work: &mut dyn FnMut() -> u64,
) -> [Rates; 2] {
    // Wall time, whatever the unit: time that threads wait for each other counts.
    let unit = Unit::PerSecond("");
    let mut sides: [&mut dyn FnMut() -> f64; 2] =
        [&mut || rate(unit, phases.length, work), &mut || rate(unit, CONTROL, &mut multiply)];
    let mut rates = [Rates::default(), Rates::default()];
    for turn in 0..=phases.together {
        let is_mine = turn % threads == number;
        for (side, rates) in sides.iter_mut().zip(&mut rates) {
            barrier.wait();
            rates.alone.push(if is_mine { side() } else { 0.0 });
        }
        if turn == phases.together {
            break;
        }
        for (side, rates) in sides.iter_mut().zip(&mut rates) {
            barrier.wait();
            rates.together.push(side());
        }
    }
    rates
}

/// How many times as fast as one thread all of them are, from the rates of each.
pub(crate) fn figure(of_threads: &[&Rates]) -> Figure {
    let sum = |rates: fn(&Rates) -> &[f64], phase: usize| -> f64 {
        of_threads.iter().map(|thread| rates(thread)[phase]).sum()
    };
    let scaling = |phase: usize| {
        let alone = |phase: usize| sum(|rates| &rates.alone, phase);
        2.0 * sum(|rates| &rates.together, phase) / (alone(phase) + alone(phase + 1))
    };
    Figure::of((0..of_threads[0].together.len()).map(scaling).collect())
}

/// Multiplications in registers, as many at a time as a core can do.
fn multiply() -> u64 {
    const CHAINS: usize = 8;
    const STEPS: u64 = 2000;
    let mut chains: [u64; CHAINS] = black_box([1, 2, 3, 4, 5, 6, 7, 8]);
    for step in 0..STEPS {
        for chain in &mut chains {
            *chain = chain.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7) ^ step;
        }
    }
    black_box(chains);
    STEPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn together_is_compared_with_the_phases_around() {
        let slow = Rates { alone: vec![10.0, 0.0, 8.0], together: vec![9.0, 9.0] };
        let fast = Rates { alone: vec![0.0, 14.0, 0.0], together: vec![13.0, 15.0] };
        let Figure { min, max, .. } = figure(&[&slow, &fast]);
        assert_eq!(min, 22.0 / 12.0);
        assert_eq!(max, 24.0 / 11.0);
    }

    #[test]
    fn each_thread_has_its_turn_alone() {
        let barrier = Barrier::new(2);
        let phases = Phases { together: 3, length: Duration::ZERO };
        let on_thread = |number| take_turns(number, &barrier, 2, phases, &mut || 1);
        let on_thread = &on_thread;
        let [first, second] = std::thread::scope(|scope| {
            let second = scope.spawn(move || on_thread(1));
            [on_thread(0), second.join().expect("the second thread")]
        });
        for side in 0..2 {
            let works = |rates: &[f64]| rates.iter().map(|rate| *rate > 0.0).collect::<Vec<_>>();
            assert_eq!(works(&first[side].alone), [true, false, true, false]);
            assert_eq!(works(&second[side].alone), [false, true, false, true]);
            assert_eq!(works(&first[side].together), [true; 3]);
            assert_eq!(works(&second[side].together), [true; 3]);
        }
    }
}
