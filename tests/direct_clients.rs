//! Event streams to clients of HTTP/1.x without hyper: whatever a client says before, during and after a stream, it gets
//! what hyper would have given it. How what is there gets into one write, and streams to sockets that take what they
//! like, are unit tests beside the code; clients that do not read are in `limits.rs`.

mod support;

use std::io::ErrorKind;
use std::time::Duration;

use support::client::Connection;
use support::events::data;
use support::pki::Authority;
use support::time::{advance, freeze, settle};
use support::upstream::{find, header_line};
use support::{Configured, Gate, Proxy, Script, Seen, Upstream, must, upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;

const HYPERS: &str = "[http1]\ndirect = false\n";
/// Nothing differs by chance, and a stream that breaks off stays so.
const STEADY: &str = "[retry_hint]\njitter = 0\n[[routes]]\nafter_partial = []\nretry = { attempts = 1 }\n";
const SECOND: Duration = Duration::from_secs(1);
/// What an EventSource asks, but for what the story adds.
const ASK: &str = "GET /chat HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n";
/// What a client asks whose wire has no better way to tell of a failure than a break.
const GEMINI: &str = "POST /v1beta/models/gemini-pro:streamGenerateContent?alt=sse HTTP/1.1\r\nhost: a\r\n\
    content-type: application/json\r\ncontent-length: 15\r\n\r\n{\"contents\":[]}";

fn chat(seen: &Seen) -> Script {
    match &seen.path {
        path if path.starts_with("/chat") => upstream().events(["a", "b"]).end(),
        path if path.starts_with("/v1beta") => upstream().event(r#"{"candidates":[]}"#).event("{").cut(),
        path if path.starts_with("/v1/chat") => upstream().event(r#"{"choices":[]}"#).event("[DONE]").end(),
        _ => upstream().answer(200, "text/plain", "ok"),
    }
}

/// All that a client gets for saying `said`, until its connection is closed. What is of one run alone, and how chunks
/// are cut, is left out.
async fn got(toml: &str, said: &str) -> Vec<String> {
    let llm = Upstream::by(chat).await;
    let proxy = Proxy::before(&llm, &format!("{toml}{STEADY}")).await;
    let mut connection = Connection::open(proxy.address).await;
    connection.write(said).await;
    let bytes = connection.until_closed().await;
    let mut rest = &bytes[..];
    let mut replies = Vec::new();
    while !rest.is_empty() {
        let (reply, after) = one_reply(rest, said.starts_with("HEAD"));
        replies.push(reply);
        rest = after;
    }
    replies
}

/// The first reply in `bytes`, and what follows it.
fn one_reply(bytes: &[u8], bodiless: bool) -> (String, &[u8]) {
    let end = find(bytes, b"\r\n\r\n").unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
    let (head, mut rest) = (std::str::from_utf8(&bytes[..end]).expect("a head is ASCII"), &bytes[end + 4..]);
    let mut lines = head.split("\r\n");
    let mut told = lines.next().expect("a status line").to_owned();
    let (mut length, mut chunked, mut own) = (None, false, Vec::new());
    for (name, value) in lines.filter_map(header_line) {
        match &*name {
            "content-length" => length = Some(value.parse::<usize>().expect("a length")),
            "transfer-encoding" => chunked = true,
            "streamkeeper-session" | "x-request-id" => own.push(value.clone()),
            _ => {}
        }
        let shown = if name == "date" || own.contains(&value) { "…" } else { &value };
        told.push_str(&format!("\n{name}: {shown}"));
    }
    let bodiless = bodiless || told.contains(" 100 ");
    let mut body = Vec::new();
    if chunked && !bodiless {
        let whole = loop {
            let Some(line) = find(rest, b"\r\n") else { break false };
            let size = std::str::from_utf8(&rest[..line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
            let size = size.unwrap_or_else(|| panic!("no chunk: {:?}", String::from_utf8_lossy(rest)));
            body.extend_from_slice(&rest[line + 2..line + 2 + size]);
            rest = &rest[line + 2 + size + 2..];
            if size == 0 {
                break true;
            }
        };
        body.extend_from_slice(if whole { b"(whole)" } else { b"(cut)" });
    } else if !bodiless {
        let (this, after) = rest.split_at(length.unwrap_or(rest.len()));
        (body, rest) = (this.to_vec(), after);
    }
    let body = String::from_utf8(body).expect("UTF-8");
    let body = own.iter().fold(body, |body, own| body.replace(own, "…"));
    (format!("{told}\n\n{body}"), rest)
}

#[tokio::test]
async fn whatever_a_client_says_it_gets_the_same_with_hyper_and_without() {
    let json = r#"{"model":"m","messages":[],"stream":true}"#;
    let length = json.len();
    let post = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    let long = format!("{ASK}x-long: {}\r\n\r\n", "x".repeat(300_000));
    for (shape, said, replies) in [
        ("the last request", format!("{ASK}connection: close\r\n\r\n"), 1),
        ("the last request, said among others", format!("{ASK}connection: x-a\r\nconnection: x-b , CLOSE\r\n\r\n"), 1),
        ("HTTP/1.0", ASK.replace("1.1", "1.0") + "\r\n", 1),
        (
            "streams and calls in a row",
            format!("{ASK}\r\n{ASK}\r\nGET /x HTTP/1.1\r\nhost: a\r\n\r\n{ASK}connection: close\r\n\r\n"),
            4,
        ),
        (
            "a HEAD",
            "HEAD /chat HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\nconnection: close\r\n\r\n".to_owned(),
            1,
        ),
        ("an upgrade that is declined", format!("{ASK}connection: upgrade, close\r\nupgrade: h2c\r\n\r\n"), 1),
        ("a body", format!("{post}content-length: {length}\r\n\r\n{json}{ASK}connection: close\r\n\r\n"), 2),
        (
            "a body that waits to be asked for",
            format!("{post}expect: 100-continue\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{json}"),
            2,
        ),
        (
            "a body in chunks",
            format!(
                "{post}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{json}\r\n0\r\n\r\n{ASK}connection: close\r\n\r\n"
            ),
            2,
        ),
        // What follows it may be somebody else's idea of where it ends.
        (
            "a body in chunks that also has a length",
            format!(
                "{post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{json}\r\n0\r\n\r\n{ASK}\r\n"
            ),
            1,
        ),
        ("a body that no stream needs", format!("{ASK}content-length: 3\r\n\r\nabc{ASK}connection: close\r\n\r\n"), 2),
        ("a stream that breaks off", format!("{GEMINI}{ASK}\r\n"), 1),
        ("a stream that breaks off, in HTTP/1.0", GEMINI.replace("1.1", "1.0"), 1),
        ("what is no request after a stream", format!("{ASK}\r\nwhatever\r\n\r\n"), 2),
        ("too long a request after a stream", format!("{ASK}\r\n{long}"), 2),
        ("another protocol after a stream", format!("{ASK}\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 1),
    ] {
        let direct = got("", &said).await;
        assert_eq!(direct.len(), replies, "{shape}: {direct:#?}");
        assert_eq!(direct, got(HYPERS, &said).await, "{shape}");
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_is_not_told_that_its_connection_stays() {
    let said = ASK.replace("1.1", "1.0") + "connection: keep-alive\r\n\r\n";
    let direct = got("", &said).await;
    assert!(direct[0].ends_with("data: b\nid: ….0.2\n\n"), "{direct:?}");
    // hyper says so, and then closes it as it must.
    let hypers = got(HYPERS, &said).await;
    assert_eq!(direct[0], hypers[0].replace("\nconnection: keep-alive", ""));
}

#[tokio::test]
async fn a_connection_serves_a_request_after_a_whole_stream_and_one_that_came_during_it() {
    let gate = Gate::new();
    let llm = upstream().event("a").gate(&gate).event("b").end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut connection = Connection::open(proxy.address).await;
    connection.write(format!("{ASK}\r\n")).await;
    gate.reached().await;
    connection.write("GET /chat?2 HTTP/1.1\r\nhost: a\r\nacc").await;
    settle(&proxy).await;
    connection.write("ept: text/event-stream\r\n\r\n").await;
    settle(&proxy).await;
    assert_eq!(llm.requests(), 1, "one at a time");
    gate.open();
    for _ in 0..2 {
        let mut reply = connection.reply().await;
        assert_eq!(data(&reply.take(2).await), ["a", "b"]);
        connection = reply.finish().await;
    }
    connection.write(format!("{ASK}\r\n")).await;
    let mut reply = connection.reply().await;
    assert_eq!(data(&reply.take(2).await), ["a", "b"]);
    assert_eq!(llm.request(2).path, "/chat?2");
    assert_eq!(llm.requests(), 3);
}

#[tokio::test]
async fn what_was_answered_before_a_stream_is_never_lost_to_it() {
    const CALLS: usize = 400;
    for way in ["", HYPERS] {
        let llm = upstream().event("a").end().start().await;
        let proxy = Proxy::before(&llm, &format!("{way}[limits]\nsend_buffer = '8KiB'")).await;
        let first = proxy.get("/chat").events().await;
        let session = first.session();
        first.rest().await;
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let mut connection = Connection::over(socket.connect(proxy.address).await.expect("the proxy listens"));
        let call = "HEAD /_streamkeeper/nothing HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx";
        connection.write(call.repeat(CALLS)).await;
        connection.write(format!("{ASK}last-event-id: {session}.0.0\r\nconnection: close\r\n\r\n")).await;
        // By now the proxy cannot write any more.
        settle(&proxy).await;
        let bytes = connection.until_closed().await;
        let text = String::from_utf8(bytes).expect("UTF-8");
        assert_eq!(text.matches("HTTP/1.1 404 ").count(), CALLS, "{way}");
        assert_eq!(text.matches("HTTP/1.1 200 ").count(), 1, "{way}");
        assert!(text.ends_with("0\r\n\r\n"), "{way}");
    }
}

#[tokio::test]
async fn a_client_that_talks_during_its_stream_is_heard_so_far_and_gets_all_of_it() {
    let gate = Gate::new();
    let llm = upstream().event("a").gate(&gate).event("b").end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let socket = TcpStream::connect(proxy.address).await.expect("the proxy listens");
    let (read, mut write) = socket.into_split();
    write.write_all(format!("{ASK}\r\n").as_bytes()).await.expect("the proxy reads");
    gate.reached().await;
    // More than any buffer on the way holds: it is taken only as it is read.
    let talking = tokio::spawn(async move {
        let mut taken = 0;
        while taken < 64 << 20 {
            match write.write(&[b'x'; 65_536]).await {
                Ok(some) => taken += some,
                Err(_) => break,
            }
        }
        taken
    });
    for _ in 0..20 {
        settle(&proxy).await;
    }
    assert!(!talking.is_finished(), "nobody takes so much");
    gate.open();
    let mut bytes = Vec::new();
    let mut read = read;
    let _ = must("the connection to end", read.read_to_end(&mut bytes)).await;
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("data: b\n") && text.contains("\r\n0\r\n\r\n"), "{text}");
    assert!(must("the talker", talking).await.expect("no panic") < 64 << 20);
}

#[tokio::test]
async fn a_client_that_goes_away_is_no_reader_any_more_whatever_it_said_before() {
    for (said, reset) in [("", false), ("GET /x HTTP/1.1\r\n", false), ("", true)] {
        let llm = upstream().event("a").hang().start().await;
        let proxy = Proxy::before(&llm, "[[routes]]\ndetach = { mode = 'cancel' }").await;
        let mut socket = TcpStream::connect(proxy.address).await.expect("the proxy listens");
        socket.write_all(format!("{ASK}\r\n{said}").as_bytes()).await.expect("the proxy reads");
        let mut head = Vec::new();
        while find(&head, b"data: a").is_none() {
            assert_ne!(must("the stream", socket.read_buf(&mut head)).await.expect("the stream"), 0);
        }
        if reset {
            socket.set_zero_linger().expect("an option");
        }
        drop(socket);
        llm.closed().await;
    }
}

#[tokio::test]
async fn a_request_that_is_still_being_sent_may_be_answered_by_a_stream() {
    for way in ["", HYPERS] {
        let gate = Gate::new();
        let llm = upstream().early().event("a").gate(&gate).read_request().event("b").end().start().await;
        let proxy = Proxy::before(&llm, way).await;
        let mut connection = Connection::open(proxy.address).await;
        connection.write("POST /chat HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n01234").await;
        let mut reply = connection.reply().await;
        assert_eq!(reply.event().await.data, "a", "{way}");
        gate.open();
        let mut connection = reply.into_connection();
        connection.write("56789").await;
        let bytes = must("the rest", async {
            let mut bytes = Vec::new();
            while find(&bytes, b"0\r\n\r\n").is_none() {
                bytes.extend(connection.read_exactly(1).await);
            }
            bytes
        });
        assert!(find(&bytes.await, b"data: b").is_some(), "{way}");
        assert_eq!(llm.request(1).text(), "0123456789");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_slow_request_refused_after_a_stream_as_before_one() {
    let _frozen = freeze();
    let llm = upstream().event("a").end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let after_a_stream = async || {
        let mut connection = Connection::open(proxy.address).await;
        connection.write(format!("{ASK}\r\n")).await;
        let mut reply = connection.reply().await;
        reply.event().await;
        reply.finish().await
    };
    let refused = async || proxy.metric("stream_limit_refusals_total", &[("name", "header_timeout")]).await;
    for new in [true, false] {
        let before = refused().await;
        let mut open = Vec::new();
        for said in ["", "P", "GET /x HTTP/1.1\r\nx: "] {
            let mut connection = if new { Connection::open(proxy.address).await } else { after_a_stream().await };
            connection.write(said).await;
            open.push(connection);
        }
        settle(&proxy).await;
        advance(&proxy, 9 * SECOND).await;
        for connection in &mut open {
            assert!(connection.try_write("").await);
        }
        assert_eq!(refused().await, before);
        // What was said on a new connection began hyper's time anew.
        advance(&proxy, 2 * SECOND).await;
        for connection in open {
            connection.until_closed().await;
        }
        assert_eq!(refused().await - before, 2.0, "new: {new}");
    }
}

#[tokio::test]
async fn when_the_proxy_goes_away_a_stream_is_finished_and_its_connection_closed() {
    let gate = Gate::new();
    let llm = upstream().event("a").gate(&gate).event("b").end().start().await;
    let mut proxy = Proxy::before(&llm, "").await;
    let mut connection = Connection::open(proxy.address).await;
    connection.write(format!("{ASK}\r\n")).await;
    let mut reply = connection.reply().await;
    reply.event().await;
    proxy.drain();
    settle(&proxy).await;
    gate.open();
    assert_eq!(reply.event().await.data, "b");
    let rest = reply.finish().await.until_closed().await;
    assert_eq!(rest, b"");
    proxy.exited().await;
}

/// What a client in TLS gets for `said`, and whether the end was announced.
async fn got_in_tls(toml: &str, said: &str) -> (String, bool) {
    let authority = Authority::new();
    let issued = authority.issue("localhost");
    let llm = Upstream::by(chat).await;
    let toml = format!(
        "{toml}[listen]\ntls = {{ cert = '{{folder}}/cert.pem', key = '{{folder}}/key.pem' }}\n\
         [[upstreams]]\nname = 'llm'\nendpoints = ['http://{}']\n",
        llm.address
    );
    let proxy = Configured::with_files(&toml, &[("cert.pem", &issued.cert), ("key.pem", &issued.key)]).await;
    let socket = TcpStream::connect(proxy.address).await.expect("the proxy listens");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut tls = authority.client(&["http/1.1"]).connect(name, socket).await.expect("a handshake");
    tls.write_all(said.as_bytes()).await.expect("the proxy reads");
    let mut bytes = Vec::new();
    let announced = match must("the end", tls.read_to_end(&mut bytes)).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            false
        }
    };
    let (mut rest, mut told) = (&bytes[..], String::new());
    while !rest.is_empty() {
        let (reply, after) = one_reply(rest, false);
        told.push_str(&reply);
        rest = after;
    }
    (told, announced)
}

#[tokio::test]
async fn in_tls_a_whole_stream_ends_with_a_farewell_and_a_broken_one_without() {
    let steady = format!("{STEADY}upstream = 'llm'\nmatch = {{ path = '/' }}\n");
    for (said, whole) in [
        (format!("{ASK}\r\n{ASK}connection: close\r\n\r\n"), true),
        (ASK.replace("1.1", "1.0") + "\r\n", true),
        (GEMINI.to_owned(), false),
    ] {
        let direct = got_in_tls(&steady, &said).await;
        assert_eq!(direct.1, whole, "{direct:?}");
        assert_eq!(direct, got_in_tls(&format!("{HYPERS}{steady}"), &said).await);
    }
}
