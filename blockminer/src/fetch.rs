//! The HTTP feed: downloads the announcement files of the pool's handlers (our addition to the
//! protocol; `packetcrypt_proto::anns_index` describes it).
//!
//! One task follows each handler: it reads the index, and has what is new fetched in pieces, those
//! of the newest files first, by several connections ([`line`]) which receive straight into the
//! slots of the store. What came is remembered by file as long as the handler's store is the same
//! one, over a restart too when the store is a file. A handler that fails is asked again with
//! growing pauses; the others go on meanwhile.

mod have;
mod line;
mod round;

use std::sync::Arc;
use std::time::{Duration, Instant};

use packetcrypt_net::client::{ClientError, HttpClient, Request};
use packetcrypt_net::{Shutdown, limits};
use packetcrypt_proto::anns_index::{AnnsIndex, INDEX_BYTES_MAX, INDEX_PATH};
use packetcrypt_proto::config::MasterConfig;
use packetcrypt_proto::fields::MessageError;
use tokio::sync::Semaphore;

use crate::chain::Chain;
use crate::class::SourceId;
use crate::peers::Peers;
use crate::store::{Keeper, LANDING_LEN_MAX, Snapshot};
use have::{Have, Piece};
use round::{RoundEnd, Rounds};

pub(crate) use line::{Lines, LinesError};

/// Bytes asked for at a time.
const PIECE_BYTES_MAX: u64 = 1024 * LANDING_LEN_MAX as u64;
/// Announcements whose parent is this many blocks below the one to be mined are worth nothing at
/// any target (spec 04, 2.3).
const USABLE_BLOCKS: i64 = 260;
/// How long a handler may wait with its answer for news, s. Bounds how long a handler whose work
/// is known to be old is asked nothing.
const LONG_POLL_S: u64 = 15;
/// First and longest pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// The rate of a round is told in the log from this many bytes on.
const TOLD_BYTES_MIN: u64 = 64 << 20;
/// What came is remembered for a restart at most this often.
const REMEMBER_EVERY: Duration = Duration::from_secs(2);

/// Why a handler gives no announcements.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{url}: {cause}")]
    Index { url: String, cause: MessageError },
    #[error("{0}")]
    Pieces(String),
    #[error("the miner stops")]
    Ended,
}

/// What all downloads have in common.
pub(crate) struct Feed {
    pub(crate) http: HttpClient,
    pub(crate) chain: Arc<Chain>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) lines: Lines,
    /// Connections to one handler.
    pub(crate) connections: usize,
    /// One permit for each handler that may be asked at the same time.
    pub(crate) permits: Semaphore,
    /// Pause between two looks at an index without news.
    pub(crate) poll: Duration,
    pub(crate) keeper: Option<Arc<Keeper>>,
    /// What an earlier process knew.
    pub(crate) before: Snapshot,
}

/// The handlers to download from: our own, and the pool's list of them or, when the pool names
/// none, the addresses to which announcements are posted, without `/submit`.
#[must_use]
pub fn download_urls(config: Option<&MasterConfig>, own: &[String]) -> Vec<String> {
    let base = |url: &String| {
        let url = url.trim_end_matches('/');
        url.strip_suffix("/submit").unwrap_or(url).to_owned()
    };
    let bare = |url: &String| url.trim_end_matches('/').to_owned();
    let mut urls: Vec<_> = own.iter().map(bare).collect();
    match config {
        Some(config) if config.download_ann_urls.is_empty() => {
            urls.extend(config.submit_ann_urls.iter().map(base));
        }
        Some(config) => urls.extend(config.download_ann_urls.iter().map(bare)),
        None => {}
    }
    let mut seen = std::collections::HashSet::new();
    urls.retain(|url| seen.insert(url.clone()));
    urls
}

/// One handler that is followed.
struct Followed<'f> {
    feed: &'f Feed,
    base: &'f str,
    source: SourceId,
    rounds: Arc<Rounds>,
    have: Have,
    remembered: Instant,
}

impl Feed {
    /// Follows one handler until the signal.
    pub(crate) async fn follow(self: Arc<Self>, base: String, shutdown: Shutdown) {
        let source = self.peers.source(&base);
        let rounds = Arc::new(Rounds::default());
        let stop = shutdown.child();
        for number in 0..self.connections {
            self.lines.open(number, &base, source, &rounds, &stop);
        }
        let before = self.before.downloads.iter().find(|download| download.source == base);
        let have = before.map(Have::restore).unwrap_or_default();
        let (feed, remembered) = (&*self, Instant::now());
        let mut followed = Followed { feed, base: &base, source, rounds, have, remembered };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = followed.follow_for_ever() => {}
        }
        stop.trigger();
        followed.remember();
    }
}

