//! The reply of announcement handlers, block handlers and the paymaker (spec 05, 2.5).

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::fields::{self, MessageError};
use crate::json;

/// Most bytes of a reply that a client reads.
pub const REPLY_BYTES_MAX: usize = 1 << 20;

/// `{"warn":[..],"error":[..],"result":..}`; it tells success when `error` is empty.
///
/// The announcement handler writes its keys in this order ([`Reply::to_ann_json`]), block handler
/// and paymaker write `result` first ([`Reply::to_json`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Reply<T> {
    /// Things to tell the miner's operator that did not prevent success.
    pub warn: Vec<String>,
    /// Why the request failed; empty on success.
    pub error: Vec<String>,
    /// The result, `None` on failure.
    pub result: Option<T>,
}

impl<T> Reply<T> {
    /// A success without warnings.
    #[must_use]
    pub fn ok(result: T) -> Self {
        Self { warn: Vec::new(), error: Vec::new(), result: Some(result) }
    }

    /// A failure for one reason.
    #[must_use]
    pub fn failed(error: impl Into<String>) -> Self {
        Self { warn: Vec::new(), error: vec![error.into()], result: None }
    }

    /// The same with these warnings.
    #[must_use]
    pub fn with_warnings(self, warn: Vec<String>) -> Self {
        Self { warn, ..self }
    }

    /// Whether the request succeeded.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.error.is_empty()
    }
}

impl<T: Serialize> Reply<T> {
    /// The form of the announcement handler: `warn`, `error`, `result`, which is `null` on failure.
    #[must_use]
    pub fn to_ann_json(&self) -> String {
        #[derive(Serialize)]
        struct Wire<'a, T> {
            warn: &'a [String],
            error: &'a [String],
            result: Option<&'a T>,
        }
        json::to_line(&Wire { warn: &self.warn, error: &self.error, result: self.result.as_ref() })
    }

    /// The form of the block handler: `result` (the empty text on failure), `error`, `warn`.
    #[must_use]
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Wire<'a, T> {
            result: ResultOrText<'a, T>,
            error: &'a [String],
            warn: &'a [String],
        }
        let result = self.result.as_ref().map_or(ResultOrText::Text(""), ResultOrText::Result);
        json::to_line(&Wire { result, error: &self.error, warn: &self.warn })
    }

    /// The form of the paymaker's `/events`: on success `result`, `warn`, `error`, on failure
    /// `result` (the empty text), `error`, `warn` (spec 05, 12.2).
    #[must_use]
    pub fn to_paymaker_json(&self) -> String {
        #[derive(Serialize)]
        struct Wire<'a, T> {
            result: &'a T,
            warn: &'a [String],
            error: &'a [String],
        }
        match &self.result {
            Some(result) => json::to_line(&Wire { result, warn: &self.warn, error: &self.error }),
            None => self.to_json(),
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum ResultOrText<'a, T> {
    Text(&'static str),
    Result(&'a T),
}

impl<T: for<'de> Deserialize<'de>> Reply<T> {
    /// Parses a reply of any of the services, in any order of keys.
    ///
    /// A failure may hold anything as its result: `null`, the empty text or nothing at all. Absent
    /// lists are empty ones.
    ///
    /// # Errors
    /// [`MessageError`] when it is no such reply, or a success without the result.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default, deserialize_with = "texts")]
            warn: Vec<String>,
            #[serde(default, deserialize_with = "texts")]
            error: Vec<String>,
            #[serde(default)]
            result: Value,
        }
        let value = fields::parse_json(bytes, REPLY_BYTES_MAX)?;
        if !value.is_object() {
            return Err(MessageError::NotObject);
        }
        let not_json = |e: serde_json::Error| MessageError::NotJson(e.to_string());
        let Wire { warn, error, result } = serde_json::from_value(value).map_err(not_json)?;
        let result = if error.is_empty() {
            Some(serde_json::from_value(result).map_err(not_json)?)
        } else {
            None
        };
        Ok(Self { warn, error, result })
    }
}

/// A list of texts, or `null`.
fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Option::<Vec<String>>::deserialize(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_orders_of_keys() {
        let ok = Reply::ok(1u8).with_warnings(vec!["w".into()]);
        assert_eq!(ok.to_ann_json(), r#"{"warn":["w"],"error":[],"result":1}"#);
        assert_eq!(ok.to_json(), r#"{"result":1,"error":[],"warn":["w"]}"#);
        assert_eq!(ok.to_paymaker_json(), r#"{"result":1,"warn":["w"],"error":[]}"#);
        let failed = Reply::<u8>::failed("e");
        assert_eq!(failed.to_ann_json(), r#"{"warn":[],"error":["e"],"result":null}"#);
        assert_eq!(failed.to_json(), r#"{"result":"","error":["e"],"warn":[]}"#);
        assert_eq!(failed.to_paymaker_json(), r#"{"result":"","error":["e"],"warn":[]}"#);
    }

    #[test]
    fn failures_are_understood_whatever_their_result() {
        for result in ["null", "\"\"", "{}", "7"] {
            let text = format!(r#"{{"result":{result},"error":["e"],"warn":null}}"#);
            let reply = Reply::<Vec<u8>>::parse(text.as_bytes()).unwrap();
            assert_eq!(reply, Reply::failed("e"));
        }
        assert_eq!(Reply::<u8>::parse(br#"{"result":3}"#), Ok(Reply::ok(3)));
    }

    #[test]
    fn a_success_without_result_is_refused() {
        for text in ["{}", r#"{"error":[],"result":null}"#, "[]", "3", "", "{\"error\":3}"] {
            assert!(Reply::<u8>::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
