//! `packetcrypt blk`: the block miner.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use packetcrypt_blockminer::Config;
use packetcrypt_net::Shutdown;
use toml::{Table, Value};

use super::solo::Solo;
use crate::failure::Failure;
use crate::layers::{Layers, Origin, SettingsError, read_file};
use crate::role;

/// How the environment variables begin.
const VARIABLE_PREFIX: &str = "PACKETCRYPT_BLK_";
/// The variable of `--handlerpass`, which is no key of the top.
const PASSWORD_VARIABLE: &str = "PACKETCRYPT_BLK_SPRAYER_PASSWORD";

/// Mine blocks for a pool
///
/// Collects announcements of a pool in memory and mines blocks with them on all processors.
#[derive(Args, Debug)]
#[command(after_help = "\
Announcements are downloaded from the pool's handlers by HTTP, and with -s received by UDP as well.
Each option is also a key of the configuration file and an environment variable PACKETCRYPT_BLK_<KEY>,
e.g. PACKETCRYPT_BLK_MEMORY_MIB; `--print-config` lists the keys.

Examples:
  packetcrypt blk -p pkt1q... http://pool.example/ -m 16384
  packetcrypt blk -p pkt1q... http://pool.example/ -b 0.0.0.0:6666 -s 10.0.0.1:6666 -P secret
  packetcrypt blk -p pkt1q... --offline --node http://user:password@127.0.0.1:64765 \\
    --handler http://handler.example")]
pub(crate) struct Blk {
    /// URL of the pool
    #[arg(value_name = "POOL")]
    pool: Option<String>,
    /// Address that is paid; there is no default
    #[arg(short = 'p', long = "paymentaddr", value_name = "ADDRESS")]
    payment_address: Option<String>,
    /// Mining threads [default: one for each processor]
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    /// Memory for announcements, MiB [default: 4096]
    #[arg(short, long = "memorysizemb", value_name = "MIB")]
    memory_mib: Option<u32>,
    /// File in which the announcements outlive the process [default: none, memory alone]
    #[arg(long, value_name = "FILE")]
    arena_file: Option<String>,
    /// Memory on several nodes: default, interleave or replicate [default: default]
    #[arg(long, value_name = "HOW")]
    numa: Option<String>,
    /// Part of the arriving announcements, 0 to 1, of which the proof is checked [default: 0.01]
    #[arg(long, value_name = "PART")]
    check_chance: Option<f64>,
    /// Part of the memory, 0 to 0.9, kept free for newer announcements [default: 0.1]
    #[arg(short = 'f', long = "minfree", value_name = "PART")]
    min_free: Option<f64>,
    /// Handlers from which is downloaded at the same time [default: 30]
    #[arg(short, long, value_name = "N")]
    downloaders: Option<usize>,
    /// Uploads of shares at the same time [default: 4]
    #[arg(short, long, value_name = "N")]
    uploaders: Option<usize>,
    /// Time after which an upload without an answer is given up, seconds [default: 30]
    #[arg(short = 'T', long = "uploadtimeout", value_name = "SECONDS")]
    upload_timeout_s: Option<u64>,
    /// Sprayers to receive announcements from by UDP; needs -b and -P
    #[arg(short, long, value_name = "ADDR:PORT", num_args = 1.., requires_all = ["bind", "handlerpass"])]
    subscribe: Vec<SocketAddr>,
    /// UDP address to receive on; needs -s
    #[arg(short, long, value_name = "ADDR:PORT", requires = "subscribe")]
    bind: Option<SocketAddr>,
    /// Password of those sprayers, may be empty
    #[arg(short = 'P', long, value_name = "PASSWORD", env = PASSWORD_VARIABLE, hide_env_values = true)]
    handlerpass: Option<String>,
    /// Threads that receive by UDP [default: 4]
    #[arg(short = 'S', long = "sprayerthreads", value_name = "N", requires = "subscribe")]
    sprayer_threads: Option<u16>,
    /// Largest payload of a datagram, bytes [default: 1472]
    #[arg(short = 'M', long = "maxsegmentsize", value_name = "BYTES", requires = "subscribe")]
    mss: Option<u16>,
    /// IPv4 multicast group to join instead of subscribing
    #[arg(long, value_name = "GROUP", requires = "subscribe")]
    mcast: Option<Ipv4Addr>,
    /// Handler to download from beside those of the pool; may be repeated
    #[arg(long = "handler", value_name = "URL")]
    handlers: Vec<String>,
    #[command(flatten)]
    solo: Solo,
    /// Where /metrics and /stats.json are served [default: nowhere]
    #[arg(long, value_name = "ADDR:PORT")]
    metrics_listen: Option<String>,
    /// Configuration: a TOML file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key, before environment and file; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the settings and where each one comes from, and end
    #[arg(long)]
    print_config: bool,
}

