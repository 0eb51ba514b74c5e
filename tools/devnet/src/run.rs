//! One whole run: start, show, stop when told, check.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use packetcrypt_net::Shutdown;

use crate::config::Config;
use crate::pool::{Pool, StartError};
use crate::summary::Summary;
use crate::view::View;

/// How often the view is drawn, milliseconds.
const DRAW_MS: u64 = 500;
/// How often plain lines are printed when nothing happens, seconds.
const QUIET_S: u64 = 10;

/// Why a run has no summary.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The pool did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The signal came before the pool had started.
    #[error("stopped before the pool had started")]
    Stopped,
    /// The terminal can not be written to.
    #[error("output: {0}")]
    Output(#[from] io::Error),
}

/// How a run shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// A live view on a terminal, plain lines elsewhere.
    Automatic,
    /// Nothing while it runs; for machines that read the summary.
    Nothing,
}

/// Runs a pool until the wanted number of blocks, the wanted time, or `shutdown`.
///
/// # Errors
/// [`RunError`] when it does not start; a check that fails is no error, see [`Summary::holds`].
pub async fn run(config: Config, show: Show, shutdown: Shutdown) -> Result<Summary, RunError> {
    let (blocks, duration_s) = (config.blocks, config.duration_s);
    let pool = tokio::select! {
        pool = Pool::start(config) => pool?,
        () = shutdown.cancelled() => return Err(RunError::Stopped),
    };
    let mut out = io::stderr();
    let live = show == Show::Automatic && out.is_terminal();
    let mut view = View::new(&pool, live);
    if show == Show::Automatic {
        writeln!(out, "{}", view.head(&pool))?;
    }
    let started = Instant::now();
    loop {
        let stats = pool.stats();
        if show == Show::Automatic {
            view.draw(&mut out, &stats, Duration::from_secs(QUIET_S))?;
        }
        let enough_blocks = blocks.is_some_and(|wanted| stats.blocks >= wanted);
        let enough_time = duration_s.is_some_and(|s| started.elapsed() >= Duration::from_secs(s));
        if enough_blocks || enough_time {
            break;
        }
        if !shutdown.sleep(Duration::from_millis(DRAW_MS)).await {
            break;
        }
    }
    drop(view);
    if show == Show::Automatic {
        writeln!(out, "stopping: mining ends, what is under way arrives")?;
    }
    Ok(pool.finish().await)
}
