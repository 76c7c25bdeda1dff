//! The head of an answer, read once all of it is there; 1xx heads before it are skipped.
//!
//! Names and values are copied into blocks of just their size: a slice of what was read would keep all of it for as
//! long as the session keeps the header.
//!
//! Source: RFC 9112 sections 2.2, 4, 5 and 9.3, RFC 9110 section 15.2.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};

use super::Broken;
use super::framing::Framing;
use super::scratch;

/// Headers of an answer, and lines of its trailers.
pub(super) const HEADERS: usize = 100;
/// Bytes of a head.
const BYTES: usize = scratch::SIZE;

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// The connection may serve another request after this answer.
    pub(super) keep_alive: bool,
    /// What came after it.
    pub(super) early: Box<[u8]>,
}

/// Collects a head that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// What came of it; empty while nothing, or all of it, did.
    kept: Vec<u8>,
    /// The kept bytes were looked at before.
    looked: bool,
}

impl Heads {
    /// Takes what comes next of the answer to a request with `method`. Gives its head once that is whole.
    pub(super) fn push(&mut self, read: &[u8], method: &Method) -> Result<Option<Head>, Broken> {
        // The usual head comes whole, and is read where it is.
        let kept = !self.kept.is_empty();
        // The end may have begun in what was there before.
        let news = if self.looked { self.kept.len().saturating_sub(2) } else { 0 };
        if kept {
            self.kept.extend_from_slice(read);
        }
        let bytes = if kept { &self.kept } else { read };
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            // A head that comes byte by byte is not read again with each of them.
            if at == 0 && self.looked && !rest.get(news..).is_some_and(has_end) {
                break;
            }
            let Some((head, used)) = parse(rest, method).map_err(Broken::Head)? else { break };
            at += used;
            if let Some(head) = head {
                let early = rest.get(used..).unwrap_or_default().into();
                return Ok(Some(Head { early, ..head }));
            }
        }
        if bytes.len() - at >= BYTES {
            return Err(Broken::Head("it is too large"));
        }
        if kept {
            self.kept.drain(..at);
        } else {
            self.kept = read.get(at..).unwrap_or_default().to_vec();
        }
        self.looked = !self.kept.is_empty();
        Ok(None)
    }
}

/// Whether an empty line is in `bytes`.
fn has_end(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

/// The first head in `bytes` and its length; `None` if it is not whole. No head: it is a 1xx.
fn parse(bytes: &[u8], method: &Method) -> Result<Option<(Option<Head>, usize)>, &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Response::new(&mut fields);
    let used = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(reason(error)),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("invalid status")?;
    let headers = compact(parsed.headers)?;
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Some((None, used)));
    }
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let framing = Framing::of(method, status, version, &headers)?;
    // Two framings at once: whoever sent that may mean another end than the one taken here.
    let twice = headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH);
    let keep_alive = persists(version, &headers) && !twice && status != StatusCode::SWITCHING_PROTOCOLS;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = version;
    *response.headers_mut() = headers;
    Ok(Some((Some(Head { response, framing, keep_alive, early: Box::default() }), used)))
}

/// Copies of these fields; the values lie in one block.
fn compact(fields: &[httparse::Header<'_>]) -> Result<HeaderMap, &'static str> {
    let mut block = Vec::with_capacity(fields.iter().map(|field| field.value.len()).sum());
    fields.iter().for_each(|field| block.extend_from_slice(field.value));
    let mut block = Bytes::from(block);
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| "invalid header name")?;
        let value = block.split_to(field.value.len());
        headers.append(name, HeaderValue::from_maybe_shared(value).map_err(|_| "invalid header value")?);
    }
    Ok(headers)
}

/// Whether the connection outlives the answer.
fn persists(version: Version, headers: &HeaderMap) -> bool {
    let says = |wanted: &str| {
        let lines = headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|option| option.trim().eq_ignore_ascii_case(wanted))
    };
    !says("close") && (version == Version::HTTP_11 || says("keep-alive"))
}

fn reason(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "invalid header name",
        httparse::Error::HeaderValue => "invalid header value",
        httparse::Error::NewLine => "invalid line end",
        httparse::Error::Status => "invalid status",
        httparse::Error::Token => "invalid token",
        httparse::Error::TooManyHeaders => "too many headers",
        httparse::Error::Version => "unknown version",
    }
}
