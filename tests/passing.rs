//! Everything that is no stream passes as it is, in both directions, while it is still on its way.

mod support;

use support::client::Connection;
use support::events::{data, ids};
use support::{BodyEnd, Gate, Proxy, Seen, Upstream, upstream};

const MIB: usize = 1024 * 1024;

/// Upstream headers and status of `reply` as they were sent, but for what a proxy has to touch.
fn end_to_end(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    let own = ["date", "x-request-id", "content-length", "transfer-encoding"];
    headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).filter(|(name, _)| !own.contains(name)).collect()
}

#[tokio::test]
async fn answers_pass_with_status_headers_and_body_as_they_are() {
    let headers =
        [("content-type", "application/json"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("etag", "\"x\"")];
    for status in [200, 201, 404, 418, 500, 503] {
        let llm = upstream().answer_with(status, &headers, r#"{"a": 1.0e+2}"#).start().await;
        let proxy = Proxy::before(&llm, "").await;
        let reply = proxy.get("/models?x=%20&y=a/../b").send().await;
        assert_eq!(reply.status, status);
        assert_eq!(end_to_end(&reply.headers), headers);
        assert_eq!(reply.header("content-length").as_deref(), Some("13"));
        assert_eq!(reply.text().await, r#"{"a": 1.0e+2}"#);
        assert_eq!((llm.request(1).path.as_str(), llm.requests()), ("/models?x=%20&y=a/../b", 1));
    }
}

#[tokio::test]
async fn answers_without_a_body_and_redirects_pass_and_none_is_followed() {
    let answers = |seen: &Seen| match seen.path.as_str() {
        "/head" => upstream().head(200, &[("content-length", "12345"), ("content-type", "text/plain")]).end(),
        "/no-content" => upstream().head(204, &[]).end(),
        "/not-modified" => upstream().head(304, &[("etag", "\"x\"")]).end(),
        _ => upstream().answer_with(307, &[("location", "http://169.254.169.254/latest")], ""),
    };
    let llm = Upstream::by(answers).await;
    let proxy = Proxy::before(&llm, "").await;
    let head = proxy.request("HEAD", "/head").send().await;
    assert_eq!((head.status, head.header("content-length").as_deref()), (200, Some("12345")));
    assert_eq!(head.finish().await.surplus(), None, "nothing follows the head");
    assert_eq!(proxy.get("/no-content").send().await.status, 204);
    assert_eq!(proxy.get("/not-modified").send().await.status, 304);
    let redirect = proxy.get("/moved").send().await;
    assert_eq!(redirect.status, 307);
    assert_eq!(redirect.header("location").as_deref(), Some("http://169.254.169.254/latest"));
    assert_eq!(llm.requests(), 4);
}

#[tokio::test]
async fn any_method_passes_but_connect() {
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let proxy = Proxy::before(&llm, "").await;
    for method in ["OPTIONS", "PUT", "PATCH", "DELETE", "PROPFIND"] {
        assert_eq!(proxy.request(method, "/x").body("b").send().await.status, 200, "{method}");
    }
    let seen: Vec<_> = (1..=5).map(|number| llm.request(number).method).collect();
    assert_eq!(seen, ["OPTIONS", "PUT", "PATCH", "DELETE", "PROPFIND"]);
    assert_eq!(proxy.request("CONNECT", "evil.example:443").send().await.status, 405);
    assert_eq!(llm.requests(), 5);
}

#[tokio::test]
async fn an_upload_reaches_the_upstream_while_its_client_still_sends() {
    let llm = upstream().answer(200, "text/plain", "thanks").start().await;
    let proxy = Proxy::before(&llm, "").await;
    let part = vec![b'x'; MIB];
    for (number, framing) in [(1, format!("content-length: {}", 8 * MIB)), (2, "transfer-encoding: chunked".to_owned())]
    {
        let chunked = number == 2;
        let mut connection = Connection::open(proxy.address).await;
        connection.write(format!("POST /files HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n")).await;
        for sent in 1..=8 {
            if chunked {
                connection.write(format!("{MIB:x}\r\n")).await;
            }
            connection.write(&part).await;
            if chunked {
                connection.write("\r\n").await;
            }
            llm.until("what was sent so far", |log| {
                log.requests.get(number - 1).is_some_and(|seen| seen.body.len() == sent * MIB)
            })
            .await;
        }
        if chunked {
            connection.write("0\r\n\r\n").await;
        }
        assert_eq!(connection.reply().await.text().await, "thanks");
        assert!(llm.request(number).whole);
    }
}

#[tokio::test]
async fn a_download_reaches_the_client_while_the_upstream_still_sends() {
    let gate = Gate::new();
    let half = "x".repeat(2 * MIB);
    let llm = upstream().head(200, &[("content-type", "video/mp4")]).body(&half).gate(&gate).body(&half).end();
    let llm = llm.start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut reply = proxy.get("/video").send().await;
    while reply.raw().len() < 2 * MIB {
        assert!(reply.piece().await);
    }
    gate.open();
    assert_eq!(reply.bytes().await.len(), 4 * MIB);
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    for broken in [upstream().head(200, &[]).body("half").cut(), upstream().head(200, &[]).body("half").reset()] {
        let llm = broken.start().await;
        let proxy = Proxy::before(&llm, "").await;
        let mut reply = proxy.get("/file").send().await;
        while reply.piece().await {}
        assert_ne!(reply.ended(), Some(BodyEnd::Clean));
    }
}

#[tokio::test]
async fn an_answer_ended_by_its_connection_gets_a_proper_end() {
    let llm = upstream().raw("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nall of it").cut().start().await;
    let proxy = Proxy::before(&llm, "").await;
    assert_eq!(proxy.get("/file").send().await.text().await, "all of it");
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_download_and_its_upload() {
    let llm = upstream().head(200, &[]).body("some").hang().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut reply = proxy.get("/file").send().await;
    reply.until_raw(b"some").await;
    drop(reply);
    llm.closed().await;
    let mut upload = Connection::open(proxy.address).await;
    upload.write("POST /file HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nsome").await;
    llm.until("some of the upload", |log| log.requests.last().is_some_and(|seen| seen.body == b"some")).await;
    drop(upload);
    llm.until("the proxy to hang up again", |log| log.hung_up == 2).await;
    assert!(!llm.request(2).whole, "half an upload must not look whole");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let head = [("trailer", "x-sum"), ("content-type", "text/plain")];
    let llm = upstream().head(200, &head).body("data").trailers(&[("x-sum", "42")]).start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut connection = Connection::open(proxy.address).await;
    connection
        .write("POST /x HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: x-up\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    connection.write("4\r\ndata\r\n0\r\nx-up: 7\r\n\r\n").await;
    let mut reply = connection.reply().await;
    while reply.piece().await {}
    assert_eq!((reply.raw(), &reply.trailers), (&b"data"[..], &vec![("x-sum".to_owned(), "42".to_owned())]));
    let seen = llm.request(1);
    assert_eq!((seen.text().as_str(), seen.trailers), ("data", vec![("x-up".to_owned(), "7".to_owned())]));
}

#[tokio::test]
async fn a_client_that_expects_100_continue_is_told_to_go_on() {
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let proxy = Proxy::before(&llm, "").await;
    for accept in ["*/*", "text/event-stream"] {
        let mut connection = Connection::open(proxy.address).await;
        let head = format!(
            "POST /x HTTP/1.1\r\nhost: a\r\naccept: {accept}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"
        );
        connection.write(head).await;
        let interim = connection.reply().await;
        assert_eq!(interim.status, 100);
        let mut connection = interim.into_connection();
        connection.write("body").await;
        connection.reply().await;
        let seen = llm.request(llm.requests());
        assert_eq!((seen.text().as_str(), seen.header("expect")), ("body", None));
    }
}

const WEB_SOCKET: &str =
    "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\n";

fn web_socket() -> support::Script {
    upstream().head(101, &[("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-accept", "a")]).echo()
}

#[tokio::test]
async fn a_web_socket_is_joined_through_and_closed_from_either_side() {
    let llm = web_socket().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut connection = Connection::open(proxy.address).await;
    connection.write(WEB_SOCKET).await;
    let reply = connection.reply().await;
    assert_eq!((reply.status, reply.header("upgrade").as_deref()), (101, Some("websocket")));
    assert_eq!(reply.header("sec-websocket-accept").as_deref(), Some("a"));
    let seen = llm.request(1);
    assert_eq!(seen.header("upgrade").as_deref(), Some("websocket"));
    assert_eq!(seen.header("connection").map(|value| value.to_lowercase()).as_deref(), Some("upgrade"));
    let mut socket = reply.into_connection();
    for size in [1, 1000, 100_000] {
        let frame: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        socket.write(&frame).await;
        assert_eq!(socket.read_exactly(size).await, frame);
    }
    socket.finish_writing().await;
    assert_eq!(socket.until_closed().await, b"");
}

#[tokio::test]
async fn a_web_socket_the_upstream_refuses_or_the_route_forbids_is_an_ordinary_answer() {
    let refusing = upstream().answer(426, "text/plain", "no").start().await;
    let proxy = Proxy::before(&refusing, "").await;
    let mut connection = Connection::open(proxy.address).await;
    connection.write(WEB_SOCKET).await;
    let reply = connection.reply().await;
    assert_eq!((reply.status, reply.text().await.as_str()), (426, "no"));
    let proxy = Proxy::before(&refusing, "[[routes]]\nupgrade = false").await;
    let mut connection = Connection::open(proxy.address).await;
    connection.write(WEB_SOCKET).await;
    assert_eq!(connection.reply().await.status, 426);
    assert_eq!(refusing.request(2).header("upgrade"), None);
}

#[tokio::test]
async fn headers_of_one_hop_stay_on_their_hop() {
    let answer = [("connection", "x-private"), ("x-private", "1"), ("keep-alive", "timeout=5"), ("x-public", "1")];
    let llm = upstream().answer_with(200, &answer, "ok").start().await;
    let proxy = Proxy::before(&llm, "").await;
    let request = proxy.get("/x").header("connection", "close, x-private, x-forwarded-for, x-request-id");
    let request = request.header("x-private", "1").header("keep-alive", "timeout=5").header("x-public", "1");
    let request = request.header("x-forwarded-for", "10.1.1.1").header("proxy-authorization", "Basic x");
    let reply = request.header("te", "trailers, deflate").send().await;
    assert_eq!(reply.header("x-public").as_deref(), Some("1"));
    for name in ["x-private", "keep-alive"] {
        assert_eq!(reply.header(name), None, "{name}");
    }
    let seen = llm.request(1);
    for name in ["x-private", "keep-alive", "proxy-authorization"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("te").as_deref(), Some("trailers"));
    assert_eq!(seen.header("x-public").as_deref(), Some("1"));
    // A client can take back what it sent itself, not what the proxy says.
    assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(seen.header("x-request-id"), reply.header("x-request-id"));
}

#[tokio::test]
async fn the_upstream_learns_whom_it_serves() {
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let proxy = Proxy::before(&llm, "").await;
    proxy.get("/x").header("host", "app.example").header("x-forwarded-for", "10.1.1.1").send().await;
    let seen = llm.request(1);
    assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("10.1.1.1, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host").as_deref(), Some("app.example"));
    assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(seen.header("host"), Some(llm.address.to_string()));
}

#[tokio::test]
async fn a_request_id_is_kept_if_it_can_be_one_and_made_otherwise() {
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let proxy = Proxy::before(&llm, "").await;
    let kept = proxy.get("/x").header("x-request-id", "req-1").send().await;
    assert_eq!(kept.header("x-request-id").as_deref(), Some("req-1"));
    assert_eq!(llm.request(1).header("x-request-id").as_deref(), Some("req-1"));
    for unfit in ["", "two words", &"x".repeat(200)] {
        let made = proxy.get("/x").header("x-request-id", unfit).send().await.header("x-request-id").unwrap();
        assert_eq!(made.len(), 32);
        assert_eq!(llm.request(llm.requests()).header("x-request-id"), Some(made));
    }
}

#[tokio::test]
async fn no_request_can_choose_its_upstream() {
    let other = upstream().answer(200, "text/plain", "other").start().await;
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let proxy = Proxy::before(&llm, "").await;
    let evil = other.address.to_string();
    let absolute = proxy.get(&format!("http://{evil}/x")).send().await;
    assert_eq!(absolute.text().await, "ok");
    let by_host = proxy.get("/x").header("host", &evil).header("x-forwarded-host", &evil).send().await;
    assert_eq!(by_host.text().await, "ok");
    let by_path = proxy.get(&format!("//{evil}/x")).send().await;
    assert_eq!(by_path.text().await, "ok");
    assert_eq!((llm.requests(), other.requests()), (3, 0));
    assert_eq!(llm.request(1).path, "/x");
}

#[tokio::test]
async fn requests_whose_length_is_ambiguous_are_refused() {
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let proxy = Proxy::before(&llm, "").await;
    let hidden = "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";
    for framing in [
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5, 6",
        "content-length: +5",
        "content-length: 5 5",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        "transfer-encoding: identity\r\ncontent-length: 5",
        "content-length : 5",
    ] {
        let mut connection = Connection::open(proxy.address).await;
        connection.write(format!("POST /x HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n0\r\n\r\n{hidden}")).await;
        let said = String::from_utf8_lossy(&connection.until_closed().await).into_owned();
        assert!(said.starts_with("HTTP/1.1 400 "), "{framing:?}: {said}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{framing:?}: {said}");
    }
    assert_eq!(llm.requests(), 0);
}

/// RFC 9112 section 6.1 allows this beside refusing: the length is dropped, the framing made anew, and nothing after it
/// on the same connection is believed.
#[tokio::test]
async fn a_request_with_two_kinds_of_length_is_read_as_chunked_and_is_its_connections_last() {
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let proxy = Proxy::before(&llm, "").await;
    let hidden = "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";
    let both = ["content-length: 5", "transfer-encoding: chunked"];
    for (number, framing) in [both.join("\r\n"), [both[1], both[0]].join("\r\n")].into_iter().enumerate() {
        let mut connection = Connection::open(proxy.address).await;
        connection.write(format!("POST /x HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n2\r\nhi\r\n0\r\n\r\n{hidden}")).await;
        let said = String::from_utf8_lossy(&connection.until_closed().await).into_owned();
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{framing:?}: {said}");
        let seen = llm.request(number + 1);
        assert_eq!((seen.text().as_str(), seen.header("content-length")), ("hi", None));
        assert_eq!(seen.header("transfer-encoding").as_deref(), Some("chunked"));
    }
    assert_eq!(llm.requests(), 2);
}

#[tokio::test]
async fn a_body_that_is_malformed_never_looks_whole_to_the_upstream() {
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let proxy = Proxy::before(&llm, "").await;
    for accept in ["*/*", "text/event-stream"] {
        let mut connection = Connection::open(proxy.address).await;
        let head = format!("POST /x HTTP/1.1\r\nhost: a\r\naccept: {accept}\r\ntransfer-encoding: chunked\r\n\r\n");
        connection.write(format!("{head}4\r\ndata\r\nnonsense\r\n")).await;
        assert_eq!(connection.reply().await.status, 400, "{accept}");
    }
    assert!((1..=llm.requests()).all(|number| !llm.request(number).whole));
}

#[tokio::test]
async fn compressed_answers_pass_untouched() {
    let bytes: Vec<u8> = [0x1f, 0x8b, 8, 0].into_iter().chain(0..=255).collect();
    let length = bytes.len().to_string();
    let head = [("content-type", "application/json"), ("content-encoding", "gzip"), ("content-length", &length)];
    let llm = upstream().head(200, &head).body(&bytes).end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let reply = proxy.get("/x").header("accept-encoding", "gzip, br").send().await;
    assert_eq!(reply.header("content-encoding").as_deref(), Some("gzip"));
    assert_eq!(reply.bytes().await, bytes);
    assert_eq!(llm.request(1).header("accept-encoding").as_deref(), Some("gzip, br"));
}

#[tokio::test]
async fn an_event_stream_that_nobody_announced_becomes_a_session_all_the_same() {
    let gate = Gate::new();
    let llm = upstream().event("a").gate(&gate).event("b").end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut reply = proxy.post("/run").header("accept", "*/*").json("{}").send().await;
    let session = reply.session();
    let a = reply.event().await;
    drop(reply);
    let again = proxy.post("/run").header("accept", "*/*").json("{}").after(a.id()).send().await;
    gate.open();
    assert_eq!(ids(&again.rest().await), [format!("{session}.0.2")]);
    assert_eq!(llm.requests(), 1);
    // A HEAD asks for no stream, whatever its answer says.
    let head = proxy.request("HEAD", "/run").send().await;
    assert_eq!(head.header("streamkeeper-session"), None);
}

#[tokio::test]
async fn one_connection_serves_streams_and_calls_in_turn() {
    let answers = |seen: &Seen| match seen.path.as_str() {
        "/chat" => upstream().events(["a", "b"]).end(),
        _ => upstream().answer(200, "text/plain", "ok"),
    };
    let llm = Upstream::by(answers).await;
    let proxy = Proxy::before(&llm, "").await;
    let mut connection = Connection::open(proxy.address).await;
    for _ in 0..3 {
        proxy.get("/chat").header("accept", "text/event-stream").write_to(&mut connection).await;
        let mut stream = connection.reply().await;
        assert_eq!(data(&stream.take(2).await), ["a", "b"]);
        connection = stream.finish().await;
        proxy.get("/x").write_to(&mut connection).await;
        connection = connection.reply().await.finish().await;
    }
    // Streams and calls do not share connections: the former are read without hyper.
    assert_eq!((llm.requests(), llm.connections()), (6, 2), "the upstream's connections are used again");
}