impl Followed<'_> {
    async fn follow_for_ever(&mut self) {
        let Feed { peers, chain, poll, .. } = self.feed;
        let mut failures = 0_u32;
        loop {
            if let Some(dropped) = peers.dropped_for(self.source) {
                tokio::time::sleep(dropped).await;
            }
            let Some(next) = chain.next() else {
                tokio::time::sleep(*poll).await;
                continue;
            };
            let asked = Instant::now();
            match self.update(next.height).await {
                // Not faster than this, also where the handler answers at once without news, or
                // with a few announcements each time.
                Ok(()) => tokio::time::sleep(poll.saturating_sub(asked.elapsed())).await,
                Err(FetchError::Ended) => return,
                Err(error) => {
                    if peers.set_trouble(self.source, Some(error.to_string())) {
                        tracing::warn!("announcements: {}: {error}", self.base);
                    }
                    failures += 1;
                    tokio::time::sleep(retry_after(failures)).await;
                    continue;
                }
            }
            failures = 0;
            if peers.dropped_for(self.source).is_none() {
                peers.set_trouble(self.source, None);
            }
        }
    }

    /// Asks once for all that is new.
    async fn update(&mut self, height: u32) -> Result<(), FetchError> {
        let index = self.index().await?;
        self.have.keep_to(&index);
        let Ok(_permit) = self.feed.permits.acquire().await else { return Err(FetchError::Ended) };
        let pieces = self.pieces(&index, height);
        let (started, is_long) = (Instant::now(), pieces.len() > 1);
        let end = self.fetch(pieces.clone()).await;
        for piece in pieces {
            // Files come in any order, the pieces of each ascending.
            let came = end.lost.get(&piece.file).map_or(piece.to, |lost| piece.to.min(*lost));
            if came > piece.from {
                self.have.put(piece.file, came);
            }
        }
        if is_long {
            self.tell(end.bytes, started.elapsed());
        }
        if self.remembered.elapsed() >= REMEMBER_EVERY {
            self.remember();
        }
        if self.feed.peers.dropped_for(self.source).is_some() {
            // Why is told already.
            return Ok(());
        }
        if let Some(failure) = end.failure {
            return Err(FetchError::Pieces(failure));
        }
        self.have.newest = index.files.last().map(|file| (file.number, file.bytes));
        Ok(())
    }

    /// Has pieces fetched; when the peer is dropped meanwhile, only those under way.
    async fn fetch(&self, pieces: Vec<Piece>) -> RoundEnd {
        let mut round = std::pin::pin!(self.rounds.fetch(pieces));
        tokio::select! {
            end = &mut round => end,
            () = self.dropped() => {
                self.rounds.give_up("the peer was dropped");
                round.await
            }
        }
    }

    /// Everything that did not come yet and may be of use, the newest files first: they are worth
    /// the most.
    fn pieces(&self, index: &AnnsIndex, height: u32) -> Vec<Piece> {
        let is_of_use = |of: i64| of + USABLE_BLOCKS >= i64::from(height);
        let files = index.files.iter().rev().filter(|file| is_of_use(file.parent_height_max));
        files
            .filter_map(|file| self.have.missing(file))
            .flat_map(|Piece { file, from, to }| {
                let piece = move |from| Piece { file, from, to: to.min(from + PIECE_BYTES_MAX) };
                (from..to).step_by(PIECE_BYTES_MAX as usize).map(piece)
            })
            .collect()
    }

    async fn dropped(&self) {
        while self.feed.peers.dropped_for(self.source).is_none() {
            tokio::time::sleep(self.feed.poll).await;
        }
    }

    fn tell(&self, bytes: u64, took: Duration) {
        let rate = bytes as f64 / took.as_secs_f64().max(1e-6);
        self.feed.peers.set_rate(self.source, rate);
        if bytes >= TOLD_BYTES_MIN {
            tracing::info!(
                "announcements: {}: {} MiB came at {:.0} MB/s over {} connections",
                self.base,
                bytes >> 20,
                rate / 1e6,
                self.feed.connections
            );
        }
    }

    /// Keeps what came for a restart. What was published later than this comes again.
    fn remember(&mut self) {
        self.remembered = Instant::now();
        let Some(keeper) = &self.feed.keeper else { return };
        let now = self.have.to_download(self.base);
        keeper.change(|snapshot| {
            snapshot.downloads.retain(|download| download.source != now.source);
            snapshot.downloads.push(now);
        });
    }

    /// The index; waits for one with news where the handler can do that, as ours does.
    async fn index(&self) -> Result<AnnsIndex, FetchError> {
        let mut url = format!("{}{INDEX_PATH}", self.base);
        if let Some((number, bytes)) = self.have.newest {
            url = format!("{url}?wait={LONG_POLL_S}&number={number}&bytes={bytes}");
        }
        let request = Request::get(&url)
            .reply_bytes_max(INDEX_BYTES_MAX)
            .request_ms_max(limits::REQUEST_MS_MAX + 1000 * LONG_POLL_S);
        let body = self.feed.http.fetch(request).await?;
        AnnsIndex::parse(&body).map_err(|cause| FetchError::Index { url, cause })
    }
}

fn retry_after(failures: u32) -> Duration {
    let (first, longest) = RETRY;
    first.saturating_mul(1 << (failures - 1).min(10)).min(longest)
}

const _: () =
    assert!(PIECE_BYTES_MAX.is_multiple_of(packetcrypt_core::params::ANNOUNCEMENT_BYTES as u64));

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
        assert_eq!(download_urls(Some(&config(&[], &submit)), &[]), ["http://a", "http://b/x"]);
        assert_eq!(
            download_urls(Some(&config(&["http://c/", "http://c"], &submit)), &[]),
            ["http://c"]
        );
        let own = ["http://d/".to_owned(), "http://c".to_owned()];
        assert_eq!(download_urls(None, &own), ["http://d", "http://c"]);
        assert_eq!(
            download_urls(Some(&config(&["http://c/"], &[])), &own),
            ["http://d", "http://c"]
        );
        assert!(download_urls(Some(&config(&[], &[])), &[]).is_empty());
    }

    #[test]
    fn pauses_grow_and_end() {
        assert_eq!(retry_after(1), Duration::from_millis(500));
        assert_eq!(retry_after(3), Duration::from_secs(2));
        assert_eq!(retry_after(u32::MAX), RETRY.1);
    }
}
