//! Names of the HTTP headers of the pool protocol, in lower case (spec 05, 4.1, 5.1, 6.1 and 9.4).

/// Who is paid for the announcements or the share: an address.
pub const PAY_TO: &str = "x-pc-payto";
/// Version of the miner's protocol, a u32.
pub const SOFTWARE_VERSION: &str = "x-pc-sver";
/// Version of the announcements of a post; sent by miners, ignored by handlers.
pub const ANNOUNCEMENT_VERSION: &str = "x-pc-annver";
/// Work number of the announcements of a post: their parent height + 1, an i32.
pub const WORK_NUMBER: &str = "x-pc-worknum";
/// Random session of a pool client, 32 hex digits, sent with its GETs.
pub const SESSION_ID: &str = "x-pc-sid";
/// On a 300 reply of the master's long poll: [`LONG_POLL_TRY_AGAIN`].
pub const LONG_POLL: &str = "x-pc-longpoll";
/// Value of [`LONG_POLL`]: the request must be repeated at once.
pub const LONG_POLL_TRY_AGAIN: &str = "try-again";

/// The [`SOFTWARE_VERSION`] that our miners send. With 0 and 1 the dedup hash decides who owns an
/// announcement, with 2 and above the hard nonce (spec 05, 6.2).
pub const MINER_SOFTWARE_VERSION: u32 = 1;
