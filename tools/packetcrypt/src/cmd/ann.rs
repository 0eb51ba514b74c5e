//! `packetcrypt ann`: the announcement miner.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use packetcrypt_miner::stats::{self, Stats};
use packetcrypt_miner::{Config, StartError, TableSharing};
use packetcrypt_net::client::{ClientOptions, HttpClient, Request};
use packetcrypt_proto::settings;
use toml::{Table, Value};

use crate::engines::Engines;
use crate::failure::Failure;
use crate::layers::{Layers, Origin, read_file};
use crate::role;

/// How the environment variables begin.
const VARIABLE_PREFIX: &str = "PACKETCRYPT_ANN_";
/// Those of announcement handlers begin alike.
const OTHER_PREFIX: &str = "PACKETCRYPT_ANN_HANDLER_";
/// A configuration from a URL is not longer.
const CONFIG_BYTES_MAX: usize = 1 << 20;
/// Keys of a JSON configuration of the reference that have another name here.
const REFERENCE_KEYS: &[(&str, &str)] =
    &[("payment_addr", "payment_address"), ("upload_timeout", "upload_timeout_s")];

/// Mine announcements for a pool
///
/// Mines announcements on all processors and uploads them to the pool's handlers.
#[derive(Args, Debug)]
#[command(after_help = "\
Each option is also a key of the configuration file and an environment variable PACKETCRYPT_ANN_<KEY>,
e.g. PACKETCRYPT_ANN_PAYMENT_ADDRESS; `--print-config` lists the keys.

Examples:
  packetcrypt ann -p pkt1q... http://pool.example/
  packetcrypt ann -p pkt1q... http://pool.example/ http://spare.example/ -t 8 --nice 10
  packetcrypt ann -c miner.toml")]
pub(crate) struct Ann {
    /// URLs of pools; the first that answers decides the work, all are offered what is found
    #[arg(value_name = "POOL")]
    pools: Vec<String>,
    /// Address that is paid; there is no default
    #[arg(short = 'p', long = "paymentaddr", value_name = "ADDRESS")]
    payment_address: Option<String>,
    /// Mining threads [default: one for each processor]
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    /// Processors to pin the threads to, e.g. 0-3,8 [default: one each, if there are as
    /// many threads as processors]
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// Uploads in progress to one handler [default: 10]
    #[arg(short = 'U', long, value_name = "N")]
    uploaders: Option<usize>,
    /// Time after which an upload without an answer is given up, seconds [default: 30]
    #[arg(short = 'T', long = "uploadtimeout", value_name = "SECONDS")]
    upload_timeout_s: Option<u64>,
    /// How many blocks below the tip to work [default: -1, as the pool says]
    #[arg(short = 'm', long = "mineold", value_name = "BLOCKS", allow_negative_numbers = true)]
    mine_old_anns: Option<i64>,
    /// Tables: own (one a thread, 9 MiB), shared (two for the threads of a last-level cache), auto
    /// (shared where pinned threads would overfill it) [default: auto]
    #[arg(long, value_name = "WHOSE")]
    table: Option<TableSharing>,
    /// Scheduling priority of the mining threads as of nice(1), 0 to 19 [default: 0]
    #[arg(long, value_name = "N")]
    nice: Option<u8>,
    /// Where /metrics and /stats.json are served [default: nowhere]
    #[arg(long, value_name = "ADDR:PORT")]
    metrics_listen: Option<String>,
    /// Configuration: a TOML file (name.toml), or a JSON file or URL as of the reference miner
    #[arg(short, long, value_name = "FILE|URL")]
    config: Option<String>,
    /// Set a key, before environment and file; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the settings and where each one comes from, and end
    #[arg(long)]
    print_config: bool,
}

impl Ann {
    pub(super) fn run(self, engines: Engines) -> Result<(), Failure> {
        let mut layers = self.layers()?;
        engines.set(&mut layers);
        let config = role::settings("ann", &layers, self.print_config, |config: &Config| {
            // What is missing altogether is explained below.
            let is_complete = !config.payment_address.is_empty() && !config.pools.is_empty();
            if is_complete { config.validate() } else { Ok(()) }
        })?;
        if self.print_config {
            return Ok(());
        }
        if config.payment_address.is_empty() {
            return Err(Failure::usage(NO_ADDRESS));
        }
        if config.pools.is_empty() {
            return Err(Failure::usage(NO_POOL));
        }
        tracing::info!(?config, "announcement miner");
        role::run(async |shutdown| {
            let running =
                packetcrypt_miner::start(config, shutdown).await.map_err(|error| match error {
                    StartError::Cpus(..) => Failure::usage(error),
                    error => Failure::failed(error),
                })?;
            let began = Instant::now();
            let end = running.finish().await.map_err(Failure::failed)?;
            let line = stats::line(&Stats::default(), &end, began.elapsed().as_secs_f64());
            tracing::info!("all in all: {line}");
            Ok(())
        })
    }

