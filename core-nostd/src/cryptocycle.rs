//! CryptoCycle: the 2048-byte state through which every announcement and block nonce goes
//! (spec 03, 1).
//!
//! [`State`] knows the layout, `cycle` the operations on one state, [`lanes`] the same operations on
//! many states a call.

mod cycle;
pub mod lanes;
mod state;

pub use state::State;
