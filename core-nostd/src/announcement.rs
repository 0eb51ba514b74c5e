//! Announcements: the 1024 bytes that miners make and block miners need (spec 03, 2).

mod header;

pub use header::{Announcement, Header, soft_nonce_max};
