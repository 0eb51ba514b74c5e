//! HTTP client of the control plane.
//!
//! A reply is read with a bound on its length and on its time, whatever the peer claims; statuses
//! are values, not errors, except where a caller asks for a body that only a 200 has.

use std::time::Duration;

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use packetcrypt_proto::headers;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use url::Url;

use crate::{USER_AGENT, limits};

/// Bounds of a client.
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// Time to open a connection, ms.
    pub connect_ms_max: u64,
    /// Time of a request with its reply, ms.
    pub request_ms_max: u64,
    /// Length of a reply's body, bytes.
    pub reply_bytes_max: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_ms_max: limits::CONNECT_MS_MAX,
            request_ms_max: limits::REQUEST_MS_MAX,
            reply_bytes_max: limits::REPLY_BYTES_MAX,
        }
    }
}

/// Why a request has no usable reply. The texts name the address without user and password.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not an `http://` URL.
    #[error("{url:?} is not an http URL: {cause}")]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The client could not be made.
    #[error("no HTTP client: {0}")]
    Setup(String),
    /// No connection, or it broke before the reply was complete.
    #[error("{url}: {cause}")]
    Transport {
        /// The address.
        url: String,
        /// The chain of causes.
        cause: String,
    },
    /// No complete reply in time.
    #[error("{url}: no reply within {limit_ms} ms")]
    Timeout {
        /// The address.
        url: String,
        /// The time that was given, ms.
        limit_ms: u64,
    },
    /// The reply is longer than allowed.
    #[error("{url}: reply is longer than {limit_bytes} bytes")]
    TooLong {
        /// The address.
        url: String,
        /// The bound, bytes.
        limit_bytes: usize,
    },
    /// Another status than 200.
    #[error("{url}: status {status} instead of 200: {text}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// The beginning of the body.
        text: String,
    },
}

impl ClientError {
    /// The status, when there was a reply with another one than 200.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// A complete reply.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, within the bound.
    pub body: Bytes,
}

/// One request; [`HttpClient::send`] sends it.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// `http://host[:port]/path`.
    pub url: &'a str,
    /// The body of a POST; None is a GET.
    pub body: Option<Bytes>,
    /// More header fields.
    pub headers: &'a [(&'a str, &'a str)],
    /// User and password of basic authentication.
    pub basic_auth: Option<(&'a str, &'a str)>,
    /// Time for this request, ms; None is the client's.
    pub request_ms_max: Option<u64>,
    /// Bound of this reply, bytes; None is the client's.
    pub reply_bytes_max: Option<usize>,
}

impl<'a> Request<'a> {
    /// A GET of `url`.
    pub fn get(url: &'a str) -> Self {
        Self {
            url,
            body: None,
            headers: &[],
            basic_auth: None,
            request_ms_max: None,
            reply_bytes_max: None,
        }
    }

    /// A POST of `body` to `url`, with its length in the head.
    pub fn post(url: &'a str, body: impl Into<Bytes>) -> Self {
        Self { body: Some(body.into()), ..Self::get(url) }
    }

    /// With these header fields.
    pub fn headers(self, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { headers, ..self }
    }

    /// With basic authentication.
    pub fn basic_auth(self, user: &'a str, password: &'a str) -> Self {
        Self { basic_auth: Some((user, password)), ..self }
    }

    /// With another time-out, ms.
    pub fn request_ms_max(self, ms: u64) -> Self {
        Self { request_ms_max: Some(ms), ..self }
    }

    /// With another bound of the reply, bytes.
    pub fn reply_bytes_max(self, bytes: usize) -> Self {
        Self { reply_bytes_max: Some(bytes), ..self }
    }
}

/// A client with its own connections and session id. Clones share both.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: reqwest::Client,
    options: ClientOptions,
    session: HeaderValue,
}

