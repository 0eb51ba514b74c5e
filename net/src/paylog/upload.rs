//! Closed files go to the paymaker, and are deleted when it confirms them.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use packetcrypt_proto::ids;
use packetcrypt_proto::reply::Reply;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{PayLog, Shared, files};
use crate::client::{ClientError, ClientOptions, HttpClient, Request};
use crate::{Shutdown, limits};

/// The user name that every paymaker expects (spec 05, 11).
const USER: &str = "x";
/// How often the directory is looked at when no file was closed and none is due meanwhile.
const LOOK: Duration = Duration::from_secs(1);
/// Most characters of the paymaker's reply that are told.
const TEXT_CHARS_MAX: usize = 200;

/// The password shared with the paymaker. It is never printed.
#[derive(Clone)]
pub struct PaymakerPassword(String);

impl PaymakerPassword {
    /// This password.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }
}

impl fmt::Debug for PaymakerPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PaymakerPassword(..)")
    }
}

/// Where and how files are uploaded.
#[derive(Clone, Debug)]
pub struct UploaderOptions {
    /// The paymaker's base address (`paymakerUrl` of the configuration), None or empty while it is
    /// not known. It may change at any time.
    pub paymaker_url: watch::Receiver<Option<String>>,
    /// The password.
    pub password: PaymakerPassword,
    /// First and longest pause after a failure, ms.
    pub retry_ms: (u64, u64),
}

impl UploaderOptions {
    /// With the usual pauses.
    pub fn new(paymaker_url: watch::Receiver<Option<String>>, password: PaymakerPassword) -> Self {
        Self { paymaker_url, password, retry_ms: limits::PAYLOG_RETRY_MS }
    }
}

/// A running uploader.
#[derive(Debug)]
pub struct Uploader {
    task: JoinHandle<()>,
}

/// Why a file is still there.
#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Disk(#[from] io::Error),
    #[error("paymaker refused it with status {status}: {text}")]
    Refused {
        status: u16,
        text: String,
        /// Whether this is the paymaker's own form of a refusal; a proxy has another.
        is_own: bool,
    },
    #[error("paymaker confirmed {confirmed:?} instead of {expected:?}")]
    WrongId { confirmed: String, expected: String },
    #[error("paymaker's reply is not understood: {0}")]
    Reply(String),
}

#[derive(Deserialize)]
struct Confirmed {
    #[serde(rename = "eventId")]
    event_id: String,
}

struct Retry {
    not_before: Instant,
    pause_ms: u64,
}

struct Task {
    shared: Arc<Shared>,
    http: HttpClient,
    options: UploaderOptions,
    shutdown: Shutdown,
    /// Files that were refused.
    retries: HashMap<u64, Retry>,
    /// The paymaker takes no file at all now.
    away: Option<Retry>,
}

/// What becomes of a file after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The next file would fare no better: the paymaker is away, busy, or not to be reached so.
    AllWait,
    /// It is tried again; the others go on.
    Waits,
    /// The paymaker will never take these bytes.
    SetAside,
}

impl UploadError {
    fn fate(&self) -> Fate {
        match self {
            UploadError::Client(_) => Fate::AllWait,
            // No text, no time in it, or too long.
            UploadError::Refused { status: 400 | 413 | 422, is_own: true, .. } => Fate::SetAside,
            // 425: its events are ahead of the paymaker's clock, which time mends.
            UploadError::Refused { status: 200 | 400 | 413 | 422 | 425, .. } => Fate::Waits,
            // 401 is a wrong password, 404 a wrong address: no fault of the file.
            UploadError::Refused { .. } => Fate::AllWait,
            UploadError::Disk(_) | UploadError::WrongId { .. } | UploadError::Reply(_) => {
                Fate::Waits
            }
        }
    }
}

impl Uploader {
    /// Begins to upload the closed files of `log`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The HTTP client can not be made.
    pub fn start(
        log: &PayLog,
        options: UploaderOptions,
        shutdown: Shutdown,
    ) -> Result<Self, ClientError> {
        let limits = ClientOptions {
            request_ms_max: limits::PAYLOG_UPLOAD_MS_MAX,
            reply_bytes_max: limits::REPLY_BYTES_MAX,
            ..Default::default()
        };
        let task = Task {
            shared: log.shared.clone(),
            http: HttpClient::new(limits)?,
            options,
            shutdown,
            retries: HashMap::new(),
            away: None,
        };
        Ok(Self { task: tokio::spawn(task.run()) })
    }

    /// Returns when the uploader has ended, after the signal.
    pub async fn join(self) {
        let _ = self.task.await;
    }
}

