//! Starting an executor a thread, which all engines do alike.

use std::io;
use std::sync::mpsc;
use std::thread;

use super::{EngineError, Executors, Placement};
use crate::hw;

/// Makes the executors, each on the thread that it will run on, then runs all of them. None begins
/// before all are made: after an error none is left.
///
/// `make` makes an executor, `run` runs the one with this index until its body ends.
///
/// # Errors
/// An executor or its thread can not be made.
pub(super) fn start<X>(
    engine: &'static str,
    placement: &Placement,
    make: impl Fn() -> io::Result<X> + Clone + Send + 'static,
    run: impl Fn(X, usize) + Clone + Send + 'static,
) -> Result<Executors, EngineError> {
    placement.check()?;
    let (alive, ended) = tokio::sync::mpsc::channel(1);
    let mut threads = Vec::with_capacity(placement.executors);
    let mut begins = Vec::with_capacity(placement.executors);
    for index in 0..placement.executors {
        let (make, run) = (make.clone(), run.clone());
        let (alive, cpu) = (alive.clone(), placement.cpu(index));
        // An error drops `begins`, which ends the threads that wait.
        let (begin, may_begin) = mpsc::channel::<()>();
        let (made, is_made) = mpsc::channel();
        let thread = thread::Builder::new().name(format!("{}-{index}", placement.name));
        let spawned = thread.spawn(move || {
            let _alive = alive;
            if let Some(Err(e)) = cpu.map(hw::pin_thread) {
                tracing::warn!("{e}");
            }
            match make() {
                Ok(executor) => {
                    if made.send(Ok(())).is_ok() && may_begin.recv().is_ok() {
                        run(executor, index);
                    }
                }
                Err(cause) => {
                    let _ = made.send(Err(cause));
                }
            }
        });
        let failed = |cause| EngineError::Executor { index, cause };
        threads.push(spawned.map_err(failed)?);
        match is_made.recv() {
            Ok(Ok(())) => begins.push(begin),
            Ok(Err(cause)) => return Err(failed(cause)),
            Err(_) => return Err(failed(io::Error::other("its thread ended"))),
        }
    }
    for begin in begins {
        // It waits for this: its thread does nothing else.
        let _ = begin.send(());
    }
    Ok(Executors { engine, threads, ended })
}

/// A task whose panic costs the task and not the executor; it was printed where it happened.
#[cfg(target_os = "linux")]
pub(super) async fn contained(task: impl Future<Output = ()>) {
    use futures_util::FutureExt as _;
    let _ = std::panic::AssertUnwindSafe(task).catch_unwind().await;
}
