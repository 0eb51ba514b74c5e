//! Datagrams one by one, where the system has no calls for many.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use super::AnnouncementBytes;

/// Larger than any datagram of UDP.
const DATAGRAM_BUFFER_BYTES: usize = 64 << 10;

/// How records become datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// One, of at most this many records.
    Whole(usize),
    /// As `Whole`: nobody cuts here.
    Segments(usize),
}

impl Cut {
    /// The records of a datagram.
    pub(super) fn records_per_message(self) -> usize {
        let (Cut::Whole(records) | Cut::Segments(records)) = self;
        records.max(1)
    }
}

/// The system can not cut messages into datagrams.
pub(super) fn can_segment(_socket: &UdpSocket) -> bool {
    false
}

/// The system hands over datagrams one by one.
pub(super) fn coalesce(_socket: &UdpSocket) -> bool {
    false
}

/// Sends records, numbered from `sequence`, in one datagram. Returns how many were sent; an error
/// is about the first that was not.
pub(super) fn send(
    socket: &UdpSocket,
    to: SocketAddr,
    records: &[AnnouncementBytes],
    sequence: u64,
    cut: Cut,
) -> (usize, io::Result<()>) {
    let records = &records[..cut.records_per_message().min(records.len())];
    let mut datagram = Vec::new();
    for (number, record) in (sequence..).zip(records) {
        datagram.extend_from_slice(&number.to_le_bytes());
        datagram.extend_from_slice(record);
    }
    match socket.send_to(&datagram, to) {
        Ok(_) => (records.len(), Ok(())),
        Err(error) => (0, Err(error)),
    }
}

/// A buffer for one datagram.
pub(super) struct Receiver {
    buffer: Vec<u8>,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; DATAGRAM_BUFFER_BYTES] }
    }

    /// Waits for a datagram and shows it.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        mut datagram: impl FnMut(&[u8], SocketAddr),
    ) -> io::Result<()> {
        let (len, from) = socket.recv_from(&mut self.buffer)?;
        datagram(&self.buffer[..len], from);
        Ok(())
    }
}
