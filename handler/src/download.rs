//! Announcement files over HTTP: `GET /anns/index.json` and `GET /anns/anns_<n>.bin`.
//!
//! Our addition to the protocol ([`packetcrypt_proto::anns_index`]). Files are served from their
//! mapping without a copy, whole or one `Range`. Two query parameters make a *long poll* of a
//! request, which a client that does not know them never notices:
//!
//! - `/anns/index.json?wait=<seconds>&number=<N>&bytes=<B>` is answered when something is published
//!   beyond byte B of file N, or a later file begun;
//! - `/anns/anns_<n>.bin?wait=<seconds>` with a range that begins at the published end is answered
//!   when there is more.
//!
//! Both are answered after the given time in any case, at most [`WAIT_S_MAX`].

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use packetcrypt_proto::anns_index::{self, AnnFile, AnnsIndex};

use crate::publish::{FileView, PublishedBytes, Reader};

/// The longest wait of a long poll, seconds.
pub(crate) const WAIT_S_MAX: u64 = 30;

/// A GET, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Download {
    /// The list of files.
    Index {
        /// How long to wait for something beyond `seen`.
        wait: Duration,
        /// File number and bytes that the client has.
        seen: Option<(u64, u64)>,
    },
    /// A file.
    File {
        /// Its number.
        number: u64,
        /// How long to wait for data at its end.
        wait: Duration,
    },
}

/// The header fields of a request that matter here, as text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conditions<'a> {
    /// `Range`.
    pub(crate) range: Option<&'a str>,
    /// `If-Range`.
    pub(crate) if_range: Option<&'a str>,
    /// `If-None-Match`.
    pub(crate) if_none_match: Option<&'a str>,
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Served {
    /// The status.
    pub(crate) status: u16,
    /// Header fields besides the length.
    pub(crate) headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body.
    pub(crate) body: ServedBody,
}

/// A body of an answer.
#[derive(Debug)]
pub(crate) enum ServedBody {
    /// Text, perhaps none.
    Text(Bytes),
    /// A piece of a file.
    Bytes(PublishedBytes),
}

impl Download {
    /// The request for this path and query; `None` for paths that are not ours.
    pub(crate) fn parse(target: &str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse::<u64>().ok())
        };
        let wait = Duration::from_secs(value("wait").unwrap_or(0).min(WAIT_S_MAX));
        if path == anns_index::INDEX_PATH {
            return Some(Self::Index { wait, seen: value("number").zip(value("bytes")) });
        }
        Some(Self::File { number: anns_index::number_of_path(path)?, wait })
    }

    /// How long the answer may wait.
    pub(crate) fn wait(&self) -> Duration {
        match self {
            Self::Index { wait, .. } | Self::File { wait, .. } => *wait,
        }
    }

    /// Whether the answer would be better after waiting.
    pub(crate) fn should_wait(&self, reader: &Reader, conditions: Conditions<'_>) -> bool {
        match *self {
            Self::Index { seen: None, .. } => false,
            Self::Index { seen: Some((number, bytes)), .. } => {
                let last = reader.files().pop();
                last.is_none_or(|last| (last.number, last.len as u64) <= (number, bytes))
            }
            Self::File { number, .. } => {
                let begin = conditions.range.and_then(Range::parse);
                match (reader.file(number), begin) {
                    (Some(file), Some(Range::From(begin, _))) => {
                        !file.is_full && begin == file.len as u64
                    }
                    _ => false,
                }
            }
        }
    }

    /// The answer as things are now.
    pub(crate) fn serve(
        &self,
        reader: &Reader,
        index: &IndexText,
        conditions: Conditions<'_>,
    ) -> Served {
        match self {
            Self::Index { .. } => index.serve(reader),
            Self::File { number, .. } => match reader.file(*number) {
                None => Served::text(404, "Not found"),
                Some(file) => serve_file(&file, &reader.store_id, conditions),
            },
        }
    }
}

impl Served {
    fn text(status: u16, text: &str) -> Self {
        let headers = vec![("content-type", "text/plain; charset=utf-8".into())];
        Self { status, headers, body: ServedBody::Text(Bytes::copy_from_slice(text.as_bytes())) }
    }
}

/// One range of a `Range: bytes=` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// From a first byte to a last one, or to the end.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Last(u64),
}

