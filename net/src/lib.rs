//! I/O of the PacketCrypt programs.
//!
//! | module | what it is |
//! |---|---|
//! | [`shutdown`] | one signal that ends every task of a role |
//! | [`clock`] | wall time behind a trait, so that tests decide what time it is |
//! | [`limits`] | every bound of this package with its unit and the reason of its value |
//! | [`hw`] | cores, affinity, cache and memory domains, huge pages, priority |
//! | [`metrics`] | one Prometheus registry a role |
//! | [`queue`] | a bounded queue that hands out the newest first and counts what it drops |
//! | [`durable`] | what makes files outlast a power failure |
//! | [`progress`] | says that a load of files takes long |
//! | [`seldom`] | messages that are said once in a while, with the number held back |
//! | [`client`] | HTTP client of the control plane: time-outs, bounded bodies, session id |
//! | [`control`] | HTTP server of the control plane: a router, bounded connections and bodies |
//! | [`pool_client`] | follows one pool: configuration, blocks, work |
//! | [`sprayer`] | announcements over UDP |
//! | [`paylog`] | the durable log of payment events and its upload |
//! | [`engine`] | the data plane's runtimes: one executor a core, read into the caller's memory |
//! | [`http1`] | HTTP/1.1 over an engine, and range downloads into the caller's memory |
//!
//! Nothing here is global: any number of roles can live in one process.

pub mod client;
pub mod clock;
pub mod control;
pub mod durable;
pub mod engine;
pub mod http1;
pub mod hw;
pub mod limits;
pub mod metrics;
pub mod paylog;
pub mod pool_client;
pub mod progress;
pub mod queue;
pub mod seldom;
pub mod shutdown;
pub mod sprayer;

pub use clock::{Clock, SystemClock, TestClock};
pub use packetcrypt_proto::USER_AGENT;
pub use shutdown::Shutdown;
