//! The bytes of a connection that were received and not yet used.

use std::io;

use crate::engine::Stream;

/// What a connection begins with: most heads fit.
const FIRST_BYTES: usize = 4 << 10;

/// A buffer that grows to a bound; what is used goes out in front.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    bytes_max: usize,
}

impl Buffer {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, bytes_max }
    }

    /// What was received and not used.
    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Marks the first `len` bytes as used.
    pub(super) fn consume(&mut self, len: usize) {
        self.start += len.min(self.end - self.start);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Moves bytes from here to `into`; how many.
    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        let len = into.len().min(self.end - self.start);
        into[..len].copy_from_slice(&self.bytes[self.start..self.start + len]);
        self.consume(len);
        len
    }

    /// Drops the empty lines in front of a request, which a client may send (RFC 9112, 2.2).
    pub(super) fn skip_empty_lines(&mut self) {
        loop {
            match self.filled() {
                [b'\n', ..] => self.consume(1),
                [b'\r', b'\n', ..] => self.consume(2),
                _ => return,
            }
        }
    }

    /// Whether nothing more fits.
    pub(super) fn is_full(&self) -> bool {
        self.end - self.start >= self.bytes_max
    }

    /// Room behind the received bytes; empty only when full.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() && self.bytes.len() < self.bytes_max {
            let len = (self.bytes.len() * 2).clamp(FIRST_BYTES.min(self.bytes_max), self.bytes_max);
            self.bytes.resize(len, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Twice as much room, within the bound: for a sender that fills it each time, while the memory
    /// of slow ones stays small.
    pub(super) fn widen(&mut self) {
        let len = (self.bytes.len() * 2).min(self.bytes_max);
        self.bytes.resize(len.max(self.bytes.len()), 0);
    }

    /// Says that `len` bytes of the room were filled.
    pub(super) fn filled_more(&mut self, len: usize) {
        self.end = (self.end + len).min(self.bytes.len());
    }

    /// Receives more bytes behind those that are here; 0 is the peer's end.
    pub(super) async fn receive<S: Stream>(&mut self, stream: &mut S) -> io::Result<usize> {
        let len = stream.read(self.room()).await?;
        self.filled_more(len);
        Ok(len)
    }

    /// Gives the memory of an idle connection back.
    pub(super) fn release_if_empty(&mut self) {
        if self.start == self.end && self.bytes.len() > FIRST_BYTES {
            *self = Self::new(self.bytes_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_go_and_nothing_else() {
        for (bytes, rest) in [
            ("\n\r\n\nGET\n\n", "GET\n\n"),
            ("\r", "\r"),
            ("\r\n\r", "\r"),
            (" \n", " \n"),
            ("\n", ""),
        ] {
            let mut buffer = Buffer::new(100);
            buffer.room()[..bytes.len()].copy_from_slice(bytes.as_bytes());
            buffer.filled_more(bytes.len());
            buffer.skip_empty_lines();
            assert_eq!(buffer.filled(), rest.as_bytes());
        }
    }

    #[test]
    fn grows_to_its_bound_and_no_further() {
        let mut buffer = Buffer::new(10_000);
        let mut received = 0u32;
        while !buffer.is_full() {
            let room = buffer.room();
            let len = room.len().min(700);
            for byte in &mut room[..len] {
                *byte = received.to_le_bytes()[0];
                received += 1;
            }
            buffer.filled_more(len);
        }
        assert_eq!((buffer.filled().len(), buffer.room().len()), (10_000, 0));
        buffer.widen();
        assert!(buffer.room().is_empty());
        let mut first = [9; 300];
        assert_eq!(buffer.take(&mut first), 300);
        assert_eq!((first[0], first[299]), (0, 43));
        assert_eq!(buffer.room().len(), 300);
        assert_eq!(buffer.filled()[0], 44);
        buffer.consume(usize::MAX);
        assert!(buffer.filled().is_empty());
        buffer.release_if_empty();
        assert_eq!(buffer.room().len(), FIRST_BYTES);
        buffer.widen();
        assert_eq!(buffer.room().len(), 2 * FIRST_BYTES);
    }
}
