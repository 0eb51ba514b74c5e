//! What a request is answered with.

use std::borrow::Cow;
use std::io::Write as _;

use bytes::Bytes;

/// A body up to this length is copied behind its head: one piece is cheaper to send than two.
const JOINED_BYTES_MAX: usize = 4 << 10;
/// Longer than most heads.
const USUAL_HEAD_BYTES: usize = 256;

/// An answer: status, a few fields, a body in memory (also a piece of a mapping, by
/// [`Bytes::from_owner`]).
#[derive(Clone, Debug)]
pub struct Response {
    status: u16,
    fields: Vec<(&'static str, Cow<'static, str>)>,
    body: Bytes,
    close: bool,
}

impl Response {
    /// An answer of this status with an empty body.
    pub fn new(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Bytes::new(), close: false }
    }

    /// A short text.
    pub fn text(status: u16, text: impl Into<Cow<'static, str>>) -> Self {
        let body = match text.into() {
            Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) => Bytes::from(text),
        };
        Self::new(status).with_field("content-type", "text/plain; charset=utf-8").with_body(body)
    }

    /// A JSON text.
    pub fn json(status: u16, json: impl Into<Bytes>) -> Self {
        Self::new(status).with_field("content-type", "application/json").with_body(json)
    }

    /// With one more field. Line ends in the value would end the field, so they become blanks.
    pub fn with_field(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        let mut value = value.into();
        if value.contains(['\r', '\n', '\0']) {
            value = Cow::Owned(value.replace(['\r', '\n', '\0'], " "));
        }
        self.fields.push((name, value));
        self
    }

    /// With this body.
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The connection ends behind this answer.
    pub fn and_close(mut self) -> Self {
        self.close = true;
        self
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    pub(super) fn closes(&self) -> bool {
        self.close
    }

    /// The head with a short body behind it, and the body that follows when it is not short.
    pub(super) fn encode(&self, keep_alive: bool, is_head: bool) -> (Vec<u8>, &[u8]) {
        let is_joined = !is_head && self.body.len() <= JOINED_BYTES_MAX;
        let body_bytes = if is_joined { self.body.len() } else { 0 };
        let mut head = Vec::with_capacity(USUAL_HEAD_BYTES + body_bytes);
        // Writing into a vector does not fail.
        let _ = write!(head, "HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.fields {
            for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        let has_body = self.status >= 200 && self.status != 204 && self.status != 304;
        if has_body {
            let _ = write!(head, "content-length: {}\r\n", self.body.len());
        }
        head.extend_from_slice(if keep_alive { b"\r\n" } else { b"connection: close\r\n\r\n" });
        if !has_body || is_head {
            return (head, &[]);
        }
        if !is_joined {
            return (head, &self.body);
        }
        head.extend_from_slice(&self.body);
        (head, &[])
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(response: &Response, keep_alive: bool, is_head: bool) -> (String, usize) {
        let (head, rest) = response.encode(keep_alive, is_head);
        (String::from_utf8(head).unwrap(), rest.len())
    }

    #[test]
    fn heads_are_complete_and_can_not_be_split() {
        let response = Response::text(200, "hi").with_field("etag", "a\r\nset: b");
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\netag: a  set: b\r\n\
                    content-length: 2\r\n";
        assert_eq!(encoded(&response, true, false), (format!("{head}\r\nhi"), 0));
        let closing = format!("{head}connection: close\r\n\r\n");
        assert_eq!(encoded(&response, false, true), (closing, 0));
        let none = "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned();
        assert_eq!(encoded(&Response::new(304).with_body("x"), true, false), (none, 0));
    }

    #[test]
    fn long_bodies_are_not_copied() {
        for (len, rest) in [(JOINED_BYTES_MAX, 0), (JOINED_BYTES_MAX + 1, JOINED_BYTES_MAX + 1)] {
            let (head, not_copied) = encoded(&Response::text(200, "a".repeat(len)), true, false);
            assert_eq!(not_copied, rest);
            let copied = head.split_once("\r\n\r\n").unwrap().1;
            assert_eq!(copied.len() + not_copied, len);
        }
    }
}
