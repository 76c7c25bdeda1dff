//! A request as bytes. Its body is there as a whole, so its length is known.
//!
//! Source: RFC 9112 sections 3 and 6.2, RFC 9110 sections 7.2 and 8.6.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::Scheme;
use http::{HeaderMap, Method, Uri};

/// A request that can be sent, more than once if need be.
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) method: Method,
    pub(super) head: Bytes,
    pub(super) body: Bytes,
}

impl Request {
    /// A request for `uri`, which names scheme, host, path and query. `headers`: end-to-end ones only; host and framing
    /// are made here.
    pub fn new(method: Method, uri: &Uri, headers: &HeaderMap, body: Bytes) -> Self {
        let mut head = Vec::with_capacity(size(uri, headers));
        for part in [method.as_str(), " ", uri.path_and_query().map_or("/", |path| path.as_str()), " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        line(&mut head, HOST.as_str(), host(uri).as_bytes());
        for (name, value) in headers {
            if ![HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) {
                line(&mut head, name.as_str(), value.as_bytes());
            }
        }
        // A length of zero is said where a body would be expected.
        if !body.is_empty() || [Method::POST, Method::PUT, Method::PATCH].contains(&method) {
            line(&mut head, CONTENT_LENGTH.as_str(), body.len().to_string().as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        Self { method, head: head.into(), body }
    }
}

fn line(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

/// About what the head takes.
fn size(uri: &Uri, headers: &HeaderMap) -> usize {
    let target = uri.path_and_query().map_or(1, |path| path.as_str().len());
    let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    target + fields + 128
}

/// Host and port; the port only where it is not the scheme's own.
fn host(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    let own = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    match uri.port_u16() {
        Some(port) if port != own => format!("{host}:{port}"),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn head(method: Method, uri: &'static str, headers: &[(&'static str, &'static str)], body: &'static str) -> String {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let request =
            Request::new(method, &Uri::from_static(uri), &headers.collect(), Bytes::from_static(body.as_bytes()));
        String::from_utf8(request.head.to_vec()).unwrap()
    }

    #[test]
    fn host_and_length_are_made_here_and_every_other_header_stays() {
        let sent =
            [("accept", "text/event-stream"), ("content-length", "7"), ("transfer-encoding", "chunked"), ("x", "y")];
        assert_eq!(
            head(Method::POST, "http://[::1]:8000/v1/chat?a=%20", &sent, "{}"),
            "POST /v1/chat?a=%20 HTTP/1.1\r\nhost: [::1]:8000\r\naccept: text/event-stream\r\nx: y\r\ncontent-length: 2\r\n\r\n"
        );
    }

    #[test]
    fn a_port_that_the_scheme_implies_is_left_out() {
        assert_eq!(head(Method::GET, "http://a.example:80/", &[], ""), "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n");
        assert_eq!(head(Method::GET, "https://a.example:443/x", &[], ""), "GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n");
        assert!(head(Method::GET, "https://a.example:80/", &[], "").contains("host: a.example:80\r\n"));
    }

    #[test]
    fn an_empty_body_has_a_length_where_one_is_expected() {
        assert!(head(Method::POST, "http://a/", &[], "").contains("content-length: 0\r\n"));
        assert!(!head(Method::DELETE, "http://a/", &[], "").contains("content-length"));
    }
}
