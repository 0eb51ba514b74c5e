//! Where the nodes are, and what an address of one may be.

use std::fmt;

use url::Url;

use crate::error::NodeError;

/// Where the nodes are and how they are treated.
#[derive(Clone, PartialEq, Eq)]
pub struct RpcConfig {
    /// `http://host[:port]` of one or more nodes of the same chain, best first. Another one is asked
    /// when there is no connection to the one in use. Default `http://127.0.0.1:64765`.
    pub urls: Vec<String>,
    /// User of basic authentication. Default empty.
    pub user: String,
    /// Password of basic authentication; never shown. Default empty.
    pub password: String,
    /// Most calls in progress, of all roles that share this client; a block is handed over beside
    /// them. The node's own bound is 10 for all its users. Default 4.
    pub calls_max: usize,
    /// Longest time for a connection, in milliseconds. Default 5000.
    pub connect_ms_max: u64,
    /// Longest time for a whole call, in milliseconds; at most 10000 for calls that a node answers
    /// from memory. Default 60000.
    pub call_ms_max: u64,
    /// Most bytes of a reply. Default 16 MiB.
    pub reply_bytes_max: usize,
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            urls: vec!["http://127.0.0.1:64765".to_owned()],
            user: String::new(),
            password: String::new(),
            calls_max: 4,
            connect_ms_max: 5_000,
            call_ms_max: 60_000,
            reply_bytes_max: 16 << 20,
        }
    }
}

impl fmt::Debug for RpcConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcConfig")
            .field("urls", &self.urls.iter().map(|url| hidden(url)).collect::<Vec<_>>())
            .field("user", &self.user)
            .field("password", &"hidden")
            .field("calls_max", &self.calls_max)
            .finish_non_exhaustive()
    }
}
/// The address of a node, without user and password.
pub(super) fn parse_url(text: &str) -> Result<Url, NodeError> {
    let refuse = |rule: String| NodeError::Config { key: "url", rule };
    let url = Url::parse(text).map_err(|e| refuse(format!("{}: {e}", hidden(text))))?;
    if url.scheme() != "http" || url.host_str().is_none() {
        let rule = "want http://host[:port]; for a node with TLS put a proxy before it";
        return Err(refuse(format!("{}: {rule}", hidden(text))));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("user and password have their own keys".to_owned()));
    }
    Ok(url)
}

/// An address without what may be user and password.
pub(super) fn hidden(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => format!("(hidden)@{rest}"),
        None => url.to_owned(),
    }
}
