//! Where the body of an answer ends.
//!
//! Source: RFC 9112 section 6.3; its order is kept below.

use std::ops::Range;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::Broken;
use super::chunked::Chunked;

/// How a body is framed, and how much of it has come.
#[derive(Debug)]
pub(super) enum Framing {
    /// So many more bytes.
    Length(u64),
    /// In chunks.
    Chunked(Chunked),
    /// Until the connection ends.
    UntilClose,
}

/// What some bytes hold of a body.
#[derive(Debug)]
pub(super) struct Part {
    /// Where its data is now.
    pub(super) data: Range<usize>,
    /// What comes after it.
    pub(super) end: End,
}

/// What comes after the data in some bytes.
#[derive(Debug)]
pub(super) enum End {
    /// More of the body.
    Open,
    /// Nothing: the body is whole with the first `used` bytes.
    Over { used: usize },
    /// What cannot be read.
    Broken(Broken),
}

impl Framing {
    /// The framing of the answer with this head to a request with `method`. 101 is an answer without a body.
    pub(super) fn of(
        method: &Method,
        status: StatusCode,
        version: Version,
        headers: &HeaderMap,
    ) -> Result<Self, &'static str> {
        if *method == Method::HEAD || matches!(status.as_u16(), 100..=199 | 204 | 304) {
            return Ok(Self::Length(0));
        }
        if let Some(last) = headers.get_all(TRANSFER_ENCODING).iter().next_back() {
            return match version {
                Version::HTTP_11 if is_chunked(last) => Ok(Self::Chunked(Chunked::default())),
                Version::HTTP_11 => Ok(Self::UntilClose),
                _ => Err("a transfer-encoding in HTTP/1.0"),
            };
        }
        if headers.contains_key(CONTENT_LENGTH) {
            return length(headers).map(Self::Length).ok_or("no one content-length");
        }
        Ok(Self::UntilClose)
    }

    /// Whether nothing more belongs to the body.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_over(),
            Self::UntilClose => false,
        }
    }

    /// Finds the data in `bytes`, which follow what was given before, and moves it together.
    pub(super) fn unframe(&mut self, bytes: &mut [u8]) -> Part {
        match self {
            Self::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                Part { data: 0..here, end: if *left == 0 { End::Over { used: here } } else { End::Open } }
            }
            Self::Chunked(chunked) => chunked.unframe(bytes),
            Self::UntilClose => Part { data: 0..bytes.len(), end: End::Open },
        }
    }
}

/// Whether the last coding of the last line is `chunked`.
fn is_chunked(last: &HeaderValue) -> bool {
    let coding = last.to_str().ok().and_then(|codings| codings.rsplit(',').next());
    coding.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
}

/// The length that all values agree on.
fn length(headers: &HeaderMap) -> Option<u64> {
    let mut agreed = None;
    for line in headers.get_all(CONTENT_LENGTH) {
        for value in line.to_str().ok()?.split(',').map(str::trim) {
            // A sign is no digit, but a number to `parse`.
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let length: u64 = value.parse().ok().filter(|_| digits)?;
            if *agreed.get_or_insert(length) != length {
                return None;
            }
        }
    }
    agreed
}
