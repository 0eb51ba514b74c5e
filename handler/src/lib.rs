//! The announcement handler (role `ah`, spec 05, 6): it takes posts of announcements from miners,
//! checks them, pays for them in the pay log, and passes them on to block miners.
//!
//! # The life of a post
//!
//! | step | where | module |
//! |---|---|---|
//! | head parsed, cheap checks (headers, slot, address, length, budget of the source) | I/O executor | `submit`, [`admit`], [`overload`] |
//! | body received into bounded memory | I/O executor | `submit`, `body` |
//! | bounded queue; full is 503 `overloaded` | | `verify` |
//! | cheap checks of each announcement, duplicates, proofs | worker thread | [`admit`], [`dedup`], `verify` |
//! | hashes reserved, bytes written, event durable, published, sprayed | committer thread | `commit`, `publish` |
//! | reply | I/O executor | `submit` |
//!
//! One bad announcement rejects its post. A reply is sent only after the announcements are in a
//! file and the event is durable in the pay log; the module documentation of `publish` says what
//! a crash at any moment leaves.
//!
//! Block miners take announcements by UDP from the sprayer, or download the files (`download`).
//! Parent blocks and the pool's configuration come from the master (`parents`).
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let config = packetcrypt_handler::Config {
//!     master_url: "http://127.0.0.1:8080".to_owned(),
//!     root_workdir: "/var/lib/packetcrypt".into(),
//!     public_url: "http://pool.example:8081/submit".to_owned(),
//!     bind_pub: "0.0.0.0:8081".parse()?,
//!     ..Default::default()
//! };
//! let shutdown = packetcrypt_net::Shutdown::new();
//! let running = packetcrypt_handler::start(config, shutdown.clone()).await?;
//! println!("listening on {}", running.local_addr());
//! running.join().await?;
//! # Ok(())
//! # }
//! ```

pub mod admit;
mod body;
mod commit;
pub mod config;
pub mod dedup;
mod download;
mod outlets;
pub mod overload;
mod parents;
mod post;
mod publish;
mod queue;
mod run;
mod sift;
pub mod stats;
mod submit;
mod verify;

pub use config::{Config, ConfigError};
pub use publish::StoreError;
pub use run::{RunError, Running, StartError, start, start_with_clock};
pub use stats::Stats;
