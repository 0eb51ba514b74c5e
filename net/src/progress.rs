//! Says that something takes long: a load of files that may be large, during which a role looks as
//! if it hung.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a load may go on unsaid, and how often it is said then.
pub const SAID_EVERY: Duration = Duration::from_secs(2);

/// Does `work` on this thread. When it takes longer than [`SAID_EVERY`] the log says so, again and
/// again, and at last that it is done.
pub fn said<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let log = |is_done: bool| {
        let seconds = started.elapsed().as_secs();
        if is_done {
            tracing::info!("{what}: done after {seconds} s");
        } else {
            tracing::info!("{what}: goes on, {seconds} s by now");
        }
    };
    watched(SAID_EVERY, &log, work)
}

/// Calls `say` with `false` after each interval in which `work` goes on, and, if that was done, with
/// `true` at its end.
fn watched<T>(every: Duration, say: &(impl Fn(bool) + Sync), work: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        // Dropped at the end of the work, or when that panics: the watcher then ends.
        let (working, is_working) = channel::<()>();
        scope.spawn(move || {
            let mut was_said = false;
            while is_working.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                say(false);
                was_said = true;
            }
            if was_said {
                say(true);
            }
        });
        let result = work();
        drop(working);
        result
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn what_takes_long_is_said_until_it_is_done() {
        let (said, is_said) = channel();
        let said = Mutex::new(said);
        let say = |is_done| said.lock().unwrap().send(is_done).unwrap();
        let result = watched(Duration::from_millis(1), &say, || {
            // As long as it takes to be said twice.
            assert_eq!((is_said.recv(), is_said.recv()), (Ok(false), Ok(false)));
            7
        });
        assert_eq!(result, 7);
        assert!(is_said.try_iter().last().unwrap(), "done comes last");
    }

    #[test]
    fn what_is_quick_is_not_said() {
        let say = |_| panic!("said");
        assert_eq!(watched(Duration::from_secs(3600), &say, || 7), 7);
        assert_eq!(said("nothing", || 8), 8);
    }
}
