//! Chunked bodies, read by the clients (RFC 9112 §7.1). Sans-io; extensions and trailers are skipped.

use thiserror::Error;

/// The body is not chunked as it should be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a chunked body is malformed")]
pub(crate) struct BadChunk;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size {
        value: u64,
        digits: u8,
    },
    /// The rest of the size line.
    Extension(u64),
    Data(u64),
    DataEnd,
    Trailer {
        empty: bool,
    },
    Done,
}

/// Reads one body, whatever the pieces it comes in.
#[derive(Debug)]
pub(crate) struct Chunked {
    state: State,
}

impl Chunked {
    /// Before the first byte of a body.
    pub(crate) fn new() -> Self {
        Self { state: State::Size { value: 0, digits: 0 } }
    }

    /// Whether the last chunk and the trailers were read.
    pub(crate) fn done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes the next piece of data off `input`; `None` when more input is needed or the body is over.
    ///
    /// # Errors
    ///
    /// [`BadChunk`] for a size that is none or a chunk without its line end.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, BadChunk> {
        while let Some((&byte, rest)) = input.split_first() {
            match self.state {
                State::Data(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let (data, rest) = input.split_at(take);
                    *input = rest;
                    let left = left - take as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Some(data));
                }
                State::Done => return Ok(None),
                _ => {}
            }
            *input = rest;
            self.state = match (self.state, byte) {
                (State::Size { value, digits }, byte) if byte.is_ascii_hexdigit() && digits < 15 => {
                    let digit = char::from(byte).to_digit(16).ok_or(BadChunk)?;
                    State::Size { value: value * 16 + u64::from(digit), digits: digits + 1 }
                }
                (State::Size { value, digits: 1.. }, b'\r' | b';' | b' ') => State::Extension(value),
                (State::Extension(0), b'\n') => State::Trailer { empty: true },
                (State::Extension(size), b'\n') => State::Data(size),
                (State::Extension(size), _) => State::Extension(size),
                (State::DataEnd, b'\r') => State::DataEnd,
                (State::DataEnd, b'\n') => State::Size { value: 0, digits: 0 },
                (State::Trailer { empty: true }, b'\n') => State::Done,
                (State::Trailer { .. }, b'\n') => State::Trailer { empty: true },
                (State::Trailer { empty }, byte) => State::Trailer { empty: empty && byte == b'\r' },
                _ => return Err(BadChunk),
            };
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<(String, bool), BadChunk> {
        let mut chunked = Chunked::new();
        let mut out = Vec::new();
        for mut piece in pieces.iter().copied() {
            while let Some(data) = chunked.next(&mut piece)? {
                out.extend_from_slice(data);
            }
        }
        Ok((String::from_utf8(out).expect("text"), chunked.done()))
    }

    #[test]
    fn a_body_reads_the_same_whole_and_byte_by_byte() {
        let body = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nx-trailer: 1\r\n\r\n";
        let bytes: Vec<&[u8]> = body.chunks(1).collect();
        let expected = Ok(("abc0123456789".to_owned(), true));
        assert_eq!(read(&[body]), expected);
        assert_eq!(read(&bytes), expected);
    }

    #[test]
    fn a_body_without_its_last_chunk_is_not_done() {
        assert_eq!(read(&[b"3\r\nabc\r\n"]), Ok(("abc".to_owned(), false)));
        assert_eq!(read(&[b"3\r\nabc\r\n0\r\n"]), Ok(("abc".to_owned(), false)));
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for body in [&b"\r\n"[..], b"x\r\n", b"1\r\nabc", b"1234567890abcdef0\r\n"] {
            assert_eq!(read(&[body]), Err(BadChunk), "{body:?}");
        }
    }
}
