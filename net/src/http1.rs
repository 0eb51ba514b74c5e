//! HTTP/1.1 of the data plane.
//!
//! | part | what it is |
//! |---|---|
//! | [`serve`] | a server on an [`Engine`](crate::engine::Engine), with bounds for everything |
//! | [`Service`] | what answers requests |
//! | [`Request`], [`Body`] | a head, and a body that is received into the service's own memory |
//! | [`Response`] | a short text, JSON, or a piece of a mapping |
//! | [`client`] | range downloads into the caller's memory |
//!
//! Sized and chunked bodies, `Expect: 100-continue`, kept connections and pipelined requests are
//! right; what is ambiguous (two lengths, a length and chunks) is refused, because two programs
//! that disagree where a request ends can be played against each other.

mod body;
mod buffer;
mod chunked;
pub mod client;
mod connection;
pub(crate) mod gate;
mod head;
mod response;
mod server;

pub use body::{Body, BodyError};
pub use connection::Request;
pub use head::{Framing, Head};
pub use response::Response;
pub use server::{Http1Counters, Http1Limits, Http1Shared, Http1Snapshot, Service, serve};
