//! The HTTP feed: downloads the announcement files of the pool's handlers (our addition to the
//! protocol; `packetcrypt_proto::anns_index` describes it).
//!
//! One task follows each handler: it reads the index, asks for the ranges that it does not have,
//! newest files first, and sends them to the intake. What it has is remembered by file as long as
//! the handler's store is the same one. A handler that fails is asked again with growing pauses;
//! the others go on meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use packetcrypt_core::params::ANNOUNCEMENT_BYTES;
use packetcrypt_net::client::{ClientError, HttpClient, Request};
use packetcrypt_net::{Shutdown, limits};
use packetcrypt_proto::anns_index::{
    AnnFile, AnnsIndex, FILE_PATH_PREFIX, INDEX_BYTES_MAX, INDEX_PATH,
};
use packetcrypt_proto::config::MasterConfig;
use packetcrypt_proto::fields::MessageError;
use tokio::sync::Semaphore;

use crate::chain::Chain;
use crate::class::SourceId;
use crate::intake::{Batch, Inlet, Peers};

/// Bytes asked for at a time.
const RANGE_BYTES_MAX: u64 = 1 << 20;
/// Announcements whose parent is this many blocks below the one to be mined are worth nothing at
/// any target (spec 04, 2.3).
const USABLE_BLOCKS: i64 = 260;
/// How long a handler may wait with its answer for news, s. Bounds how long a handler whose work
/// is known to be old is asked nothing.
const LONG_POLL_S: u64 = 15;
/// First and longest pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Why a handler gives no announcements.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{url}: {cause}")]
    Index { url: String, cause: MessageError },
    #[error("{url}: {have} bytes came of a range of {want}")]
    Length { url: String, want: u64, have: usize },
    #[error("{url}: status {status} instead of 206")]
    NoRange { url: String, status: u16 },
    #[error("the intake has ended")]
    Ended,
}

/// What all downloads have in common.
pub(crate) struct Feed {
    pub(crate) http: HttpClient,
    pub(crate) chain: Arc<Chain>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) inlet: Inlet,
    /// One permit for each handler that may be asked at the same time.
    pub(crate) permits: Semaphore,
    /// Pause between two looks at an index without news.
    pub(crate) poll: Duration,
}

/// The handlers to download from: the pool's list of them, or, when the pool names none, the
/// addresses to which announcements are posted, without `/submit`.
#[must_use]
pub fn download_urls(config: &MasterConfig) -> Vec<String> {
    let base = |url: &String| {
        let url = url.trim_end_matches('/');
        url.strip_suffix("/submit").unwrap_or(url).to_owned()
    };
    let listed: Vec<_> =
        config.download_ann_urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
    let mut urls =
        if listed.is_empty() { config.submit_ann_urls.iter().map(base).collect() } else { listed };
    let mut seen = std::collections::HashSet::new();
    urls.retain(|url| seen.insert(url.clone()));
    urls
}

impl Feed {
    /// Follows one handler until the signal.
    pub(crate) async fn follow(self: Arc<Self>, base: String, shutdown: Shutdown) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.follow_for_ever(&base) => {}
        }
    }

    async fn follow_for_ever(&self, base: &str) {
        let source = self.peers.source(base);
        let mut have = Have::default();
        let mut failures = 0_u32;
        loop {
            if let Some(dropped) = self.peers.dropped_for(source) {
                tokio::time::sleep(dropped).await;
            }
            let Some(next) = self.chain.next() else {
                tokio::time::sleep(self.poll).await;
                continue;
            };
            let asked = Instant::now();
            match self.update(base, source, next.height, &mut have).await {
                // Not faster than this, also where the handler answers at once without news, or
                // with a few announcements each time.
                Ok(_) => tokio::time::sleep(self.poll.saturating_sub(asked.elapsed())).await,
                Err(FetchError::Ended) => return,
                Err(error) => {
                    if self.peers.set_trouble(source, Some(error.to_string())) {
                        tracing::warn!("announcements: {error}");
                    }
                    failures += 1;
                    tokio::time::sleep(retry_after(failures)).await;
                    continue;
                }
            }
            failures = 0;
            if self.peers.dropped_for(source).is_none() {
                self.peers.set_trouble(source, None);
            }
        }
    }

    /// Asks once for all that is new; returns the bytes that came.
    async fn update(
        &self,
        base: &str,
        source: SourceId,
        height: u32,
        have: &mut Have,
    ) -> Result<u64, FetchError> {
        let index = self.index(base, have).await?;
        have.keep_to(&index);
        let Ok(_permit) = self.permits.acquire().await else { return Err(FetchError::Ended) };
        let mut bytes = 0;
        // The newest first: they are worth the most.
        for file in index.files.iter().rev() {
            if file.parent_height_max + USABLE_BLOCKS < i64::from(height) {
                continue;
            }
            bytes += self.download(base, source, file, have).await?;
            if self.peers.dropped_for(source).is_some() {
                return Ok(bytes);
            }
        }
        have.newest = index.files.last().map(|file| (file.number, file.bytes));
        Ok(bytes)
    }

    /// The index; waits for one with news where the handler can do that, as ours does.
    async fn index(&self, base: &str, have: &Have) -> Result<AnnsIndex, FetchError> {
        let mut url = format!("{base}{INDEX_PATH}");
        if let Some((number, bytes)) = have.newest {
            url = format!("{url}?wait={LONG_POLL_S}&number={number}&bytes={bytes}");
        }
        let request = Request::get(&url)
            .reply_bytes_max(INDEX_BYTES_MAX)
            .request_ms_max(limits::REQUEST_MS_MAX + 1000 * LONG_POLL_S);
        let body = self.http.fetch(request).await?;
        AnnsIndex::parse(&body).map_err(|cause| FetchError::Index { url, cause })
    }

    async fn download(
        &self,
        base: &str,
        source: SourceId,
        file: &AnnFile,
        have: &mut Have,
    ) -> Result<u64, FetchError> {
        let url = format!("{base}{FILE_PATH_PREFIX}{}", file.name());
        let first = have.of(file.number);
        let mut from = first;
        while from < file.bytes {
            let to = file.bytes.min(from + RANGE_BYTES_MAX);
            let bytes = self.range(&url, from, to).await?;
            if !self.inlet.send(Batch { source, bytes }).await {
                return Err(FetchError::Ended);
            }
            from = to;
            have.put(file.number, from);
        }
        Ok(from - first)
    }

    async fn range(&self, url: &str, from: u64, to: u64) -> Result<bytes::Bytes, FetchError> {
        let range = format!("bytes={from}-{}", to - 1);
        let headers = [("range", range.as_str())];
        let request = Request::get(url).headers(&headers).reply_bytes_max((to - from) as usize);
        let reply = self.http.send(request).await?;
        // The whole file is an answer too when it is what was asked for.
        if reply.status != 206 && !(reply.status == 200 && from == 0) {
            return Err(FetchError::NoRange { url: url.to_owned(), status: reply.status });
        }
        if reply.body.len() as u64 != to - from {
            let have = reply.body.len();
            return Err(FetchError::Length { url: url.to_owned(), want: to - from, have });
        }
        Ok(reply.body)
    }
}

