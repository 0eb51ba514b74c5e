//! The head of a request: parsed once, checked for everything ambiguous.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::response::Response;
use crate::limits::HTTP1_HEADERS_MAX;

/// How long the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes.
    Length(u64),
    /// As many chunks as come.
    Chunked,
}

/// The head of a request, in memory of its own.
#[derive(Clone, Debug)]
pub struct Head {
    bytes: Vec<u8>,
    method: Range<usize>,
    target: Range<usize>,
    fields: Vec<(Range<usize>, Range<usize>)>,
    framing: Framing,
    keep_alive: bool,
    expects_continue: bool,
}

impl Head {
    /// The method as sent: `GET`.
    pub fn method(&self) -> &str {
        self.text(&self.method)
    }

    /// The target as sent: path and query.
    pub fn target(&self) -> &str {
        self.text(&self.target)
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        let target = self.target();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// The query, without the question mark; empty when there is none.
    pub fn query(&self) -> &str {
        self.target().split_once('?').map_or("", |(_, query)| query)
    }

    /// The first field of this name (in any case), as bytes.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// As [`field`](Self::field), as text; None also when it is no UTF-8.
    pub fn field_text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.field(name)?).ok()
    }

    /// How long the body is said to be.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the client wants to go on using the connection.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the client waits for leave before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter_map(move |(n, value)| {
            let is_it = self.bytes[n.clone()].eq_ignore_ascii_case(name.as_bytes());
            is_it.then(|| &self.bytes[value.clone()])
        })
    }

    fn text(&self, range: &Range<usize>) -> &str {
        // httparse lets only ASCII through in both places that are asked for as text.
        std::str::from_utf8(&self.bytes[range.clone()]).unwrap_or_default()
    }

    /// Parses a head from the beginning of `bytes`; also how long it is. None while it is not
    /// complete.
    pub(super) fn parse(
        bytes: &[u8],
        fields_max: usize,
    ) -> Result<Option<(Self, usize)>, HeadError> {
        let mut fields = [const { MaybeUninit::uninit() }; HTTP1_HEADERS_MAX];
        let fields = &mut fields[..fields_max.min(HTTP1_HEADERS_MAX)];
        let mut parsed = httparse::Request::new(&mut []);
        let len = match parsed.parse_with_uninit_headers(bytes, fields) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyFields),
            Err(e) => return Err(HeadError::Malformed(e)),
        };
        let (Some(method), Some(target), Some(minor)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Ok(None);
        };
        if !method.is_ascii() || !target.is_ascii() {
            return Err(HeadError::Malformed(httparse::Error::Token));
        }
        let origin = bytes.as_ptr().addr();
        // httparse's results are slices of `bytes`, so each has a place in it.
        let place = |part: &[u8]| {
            let start = part.as_ptr().addr().wrapping_sub(origin);
            if part.is_empty() { 0..0 } else { start..start + part.len() }
        };
        let fields = parsed.headers.iter().map(|f| (place(f.name.as_bytes()), place(f.value)));
        let mut head = Self {
            method: place(method.as_bytes()),
            target: place(target.as_bytes()),
            fields: fields.collect(),
            bytes: bytes[..len].to_vec(),
            framing: Framing::Length(0),
            keep_alive: false,
            expects_continue: false,
        };
        head.framing = head.read_framing(minor)?;
        head.keep_alive = head.read_keep_alive(minor);
        head.expects_continue = head.read_expect(minor)?;
        Ok(Some((head, len)))
    }

    fn read_framing(&self, minor: u8) -> Result<Framing, HeadError> {
        let mut codings = self.values("transfer-encoding");
        let mut lengths = self.values("content-length");
        match (codings.next(), lengths.next()) {
            (None, None) => Ok(Framing::Length(0)),
            (Some(_), Some(_)) => Err(HeadError::TwoLengths),
            (Some(coding), None) => {
                if codings.next().is_some() || minor == 0 {
                    return Err(HeadError::TwoLengths);
                }
                if !coding.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(HeadError::UnknownCoding);
                }
                Ok(Framing::Chunked)
            }
            (None, Some(length)) => {
                if lengths.next().is_some() {
                    return Err(HeadError::TwoLengths);
                }
                decimal(length).map(Framing::Length).ok_or(HeadError::BadLength)
            }
        }
    }

    fn read_keep_alive(&self, minor: u8) -> bool {
        let says = |word: &[u8]| {
            let options = self.values("connection").flat_map(|v| v.split(|&b| b == b','));
            options.map(<[u8]>::trim_ascii).any(|option| option.eq_ignore_ascii_case(word))
        };
        if minor == 0 { says(b"keep-alive") && !says(b"close") } else { !says(b"close") }
    }

    fn read_expect(&self, minor: u8) -> Result<bool, HeadError> {
        match self.field("expect") {
            // A client of 1.0 does not know what it asks for (RFC 9110, 10.1.1).
            None => Ok(false),
            Some(_) if minor == 0 => Ok(false),
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
            Some(_) => Err(HeadError::UnknownExpectation),
        }
    }
}

