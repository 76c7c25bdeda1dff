//! Where a request came from: forwarding headers, whose word is taken for them, and the PROXY header.

mod support;

use std::time::Duration;

use support::client::Connection;
use support::time::{advance, freeze};
use support::{Proxy, Request, Seen, Upstream, must, upstream};

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x01\xdc\x04\x01\xbb";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

async fn plain() -> Upstream {
    upstream().answer(200, "text/plain", "ok").start().await
}

fn loaded(request: Request) -> Request {
    request.header("x-forwarded-for", "198.51.100.1").header("x-forwarded-proto", "https").header("forwarded", "for=a")
}

/// What the upstream saw of a request that follows `first` on the same connection.
async fn after(proxy: &Proxy, llm: &Upstream, first: &[u8]) -> Seen {
    let mut connection = Connection::open(proxy.address).await;
    connection.write(first).await;
    loaded(proxy.get("/x")).write_to(&mut connection).await;
    assert_eq!(connection.reply().await.status, 200);
    llm.request(llm.requests())
}

#[tokio::test]
async fn forwarding_headers_count_as_far_as_the_peer_is_trusted() {
    let llm = plain().await;
    for (toml, chain, protocol, forwarded) in [
        ("", "198.51.100.1, 127.0.0.1", "https", Some("for=a")),
        (
            "[listen]\ntrusted_proxies = ['127.0.0.0/8']",
            "198.51.100.1, 127.0.0.1",
            "https",
            Some("for=a, for=127.0.0.1;proto=http"),
        ),
        ("[listen]\ntrusted_proxies = ['10.0.0.0/8']", "127.0.0.1", "http", None),
        ("[listen]\ntrusted_proxies = []", "127.0.0.1", "http", None),
    ] {
        let proxy = Proxy::before(&llm, toml).await;
        let seen = after(&proxy, &llm, b"").await;
        assert_eq!(seen.header("x-forwarded-for").as_deref(), Some(chain), "{toml}");
        assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some(protocol), "{toml}");
        assert_eq!(seen.header("forwarded").as_deref(), forwarded, "{toml}");
    }
}

#[tokio::test]
async fn a_proxy_header_names_the_client_in_both_versions() {
    let llm = plain().await;
    let proxy = Proxy::before(&llm, "[listen]\nproxy_protocol = true").await;
    let chain = |seen: Seen| seen.header("x-forwarded-for");
    let v1 = b"PROXY TCP4 192.0.2.9 10.0.0.1 56324 443\r\n";
    assert_eq!(chain(after(&proxy, &llm, v1).await).as_deref(), Some("198.51.100.1, 192.0.2.9"));
    assert_eq!(chain(after(&proxy, &llm, V2).await).as_deref(), Some("198.51.100.1, 192.0.2.7"));
    for silent in [&b"PROXY UNKNOWN\r\n"[..], V2_LOCAL] {
        assert_eq!(chain(after(&proxy, &llm, silent).await).as_deref(), Some("198.51.100.1, 127.0.0.1"));
    }
}

#[tokio::test]
async fn who_is_trusted_with_a_proxy_header_is_not_its_client() {
    let llm = plain().await;
    let toml = "[listen]\nproxy_protocol = true\ntrusted_proxies = ['127.0.0.1']";
    let proxy = Proxy::before(&llm, toml).await;
    // The balancer is believed about the client's address; what the client itself writes is not.
    let seen = after(&proxy, &llm, V2).await;
    assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("192.0.2.7"));
    assert_eq!(seen.header("forwarded"), None);
}

#[tokio::test]
async fn from_others_than_trusted_proxies_a_proxy_header_is_no_header() {
    let llm = plain().await;
    let toml = "[listen]\nproxy_protocol = true\ntrusted_proxies = ['10.0.0.0/8']";
    let proxy = Proxy::before(&llm, toml).await;
    assert_eq!(after(&proxy, &llm, b"").await.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    let mut connection = Connection::open(proxy.address).await;
    connection.write("PROXY TCP4 192.0.2.9 10.0.0.1 56324 443\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(connection.reply().await.status, 400);
    assert_eq!(llm.requests(), 1);
}

#[tokio::test]
async fn a_connection_without_the_header_it_should_begin_with_is_closed() {
    let llm = plain().await;
    let proxy = Proxy::before(&llm, "[listen]\nproxy_protocol = true").await;
    let long = format!("PROXY UNKNOWN {}\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(200));
    for first in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "PROXY TCP4 192.0.2.9 10.0.0.1 56324\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        &long,
    ] {
        let mut connection = Connection::open(proxy.address).await;
        connection.write(first).await;
        assert!(must("the connection to be closed", connection.try_reply()).await.is_none(), "{first}");
    }
    assert_eq!(llm.requests(), 0);
    assert_eq!(after(&proxy, &llm, V2).await.path, "/x");
}

#[tokio::test]
async fn a_proxy_header_that_takes_too_long_ends_its_connection() {
    let _frozen = freeze();
    let llm = plain().await;
    let proxy = Proxy::before(&llm, "[listen]\nproxy_protocol = true").await;
    let silent = Connection::open(proxy.address).await;
    let mut halting = Connection::open(proxy.address).await;
    halting.write("PROXY TCP4 192.0.2.9 ").await;
    advance(&proxy, Duration::from_millis(10_010)).await;
    assert_eq!((silent.until_closed().await, halting.until_closed().await), (vec![], vec![]));
    assert_eq!(proxy.metric("stream_limit_refusals_total", &[("name", "header_timeout")]).await, 2.0);
}