impl Range {
    /// A single byte range. `None` for anything else: a server may ignore what it does not know.
    fn parse(text: &str) -> Option<Self> {
        let (unit, spec) = text.trim().split_once('=')?;
        let (first, last) = spec.trim().split_once('-')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        match (first, last) {
            ("", last) => Some(Self::Last(digits(last)?)),
            (first, "") => Some(Self::From(digits(first)?, None)),
            (first, last) => {
                let (first, last) = (digits(first)?, digits(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// The bytes it means of a file of `len` bytes, `None` when there is none of them.
    fn of(self, len: usize) -> Option<std::ops::Range<usize>> {
        let range = match self {
            Self::From(first, last) => {
                let end = last.map_or(len as u64, |last| last.saturating_add(1).min(len as u64));
                first..end
            }
            Self::Last(count) => (len as u64).saturating_sub(count)..len as u64,
        };
        // Both ends are at most `len`, where the range is not empty.
        (range.start < range.end).then_some(range.start as usize..range.end as usize)
    }
}

fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than a u64 holds mean a place beyond the end of any file.
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// The text of the index, kept until something is published.
#[derive(Debug, Default)]
pub(crate) struct IndexText {
    /// The version of what is published, and its text.
    kept: RefCell<Option<(u64, Bytes)>>,
}

impl IndexText {
    fn serve(&self, reader: &Reader) -> Served {
        let headers =
            vec![("content-type", "application/json".into()), ("cache-control", "no-store".into())];
        Served { status: 200, headers, body: ServedBody::Text(self.text(reader)) }
    }

    fn text(&self, reader: &Reader) -> Bytes {
        // Before looking: what is published meanwhile makes another text the next time.
        let version = reader.version();
        let mut kept = self.kept.borrow_mut();
        match &*kept {
            Some((of, text)) if *of == version => text.clone(),
            _ => {
                let files = reader.files().iter().map(ann_file).collect();
                let index = AnnsIndex { store: reader.store_id.to_string(), files };
                let text = Bytes::from(index.to_json());
                *kept = Some((version, text.clone()));
                text
            }
        }
    }
}

fn ann_file(file: &FileView) -> AnnFile {
    let (min, max) = match file.parent_heights {
        Some((min, max)) => (i64::from(min), i64::from(max)),
        None => (-1, -1),
    };
    AnnFile {
        number: file.number,
        bytes: file.len as u64,
        parent_height_min: min,
        parent_height_max: max,
        complete: file.is_full,
    }
}

fn serve_file(file: &FileView, store_id: &str, conditions: Conditions<'_>) -> Served {
    let tag = anns_index::entity_tag(store_id, file.number);
    let mut headers = vec![
        ("etag", tag.clone().into()),
        ("accept-ranges", "bytes".into()),
        // A file that still grows is another one the next time it is asked for.
        (
            "cache-control",
            if file.is_full { "max-age=86400, immutable" } else { "no-store" }.into(),
        ),
    ];
    let names_tag = |list: &str| list.split(',').any(|one| one.trim() == tag || one.trim() == "*");
    if file.is_full && conditions.if_none_match.is_some_and(names_tag) {
        return Served { status: 304, headers, body: ServedBody::Text(Bytes::new()) };
    }
    headers.push(("content-type", "application/octet-stream".into()));
    let same_file = conditions.if_range.is_none_or(|if_range| if_range.trim() == tag);
    let range = conditions.range.filter(|_| same_file).and_then(Range::parse);
    let (status, bytes) = match range {
        None => (200, 0..file.len),
        Some(range) => match range.of(file.len) {
            Some(bytes) => {
                let last = bytes.end - 1;
                let of = format!("bytes {}-{last}/{}", bytes.start, file.len);
                headers.push(("content-range", of.into()));
                (206, bytes)
            }
            None => {
                headers.push(("content-range", format!("bytes */{}", file.len).into()));
                return Served { status: 416, headers, body: ServedBody::Text(Bytes::new()) };
            }
        },
    };
    match file.bytes(bytes) {
        Some(bytes) => Served { status, headers, body: ServedBody::Bytes(bytes) },
        // Not so: the length is a published one, which never shrinks.
        None => Served::text(500, "length changed"),
    }
}

#[cfg(test)]
mod tests;