fn retry_after(failures: u32) -> Duration {
    let (first, longest) = RETRY;
    first.saturating_mul(1 << (failures - 1).min(10)).min(longest)
}

/// How much of which files of a handler's store came already.
#[derive(Debug, Default)]
struct Have {
    store: String,
    bytes: BTreeMap<u64, u64>,
    /// Number and length of the newest file of the last index, all of which came.
    newest: Option<(u64, u64)>,
}

impl Have {
    /// Forgets what is no longer in the index: all of it when the store is another one, and a file
    /// that has become shorter, since its content is not what came.
    fn keep_to(&mut self, index: &AnnsIndex) {
        if self.store != index.store {
            *self = Have { store: index.store.clone(), ..Have::default() };
        }
        self.bytes.retain(|number, have| {
            index
                .files
                .binary_search_by_key(number, |file| file.number)
                .is_ok_and(|at| *have <= index.files[at].bytes)
        });
    }

    fn of(&self, number: u64) -> u64 {
        self.bytes.get(&number).copied().unwrap_or(0)
    }

    fn put(&mut self, number: u64, bytes: u64) {
        self.bytes.insert(number, bytes);
    }
}

const _: () = assert!(RANGE_BYTES_MAX.is_multiple_of(ANNOUNCEMENT_BYTES as u64));

#[cfg(test)]
mod tests {
    use super::*;

    fn config(download: &[&str], submit: &[&str]) -> MasterConfig {
        let value = serde_json::json!({
            "tipHash": "00".repeat(32), "currentHeight": 7, "version": 3,
            "submitAnnUrls": submit, "downloadAnnUrls": download, "submitBlockUrls": [],
        });
        MasterConfig::parse(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn handlers_are_those_of_the_list_or_those_posted_to() {
        let submit = ["http://a/submit", "http://b/x/submit/", "http://a/submit"];
        assert_eq!(download_urls(&config(&[], &submit)), ["http://a", "http://b/x"]);
        assert_eq!(download_urls(&config(&["http://c/", "http://c"], &submit)), ["http://c"]);
        assert!(download_urls(&config(&[], &[])).is_empty());
    }

    fn file(number: u64, bytes: u64) -> AnnFile {
        AnnFile { number, bytes, parent_height_min: 7, parent_height_max: 9, complete: false }
    }

    #[test]
    fn what_came_is_remembered_until_the_store_changes() {
        let mut have = Have::default();
        let mut index =
            AnnsIndex { store: "a".to_owned(), files: vec![file(1, 4096), file(2, 2048)] };
        have.keep_to(&index);
        have.put(1, 4096);
        have.put(2, 1024);
        index.files[1].bytes = 8192;
        have.keep_to(&index);
        assert_eq!((have.of(1), have.of(2)), (4096, 1024));
        // A file that went, and one that was truncated.
        index.files = vec![file(2, 0), file(3, 1024)];
        have.keep_to(&index);
        assert_eq!((have.of(1), have.of(2), have.of(3)), (0, 0, 0));
        have.put(3, 1024);
        index.store = "b".to_owned();
        have.keep_to(&index);
        assert_eq!(have.of(3), 0);
    }

    #[test]
    fn pauses_grow_and_end() {
        assert_eq!(retry_after(1), Duration::from_millis(500));
        assert_eq!(retry_after(3), Duration::from_secs(2));
        assert_eq!(retry_after(u32::MAX), RETRY.1);
    }
}
