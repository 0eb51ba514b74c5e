//! What is around a call and around its result (spec 06, 1.1).

use std::fmt;

use serde_json::{Value, json};

use crate::error::{NodeError, RpcError, first_paragraph};

/// Most characters of a body that is no JSON that an error repeats.
const BODY_CHARS_SHOWN: usize = 120;

/// The reply in a body.
pub(super) fn reply_of(method: &str, status: u16, body: &[u8]) -> Result<Value, NodeError> {
    let method = method.to_owned();
    match status {
        401 => return Err(NodeError::Unauthorized { method }),
        503 => return Err(NodeError::Busy { method }),
        _ => {}
    }
    match serde_json::from_slice::<Value>(body) {
        // Some versions send errors with another status than 200.
        Ok(reply) if status == 200 || reply.get("error").is_some() => Ok(reply),
        Err(e) if status == 200 => Err(not_understood(&method, e)),
        _ => {
            let text = String::from_utf8_lossy(body);
            let text = first_paragraph(&text).chars().take(BODY_CHARS_SHOWN).collect();
            Err(NodeError::Status { method, status, text })
        }
    }
}

/// The result in a reply.
pub(super) fn result_of(method: &str, mut reply: Value) -> Result<Value, NodeError> {
    let Some(members) = reply.as_object_mut() else {
        return Err(not_understood(method, "the reply is not an object"));
    };
    match members.get("error") {
        None | Some(Value::Null) => {}
        Some(error) => {
            let text = error.get("message").or(Some(error)).and_then(Value::as_str);
            let error = RpcError {
                code: error.get("code").and_then(Value::as_i64),
                message: first_paragraph(text.unwrap_or_default()),
            };
            return Err(NodeError::Rpc { method: method.to_owned(), error });
        }
    }
    // `null` is a result of some methods; leaving it out is not.
    members.swap_remove("result").ok_or_else(|| not_understood(method, "the reply has no result"))
}

/// A call.
pub(super) fn request(method: &str, params: Value, id: Value) -> Value {
    json!({"jsonrpc": "1.0", "id": id, "method": method, "params": params})
}

/// A reply of another form than that of the method.
pub(super) fn not_understood(method: &str, cause: impl fmt::Display) -> NodeError {
    NodeError::NotUnderstood { method: method.to_owned(), cause: cause.to_string() }
}
