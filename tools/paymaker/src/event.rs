//! Lines of the pay logs as checked events (spec 05, 12.3).

use std::sync::Arc;

use packetcrypt_core::bytes::CompactTarget;
use serde_json::{Map, Value};

/// Target that stands for one that is missing or 0.
pub const TARGET_DEFAULT: f64 = 0x2000_0fff as f64;
/// Characters at the end of a log in which its newest time is looked for.
const NEWEST_CHARS_MAX: usize = 10_000;
/// How far ahead of the paymaker's clock the time of an event may be, ms (spec 05, 16.7).
pub const AHEAD_MS_MAX: f64 = 600_000.0;

/// One usable line.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Identifier within its kind.
    pub id: Arc<str>,
    /// Time, ms since the epoch.
    pub time: f64,
    /// What happened.
    pub kind: Kind,
}

/// What an event tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A share was accepted.
    Share(Share),
    /// Announcements were accepted.
    Anns(Anns),
    /// A block was seen on the chain.
    Block {
        /// Difficulty relative to 4096 hashes.
        difficulty: f64,
        /// Hash of the block, when the event names it.
        hash: Option<String>,
    },
    /// Another kind, which is nobody's pay.
    Unknown,
}

/// An accepted share.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Who is paid; not checked yet.
    pub pay_to: String,
    /// Compact share target as a number.
    pub target: f64,
    /// Hash of the block that the share was, if it was one.
    pub header_hash: Option<String>,
    /// Expected hashes of the share, for the statistics.
    pub encryptions: f64,
}

/// An accepted post of announcements.
#[derive(Clone, Debug, PartialEq)]
pub struct Anns {
    /// Who is paid; not checked yet.
    pub pay_to: String,
    /// New announcements.
    pub accepted: f64,
    /// Those of them that have no signing key.
    pub unsigned: f64,
    /// Length of their contents, bytes.
    pub total_len: f64,
    /// Compact target of the least work among them, as a number.
    pub target: f64,
}

/// JavaScript's idea of "set".
fn is_truthy(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(set)) => *set,
        Some(Value::Number(number)) => number.as_f64().is_some_and(|n| n != 0.0 && !n.is_nan()),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(_) | Value::Object(_)) => true,
    }
}

fn number(object: &Map<String, Value>, key: &str) -> Option<f64> {
    object.get(key).and_then(Value::as_f64)
}

