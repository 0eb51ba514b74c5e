//! Chunked bodies: everything but the data itself.

use crate::limits::{HTTP1_CHUNK_LINE_BYTES_MAX, HTTP1_TRAILER_BYTES_MAX};

/// Where in a chunked body we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    /// Before the line with the size of a chunk.
    Size,
    /// In the data of a chunk, with this many bytes to come; never 0.
    Data(u64),
    /// Before the line end behind a chunk's data.
    DataEnd,
    /// In the lines behind the last chunk; this many bytes of them were seen.
    Trailer(usize),
    /// Behind the body.
    Done,
}

/// What the bytes in hand led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next bytes are data, or the body is at its end: see the state.
    Ready,
    /// More bytes are needed.
    More,
}

/// Bytes that are no chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadChunk;

impl Chunked {
    /// Reads framing from `bytes` until there is data or the end. Returns how many bytes were
    /// used; `bytes` that are not used must be shown again, with more behind them.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<(usize, Step), BadChunk> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match *self {
                Self::Data(_) | Self::Done => return Ok((used, Step::Ready)),
                Self::Size => {
                    let Some(line) = line(rest, HTTP1_CHUNK_LINE_BYTES_MAX)? else { break };
                    used += line.len() + 2;
                    *self = match size(line)? {
                        0 => Self::Trailer(0),
                        size => Self::Data(size),
                    };
                }
                Self::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        used += 2;
                        *self = Self::Size;
                    }
                    [] | [b'\r'] => break,
                    _ => return Err(BadChunk),
                },
                Self::Trailer(seen) => {
                    let room = HTTP1_TRAILER_BYTES_MAX - seen;
                    let Some(line) = line(rest, room)? else { break };
                    used += line.len() + 2;
                    *self = match line.len() {
                        0 => Self::Done,
                        len if len + 2 > room => return Err(BadChunk),
                        len => Self::Trailer(seen + len + 2),
                    };
                }
            }
        }
        Ok((used, Step::More))
    }

    /// Says that `len` bytes of data were taken.
    pub(super) fn took(&mut self, len: u64) {
        if let Self::Data(left) = *self {
            let left = left.saturating_sub(len);
            *self = if left == 0 { Self::DataEnd } else { Self::Data(left) };
        }
    }
}

/// The first line, without its end; None while it is not complete. A line ends with CR LF and
/// holds no other control characters than tabs.
fn line(bytes: &[u8], len_max: usize) -> Result<Option<&[u8]>, BadChunk> {
    let searched = &bytes[..bytes.len().min(len_max.saturating_add(2))];
    match searched.iter().position(|&b| b.is_ascii_control() && b != b'\t') {
        Some(at) if bytes[at] != b'\r' => Err(BadChunk),
        Some(at) => match bytes.get(at + 1) {
            Some(b'\n') => Ok(Some(&bytes[..at])),
            Some(_) => Err(BadChunk),
            None => Ok(None),
        },
        None if searched.len() > len_max => Err(BadChunk),
        None => Ok(None),
    }
}

/// The size in front of a chunk: hex digits, then perhaps blanks and an extension.
fn size(line: &[u8]) -> Result<u64, BadChunk> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let rest = line[digits..].trim_ascii_start();
    // 16 digits hold every u64; leading zeros beyond that are nobody's honest work.
    if digits == 0 || digits > 16 || !(rest.is_empty() || rest[0] == b';') {
        return Err(BadChunk);
    }
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| BadChunk)?;
    u64::from_str_radix(text, 16).map_err(|_| BadChunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes `wire` as it would arrive in pieces of the given lengths.
    fn decode(wire: &[u8], pieces: &[usize]) -> Result<(Vec<u8>, usize, bool), BadChunk> {
        let (mut state, mut data, mut buffer) = (Chunked::Size, Vec::new(), Vec::new());
        let (mut arrived, mut used_total) = (0, 0);
        let mut pieces = pieces.iter().copied().chain(std::iter::repeat(wire.len().max(1)));
        loop {
            let (used, step) = state.advance(&buffer)?;
            buffer.drain(..used);
            used_total += used;
            match (state, step) {
                (Chunked::Done, _) => return Ok((data, used_total, true)),
                (Chunked::Data(left), Step::Ready) if !buffer.is_empty() => {
                    let len = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    data.extend(buffer.drain(..len));
                    used_total += len;
                    state.took(len as u64);
                }
                _ if arrived == wire.len() => return Ok((data, used_total, false)),
                _ => {
                    let len = pieces.next().unwrap_or(1).clamp(1, wire.len() - arrived);
                    buffer.extend_from_slice(&wire[arrived..arrived + len]);
                    arrived += len;
                }
            }
        }
    }

    #[test]
    fn cut_anywhere_it_is_the_same_body() {
        let wire = b"5;x=y\r\nhello\r\n0A \r\n0123456789\r\n000\r\nA: b\r\nC: d\r\n\r\nGET /";
        for first in 1..wire.len() {
            for second in [1, 2, 7] {
                let (data, used, done) = decode(wire, &[first, second]).unwrap();
                assert_eq!(data, b"hello0123456789", "cut at {first} and {second} behind it");
                assert_eq!((&wire[used..], done), (&b"GET /"[..], true));
            }
        }
        assert_eq!(decode(wire, &vec![1; wire.len()]).unwrap().0, b"hello0123456789");
    }

    #[test]
    fn sizes_that_are_none_are_refused() {
        for bad in [
            "\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x5\r\n",
            " 5\r\n",
            "g\r\n",
            "5\n",
            "5\rX",
            "5 5\r\n",
            "11111111111111111\r\n",
            "00000000000000005\r\n",
            "5\x00\r\n",
            ";a\r\n",
        ] {
            assert_eq!(decode(bad.as_bytes(), &[]), Err(BadChunk), "{bad:?}");
        }
        assert_eq!(decode(b"2\r\nabX\r\n", &[]), Err(BadChunk));
        assert_eq!(decode(b"2\r\nab\rX", &[]), Err(BadChunk));
        assert!(!decode(b"ffffffffffffffff\r\nab", &[]).unwrap().2);
    }

    #[test]
    fn lines_without_end_are_bounded() {
        let long = [b"5;".to_vec(), vec![b'x'; HTTP1_CHUNK_LINE_BYTES_MAX]].concat();
        assert_eq!(decode(&long, &[]), Err(BadChunk));
        let trailer = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(HTTP1_TRAILER_BYTES_MAX / 6 + 1)];
        assert_eq!(decode(&trailer.concat(), &[]), Err(BadChunk));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(wire: Vec<u8>, pieces: Vec<usize>) {
            let _ = decode(&wire, &pieces);
        }

        #[test]
        fn what_is_encoded_is_decoded(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..9),
            pieces in proptest::collection::vec(1usize..20, 0..99),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:X}\r\n", chunk.len()).bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n\r\n");
            let (data, used, done) = decode(&wire, &pieces).unwrap();
            prop_assert_eq!((data, used, done), (chunks.concat(), wire.len(), true));
        }
    }
}
