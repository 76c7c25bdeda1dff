//! What crosses the proxy: end-to-end headers only; framing is made anew on both sides.
//!
//! Source: RFC 9110 section 7.6.1 (Connection), RFC 9112 section 6. A client's `Connection:` line can strip only
//! headers that the client itself sent: ours are set after the stripping.

use std::net::IpAddr;

use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, EXPECT, Entry, FORWARDED, HOST, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Uri};

/// `x-request-id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `last-event-id`.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// `idempotency-key`.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
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

/// The connection on which a request came.
#[derive(Debug, Clone, Copy)]
pub struct Hop {
    /// Whose it is.
    pub peer: IpAddr,
    /// It is in TLS.
    pub tls: bool,
    /// Whether what the peer says about hops before it is believed; `None`: nobody decided, so it is passed on.
    pub believed: Option<bool>,
}

/// The headers of a request on its way to the upstream.
pub fn to_upstream(mut headers: HeaderMap, uri: &Uri, hop: Hop, request_id: &str) -> HeaderMap {
    let host = headers.remove(HOST).or_else(|| HeaderValue::from_str(uri.authority()?.as_str()).ok());
    strip_hop_by_hop(&mut headers);
    // Our server has answered `100-continue` by the time the body is read.
    headers.remove(EXPECT);
    let protocol = if hop.tls { "https" } else { "http" };
    match hop.believed {
        None => {}
        Some(false) => forget_hops(&mut headers),
        Some(true) => extend_forwarded(&mut headers, hop.peer, protocol),
    }
    let peer = hop.peer;
    let before =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(", ");
    let chain = if before.is_empty() { peer.to_string() } else { format!("{before}, {peer}") };
    if let Ok(value) = HeaderValue::from_str(&chain) {
        headers.insert(FORWARDED_FOR, value);
    }
    if let (Some(host), Entry::Vacant(place)) = (host, headers.entry(FORWARDED_HOST)) {
        place.insert(host);
    }
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static(protocol));
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers
}

/// Removes what a peer says about hops before it.
fn forget_hops(headers: &mut HeaderMap) {
    let about_hops =
        |name: &HeaderName| [FORWARDED, REAL_IP].contains(name) || name.as_str().starts_with("x-forwarded-");
    let names: Vec<HeaderName> = headers.keys().filter(|name| about_hops(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Adds this hop to `Forwarded` where that is in use (RFC 7239 section 4; its section 6 wants quotes around IPv6).
fn extend_forwarded(headers: &mut HeaderMap, peer: IpAddr, protocol: &str) {
    if !headers.contains_key(FORWARDED) {
        return;
    }
    let element = match peer.to_canonical() {
        IpAddr::V4(peer) => format!("for={peer};proto={protocol}"),
        IpAddr::V6(peer) => format!("for=\"[{peer}]\";proto={protocol}"),
    };
    if let Ok(element) = HeaderValue::from_str(&element) {
        headers.append(FORWARDED, element);
    }
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
        through(None, pairs)
    }

    fn through(believed: Option<bool>, pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let hop = Hop { peer: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: true, believed };
        to_upstream(headers(pairs), &Uri::from_static("/x"), hop, "r1")
    }

    const HOPS: [(&str, &str); 7] = [
        ("x-forwarded-for", "10.1.1.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "app.example"),
        ("x-forwarded-port", "80"),
        ("x-real-ip", "10.1.1.1"),
        ("forwarded", "for=10.1.1.1"),
        ("host", "proxy.example"),
    ];

    #[test]
    fn hops_that_a_trusted_peer_names_are_kept_and_extended() {
        let sent = through(Some(true), &HOPS);
        assert_eq!(sent["x-forwarded-for"], "10.1.1.1, 127.0.0.1");
        assert_eq!(sent["x-forwarded-proto"], "http");
        assert_eq!(sent["x-forwarded-host"], "app.example");
        assert_eq!(sent["x-forwarded-port"], "80");
        assert_eq!(sent["x-real-ip"], "10.1.1.1");
        let forwarded: Vec<_> = sent.get_all("forwarded").iter().collect();
        assert_eq!(forwarded, ["for=10.1.1.1", "for=127.0.0.1;proto=https"]);
        assert!(!through(Some(true), &[]).contains_key("forwarded"));
    }

    #[test]
    fn hops_that_a_stranger_names_are_replaced_by_the_one_that_is_seen() {
        let sent = through(Some(false), &HOPS);
        assert_eq!(sent["x-forwarded-for"], "127.0.0.1");
        assert_eq!(sent["x-forwarded-proto"], "https");
        assert_eq!(sent["x-forwarded-host"], "proxy.example");
        for gone in ["x-forwarded-port", "x-real-ip", "forwarded"] {
            assert!(!sent.contains_key(gone), "{gone}");
        }
    }

    #[test]
    fn where_nobody_decided_hops_are_passed_on() {
        let sent = through(None, &HOPS);
        assert_eq!(sent["x-forwarded-for"], "10.1.1.1, 127.0.0.1");
        assert_eq!(sent["x-forwarded-proto"], "http");
        assert_eq!(sent["forwarded"], "for=10.1.1.1");
        assert_eq!(through(None, &[])["x-forwarded-proto"], "https");
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
