//! The announcement handler against loops that only move and hash bytes.
//!
//! A handler runs on one core and a load generator on another, over loopback; beside each figure
//! stands that of a bare loop on the handler's core: the same bytes through the same sockets into
//! the same kind of memory, and nothing else. Rates are per second of processor time of the
//! serving side, so that they mean a fully busy core whatever the load generator can do. Every
//! accepted announcement is looked for in the files, and every reply in the pay log.

mod bare;
mod load;
mod rows;
mod scene;
mod spray;
mod validated;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use packetcrypt_net::engine::EngineKind;
use packetcrypt_net::hw;
use serde::Serialize;

use crate::report::Machine;

/// Bytes of an announcement.
const ANN_BYTES: usize = packetcrypt_proto::ANNOUNCEMENT_BYTES;

/// What to measure.
#[derive(Clone, Debug, Default)]
pub struct HandlerOptions {
    /// Fewer posts and rounds.
    pub quick: bool,
    /// What the handler receives and sends with.
    pub engine: EngineKind,
    /// Where announcement files and pay log lie; None is memory (`/dev/shm`) where there is one.
    pub dir: Option<PathBuf>,
    /// Only these groups of rows; all when there is none.
    pub only: Vec<Group>,
}

/// Rows that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Posts whose proofs are checked, on one core and on two.
    Validated,
    /// Posts whose proofs are not checked, downloads and small requests.
    Unvalidated,
    /// Memory with many slow connections.
    Slow,
    /// The sprayer.
    Sprayer,
}

/// No group of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no rows {0}: there are validated, unvalidated, slow and sprayer")]
pub struct UnknownGroupError(pub String);

impl FromStr for Group {
    type Err = UnknownGroupError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "validated" => Ok(Self::Validated),
            "unvalidated" => Ok(Self::Unvalidated),
            "slow" => Ok(Self::Slow),
            "sprayer" => Ok(Self::Sprayer),
            other => Err(UnknownGroupError(other.to_owned())),
        }
    }
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum HandlerBenchError {
    /// The load generator needs a core of its own.
    #[error("this process may use {0} CPUs, at least 2 are needed: one serves, one asks")]
    OneCpu(usize),
    /// The handler or the system failed.
    #[error("{0}")]
    Failed(String),
    /// An answer was wrong.
    #[error("wrong answer of {work}: {what}")]
    WrongAnswer {
        /// The row.
        work: &'static str,
        /// What differs.
        what: String,
    },
}

/// One figure beside that of the bare loop.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// What was done.
    pub work: &'static str,
    /// The unit of both figures.
    pub unit: &'static str,
    /// The median of the rounds.
    pub value: f64,
    /// What it is compared with.
    pub bare: Option<Bare>,
    /// What else was seen.
    pub note: String,
}

/// The figure of a bare loop.
#[derive(Clone, Debug, Serialize)]
pub struct Bare {
    /// What it does.
    pub what: &'static str,
    /// Its figure.
    pub value: f64,
}

/// All figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct HandlerReport {
    /// The machine.
    pub machine: Machine,
    /// The engine of the handler.
    pub engine: &'static str,
    /// Where its files were.
    pub dir: PathBuf,
    /// Whether it was a quick run.
    pub quick: bool,
    /// The figures.
    pub rows: Vec<Compared>,
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.value < 1000.0 { 2 } else { 0 };
        write!(f, "{:<46} {:>11.digits$} {:<12}", self.work, self.value, self.unit)?;
        if let Some(Bare { what, value }) = &self.bare {
            write!(f, " {:>5.2} x of {value:.digits$} ({what})", self.value / value)?;
        }
        if self.note.is_empty() { Ok(()) } else { write!(f, "; {}", self.note) }
    }
}

impl fmt::Display for HandlerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cpus, detected } = &self.machine;
        writeln!(f, "{cpu}, {cpus} CPUs, offers {detected}")?;
        let quick = if self.quick { ", quick" } else { "" };
        writeln!(f, "engine {}, files in {}{quick}", self.engine, self.dir.display())?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

/// Measures all rows, and shows each as soon as it is measured.
///
/// # Errors
/// [`HandlerBenchError`]: too few CPUs, a handler that fails, or a wrong answer.
pub fn run_handler(
    options: &HandlerOptions,
    progress: &mut dyn FnMut(&Compared),
) -> Result<HandlerReport, HandlerBenchError> {
    let cpus = hw::available_cpus();
    let &[serving, .., asking] = cpus.cpus() else {
        return Err(HandlerBenchError::OneCpu(cpus.len()));
    };
    let place = scene::Place::new(options, serving, asking)?;
    let mut rows = Vec::new();
    let mut add = |row: Compared| {
        progress(&row);
        rows.push(row);
    };
    for group in [Group::Validated, Group::Unvalidated, Group::Slow, Group::Sprayer] {
        if !options.only.is_empty() && !options.only.contains(&group) {
            continue;
        }
        match group {
            Group::Validated => validated::validated(&place, &mut add)?,
            Group::Unvalidated => rows::unvalidated(&place, &mut add)?,
            Group::Slow => rows::slow_connections(&place, &mut add)?,
            Group::Sprayer => spray::sprayed(&place, &mut add)?,
        }
    }
    Ok(HandlerReport {
        machine: Machine::this(),
        engine: place.engine(),
        dir: place.dir().to_owned(),
        quick: options.quick,
        rows,
    })
}
