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

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was done.
    pub work: &'static str,
    /// The unit of the values: a rate per second of all threads together, or the time that one
    /// thread takes.
    pub unit: &'static str,
    /// The median of the rounds.
    pub median: f64,
    /// The lowest of the rounds.
    pub min: f64,
    /// The highest of the rounds.
    pub max: f64,
    /// Rounds measured.
    pub rounds: usize,
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
    /// Whether it was a quick run.
    pub quick: bool,
    /// The figures.
    pub rows: Vec<Row>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median < 1000.0 { 2 } else { 0 };
        write!(
            f,
            "{:<44} {:>12.digits$} {:<10} ({:.digits$} to {:.digits$}, {} rounds)",
            self.work, self.median, self.unit, self.min, self.max, self.rounds
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cpus, detected } = &self.machine;
        writeln!(f, "{cpu}, {cpus} CPUs, offers {detected}")?;
        writeln!(
            f,
            "back end {}, executor {}, threads {}{}",
            self.backend,
            self.executor,
            self.threads,
            if self.quick { ", quick" } else { "" }
        )?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}
