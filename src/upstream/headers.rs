//! What crosses the proxy: end-to-end headers only; framing is made anew on both sides.
//!
//! Source: RFC 9110 section 7.6.1 (Connection), RFC 9112 section 6. A client's `Connection:` line can strip only
//! headers that the client itself sent: ours are set after the stripping.

use std::net::IpAddr;

use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, EXPECT, Entry, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Uri};

/// `x-request-id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `last-event-id`.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// `idempotency-key`.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Removes everything that is about one hop. `TE: trailers` survives: trailers are passed on.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    let wants_trailers = headers.get_all(TE).iter().any(|value| value.to_str().is_ok_and(|te| te.contains("trailers")));
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, TRANSFER_ENCODING, TE, UPGRADE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// The headers of a request on its way to the upstream.
pub fn to_upstream(mut headers: HeaderMap, uri: &Uri, peer: IpAddr, request_id: &str) -> HeaderMap {
    let host = headers.remove(HOST).or_else(|| HeaderValue::from_str(uri.authority()?.as_str()).ok());
    strip_hop_by_hop(&mut headers);
    // Our server has answered `100-continue` by the time the body is read.
    headers.remove(EXPECT);
    let before =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(", ");
    let chain = if before.is_empty() { peer.to_string() } else { format!("{before}, {peer}") };
    if let Ok(value) = HeaderValue::from_str(&chain) {
        headers.insert(FORWARDED_FOR, value);
    }
    if let (Some(host), Entry::Vacant(place)) = (host, headers.entry(FORWARDED_HOST)) {
        place.insert(host);
    }
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers
}

/// The same for a request whose answer is to be read as a stream: its body is ours now, and the answer must come plain.
pub fn for_stream(headers: &mut HeaderMap) {
    headers.remove(CONTENT_LENGTH);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn sent(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        to_upstream(headers(pairs), &Uri::from_static("/x"), peer, "r1")
    }

    #[test]
    fn headers_of_one_hop_do_not_cross() {
        let sent = sent(&[
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic x"),
            ("accept", "*/*"),
        ]);
        let names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["accept", "x-forwarded-for", "x-forwarded-proto", "x-request-id"]);
    }

    #[test]
    fn a_client_cannot_strip_what_we_add() {
        let sent = sent(&[("connection", "x-forwarded-for, x-request-id"), ("x-forwarded-for", "10.1.1.1")]);
        assert_eq!(sent["x-forwarded-for"], "127.0.0.1");
        assert_eq!(sent["x-request-id"], "r1");
    }

    #[test]
    fn forwarded_addresses_are_appended() {
        let sent = sent(&[("x-forwarded-for", "10.1.1.1"), ("x-forwarded-for", "10.2.2.2"), ("host", "app.example")]);
        assert_eq!(sent["x-forwarded-for"], "10.1.1.1, 10.2.2.2, 127.0.0.1");
        assert_eq!(sent["x-forwarded-host"], "app.example");
        assert!(!sent.contains_key(HOST));
    }

    #[test]
    fn trailers_may_cross() {
        assert_eq!(sent(&[("te", "trailers, deflate")])["te"], "trailers");
    }
}
