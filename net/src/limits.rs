//! Every bound of this package: what it bounds, the unit last, why this much.
//!
//! Bounds that an operator may want to move are defaults of the configuration of their module;
//! the others are facts of the protocol or of its peers.

/// Time to open a connection, control plane. A pool that does not answer a SYN in this time is
/// as good as down, and mining must be back within ten seconds of a fault.
pub const CONNECT_MS_MAX: u64 = 3_000;
/// Time of a whole request of the control plane, body included.
pub const REQUEST_MS_MAX: u64 = 5_000;
/// Time a long poll may hang: the master answers after 30 s (spec 05, 4.1).
pub const LONG_POLL_MS_MAX: u64 = 40_000;
/// An idle connection of the client is closed after this: behind a fault it would only cost the
/// next request its time-out.
pub const CLIENT_IDLE_MS_MAX: u64 = 20_000;
/// Length of a reply of the control plane that has no bound of its own.
pub const REPLY_BYTES_MAX: usize = 1 << 20;

/// Length of `config.json`: a thousand URLs fit ten times.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;
/// Length of `blkinfo_<hash>.json`: about 700 bytes are usual.
pub const BLKINFO_BYTES_MAX: usize = 64 << 10;
/// Length of `work_<n>.bin`: 128 bytes, a coinbase of at most a block, and its branch.
pub const WORK_BYTES_MAX: usize = 4 << 20;

/// Connections to a server of the control plane.
pub const CONTROL_CONNECTIONS_MAX: usize = 1_024;
/// Of them from one source that is not in a private network.
pub const CONTROL_CONNECTIONS_PER_SOURCE_MAX: usize = 256;
/// Length of a request body on the control plane unless the role says otherwise.
pub const CONTROL_BODY_BYTES_MAX: usize = 1 << 20;
/// Time a client has to send a request's head; also how long a kept connection may be idle.
pub const CONTROL_HEAD_MS_MAX: u64 = 30_000;
/// Time from the head to the reply: longer than the 30 s of a long poll.
pub const CONTROL_REQUEST_MS_MAX: u64 = 60_000;
/// How long open connections are waited for when a server stops.
pub const CONTROL_GRACE_MS_MAX: u64 = 2_000;

/// Records in a datagram: more do not fit the 64 KiB of UDP (spec 05, 7).
pub const SPRAYER_DATAGRAM_RECORDS_MAX: usize = 63;
/// Records of a chunk, the unit of the sprayer's queues (spec 05, 7).
pub const SPRAYER_CHUNK_RECORDS_MAX: usize = 1_024;
/// Chunks that wait for one peer; beyond, the oldest is dropped (spec 05, 7).
pub const SPRAYER_CHUNKS_MAX: usize = 128;
/// Subscribers at a time: each costs the full stream.
pub const SPRAYER_SUBSCRIBERS_MAX: usize = 256;
/// A subscriber that is not heard of for this long gets nothing more (spec 05, 7).
pub const SPRAYER_SUBSCRIBER_MS_MAX: u64 = 30_000;
/// How often a subscription is repeated (spec 05, 7).
pub const SPRAYER_REFRESH_MS: u64 = 5_000;
/// Received announcements are handed on after this time even when they are few.
pub const SPRAYER_FLUSH_MS_MAX: u64 = 250;
/// Receive buffer asked of the kernel (spec 05, 7); less is a warning.
pub const SPRAYER_RECEIVE_BUFFER_BYTES: usize = 512 << 20;
/// Announcements that are known to have been seen, to end loops of relays; the table takes about
/// 5 MiB.
pub const SPRAYER_RECENT_LEN: usize = 1 << 17;

/// Lines that wait for one commit of the pay log.
pub const PAYLOG_QUEUE_LEN_MAX: usize = 4_096;
/// Lines committed together.
pub const PAYLOG_GROUP_LEN_MAX: usize = 1_024;
/// A commit of this length takes nothing more: it bounds by how much a file can be longer than
/// [`PAYLOG_FILE_BYTES_MAX`].
pub const PAYLOG_GROUP_BYTES_MAX: usize = 1 << 20;
/// Length of one line of the pay log: events are about 400 bytes.
pub const PAYLOG_LINE_BYTES_MAX: usize = 16 << 10;
/// A pay log file is switched at this length even within its period: one upload stays small.
pub const PAYLOG_FILE_BYTES_MAX: u64 = 4 << 20;
/// A pay log file that is not empty is switched after this time (spec 05, 11).
pub const PAYLOG_ROTATE_MS: u64 = 60_000;
/// Time of one upload of a pay log file.
pub const PAYLOG_UPLOAD_MS_MAX: u64 = 30_000;
/// First and longest pause after an upload that failed.
pub const PAYLOG_RETRY_MS: (u64, u64) = (1_000, 60_000);

