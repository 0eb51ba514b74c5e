//! The long poll: a request for the next work file that the master holds until there is news.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{PoolOptions, Shared};
use crate::client::{HttpClient, Request};
use crate::{Shutdown, limits};

/// An answer that comes sooner than this twice in a row is followed by a pause: a server that
/// does not hold the request must not be asked in a circle.
const ANSWER_MS_MIN: u64 = 250;
/// Pause after a server said that it has no long poll (spec 05, 5.2: 5 s after a 404).
const UNKNOWN_PAUSE_MS: u64 = 5_000;

/// The task that holds the long poll of one pool.
pub(super) struct LongPoll {
    shared: Arc<Shared>,
    http: HttpClient,
    options: PoolOptions,
    shutdown: Shutdown,
}

enum Answer {
    /// The work file of this height is there.
    Work(i32),
    /// Ask again; what is new at the same height, if anything, is in the configuration.
    TryAgain,
    /// The server has no long poll, or no such work.
    Unknown,
    /// No answer.
    Failed,
}

impl LongPoll {
    pub(super) fn new(
        shared: Arc<Shared>,
        http: HttpClient,
        options: PoolOptions,
        shutdown: Shutdown,
    ) -> Self {
        Self { shared, http, options, shutdown }
    }

    pub(super) async fn run(self) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = self.poll_for_ever() => {}
        }
    }

    async fn poll_for_ever(&self) {
        let mut config = self.shared.config.subscribe();
        let mut was_early = false;
        loop {
            let shown = config.borrow_and_update().as_ref().map(|config| config.current_height);
            let Some(shown) = shown else {
                if config.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let asked = Instant::now();
            let answer = self.ask(shown.saturating_add(1)).await;
            let is_early = asked.elapsed() < Duration::from_millis(ANSWER_MS_MIN);
            let pause_ms = match answer {
                Answer::Work(height) => {
                    self.answered(height);
                    // Until the configuration shows it there is nothing further to ask for.
                    let _ = tokio::time::timeout(Duration::from_secs(1), config.changed()).await;
                    if is_early && was_early { ANSWER_MS_MIN } else { 0 }
                }
                Answer::TryAgain => {
                    self.answered(shown);
                    if is_early && was_early { ANSWER_MS_MIN } else { 0 }
                }
                Answer::Unknown => UNKNOWN_PAUSE_MS,
                Answer::Failed => self.options.retry_ms,
            };
            was_early = is_early;
            if pause_ms > 0 {
                let pause = Duration::from_millis(pause_ms);
                // A change of the configuration ends the pause: another file is asked for then.
                let _ = tokio::time::timeout(pause, config.changed()).await;
            }
        }
    }

    fn answered(&self, height: i32) {
        self.shared.counters.long_poll_answers.fetch_add(1, Ordering::Relaxed);
        self.shared.height_seen.store(height, Ordering::Relaxed);
        self.shared.wake.notify_one();
    }

    async fn ask(&self, height: i32) -> Answer {
        let url = format!("{}/work_{height}.bin", self.shared.url);
        let request = Request::get(&url)
            .request_ms_max(limits::LONG_POLL_MS_MAX)
            .reply_bytes_max(limits::WORK_BYTES_MAX);
        match self.http.send(request).await {
            Ok(response) => match response.status {
                200 => Answer::Work(height),
                300 => Answer::TryAgain,
                _ => Answer::Unknown,
            },
            Err(_) => Answer::Failed,
        }
    }
}
