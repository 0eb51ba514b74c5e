//! What the paymaker knows, durable.

use std::path::PathBuf;

pub mod files;

pub use files::Files;

/// A log as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// Clock when it arrived, ms: decides what lay in the future.
    pub now_ms: f64,
    /// Time of the most recent event known before it, ms: decides what was too old.
    pub known_ms: f64,
    /// Time of its own most recent event, ms.
    pub newest_ms: f64,
}

/// Order in which logs are read at a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they arrived, so that credits are equal to those before the restart.
    Arrival,
    /// By name, as the reference reads them (spec 05, 12.7).
    Name,
}

/// Whether a log is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is.
    New,
    /// The same bytes were stored before.
    Again,
}

/// A step of a replay.
#[derive(Debug)]
pub enum Replayed<'a> {
    /// A log whose arrival is known: take it as it was taken then.
    Log(&'a Arrival, &'a str),
    /// Logs follow of which only the names are known; the value is the newest time among them.
    Unknown(f64),
    /// The n-th of these (from 0), and the clock.
    Named(usize, f64, &'a str),
}

/// Where posted logs are kept. What [`store`](Self::store) has returned from survives a crash.
pub trait Ledger: Send + 'static {
    /// Makes a log durable, whole or not at all.
    ///
    /// # Errors
    /// [`LedgerError`]; the log must then not be acknowledged.
    fn store(&mut self, arrival: &Arrival, id: &str, log: &str) -> Result<Stored, LedgerError>;

    /// Hands out every log that is still of use.
    ///
    /// # Errors
    /// [`LedgerError`] when the store can not be read: paying by a part of the logs is worse than
    /// not to start.
    fn replay(
        &mut self,
        order: Order,
        now_ms: f64,
        depth_ms: f64,
        take: &mut dyn FnMut(Replayed<'_>),
    ) -> Result<(), LedgerError>;

    /// Deletes logs whose newest event is older than `before_ms`; gives their number.
    ///
    /// # Errors
    /// [`LedgerError`]; what is left is tried again next time.
    fn prune(&mut self, before_ms: f64) -> Result<usize, LedgerError>;
}

/// The store fails.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The system refuses.
    #[error("{}: {cause}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// Another paymaker has it open.
    #[error("{} is in use by another paymaker", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}
