//! Announcements: the 1024 bytes that miners make and block miners need (spec 03, 2).
//!
//! [`check`] and [`check_batch`] say whether an announcement is good, [`prepare`] and
//! [`Prepared::search`] make them.

pub mod item;

mod check;
mod header;
mod prepare;
mod request;
mod seal;
mod search;

pub use check::{
    BATCH_LANES, BatchScratch, CheckScratch, GROUP_MAX, Limits, check, check_batch, check_v0,
};
pub use header::{Announcement, Header, soft_nonce_max};
pub use prepare::{ItemMaker, Preparation, PrepareError, Table, TableError, prepare};
pub use request::Request;
pub use search::Prepared;
