//! What all roles have in common: a runtime, a graceful end, settings and their print.

use std::future::Future;
use std::time::{Duration, Instant};

use packetcrypt_net::Shutdown;
use packetcrypt_proto::settings::ConfigError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::effective;
use crate::failure::Failure;
use crate::layers::Layers;

/// How long tasks that are left over may take to end.
const RUNTIME_END_S_MAX: u64 = 5;
/// Exit code after the second Ctrl-C, that of a shell for SIGINT.
const EXIT_INTERRUPTED: i32 = 130;
/// Signals that are closer together are one: `timeout`, npm and some supervisors signal the process
/// and its group, and a terminal signals the group too.
const SAME_SIGNAL: Duration = Duration::from_millis(500);
/// Exit code of SIGUSR2, as the reference.
#[cfg(unix)]
const EXIT_USR2: i32 = 252;

/// Runs a role until it ends or a signal asks it to: Ctrl-C or SIGTERM triggers the shutdown, a
/// second one ends the process at once.
pub(crate) fn run<F>(start: impl FnOnce(Shutdown) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    end_on_panic();
    let shutdown = Shutdown::new();
    watch_signals(shutdown.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("runtime: {error}")))?;
    let result = runtime.block_on(start(shutdown));
    runtime.shutdown_timeout(Duration::from_secs(RUNTIME_END_S_MAX));
    result
}

/// A thread that panics would be missing without anybody noticing: the process ends, so that its
/// supervisor starts it again. A task of the runtime is one client's affair and ends alone.
fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        let is_task = std::thread::current().name().is_some_and(|name| name.contains("tokio"));
        if !is_task {
            std::process::exit(1);
        }
    }));
}

/// Waits for signals on a thread of its own, so that they count however busy the role is.
fn watch_signals(shutdown: Shutdown) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("signals: {error}")))?;
    // The role begins when signals are listened to, not before.
    let (listening, is_listening) = std::sync::mpsc::channel();
    let watch = move || {
        runtime.block_on(async {
            let signals = Signals::listen();
            // Nobody waits any more only if the role has failed to start.
            let _ = listening.send(());
            let Some(mut signals) = signals else { return };
            let mut ends = Ends::default();
            loop {
                match signals.next().await {
                    Signal::End if ends.is_repetition(Instant::now()) => {}
                    Signal::End if shutdown.is_triggered() => std::process::exit(EXIT_INTERRUPTED),
                    Signal::End => {
                        tracing::info!("ending; a second signal ends at once");
                        shutdown.trigger();
                    }
                    #[cfg(unix)]
                    Signal::Usr2 => std::process::exit(EXIT_USR2),
                }
            }
        });
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watch)
        .map_err(|error| Failure::failed(format!("signals: {error}")))?;
    is_listening.recv().map_err(|_| Failure::failed("signals: the thread ended"))
}

/// The signals to end that came.
#[derive(Default)]
struct Ends {
    last: Option<Instant>,
}

impl Ends {
    /// Whether the one that comes now is the last one that counted, once more.
    fn is_repetition(&mut self, now: Instant) -> bool {
        let is_repetition = self.last.is_some_and(|last| now.duration_since(last) < SAME_SIGNAL);
        if !is_repetition {
            self.last = Some(now);
        }
        is_repetition
    }
}

enum Signal {
    End,
    #[cfg(unix)]
    Usr2,
}

/// The signals that mean something to a role.
#[cfg(unix)]
struct Signals([tokio::signal::unix::Signal; 3]);

#[cfg(unix)]
impl Signals {
    fn listen() -> Option<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::user_defined2()];
        let [Ok(interrupt), Ok(terminate), Ok(usr2)] = kinds.map(signal) else {
            tracing::warn!("signals can not be waited for: they end the process at once");
            return None;
        };
        Some(Self([interrupt, terminate, usr2]))
    }

    async fn next(&mut self) -> Signal {
        let [interrupt, terminate, usr2] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => Signal::End,
            _ = terminate.recv() => Signal::End,
            _ = usr2.recv() => Signal::Usr2,
        }
    }
}

/// Ctrl-C.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Option<Self> {
        Some(Self)
    }

    async fn next(&mut self) -> Signal {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "Ctrl-C can not be waited for: it ends the process at once");
            std::future::pending::<()>().await;
        }
        Signal::End
    }
}

/// Parses a role's settings, prints them when that is wanted, and checks them. An error says where
/// the value was written.
pub(crate) fn settings<T: DeserializeOwned + Serialize>(
    title: &str,
    layers: &Layers,
    print: bool,
    validate: impl FnOnce(&T) -> Result<(), ConfigError>,
) -> Result<T, Failure> {
    let config: T = layers.parse()?;
    if print {
        let text = effective::describe(title, layers, &config).map_err(Failure::failed)?;
        print_settings(&text)?;
    }
    validate(&config).map_err(|error| layers.rule(&error.key, &error.value, &error.rule))?;
    Ok(config)
}

/// Prints to standard output; whoever reads it may have seen enough (`| head`).
fn print_settings(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_are_close_together_are_one() {
        let start = Instant::now();
        let mut ends = Ends::default();
        let mut is_repetition = |ms| ends.is_repetition(start + Duration::from_millis(ms));
        assert!(!is_repetition(0));
        assert!(is_repetition(0));
        assert!(is_repetition(300));
        // Who presses the key again and again is heard.
        assert!(!is_repetition(600));
        assert!(is_repetition(900));
    }
}
