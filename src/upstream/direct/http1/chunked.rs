//! The chunked coding, read in whatever pieces it comes. The framing is taken out in place.
//!
//! Extensions are skipped, trailers are read but not kept; both are capped. A bare LF ends nothing here: where two
//! parsers disagree about the end of a line, one answer becomes two.
//!
//! Source: RFC 9112 section 7.1.

use std::ops::Range;

use http::{HeaderName, HeaderValue};

use super::Broken;
use super::framing::{End, Part};
use super::head::HEADERS;

/// Bytes of extensions in all chunks of a body.
const EXTENSION_BYTES: u16 = 16 * 1024;
/// Bytes of trailers.
const TRAILER_BYTES: usize = 16 * 1024;

/// Where in a chunked body the next byte stands.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    /// Bytes of this chunk that are still to come; while its size is read, the size so far.
    left: u64,
    extensions: u16,
    /// The trailers so far, as they came. There are hardly ever any.
    trailers: Option<Box<Trailers>>,
}

#[derive(Debug, Default)]
struct Trailers {
    bytes: Vec<u8>,
    lines: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// The first digit of a size.
    #[default]
    Start,
    Size,
    /// Blanks after a size.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The beginning of a trailer's line, or of the line that ends it all.
    Line,
    Trailer,
    TrailerLf,
    LastLf,
    Over,
}

impl Chunked {
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Takes the framing out of `bytes`, which follow what was given before. Data of several chunks is moved together.
    pub(super) fn unframe(&mut self, bytes: &mut [u8]) -> Part {
        let mut data: Range<usize> = 0..0;
        let mut at = 0;
        while let (Some(&byte), false) = (bytes.get(at), self.is_over()) {
            if self.state == State::Data {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                if data.is_empty() {
                    data = at..at;
                } else {
                    bytes.copy_within(at..at + here, data.end);
                }
                data.end += here;
                at += here;
                self.left -= here as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            let usual = self.usual(bytes.get(at..).unwrap_or_default());
            if usual > 0 {
                at += usual;
                continue;
            }
            match self.step(byte) {
                Ok(next) => self.state = next,
                Err(why) => return Part { data, end: End::Broken(Broken::Chunks(why)) },
            }
            at += 1;
        }
        Part { data, end: if self.is_over() { End::Over { used: at } } else { End::Open } }
    }

    /// Steps over the end of a chunk, or a chunk's size without extension, if `bytes` begin with all of it: as
    /// [`step`](Self::step) by step, in less time. How many bytes that are.
    fn usual(&mut self, bytes: &[u8]) -> usize {
        if self.state == State::DataCr && bytes.starts_with(b"\r\n") {
            self.state = State::Start;
            return 2;
        }
        if self.state != State::Start {
            return 0;
        }
        let (mut size, mut digits) = (0, 0);
        for byte in bytes.iter().take(8) {
            let Some(digit) = char::from(*byte).to_digit(16) else { break };
            size = size * 16 + u64::from(digit);
            digits += 1;
        }
        if digits == 0 || !bytes.get(digits..).is_some_and(|rest| rest.starts_with(b"\r\n")) {
            return 0;
        }
        self.left = size;
        self.state = if size == 0 { State::Line } else { State::Data };
        digits + 2
    }

    /// One byte of framing.
    fn step(&mut self, byte: u8) -> Result<State, &'static str> {
        match (self.state, byte) {
            (State::Start | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte),
            (State::Start, _) => Err("a chunk without a size"),
            (State::Size | State::Blank, b' ' | b'\t') => Ok(State::Blank),
            (State::Size | State::Blank, b';') => Ok(State::Extension),
            (State::Size | State::Blank | State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Size | State::Blank, _) => Err("a chunk's size that is no number"),
            (State::Extension, b'\n') => Err("a bare line feed in a chunk's extension"),
            (State::Extension, _) => {
                self.extensions += 1;
                if self.extensions < EXTENSION_BYTES { Ok(State::Extension) } else { Err("too many extensions") }
            }
            (State::SizeLf, b'\n') => Ok(if self.left == 0 { State::Line } else { State::Data }),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Start),
            (State::DataCr | State::DataLf, _) => Err("a chunk that is longer than its size"),
            (State::Line | State::Trailer | State::TrailerLf | State::LastLf, _) => self.trailer(byte),
            (State::SizeLf, _) => Err("a carriage return without a line feed"),
            (State::Data | State::Over, _) => Err("no framing is expected here"),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<State, &'static str> {
        let digit = char::from(byte).to_digit(16).ok_or("a chunk's size that is no number")?;
        let size = self.left.checked_mul(16).and_then(|size| size.checked_add(u64::from(digit)));
        self.left = size.ok_or("a chunk's size that is too large")?;
        Ok(State::Size)
    }

    /// One byte after the last chunk.
    fn trailer(&mut self, byte: u8) -> Result<State, &'static str> {
        let next = match (self.state, byte) {
            (State::Line, b'\r') => State::LastLf,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::Line | State::Trailer, _) => State::Trailer,
            (State::TrailerLf, b'\n') => State::Line,
            (State::LastLf, b'\n') => State::Over,
            _ => return Err("a carriage return without a line feed"),
        };
        if next == State::Trailer || self.trailers.is_some() {
            let trailers = self.trailers.get_or_insert_default();
            trailers.bytes.push(byte);
            trailers.lines += usize::from(next == State::Line);
            if trailers.bytes.len() >= TRAILER_BYTES || trailers.lines > HEADERS {
                return Err("too many trailers");
            }
        }
        match self.trailers.take_if(|_| next == State::Over) {
            Some(trailers) if !trailers.are_fields() => Err("trailers that are no headers"),
            _ => Ok(next),
        }
    }
}

impl Trailers {
    fn are_fields(&self) -> bool {
        let mut fields = vec![httparse::EMPTY_HEADER; self.lines];
        let valid = |field: &httparse::Header<'_>| {
            HeaderName::from_bytes(field.name.as_bytes()).is_ok() && HeaderValue::from_bytes(field.value).is_ok()
        };
        match httparse::parse_headers(&self.bytes, &mut fields) {
            Ok(httparse::Status::Complete((_, fields))) => fields.iter().all(valid),
            Ok(httparse::Status::Partial) | Err(_) => false,
        }
    }
}
