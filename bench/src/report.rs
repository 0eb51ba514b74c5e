//! The figures and how they are shown.

use std::fmt;
use std::fs;

use packetcrypt_core::Backend;
use serde::Serialize;

/// The machine that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The name of the CPU, as the operating system gives it.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// The widest back end that the CPU offers.
    pub detected: &'static str,
}

impl Machine {
    /// The machine this runs on.
    pub(crate) fn this() -> Machine {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = info
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.trim() == "model name")
            .map_or("unknown", |(_, name)| name.trim());
        Machine {
            cpu: cpu.to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            detected: Backend::best().name(),
        }
    }
}

/// A figure of several rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figure {
    /// The median of the rounds.
    pub median: f64,
    /// The lowest of the rounds.
    pub min: f64,
    /// The highest of the rounds.
    pub max: f64,
}

impl Figure {
    /// The figure of at least one value.
    pub(crate) fn of(mut values: Vec<f64>) -> Figure {
        values.sort_by(f64::total_cmp);
        let (min, max) = (values[0], values[values.len() - 1]);
        Figure { median: values[values.len() / 2], min, max }
    }
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was done.
    pub work: &'static str,
    /// The unit of `ours` and `baseline`: a rate per second of all threads together, or the time
    /// that one thread takes.
    pub unit: &'static str,
    /// This implementation.
    pub ours: Figure,
    /// The steps of the reference.
    pub baseline: Figure,
    /// How many times as fast as the baseline ours is, round by round.
    pub ratio: Figure,
    /// How many times as fast as one thread all threads together are, phase by phase; `None` with
    /// one thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Figure>,
    /// The same of a loop that stays in registers, between the phases of `scaling`: what the
    /// machine allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<Figure>,
    /// Rounds measured.
    pub rounds: usize,
}

/// A line that could not be measured here.
#[derive(Clone, Debug, Serialize)]
pub struct Skipped {
    /// What was to be done.
    pub work: &'static str,
    /// Why it was not.
    pub reason: String,
}

/// All figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// The back end.
    pub backend: &'static str,
    /// The executor.
    pub executor: &'static str,
    /// Threads that worked at the same time.
    pub threads: usize,
    /// The library below the baseline, and which of its kernels.
    pub baseline: &'static str,
    /// Whether it was a quick run.
    pub quick: bool,
    /// The figures.
    pub rows: Vec<Row>,
    /// What there are no figures of.
    pub skipped: Vec<Skipped>,
}

/// A number with about four digits, thousands apart.
fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.2}");
    }
    if value < 1000.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// The median, and how far the rounds are from it in percent.
struct Spread<'a>(&'a Figure);

impl fmt::Display for Spread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figure { median, min, max } = self.0;
        let percent = |value: f64| 100.0 * (value - median) / median;
        let text = number(*median);
        write!(f, "{text:>11} {:>+4.0}/{:<+4.0}", percent(*min), percent(*max))
    }
}

/// The median of how many times as fast, and the range.
struct Times<'a>(&'a Figure);

impl fmt::Display for Times<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figure { median, min, max } = self.0;
        write!(f, "{median:>6.2} x ({min:.2} to {max:.2})")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { work, unit, ours, baseline, ratio, .. } = self;
        let (ours, baseline, ratio) = (Spread(ours), Spread(baseline), Times(ratio));
        write!(f, "{work:<44} {ours} {baseline} {unit:<9} {ratio}")?;
        match (&self.scaling, &self.control) {
            (Some(scaling), Some(control)) => {
                write!(f, "  scaling {}  control {}", Times(scaling), Times(control))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<44} not measured: {}", self.work, self.reason)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cpus, detected } = &self.machine;
        writeln!(f, "{cpu}, {cpus} CPUs, offers {detected}")?;
        let quick = if self.quick { ", quick" } else { "" };
        let Report { backend, executor, threads, baseline, .. } = self;
        writeln!(f, "back end {backend}, executor {executor}, threads {threads}{quick}")?;
        writeln!(f, "baseline: steps of the reference on {baseline}")?;
        writeln!(f, "medians of the rounds, lowest and highest in percent of them\n")?;
        let (ours, baseline) = ("ours", "baseline");
        writeln!(f, "{:<44} {ours:>11} {:>9} {baseline:>11} {:>19} ratio", "", "", "")?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        self.skipped.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!(number(1.239), "1.24");
        assert_eq!(number(123.45), "123.5");
        assert_eq!(number(1234.5), "1 234");
        assert_eq!(number(1_234_567.0), "1 234 567");
    }

    #[test]
    fn a_row_says_both_sides_and_their_ratio() {
        let figure = |median| Figure { median, min: 0.9 * median, max: 1.2 * median };
        let row = Row {
            work: "work",
            unit: "things/s",
            ours: figure(5000.0),
            baseline: figure(1000.0),
            ratio: figure(5.0),
            scaling: Some(figure(1.9)),
            control: Some(figure(2.0)),
            rounds: 5,
        };
        let text = row.to_string();
        assert!(text.contains("5 000  -10/+20"), "{text}");
        let ratio = "5.00 x (4.50 to 6.00)  ";
        let scaling = "scaling   1.90 x (1.71 to 2.28)  control   2.00 x (1.80 to 2.40)";
        assert!(text.ends_with(&[ratio, scaling].concat()), "{text}");
    }
}
