//! Lines: connections on executors of the data plane, each of which fetches pieces of one handler's
//! files into the store.
//!
//! An executor receives, judges, hashes and admits: an announcement stays on one core until it is
//! in the index.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use packetcrypt_core::params::ANNOUNCEMENT_BYTES;
use packetcrypt_net::Shutdown;
use packetcrypt_net::engine::{self, Body, Engine, EngineError, EngineKind, Executors, Placement};
use packetcrypt_net::http1::client::{DownloadError, RangeClient};
use packetcrypt_net::hw::CpuSet;
use packetcrypt_proto::anns_index::{FILE_PATH_PREFIX, file_name};
use tokio::sync::mpsc;

use super::have::Piece;
use super::round::Rounds;
use crate::class::SourceId;
use crate::intake::{Intake, Taker};

/// Lines that wait for being opened, on each executor.
const OPENING_LEN_MAX: usize = 4096;
/// Announcements that are received before they are judged and hashed: they shall be in the
/// second-level cache of their core yet.
const STEP_LEN_MAX: usize = 256;
/// How long a line waits that got no slots: other lines have them all.
const NO_SLOTS_WAIT: Duration = Duration::from_millis(20);

/// Why there are no lines.
pub(crate) type LinesError = EngineError;

/// The executors.
pub(crate) struct Lines {
    opening: Vec<mpsc::Sender<Line>>,
}

/// What runs on each executor: opens the lines that it is given.
#[derive(Clone)]
struct Opener {
    /// The lines of each executor, taken by it.
    waiting: Arc<Vec<Mutex<Option<mpsc::Receiver<Line>>>>>,
    intake: Arc<Intake>,
}

impl Body for Opener {
    async fn run<E: Engine>(self, engine: E) {
        let waiting = self.waiting.get(engine.index()).map(|waiting| waiting.lock());
        let lines = waiting.and_then(|waiting| waiting.ok()?.take());
        let Some(mut lines) = lines else { return };
        let taker = Rc::new(RefCell::new(Taker::new(self.intake)));
        while let Some(line) = lines.recv().await {
            engine.spawn_local(line.run(engine.clone(), taker.clone()));
        }
    }
}

/// A connection to a handler, not yet opened.
struct Line {
    base: String,
    source: SourceId,
    rounds: Arc<Rounds>,
    stop: Shutdown,
}

impl Lines {
    /// Starts this many executors, on these CPUs if some are given. They end when this value is
    /// dropped.
    pub(crate) fn start(
        engine: EngineKind,
        executors: usize,
        cpus: Option<CpuSet>,
        intake: &Arc<Intake>,
    ) -> Result<(Lines, Executors), LinesError> {
        let (opening, waiting): (Vec<_>, Vec<_>) =
            (0..executors).map(|_| mpsc::channel::<Line>(OPENING_LEN_MAX)).unzip();
        let waiting = waiting.into_iter().map(|lines| Mutex::new(Some(lines))).collect();
        let placement = Placement { name: "blk-fetch".to_owned(), executors, cpus };
        let body = Opener { waiting: Arc::new(waiting), intake: intake.clone() };
        let executors = engine::start(engine, &placement, body)?;
        Ok((Lines { opening }, executors))
    }

    /// Opens the connection number `number` to a handler, until `stop`.
    pub(super) fn open(
        &self,
        number: usize,
        base: &str,
        source: SourceId,
        rounds: &Arc<Rounds>,
        stop: &Shutdown,
    ) {
        let line =
            Line { base: base.to_owned(), source, rounds: rounds.clone(), stop: stop.clone() };
        let at = (source.0 as usize + number) % self.opening.len().max(1);
        if self.opening.get(at).is_none_or(|executor| executor.try_send(line).is_err()) {
            tracing::error!("no connection to {base}: too many are being opened");
        }
    }
}

impl Line {
    async fn run<E: Engine>(self, engine: E, taker: Rc<RefCell<Taker>>) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.run_for_ever(engine, &taker) => {}
        }
    }

    async fn run_for_ever<E: Engine>(self, engine: E, taker: &RefCell<Taker>) {
        let mut client = match RangeClient::new(engine.clone(), &self.base) {
            Ok(client) => client,
            Err(error) => {
                // Every piece fails, so the reason is seen.
                loop {
                    let piece = self.rounds.next().await;
                    self.rounds.done(piece, piece.from, Some(error.to_string()));
                }
            }
        };
        loop {
            let piece = self.rounds.next().await;
            let (came, failure) = self.fetch(&engine, &mut client, taker, piece).await;
            self.rounds.done(piece, came, failure);
        }
    }

    /// Fetches a piece and takes in what came; returns the byte up to which it did.
    async fn fetch<E: Engine>(
        &self,
        engine: &E,
        client: &mut RangeClient<E>,
        taker: &RefCell<Taker>,
        piece: Piece,
    ) -> (u64, Option<String>) {
        const BYTES: u64 = ANNOUNCEMENT_BYTES as u64;
        let path = format!("{FILE_PATH_PREFIX}{}", file_name(piece.file));
        let (len, mut from) = ((piece.to - piece.from) as usize, piece.from);
        let mut landing = loop {
            // It keeps its length until the piece is here.
            let landing = taker.borrow().landing(STEP_LEN_MAX.min(len / ANNOUNCEMENT_BYTES));
            if !landing.is_empty() {
                break landing;
            }
            engine.sleep(NO_SLOTS_WAIT).await;
        };
        let mut download = match client.open(&path, from, len).await {
            Ok(download) => download,
            Err(error) => return (from, Some(told(&error))),
        };
        loop {
            let count = landing.len().min(download.missing() / ANNOUNCEMENT_BYTES);
            if count == 0 {
                break;
            }
            if let Err(error) = download.read(&mut landing.parts(count)).await {
                return (from, Some(told(&error)));
            }
            taker.borrow_mut().take(&mut landing, self.source, count);
            from += count as u64 * BYTES;
            // Between two steps the other lines of this executor have their turn.
            engine.yield_now().await;
        }
        let failure =
            (from < piece.to).then(|| format!("{path} ends at byte {from}, before {}", piece.to));
        (from, failure)
    }
}

/// An error as an operator reads it.
fn told(error: &DownloadError) -> String {
    match error {
        DownloadError::Status { status: 404, .. } => format!("{error}: the file is gone"),
        DownloadError::Status { status: 416, .. } => {
            format!("{error}: the file has become shorter")
        }
        _ => error.to_string(),
    }
}