fn text(object: &Map<String, Value>, key: &str) -> String {
    object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Parses one line; `None` when it is not an event (spec 05, 12.3 and 16.6).
#[must_use]
pub fn parse(line: &str) -> Option<Event> {
    let Value::Object(object) = serde_json::from_str(line).ok()? else { return None };
    let kind = object.get("type");
    let kind = if is_truthy(object.get("accepted")) { "anns" } else { kind?.as_str()? };
    let id = object.get("eventId")?.as_str()?.into();
    let time = number(&object, "time")?;
    let kind = match kind {
        "share" => Kind::Share(Share {
            pay_to: text(&object, "payTo"),
            target: target(&object)?,
            header_hash: hash(&object, "headerHash"),
            encryptions: number(&object, "encryptions").unwrap_or(0.0),
        }),
        "anns" => Kind::Anns(Anns {
            pay_to: text(&object, "payTo"),
            accepted: amount(&object, "accepted")?,
            unsigned: amount(&object, "unsigned")?,
            total_len: amount(&object, "totalLen")?,
            target: target(&object)?,
        }),
        "block" => {
            number(&object, "height")?;
            Kind::Block { difficulty: number(&object, "difficulty")?, hash: hash(&object, "hash") }
        }
        _ => Kind::Unknown,
    };
    Some(Event { id, time, kind })
}

fn hash(object: &Map<String, Value>, key: &str) -> Option<String> {
    Some(text(object, key)).filter(|hash| !hash.is_empty())
}

/// A count, which is never negative: nobody owes the pool announcements.
fn amount(object: &Map<String, Value>, key: &str) -> Option<f64> {
    number(object, key).filter(|n| *n >= 0.0)
}

fn target(object: &Map<String, Value>) -> Option<f64> {
    match object.get("target") {
        set if !is_truthy(set) => Some(TARGET_DEFAULT),
        set => set.and_then(Value::as_f64),
    }
}

/// A compact target that came as a number, wrapped to 32 bits as JavaScript does.
#[must_use]
pub fn compact_of(target: f64) -> CompactTarget {
    CompactTarget(if target < 1.0 { 0 } else { to_uint32(target) })
}

/// ECMAScript's `ToUint32`.
#[must_use]
pub fn to_uint32(number: f64) -> u32 {
    if !number.is_finite() {
        return 0;
    }
    // The remainder is below 2^32, so the conversion is exact.
    number.trunc().rem_euclid(4_294_967_296.0) as u32
}

/// Time of the last parsable line of a log that is not too far in the future (spec 05, 12.2 step 2
/// and 16.7), or why there is none.
///
/// # Errors
/// No line has a time, or each of those that have one is ahead of the clock.
pub fn newest_time(log: &str, now_ms: f64) -> Result<f64, NewestError> {
    let mut rest = tail(log);
    let mut ahead = None;
    loop {
        let (before, line) = rest.rsplit_once('\n').map_or(("", rest), |(a, b)| (a, b));
        if let Ok(Value::Object(object)) = serde_json::from_str(line)
            && let Some(time) = number(&object, "time")
        {
            if time <= now_ms + AHEAD_MS_MAX {
                return Ok(time);
            }
            ahead.get_or_insert(time);
        }
        if before.is_empty() {
            return Err(ahead.map_or(NewestError::None, |time| NewestError::Ahead { time, now_ms }));
        }
        rest = before;
    }
}

/// The last characters, counted as JavaScript counts them.
fn tail(log: &str) -> &str {
    let mut units = 0;
    for (at, character) in log.char_indices().rev() {
        units += character.len_utf16();
        if units > NEWEST_CHARS_MAX {
            return &log[at + character.len_utf8()..];
        }
    }
    log
}

/// Why a log has no newest time.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NewestError {
    /// No line of its end has one.
    #[error("could not get most recent timestamp from file")]
    None,
    /// They lie in the future.
    #[error(
        "time [{time}] of the most recent event is more than {AHEAD_MS_MAX} ms ahead of the \
         paymaker's clock [{now_ms}]"
    )]
    Ahead {
        /// The last of them, ms.
        time: f64,
        /// The clock, ms.
        now_ms: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn newest_is_the_last_parsable_line_not_the_greatest() {
        let log = "{\"time\":9}\n{\"time\":5}\nbroken\n{\"time\":\"7\"}\n";
        assert_eq!(newest_time(log, 0.0), Ok(5.0));
        assert_eq!(newest_time("{\"time\":5}", 0.0), Ok(5.0));
        for nothing in ["", "\n\n", "null\n", "{\"time\":\"5\"}\n", "[1]"] {
            assert_eq!(newest_time(nothing, 0.0), Err(NewestError::None), "{nothing:?}");
        }
    }

    #[test]
    fn newest_is_looked_for_in_the_last_ten_thousand_characters() {
        let line = "{\"time\":5}\n";
        let fits = format!("{line}{}", "x".repeat(NEWEST_CHARS_MAX - line.len()));
        assert_eq!(newest_time(&fits, 0.0), Ok(5.0));
        let cut = format!("{line}{}", "x".repeat(NEWEST_CHARS_MAX - line.len() + 1));
        assert_eq!(newest_time(&cut, 0.0), Err(NewestError::None));
        // Two units each, though four bytes.
        let wide = format!("{line}{}", "\u{1f600}".repeat((NEWEST_CHARS_MAX - line.len()) / 2));
        assert_eq!(newest_time(&wide, 0.0), Ok(5.0));
    }

    #[test]
    fn newest_passes_over_the_future() {
        let now = 1_000_000.0;
        assert_eq!(newest_time("{\"time\":7}\n{\"time\":1600001}\n", now), Ok(7.0));
        assert_eq!(newest_time("{\"time\":1600000}\n", now), Ok(1_600_000.0));
        let error = newest_time("{\"time\":1600001}\n", now).expect_err("ahead");
        assert!(error.to_string().contains("[1600001]"), "{error}");
        assert!(error.to_string().contains("[1000000]"), "{error}");
    }

    #[test]
    fn hostile_lines_are_no_events() {
        let lines = [
            "null",
            "[]",
            "5",
            "\"x\"",
            "{",
            "{}",
            r#"{"type":"anns","eventId":"a","time":1,"accepted":-1,"unsigned":0,"totalLen":0}"#,
            r#"{"type":"share","eventId":5,"time":1}"#,
            r#"{"type":"share","eventId":"a","time":"1"}"#,
            r#"{"type":"share","eventId":"a","time":1,"target":"x"}"#,
            r#"{"type":"block","eventId":"a","time":1,"height":"7","difficulty":1}"#,
        ];
        for line in lines {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn numbers_wrap_as_in_javascript() {
        assert_eq!(to_uint32(4_294_967_297.5), 1);
        assert_eq!(to_uint32(-1.0), u32::MAX);
        assert_eq!(to_uint32(f64::INFINITY), 0);
        assert_eq!(compact_of(-5.0), CompactTarget(0));
    }

    proptest! {
        #[test]
        fn no_line_panics(line in ".{0,200}", now in 0.0..2e12f64) {
            let _ = parse(&line);
            let _ = newest_time(&line, now);
        }
    }
}
