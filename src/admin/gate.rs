//! Who may ask the admin port, and for what.
//!
//! | asked for | needs |
//! |---|---|
//! | health, and the page's own files (they hold no data) | nothing |
//! | everything else | the bearer token; where none is configured (loopback only), a Host that no web page can forge |
//! | whatever changes something | that, and `x-streamkeeper: 1` from the same origin |
//!
//! Without a token the port is open to whoever reaches loopback, and that is every web page in a browser on the same
//! machine. The browser does not let a page read another origin's answers, unless the page's own name was made to point
//! to 127.0.0.1 (DNS rebinding): then Host is that name. An IP address or `localhost` cannot be such a name. A page of
//! another origin cannot send the header either, because that needs a preflight, which this port refuses.
//!
//! Source of the rules: the Fetch standard (CORS-safelisted request headers, `Sec-Fetch-Site`).

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use http::{Request, StatusCode};

use crate::app::App;

/// The header without which nothing is changed.
pub(super) const INTENT: HeaderName = HeaderName::from_static("x-streamkeeper");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is turned away, and what the sender is told.
pub(super) type Refusal = (StatusCode, &'static str);

/// Whether the request may see what is behind the port.
///
/// # Errors
/// Why not.
pub(super) fn may_read<B>(app: &App, request: &Request<B>) -> Result<(), Refusal> {
    let Some(token) = &app.settings.admin.token else {
        let told = "without a token (admin.token) this port answers to an IP address or localhost as Host only\n";
        return if is_unforgeable(request.headers()) { Ok(()) } else { Err((StatusCode::MISDIRECTED_REQUEST, told)) };
    };
    let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // As keyed hashes, so that the time it takes tells nothing of the token.
    let is_right = sent.is_some_and(|sent| {
        app.keyed.fingerprint(&[sent.as_bytes()]) == app.keyed.fingerprint(&[token.expose().as_bytes()])
    });
    if is_right {
        return Ok(());
    }
    Err((StatusCode::UNAUTHORIZED, "send the admin token as: authorization: Bearer …\n"))
}

/// Whether a request that may read may also change something.
///
/// # Errors
/// Why not.
pub(super) fn may_change(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.get(INTENT).is_none_or(|value| value != "1") {
        return Err((StatusCode::FORBIDDEN, "to change something send x-streamkeeper: 1\n"));
    }
    if !is_same_origin(headers) {
        return Err((StatusCode::FORBIDDEN, "another origin may not change anything\n"));
    }
    Ok(())
}

fn is_unforgeable(headers: &HeaderMap) -> bool {
    let Some(host) = host(headers) else { return false };
    let name = host
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map_or_else(|| host.rsplit_once(':').map_or(host, |(name, _)| name), |(address, _)| address);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// What browsers say of where a request comes from; other clients say nothing.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let site = headers.get(FETCH_SITE).is_none_or(|site| site == "same-origin" || site == "none");
    let origin = headers.get(ORIGIN).is_none_or(|origin| {
        let authority =
            origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
        authority.is_some_and(|authority| host(headers).is_some_and(|host| host.eq_ignore_ascii_case(authority)))
    });
    site && origin
}

fn host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    hosts.next().is_none().then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_an_address_or_localhost_cannot_be_a_rebound_name() {
        for host in ["127.0.0.1", "127.0.0.1:8081", "[::1]", "[::1]:8081", "localhost", "LocalHost:1", "10.0.0.7:80"] {
            assert!(is_unforgeable(&headers(&[("host", host)])), "{host}");
        }
        for host in ["evil.example", "evil.example:8081", "localhost.evil.example", "127.0.0.1.evil.example:1", ""] {
            assert!(!is_unforgeable(&headers(&[("host", host)])), "{host}");
        }
        assert!(!is_unforgeable(&headers(&[])));
        assert!(!is_unforgeable(&headers(&[("host", "127.0.0.1"), ("host", "evil.example")])));
    }

    #[test]
    fn a_change_needs_the_header_and_the_same_origin() {
        let intent = ("x-streamkeeper", "1");
        let host = ("host", "127.0.0.1:8081");
        for good in [
            vec![intent, host],
            vec![intent, host, ("origin", "http://127.0.0.1:8081"), ("sec-fetch-site", "same-origin")],
            vec![intent, ("host", "Admin.example"), ("origin", "https://admin.example")],
        ] {
            assert_eq!(may_change(&headers(&good)), Ok(()), "{good:?}");
        }
        for bad in [
            vec![host],
            vec![("x-streamkeeper", "0"), host],
            vec![intent, host, ("origin", "http://evil.example")],
            vec![intent, host, ("origin", "http://127.0.0.1:3000")],
            vec![intent, host, ("origin", "null")],
            vec![intent, host, ("sec-fetch-site", "same-site")],
            vec![intent, host, ("sec-fetch-site", "cross-site")],
        ] {
            let refused = may_change(&headers(&bad)).expect_err("refused");
            assert_eq!(refused.0, StatusCode::FORBIDDEN, "{bad:?}");
        }
    }
}