impl HttpClient {
    /// A client with a fresh session id. Proxies of the environment are not used: most peers are
    /// on the same network, and which way announcements go is the operator's explicit choice.
    ///
    /// # Errors
    /// [`ClientError::Setup`] when the system gives no resources.
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        let inner = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .no_proxy()
            .connect_timeout(Duration::from_millis(options.connect_ms_max))
            .pool_idle_timeout(Duration::from_millis(limits::CLIENT_IDLE_MS_MAX))
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            .build()
            .map_err(|e| ClientError::Setup(causes(&e)))?;
        let session = HeaderValue::from_str(&hex::encode(rand::random::<[u8; 16]>()))
            .map_err(|e| ClientError::Setup(e.to_string()))?;
        Ok(Self { inner, options, session })
    }

    /// The session id: 32 hex digits, sent with every GET as `x-pc-sid`.
    pub fn session_id(&self) -> &str {
        self.session.to_str().unwrap_or_default()
    }

    /// Sends a request and reads its reply, of any status.
    ///
    /// # Errors
    /// Every [`ClientError`] but `Status`.
    pub async fn send(&self, request: Request<'_>) -> Result<Response, ClientError> {
        let url = checked_url(request.url)?;
        let shown = shown_url(&url);
        let limit_ms = request.request_ms_max.unwrap_or(self.options.request_ms_max);
        let limit_bytes = request.reply_bytes_max.unwrap_or(self.options.reply_bytes_max);
        let exchange = self.exchange(url, &shown, request, limit_bytes);
        match tokio::time::timeout(Duration::from_millis(limit_ms), exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::Timeout { url: shown, limit_ms }),
        }
    }

    /// The body of a GET answered with 200.
    ///
    /// # Errors
    /// As [`send`](Self::send), and `Status`.
    pub async fn fetch(&self, request: Request<'_>) -> Result<Bytes, ClientError> {
        let url = request.url;
        let response = self.send(request).await?;
        if response.status != 200 {
            return Err(ClientError::Status {
                url: shown(url),
                status: response.status,
                text: excerpt(&response.body),
            });
        }
        Ok(response.body)
    }

    async fn exchange(
        &self,
        url: Url,
        shown: &str,
        request: Request<'_>,
        limit_bytes: usize,
    ) -> Result<Response, ClientError> {
        let transport =
            |e: &reqwest::Error| ClientError::Transport { url: shown.to_owned(), cause: causes(e) };
        let mut builder = match request.body {
            None => self.inner.get(url).header(headers::SESSION_ID, self.session.clone()),
            Some(body) => self.inner.post(url).body(body),
        };
        for (name, value) in request.headers {
            builder = builder.header(*name, *value);
        }
        if let Some((user, password)) = request.basic_auth {
            builder = builder.header(AUTHORIZATION, basic_auth_value(user, password));
        }
        let mut reply = builder.send().await.map_err(|e| transport(&e.without_url()))?;
        let too_long = || ClientError::TooLong { url: shown.to_owned(), limit_bytes };
        if reply.content_length().is_some_and(|length| length > limit_bytes as u64) {
            return Err(too_long());
        }
        let status = reply.status().as_u16();
        let headers = core::mem::take(reply.headers_mut());
        let mut body = BytesMut::new();
        while let Some(part) = reply.chunk().await.map_err(|e| transport(&e.without_url()))? {
            if part.len() > limit_bytes - body.len() {
                return Err(too_long());
            }
            body.extend_from_slice(&part);
        }
        Ok(Response { status, headers, body: body.freeze() })
    }
}

/// The value of `Authorization` for basic authentication, marked as a secret.
fn basic_auth_value(user: &str, password: &str) -> HeaderValue {
    let token = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    // Base64 is always a valid header value.
    let mut value = HeaderValue::from_str(&format!("Basic {token}"))
        .unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

fn checked_url(text: &str) -> Result<Url, ClientError> {
    let bad = |cause: &str| ClientError::BadUrl { url: shown(text), cause: cause.to_owned() };
    let url = Url::parse(text).map_err(|e| bad(&e.to_string()))?;
    if url.scheme() != "http" {
        return Err(bad(&format!("the scheme is {:?}", url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("it has no host"));
    }
    Ok(url)
}

/// The address as logs may show it: no user, no password, no query.
fn shown_url(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

fn shown(text: &str) -> String {
    Url::parse(text).map_or_else(|_| "<not a URL>".to_owned(), |url| shown_url(&url))
}

/// An error with everything below it: reqwest itself only says "error sending request".
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// The beginning of a body, fit for a log line.
fn excerpt(body: &[u8]) -> String {
    const EXCERPT_CHARS_MAX: usize = 200;
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT_CHARS_MAX)]);
    text.chars().filter(|c| !c.is_control()).take(EXCERPT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