impl Blk {
    pub(super) fn run(self) -> Result<(), Failure> {
        let layers = self.layers()?;
        let mut config = role::settings("blk", &layers, self.print_config, |config: &Config| {
            // What is missing altogether is explained below.
            let is_complete = !config.payment_address.is_empty() && !config.pool_url.is_empty();
            if is_complete { config.validate() } else { Ok(()) }
        })?;
        if self.print_config {
            return Ok(());
        }
        if config.payment_address.is_empty() {
            return Err(Failure::usage(NO_ADDRESS));
        }
        let mut solo = None;
        if self.solo.is_wanted() {
            solo = Some(self.solo.prepare(&mut config)?);
            config.validate().map_err(Failure::usage)?;
        }
        if config.pool_url.is_empty() {
            return Err(Failure::usage(NO_POOL));
        }
        tracing::info!(?config, "block miner");
        role::run(async |shutdown| {
            let mining = mine(config.clone(), shutdown.clone());
            match solo {
                Some(solo) => solo.run(&config, &shutdown, mining).await,
                None => mining.await,
            }
        })
    }

    fn layers(&self) -> Result<Layers, SettingsError> {
        let mut layers = Layers::default();
        let mut sprayer = Table::new();
        if let Some(path) = &self.config {
            let table = read_file(path)?;
            if let Some(Value::Table(written)) = table.get("sprayer") {
                sprayer = written.clone();
            }
            layers.file(path, "", &table);
        }
        layers.process_environment(
            VARIABLE_PREFIX,
            &[PASSWORD_VARIABLE, super::solo::NODE_VARIABLE].map(str::to_owned),
        );
        layers.command_line(&self.set)?;
        layers.options([
            ("pool_url", "command line", self.pool.clone()),
            ("payment_address", "-p", self.payment_address.clone()),
            ("threads", "-t", self.threads.map(|n| n.to_string())),
            ("memory_mib", "-m", self.memory_mib.map(|n| n.to_string())),
            ("arena_file", "--arena-file", self.arena_file.clone()),
            ("numa", "--numa", self.numa.clone()),
            ("check_chance", "--check-chance", self.check_chance.map(|part| part.to_string())),
            ("min_free", "-f", self.min_free.map(|part| part.to_string())),
            ("downloaders", "-d", self.downloaders.map(|n| n.to_string())),
            ("uploaders", "-u", self.uploaders.map(|n| n.to_string())),
            ("upload_timeout_s", "-T", self.upload_timeout_s.map(|s| s.to_string())),
            ("metrics_listen", "--metrics-listen", self.metrics_listen.clone()),
        ]);
        if !self.handlers.is_empty() {
            let urls = self.handlers.iter().cloned().map(Value::String).collect();
            layers.set("handlers", Value::Array(urls), Origin::CommandLine("--handler".to_owned()));
        }
        if self.sprayer_options(&mut sprayer) {
            let origin = Origin::CommandLine("-s, -b, -P and file".to_owned());
            layers.set("sprayer", Value::Table(sprayer), origin);
        }
        Ok(layers)
    }

    /// Puts the sprayer's options over what the file says; false when there are none.
    fn sprayer_options(&self, table: &mut Table) -> bool {
        let mut put = |key: &str, value: Value| drop(table.insert(key.to_owned(), value));
        let number = |n: u16| Value::Integer(i64::from(n));
        if let Some(bind) = self.bind {
            let subscribe = self.subscribe.iter().map(|addr| Value::String(addr.to_string()));
            put("bind", Value::String(bind.to_string()));
            put("subscribe", Value::Array(subscribe.collect()));
        }
        if let Some(threads) = self.sprayer_threads {
            put("threads", number(threads));
        }
        if let Some(mss) = self.mss {
            put("mss", number(mss));
        }
        if let Some(group) = self.mcast {
            put("mcast", Value::String(group.to_string()));
        }
        match &self.handlerpass {
            // A password alone asks for no sprayer.
            Some(password) if !table.is_empty() => {
                table.insert("password".to_owned(), Value::String(password.clone()));
                true
            }
            _ => self.bind.is_some(),
        }
    }
}

async fn mine(config: Config, shutdown: Shutdown) -> Result<(), Failure> {
    let running = packetcrypt_blockminer::start(config, shutdown).await.map_err(Failure::failed)?;
    let stats = running.finish().await.map_err(Failure::failed)?;
    tracing::info!("all in all: {}", stats.line(&[]));
    Ok(())
}

const NO_ADDRESS: &str = "there is no address to be paid at.

A share for nobody is lost work, so there is no default address: give yours with -p.
  packetcrypt blk -p pkt1q... http://pool.example/
`packetcrypt check address ADDRESS` tells whether pools credit an address.";

const NO_POOL: &str = "there is no pool to mine for: give its URL.
  packetcrypt blk -p pkt1q... http://pool.example/";