/// A number of digits only: no sign, no blank, no list; None also when it is above `u64`.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    #[error("malformed request: {0}")]
    Malformed(httparse::Error),
    #[error("too many header fields")]
    TooManyFields,
    #[error("content-length is not a number")]
    BadLength,
    #[error("the length of the body is ambiguous")]
    TwoLengths,
    #[error("transfer-encoding is not chunked")]
    UnknownCoding,
    #[error("unknown expectation")]
    UnknownExpectation,
}

impl HeadError {
    pub(super) fn response(self) -> Response {
        let status = match self {
            Self::Malformed(_) | Self::BadLength | Self::TwoLengths => 400,
            Self::UnknownExpectation => 417,
            Self::TooManyFields => 431,
            Self::UnknownCoding => 501,
        };
        Response::text(status, self.to_string()).and_close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Option<(Head, usize)>, HeadError> {
        Head::parse(text.as_bytes(), 8)
    }

    fn framing(fields: &str) -> Result<Framing, HeadError> {
        let head = parse(&format!("POST /submit HTTP/1.1\r\n{fields}\r\n"))?;
        Ok(head.expect("complete").0.framing())
    }

    #[test]
    fn parts_of_a_head() {
        let text =
            "GET /a/b?c=d HTTP/1.1\r\nHost: x\r\nX-Pc-SVER:  1 \r\nx-pc-sver: 2\r\nE:\r\n\r\nGET";
        let (head, len) = parse(text).unwrap().unwrap();
        assert_eq!(len, text.len() - 3);
        assert_eq!((head.method(), head.target()), ("GET", "/a/b?c=d"));
        assert_eq!((head.path(), head.query()), ("/a/b", "c=d"));
        assert_eq!(head.field_text("x-pc-sver"), Some("1"));
        assert_eq!((head.field("e"), head.field("none")), (Some(&b""[..]), None));
        assert_eq!(head.framing(), Framing::Length(0));
        assert!(head.keep_alive() && !head.expects_continue());
        for cut in 0..len {
            assert!(parse(&text[..cut]).unwrap().is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn lengths_that_are_ambiguous_or_no_numbers() {
        assert_eq!(framing("Content-Length: 0012\r\n"), Ok(Framing::Length(12)));
        assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        let max = u64::MAX;
        assert_eq!(framing(&format!("content-length: {max}\r\n")), Ok(Framing::Length(max)));
        for bad in ["-1", "+1", "", "0x10", "1 2", "1,1", "18446744073709551616", "1e3"] {
            let fields = format!("content-length: {bad}\r\n");
            assert_eq!(framing(&fields), Err(HeadError::BadLength), "{bad}");
        }
        for two in [
            "content-length: 1\r\ncontent-length: 1\r\n",
            "content-length: 1\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        ] {
            assert_eq!(framing(two), Err(HeadError::TwoLengths), "{two}");
        }
        for coding in ["gzip", "gzip, chunked", "chunked, chunked", "identity", ""] {
            let fields = format!("transfer-encoding: {coding}\r\n");
            assert_eq!(framing(&fields), Err(HeadError::UnknownCoding), "{coding}");
        }
        let old = "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(parse(old).unwrap_err().response().status(), 400);
    }

    #[test]
    fn connections_are_kept_by_the_rules_of_their_version() {
        let keep = |line: &str, fields: &str| {
            parse(&format!("GET / {line}\r\n{fields}\r\n")).unwrap().unwrap().0.keep_alive()
        };
        assert!(keep("HTTP/1.1", ""));
        assert!(!keep("HTTP/1.1", "connection: te, Close\r\n"));
        assert!(!keep("HTTP/1.0", ""));
        assert!(keep("HTTP/1.0", "connection: Keep-Alive\r\n"));
    }

    #[test]
    fn refusals_have_their_status() {
        let many = "a: b\r\n".repeat(9);
        let many = parse(&format!("GET / HTTP/1.1\r\n{many}\r\n")).unwrap_err();
        assert_eq!(many.response().status(), 431);
        let expect = parse("GET / HTTP/1.1\r\nexpect: 200-ok\r\n\r\n").unwrap_err();
        assert_eq!(expect.response().status(), 417);
        for bad in [
            "GET\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "G\x00T / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\n a: folded\r\n\r\n",
            "GET / HTTP/1.1\r\na : b\r\n\r\n",
        ] {
            assert_eq!(parse(bad).unwrap_err().response().status(), 400, "{bad:?}");
        }
        let continues = parse("PUT / HTTP/1.1\r\nExpect: 100-Continue\r\n\r\n");
        assert!(continues.unwrap().unwrap().0.expects_continue());
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes: Vec<u8>) {
            let _ = Head::parse(&bytes, 4);
        }

        #[test]
        fn any_fields_are_parsed_or_refused(fields in "([a-zA-Z-]{0,18}: ?[ -~\t]{0,12}\r\n){0,5}") {
            let text = format!("POST /é HTTP/1.1\r\n{fields}\r\n");
            if let Ok(Some((head, len))) = Head::parse(text.as_bytes(), 4) {
                prop_assert!(len <= text.len());
                let _ = (head.method(), head.path(), head.field_text("expect"));
            }
        }
    }
}
