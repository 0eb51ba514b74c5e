//! A master that knows a few blocks, and a handler that follows it, on one core.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use packetcrypt_handler::{Config, Running};
use packetcrypt_net::control::{self, ControlLimits};
use packetcrypt_net::engine::EngineKind;
use packetcrypt_net::{Shutdown, hw};
use serde_json::json;
use tokio::runtime::Runtime;

use super::{HandlerBenchError, HandlerOptions};

/// Parent height of the announcements that are mined for the measurement.
pub(super) const HEIGHT: i32 = 200_000;
/// The name under which the handler stands in the pool's list; nobody connects to it.
const PUBLIC_URL: &str = "http://handler.invalid/submit";
const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Where everything runs.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) quick: bool,
    /// CPU of the handler and of the bare loops.
    pub(super) serving: usize,
    /// CPU of the load generator.
    pub(super) asking: usize,
    kind: EngineKind,
    dir: tempfile::TempDir,
}

impl Place {
    pub(super) fn new(
        options: &HandlerOptions,
        serving: usize,
        asking: usize,
    ) -> Result<Self, HandlerBenchError> {
        let shm = Path::new("/dev/shm");
        let dir = match &options.dir {
            Some(dir) => tempfile::tempdir_in(dir),
            None if shm.is_dir() => tempfile::tempdir_in(shm),
            None => tempfile::tempdir(),
        };
        let dir = dir.map_err(failed("directory"))?;
        Ok(Self { quick: options.quick, serving, asking, kind: options.engine, dir })
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The engine that the handler will use.
    pub(super) fn engine(&self) -> &'static str {
        self.kind.chosen().title()
    }

    /// Runs something on a thread of its own, tied to the serving CPU; threads that it starts are
    /// tied too.
    pub(super) fn serve<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        on_cpu(Some(self.serving), run)
    }

    /// As [`serve`](Self::serve) for the asking side.
    pub(super) fn ask<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        on_cpu(Some(self.asking), run)
    }

    /// Starts a handler on the serving CPU, or on all.
    pub(super) fn scene(
        &self,
        on_all: bool,
        change: impl FnOnce(&mut Config) + Send,
    ) -> Result<Scene, HandlerBenchError> {
        on_cpu((!on_all).then_some(self.serving), || Scene::start(self, change))
    }
}

/// Runs something on a thread that is tied to a CPU, or to none.
pub(super) fn on_cpu<T: Send>(cpu: Option<usize>, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Some(Err(error)) = cpu.map(hw::pin_thread) {
                eprintln!("{error}: figures mean less");
            }
            run()
        });
        match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Names what failed.
pub(super) fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> HandlerBenchError {
    move |error| HandlerBenchError::Failed(format!("{what}: {error}"))
}

/// A running handler.
pub(super) struct Scene {
    pub(super) running: Running,
    pub(super) addr: SocketAddr,
    pub(super) workdir: PathBuf,
    chain: Arc<Mutex<i32>>,
    shutdown: Shutdown,
    runtime: Runtime,
    _workdir: tempfile::TempDir,
}

impl Scene {
    fn start(place: &Place, change: impl FnOnce(&mut Config)) -> Result<Self, HandlerBenchError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(failed("runtime"))?;
        let workdir = tempfile::tempdir_in(place.dir()).map_err(failed("directory"))?;
        let (chain, shutdown) = (Arc::new(Mutex::new(HEIGHT)), Shutdown::new());
        let routes = Router::new().route("/{name}", get(answer)).with_state(Arc::clone(&chain));
        let (running, addr) = runtime.block_on(async {
            let limits = ControlLimits::default();
            let master = control::serve(LOCAL, routes, limits, shutdown.clone())
                .await
                .map_err(failed("master"))?;
            let mut config = Config {
                master_url: format!("http://{}", master.local_addr()),
                root_workdir: workdir.path().to_owned(),
                public_url: PUBLIC_URL.to_owned(),
                bind_pub: LOCAL,
                num_workers: 1,
                io_threads: 1,
                engine: place.kind,
                ..Config::default()
            };
            change(&mut config);
            let running = packetcrypt_handler::start(config, shutdown.clone())
                .await
                .map_err(failed("handler"))?;
            let addr = running.local_addr();
            Ok::<_, HandlerBenchError>((running, addr))
        })?;
        let path = workdir.path().to_owned();
        let scene =
            Self { running, addr, workdir: path, chain, shutdown, runtime, _workdir: workdir };
        scene.until_tip(HEIGHT)?;
        Ok(scene)
    }

    /// More blocks, until no announcement of before is taken any more. Returns the new height.
    pub(super) fn pass_blocks(&self) -> Result<i32, HandlerBenchError> {
        let tip = {
            let mut tip = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
            *tip += 7;
            *tip
        };
        self.until_tip(tip)?;
        Ok(tip)
    }

    fn until_tip(&self, tip: i32) -> Result<(), HandlerBenchError> {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if self.running.stats().parents.first().map(|parent| parent.height) == Some(tip) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(HandlerBenchError::Failed("the handler does not follow its master".to_owned()))
    }

    /// Ends the handler.
    pub(super) fn stop(self) -> Result<(), HandlerBenchError> {
        self.shutdown.trigger();
        self.runtime.block_on(self.running.join()).map_err(failed("handler"))
    }
}

/// The hash of the block at a height, the same bytes in both orders.
fn hash_at(height: i32) -> String {
    if height == HEIGHT { "42".repeat(32) } else { format!("{:02x}", height & 0x3f).repeat(32) }
}

async fn answer(State(chain): State<Arc<Mutex<i32>>>, UrlPath(name): UrlPath<String>) -> Response {
    let tip = || *chain.lock().unwrap_or_else(PoisonError::into_inner);
    let now = tip();
    if name.starts_with("work_") {
        // The long poll: answered when there is another block.
        for _ in 0..1_000 {
            if tip() != now {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        return StatusCode::MULTIPLE_CHOICES.into_response();
    }
    if name == "config.json" {
        let config = json!({
            "tipHash": hash_at(now), "currentHeight": now + 1, "masterUrl": "",
            "submitAnnUrls": [PUBLIC_URL], "downloadAnnUrls": [], "submitBlockUrls": [],
            "paymakerUrl": "", "version": 3, "softVersion": 1, "annVersions": [1],
            "mineOldAnns": 0, "annTarget": 0x207f_ffff,
        });
        return config.to_string().into_response();
    }
    let asked = name.strip_prefix("blkinfo_").and_then(|name| name.strip_suffix(".json"));
    match (now - 20..=now).rev().find(|height| asked == Some(&hash_at(*height))) {
        Some(height) => json!({"header": {
            "hash": hash_at(height), "height": height, "version": 1, "versionHex": "00000001",
            "merkleroot": "00".repeat(32), "time": 1, "nonce": 1, "bits": "1d00ffff",
            "difficulty": 1.0, "previousblockhash": hash_at(height - 1),
        }, "sigKey": null})
        .to_string()
        .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