    fn layers(&self) -> Result<Layers, Failure> {
        let mut layers = Layers::default();
        if let Some(place) = &self.config {
            let table = read_config(place)?;
            layers.file(Path::new(place), "", &table);
        }
        layers.process_environment(VARIABLE_PREFIX, &[OTHER_PREFIX.to_owned()]);
        layers.command_line(&self.set)?;
        let number = |n: usize| n.to_string();
        layers.options([
            ("payment_address", "-p", self.payment_address.clone()),
            ("threads", "-t", self.threads.map(number)),
            ("cpus", "--cpus", self.cpus.clone()),
            ("uploaders", "-U", self.uploaders.map(number)),
            ("upload_timeout_s", "-T", self.upload_timeout_s.map(|s| s.to_string())),
            ("mine_old_anns", "-m", self.mine_old_anns.map(|n| n.to_string())),
            ("table", "--table", self.table.map(|t| t.to_string())),
            ("nice", "--nice", self.nice.map(|n| n.to_string())),
            ("metrics_listen", "--metrics-listen", self.metrics_listen.clone()),
        ]);
        if !self.pools.is_empty() {
            let pools = self.pools.iter().cloned().map(Value::String).collect();
            let origin = Origin::CommandLine("command line".to_owned());
            layers.set("pools", Value::Array(pools), origin);
        }
        Ok(layers)
    }
}

const NO_ADDRESS: &str = "there is no address to be paid at.

An announcement that is mined for nobody is lost work, so there is no default address: give yours with -p.
  packetcrypt ann -p pkt1q... http://pool.example/
`packetcrypt check address ADDRESS` tells whether pools credit an address.";

const NO_POOL: &str = "there is no pool to mine for: give its URL.
  packetcrypt ann -p pkt1q... http://pool.example/";

/// Reads a configuration, from a file or over the network.
fn read_config(place: &str) -> Result<Table, Failure> {
    if place.contains("://") {
        settings::connect_url("--config", place)
            .map_err(|error| Failure::usage(format!("{place}: {}", error.rule)))?;
        return json_table(place, &download(place)?);
    }
    let path = PathBuf::from(place);
    if path.extension().is_some_and(|ending| ending == "toml") {
        return Ok(read_file(&path)?);
    }
    let failed = |error| Failure::usage(format!("{place}: {error}"));
    let bytes = std::fs::metadata(&path).map_err(failed)?.len();
    if bytes > CONFIG_BYTES_MAX as u64 {
        return Err(Failure::usage(format!(
            "{place}: {bytes} bytes, a configuration has at most {CONFIG_BYTES_MAX}"
        )));
    }
    json_table(place, &std::fs::read(&path).map_err(failed)?)
}

fn download(url: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("{url}: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    let client = HttpClient::new(ClientOptions::default()).map_err(|error| failed(&error))?;
    let request = Request::get(url).reply_bytes_max(CONFIG_BYTES_MAX);
    let body = runtime.block_on(client.fetch(request)).map_err(|error| failed(&error))?;
    Ok(body.to_vec())
}

/// The keys of a JSON configuration. Keys that nobody knows are named and left out: a pool that
/// serves a configuration may have more of them than this version understands.
fn json_table(place: &str, bytes: &[u8]) -> Result<Table, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::usage(format!("{place}: {error}"));
    let parsed: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(bytes).map_err(|error| failed(&error))?;
    let known = serde_json::to_value(Config::default()).map_err(|error| failed(&error))?;
    let mut table = Table::new();
    for (key, value) in parsed {
        let name = REFERENCE_KEYS.iter().find(|(theirs, _)| *theirs == key);
        let name = name.map_or(key.as_str(), |(_, ours)| ours);
        if value.is_null() {
            continue;
        }
        if known.get(name).is_none() {
            tracing::warn!("{place}: {key} is no key of the announcement miner: left out");
            continue;
        }
        let value = Value::try_from(value).map_err(|error| failed(&error))?;
        table.insert(name.to_owned(), value);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_the_reference_is_understood() {
        let text = br#"{"pools":["http://a"],"threads":3,"payment_addr":"pkt1x","uploaders":5,
            "upload_timeout":20,"mine_old_anns":null,"colour":"red"}"#;
        let table = json_table("x", text).unwrap();
        let config: Config = table.try_into().unwrap();
        assert_eq!((config.threads, config.uploaders, config.upload_timeout_s), (3, 5, 20));
        assert_eq!((config.payment_address.as_str(), config.mine_old_anns), ("pkt1x", -1));
        assert!(json_table("x", b"[]").is_err());
        assert!(json_table("x", b"{").is_err());
    }
}