/// Length of a request's head on the data plane.
pub const HTTP1_HEAD_BYTES_MAX: usize = 16 << 10;
/// The least bound of a head: its buffer also holds the lines of chunks and trailers.
pub const HTTP1_HEAD_BYTES_MIN: usize = 8 << 10;
/// Header fields of a request or reply on the data plane.
pub const HTTP1_HEADERS_MAX: usize = 64;
/// Length of the line that opens a chunk, extensions included.
pub const HTTP1_CHUNK_LINE_BYTES_MAX: usize = 256;
/// Length of all trailer fields behind the last chunk.
pub const HTTP1_TRAILER_BYTES_MAX: usize = 4 << 10;
/// Time from the first byte of a head to its last.
pub const HTTP1_HEAD_MS_MAX: u64 = 10_000;
/// Time for a whole body. The announcement miner gives up after 30 s (spec 05, 8).
pub const HTTP1_BODY_MS_MAX: u64 = 60_000;
/// Time between requests on a kept connection.
pub const HTTP1_IDLE_MS_MAX: u64 = 75_000;
/// Time to write a reply.
pub const HTTP1_WRITE_MS_MAX: u64 = 60_000;
/// A reply has this much longer for each byte, whole files being as large as they are.
pub const HTTP1_WRITE_BYTES_PER_MS_MIN: u64 = 64;
/// Length of a request's body: 1024 announcements are 1 MiB, with room for bolder miners.
pub const HTTP1_BODY_BYTES_MAX: u64 = 16 << 20;
/// Open connections of a data plane server.
pub const HTTP1_CONNECTIONS_MAX: usize = 20_000;
/// Open connections from one address (IPv6: one /64): a miner uses ten; many sit behind one NAT.
pub const HTTP1_CONNECTIONS_PER_SOURCE_MAX: usize = 1_024;
/// Refusals of connections that are being written; beyond, a connection is just closed.
pub const HTTP1_REFUSALS_LEN_MAX: usize = 256;
/// Time for such a refusal, with the reading behind it.
pub const HTTP1_REFUSAL_MS_MAX: u64 = 250;
/// What is still read of a refused body, so that the client sees the refusal, not a reset.
pub const HTTP1_LINGER_BYTES_MAX: u64 = 4 << 20;
/// How long a refused body is still read.
pub const HTTP1_LINGER_MS_MAX: u64 = 2_000;
/// Time of one range download from the request to its last byte.
pub const HTTP1_DOWNLOAD_MS_MAX: u64 = 60_000;
/// Time in which a download must move on by at least a byte.
pub const HTTP1_DOWNLOAD_STALL_MS_MAX: u64 = 10_000;

const _: () = {
    assert!(SPRAYER_DATAGRAM_RECORDS_MAX * 1032 < 65_507);
    assert!(SPRAYER_REFRESH_MS * 3 < SPRAYER_SUBSCRIBER_MS_MAX);
    assert!(SPRAYER_RECENT_LEN > SPRAYER_CHUNKS_MAX * SPRAYER_CHUNK_RECORDS_MAX / 2);
    assert!(PAYLOG_LINE_BYTES_MAX as u64 * 4 < PAYLOG_FILE_BYTES_MAX);
    assert!(CONTROL_REQUEST_MS_MAX > 30_000 && LONG_POLL_MS_MAX > 30_000);
    assert!(CONNECT_MS_MAX < REQUEST_MS_MAX);
    assert!(HTTP1_HEAD_BYTES_MIN <= HTTP1_HEAD_BYTES_MAX);
    assert!(HTTP1_CHUNK_LINE_BYTES_MAX + 2 <= HTTP1_HEAD_BYTES_MIN);
    assert!(HTTP1_TRAILER_BYTES_MAX + 2 <= HTTP1_HEAD_BYTES_MIN);
};