impl Task {
    async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            // Cutting an upload is safe: the file stays, and the paymaker knows it by its id.
            () = shutdown.cancelled() => {}
            () = self.upload_for_ever() => {}
        }
    }

    async fn upload_for_ever(&mut self) {
        loop {
            self.upload_all().await;
            let look = self.until_next_try();
            // A closed file, a new address or the time: each is a reason to look.
            let mut url = self.options.paymaker_url.clone();
            let address_changed = async move {
                if url.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(look) => {}
                () = self.shared.closed_file.notified() => {}
                () = address_changed => {}
            }
        }
    }

    /// How long there is nothing to do unless something happens.
    fn until_next_try(&self) -> Duration {
        let now = Instant::now();
        // What is due already could not be tried: without an address, for instance.
        let left = |retry: &Retry| Some(retry.not_before - now).filter(|left| !left.is_zero());
        let away = self.away.as_ref().and_then(left);
        let next = away.or_else(|| self.retries.values().filter_map(left).min());
        next.map_or(LOOK, |left| left.min(LOOK))
    }

    /// Uploads the closed files, the oldest first: the paymaker counts by the times of the events
    /// and takes what is far behind the newest as lost (spec 05, 16.4), so that old files must
    /// never come after new ones.
    async fn upload_all(&mut self) {
        if self.away.as_ref().is_some_and(|away| away.not_before > Instant::now()) {
            return;
        }
        let url = self.options.paymaker_url.borrow_and_update().clone();
        let Some(url) = url.filter(|url| !url.is_empty()) else { return };
        let dir = self.shared.options.dir.clone();
        let numbers = match files::list(&dir) {
            Ok(numbers) => numbers,
            Err(e) => return tracing::warn!("pay log {}: {e}", dir.display()),
        };
        let current = self.shared.current.load(Ordering::Acquire);
        self.retries.retain(|number, _| numbers.contains(number));
        for number in numbers.into_iter().filter(|number| *number < current) {
            let now = Instant::now();
            if self.retries.get(&number).is_some_and(|retry| retry.not_before > now) {
                continue;
            }
            match self.upload(&url, number).await {
                Ok(()) => {
                    self.away = None;
                    self.retries.remove(&number);
                }
                Err(e) => match e.fate() {
                    Fate::AllWait => {
                        self.away = Some(self.postponed(self.away.as_ref(), number, &e));
                        return;
                    }
                    // A file that is refused must not hold up the others.
                    Fate::Waits => self.postpone(number, &e),
                    Fate::SetAside => self.set_aside(number, &e),
                },
            }
        }
    }

    /// Takes a file out of the way that would be refused for ever (spec 05, 16.21).
    fn set_aside(&mut self, number: u64, error: &UploadError) {
        let dir = &self.shared.options.dir;
        match files::set_aside(dir, number) {
            Ok(aside) => {
                self.retries.remove(&number);
                tracing::warn!(
                    "{}: {error}; the file is kept as {} and not sent again: its events are not \
                     paid",
                    files::path(dir, number).display(),
                    aside.display()
                );
            }
            Err(cause) => self.postpone(number, &UploadError::Disk(cause)),
        }
    }

    fn postpone(&mut self, number: u64, error: &UploadError) {
        let retry = self.postponed(self.retries.get(&number), number, error);
        self.retries.insert(number, retry);
    }

    async fn upload(&self, url: &str, number: u64) -> Result<(), UploadError> {
        let path = files::path(&self.shared.options.dir, number);
        let read = path.clone();
        // Files are bounded by `file_bytes_max` plus one commit.
        let bytes = tokio::task::spawn_blocking(move || fs::read(read));
        let bytes = bytes.await.map_err(io::Error::other)??;
        if bytes.is_empty() {
            fs::remove_file(&path)?;
            return Ok(());
        }
        let expected = ids::file_id(&bytes);
        let events = format!("{}/events", url.trim_end_matches('/'));
        let request = Request::post(&events, bytes).basic_auth(USER, &self.options.password.0);
        let response = self.http.send(request).await?;
        if response.status != 200 {
            let own = Reply::<serde_json::Value>::parse(&response.body).ok();
            let own = own.filter(|reply| !reply.error.is_empty());
            let is_own = own.is_some();
            let text = own.map_or_else(
                || String::from_utf8_lossy(&response.body).into_owned(),
                |reply| reply.error.join("; "),
            );
            let text = text.chars().take(TEXT_CHARS_MAX).collect();
            return Err(UploadError::Refused { status: response.status, text, is_own });
        }
        let reply = Reply::<Confirmed>::parse(&response.body)
            .map_err(|e| UploadError::Reply(e.to_string()))?;
        for warning in &reply.warn {
            tracing::warn!("paymaker about {}: {warning}", path.display());
        }
        let confirmed = match reply.result {
            Some(result) => result.event_id,
            None => {
                let text = reply.error.join("; ");
                return Err(UploadError::Refused { status: 200, text, is_own: true });
            }
        };
        if confirmed != expected {
            return Err(UploadError::WrongId { confirmed, expected });
        }
        fs::remove_file(&path)?;
        self.shared.counters.files_uploaded.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The next try after another failure.
    fn postponed(&self, former: Option<&Retry>, number: u64, error: &UploadError) -> Retry {
        self.shared.counters.uploads_failed.fetch_add(1, Ordering::Relaxed);
        let (first_ms, longest_ms) = self.options.retry_ms;
        let former = former.map(|retry| retry.pause_ms);
        let pause_ms = former.map_or(first_ms, |ms| ms.saturating_mul(2).min(longest_ms));
        if former.is_none() || pause_ms == longest_ms {
            tracing::warn!("pay log file {number} stays, next try in {pause_ms} ms: {error}");
        }
        Retry { not_before: Instant::now() + Duration::from_millis(pause_ms), pause_ms }
    }
}
