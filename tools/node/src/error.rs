//! Why a call to the node has no result.

use packetcrypt_proto::json;
use serde::Serialize;

/// Most characters of a text of the node that are kept.
const TEXT_CHARS_MAX: usize = 2000;

/// Why a call to the node has no result. No text holds a password or a call stack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The configuration makes no sense.
    #[error("node configuration, {key}: {rule}")]
    Config {
        /// The key.
        key: &'static str,
        /// What is wrong.
        rule: String,
    },
    /// No connection to any of the nodes: the call was not made.
    #[error("{method}: node is not reachable: {cause}")]
    Unreachable {
        /// The method.
        method: String,
        /// The last cause.
        cause: String,
    },
    /// The node closed the connection without a whole reply: it failed inside, most likely because
    /// of what this call asked. Not to be repeated for ever.
    #[error("{method}: node closed the connection without a reply")]
    ClosedWithoutReply {
        /// The method.
        method: String,
    },
    /// No reply in time. Whether the call took effect is not known.
    #[error("{method}: no reply within {ms} ms")]
    Timeout {
        /// The method.
        method: String,
        /// The bound.
        ms: u64,
    },
    /// The reply is longer than the bound.
    #[error("{method}: reply of more than {bytes_max} bytes")]
    TooLong {
        /// The method.
        method: String,
        /// The bound.
        bytes_max: usize,
    },
    /// User or password are wrong.
    #[error("{method}: node refuses user or password")]
    Unauthorized {
        /// The method.
        method: String,
    },
    /// The node has too many calls in progress.
    #[error("{method}: node is too busy")]
    Busy {
        /// The method.
        method: String,
    },
    /// Another status without a JSON reply.
    #[error("{method}: node answered with status {status}: {text}")]
    Status {
        /// The method.
        method: String,
        /// The status.
        status: u16,
        /// The beginning of the body.
        text: String,
    },
    /// The reply, or the result in it, is not what this method gives.
    #[error("{method}: reply is not understood: {cause}")]
    NotUnderstood {
        /// The method.
        method: String,
        /// Which member is wrong.
        cause: String,
    },
    /// The node says no.
    #[error("{method}: {error}")]
    Rpc {
        /// The method.
        method: String,
        /// The node's error.
        error: RpcError,
    },
}

/// The error object of a reply, without its call stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message} (code {})", code.map_or_else(|| "none".to_owned(), |code| code.to_string()))]
pub struct RpcError {
    /// The code; the node leaves it out for some errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// The text up to its first blank line. It begins with the version of the node: search it for
    /// key phrases, never compare it whole.
    pub message: String,
}

impl RpcError {
    /// `{"code":..,"message":..}`: what may be shown to a miner (spec 05, 10.1).
    #[must_use]
    pub fn to_json(&self) -> String {
        json::to_line(self)
    }
}

impl NodeError {
    /// The code of the node's error, when it has one.
    #[must_use]
    pub fn code(&self) -> Option<i64> {
        self.rpc().and_then(|error| error.code)
    }

    /// The node's own error, when it is one.
    #[must_use]
    pub fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Rpc { error, .. } => Some(error),
            _ => None,
        }
    }

    /// Whether the same call may well succeed later: the node is away, slow or busy.
    ///
    /// Errors of the node itself are not: -32603 stands for permanent and for passing ones, the
    /// caller knows which it can be.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. } | Self::Busy { .. })
    }

    /// Whether the block is known but not on the main chain any more (spec 06, 1.2).
    #[must_use]
    pub fn is_orphaned(&self) -> bool {
        self.rpc().is_some_and(|error| error.message.contains("is not in the main chain"))
    }
}

/// A text of the node up to its first blank line: what follows is a call stack.
#[must_use]
pub fn first_paragraph(text: &str) -> String {
    let end = text.find("\n\n").into_iter().chain(text.find("\r\n\r\n")).min();
    let paragraph = text[..end.unwrap_or(text.len())].trim_end();
    match paragraph.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}..", &paragraph[..end]),
        None => paragraph.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_stacks_are_cut() {
        assert_eq!(first_paragraph("a b\n\nmain.go:7\n"), "a b");
        assert_eq!(first_paragraph("a\nb\r\n\r\nmain.go:7"), "a\nb");
        assert_eq!(first_paragraph("a\n"), "a");
        assert_eq!(first_paragraph(&"\u{e9}".repeat(3000)).chars().count(), 2002);
    }

    #[test]
    fn an_error_without_code_has_no_code_in_json() {
        let error = RpcError { code: None, message: "EOF: EOF".into() };
        assert_eq!(error.to_json(), r#"{"message":"EOF: EOF"}"#);
        let error = RpcError { code: Some(-25), message: "m".into() };
        assert_eq!(error.to_json(), r#"{"code":-25,"message":"m"}"#);
    }
}
