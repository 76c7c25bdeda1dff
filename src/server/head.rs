//! The head of an event stream as it is written to a socket, and how its end will be told.
//!
//! Source: RFC 9112 sections 4, 6.3, 9.3; RFC 9110 section 6.6.1 (`Date`).

use std::time::SystemTime;

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Version, response};

/// How a client finds out where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// By chunks.
    Chunked,
    /// By the end of the connection: HTTP/1.0 has nothing better.
    Close,
}

/// What a request says about how it can be answered on its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) framing: Framing,
    /// Another request may follow on the connection.
    pub(super) keep_alive: bool,
}

impl Terms {
    /// Of a request that can be answered with an event stream on HTTP/1.x; `None` if it is not of that kind, or if only
    /// hyper knows: a request with a coding may have named a length too, after which its connection must be closed, and
    /// hyper takes that length out of the headers.
    pub(super) fn of<B>(request: &Request<B>) -> Option<Self> {
        if request.method() == Method::HEAD || request.headers().contains_key(TRANSFER_ENCODING) {
            return None;
        }
        let close = options(request.headers()).any(|option| option.eq_ignore_ascii_case("close"));
        match request.version() {
            Version::HTTP_11 => Some(Self { framing: Framing::Chunked, keep_alive: !close }),
            Version::HTTP_10 => Some(Self { framing: Framing::Close, keep_alive: false }),
            _ => None,
        }
    }
}

fn options(headers: &HeaderMap<HeaderValue>) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(CONNECTION).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',').map(str::trim))
}

/// The head's bytes, in hyper's order. What frames the body is said here alone, whatever `head` says of it.
pub(super) fn write(head: &response::Parts, terms: Terms, now: SystemTime) -> Vec<u8> {
    let version = if terms.framing == Framing::Close { "HTTP/1.0" } else { "HTTP/1.1" };
    let reason = head.status.canonical_reason().unwrap_or_default();
    let mut out = Vec::with_capacity(1024);
    for part in [version, " ", head.status.as_str(), " ", reason, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in &head.headers {
        if ![CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(name) {
            line(name.as_str(), value.as_bytes(), &mut out);
        }
    }
    if terms.framing == Framing::Chunked {
        if !terms.keep_alive {
            line("connection", b"close", &mut out);
        }
        line("transfer-encoding", b"chunked", &mut out);
    }
    if !head.headers.contains_key(DATE) {
        line("date", httpdate::fmt_http_date(now).as_bytes(), &mut out);
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(version: Version, connection: Option<&str>) -> Option<(Framing, bool)> {
        let mut request = Request::builder().version(version);
        if let Some(connection) = connection {
            request = request.header(CONNECTION, connection);
        }
        Terms::of(&request.body(()).unwrap()).map(|terms| (terms.framing, terms.keep_alive))
    }

    #[test]
    fn version_and_connection_header_decide_about_framing_and_reuse() {
        assert_eq!(terms(Version::HTTP_11, None), Some((Framing::Chunked, true)));
        assert_eq!(terms(Version::HTTP_11, Some("x-a, Close")), Some((Framing::Chunked, false)));
        assert_eq!(terms(Version::HTTP_10, Some("keep-alive")), Some((Framing::Close, false)));
        assert_eq!(terms(Version::HTTP_2, None), None);
        let head = Request::builder().method(Method::HEAD).body(()).unwrap();
        assert!(Terms::of(&head).is_none());
        let coded = Request::builder().header(TRANSFER_ENCODING, "chunked").body(()).unwrap();
        assert!(Terms::of(&coded).is_none());
    }

    fn written(terms: Terms) -> String {
        let answer = http::Response::builder()
            .header("x-a", "1")
            .header("x-a", "2")
            .header(CONTENT_LENGTH, "7")
            .header(CONNECTION, "upgrade")
            .body(())
            .unwrap();
        let (head, ()) = answer.into_parts();
        String::from_utf8(write(&head, terms, SystemTime::UNIX_EPOCH)).unwrap()
    }

    #[test]
    fn what_frames_the_body_is_said_once() {
        assert_eq!(
            written(Terms { framing: Framing::Chunked, keep_alive: true }),
            "HTTP/1.1 200 OK\r\nx-a: 1\r\nx-a: 2\r\ntransfer-encoding: chunked\r\n\
             date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n"
        );
        assert!(
            written(Terms { framing: Framing::Chunked, keep_alive: false })
                .contains("x-a: 2\r\nconnection: close\r\ntransfer-encoding: chunked\r\ndate: ")
        );
        let old = written(Terms { framing: Framing::Close, keep_alive: false });
        assert!(old.starts_with("HTTP/1.0 200 OK\r\n") && old.ends_with("GMT\r\n\r\n"), "{old}");
    }
}
