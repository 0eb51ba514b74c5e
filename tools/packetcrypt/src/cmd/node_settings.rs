//! `[node]`: how the pool reaches the chain node.

use packetcrypt_node::{RpcConfig, RpcNode};
use packetcrypt_proto::settings::{ConfigError, Secret, ensure};
use serde::{Deserialize, Serialize};

use super::PoolSettings;
use crate::failure::Failure;
use crate::pool_file::{PoolFile, Role};
use crate::role;

/// Keys of `[node]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NodeSettings {
    /// URLs of one or more nodes of the same chain, best first.
    urls: Vec<String>,
    /// User of the node's RPC.
    user: String,
    /// Password of the node's RPC.
    password: Secret,
    /// Most calls in progress.
    calls_max: usize,
    /// Longest time for a connection, ms.
    connect_ms_max: u64,
    /// Longest time for a whole call, ms.
    call_ms_max: u64,
    /// Longest reply, bytes.
    reply_bytes_max: usize,
}

impl Default for NodeSettings {
    fn default() -> Self {
        let rpc = RpcConfig::default();
        Self {
            urls: rpc.urls,
            user: rpc.user,
            password: Secret::from(rpc.password),
            calls_max: rpc.calls_max,
            connect_ms_max: rpc.connect_ms_max,
            call_ms_max: rpc.call_ms_max,
            reply_bytes_max: rpc.reply_bytes_max,
        }
    }
}

impl NodeSettings {
    fn validate(&self) -> Result<(), ConfigError> {
        let list = format!("{:?}", self.urls);
        ensure("urls", list, !self.urls.is_empty(), "must name at least one node")?;
        for (index, url) in self.urls.iter().enumerate() {
            let key = format!("urls[{index}]");
            let rule = "must begin with http://; a node with --tls needs a proxy in front of it";
            ensure(key, url, url.starts_with("http://"), rule)?;
        }
        let least_one = |key: &str, value: u64, rule: &str| ensure(key, value, value > 0, rule);
        least_one("calls_max", self.calls_max as u64, "must be at least 1")?;
        least_one("connect_ms_max", self.connect_ms_max, "must be at least 1 ms")?;
        least_one("call_ms_max", self.call_ms_max, "must be at least 1 ms")?;
        least_one("reply_bytes_max", self.reply_bytes_max as u64, "must be at least 1 byte")
    }

    fn rpc(&self) -> RpcConfig {
        RpcConfig {
            urls: self.urls.clone(),
            user: self.user.clone(),
            password: self.password.expose().to_owned(),
            calls_max: self.calls_max,
            connect_ms_max: self.connect_ms_max,
            call_ms_max: self.call_ms_max,
            reply_bytes_max: self.reply_bytes_max,
        }
    }
}

/// The client of the nodes of a pool; `None` when the settings were to be printed.
pub(crate) fn node(file: &PoolFile, settings: &PoolSettings) -> Result<Option<RpcNode>, Failure> {
    let rpc = rpc(file, settings)?;
    rpc.map(|rpc| RpcNode::new(&rpc).map_err(unusable)).transpose()
}

/// A client for each of the nodes; `None` when the settings were to be printed.
pub(crate) fn nodes(
    file: &PoolFile,
    settings: &PoolSettings,
) -> Result<Option<Vec<RpcNode>>, Failure> {
    let rpc = rpc(file, settings)?;
    rpc.map(|rpc| RpcNode::for_each(&rpc).map_err(unusable)).transpose()
}

fn rpc(file: &PoolFile, settings: &PoolSettings) -> Result<Option<RpcConfig>, Failure> {
    let print = settings.print_config;
    let layers = file.layers(Role::Node, None, &settings.set)?;
    let settings = role::settings("node", &layers, print, NodeSettings::validate)?;
    Ok((!print).then(|| settings.rpc()))
}

fn unusable(error: packetcrypt_node::NodeError) -> Failure {
    Failure::usage(format!("[node]: {error}"))
}
