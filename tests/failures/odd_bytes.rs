use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::support::events::data;
use crate::support::script::Script;
use crate::support::{Gate, Story, Upstream, Wire, upstream};

const BOM: &str = "\u{feff}";

/// A small stream with all there is: comments, names, ids, several data lines, a good end.
fn small_stream(wire: Wire) -> String {
    match wire {
        Wire::OpenAi => {
            let finish = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
            format!(": hi\n\ndata: {}\n\ndata:{}\n\ndata: {finish}\n\ndata: [DONE]\n\n", wire.says("é"), wire.says("b"))
        }
        Wire::Generic => {
            ": hi\n\nevent: a\ndata: é\n\nid: 7\ndata:two\ndata: lines\n\nevent: done\ndata: {}\n\n".to_owned()
        }
    }
}

fn stream_of(parts: &[&[u8]]) -> Script {
    parts.iter().fold(upstream().head(200, &[("content-type", "text/event-stream")]), |script, part| script.body(part))
}

/// Names and data of all events, the wire's comments left out.
async fn read(story: &Story) -> Vec<(String, String)> {
    let events = story.stream().await.rest().await;
    events.into_iter().map(|event| (event.name, event.data)).collect()
}

#[tokio::test]
async fn a_small_stream_reads_the_same_wherever_it_is_split_and_however_its_lines_end() {
    for wire in Wire::ALL {
        let plain = small_stream(wire);
        let llm = stream_of(&[plain.as_bytes()]).end().start().await;
        let whole = read(&Story::new("unsplit", wire, &llm, "").await).await;
        let names_and_data: Vec<_> = whole.iter().map(|(name, data)| (name.as_str(), data.as_str())).collect();
        match wire {
            Wire::OpenAi => assert_eq!((whole.len(), &names_and_data[0].1), (4, &wire.says("é").as_str())),
            Wire::Generic => assert_eq!(names_and_data, [("a", "é"), ("", "two\nlines"), ("done", "{}")]),
        }
        for (name, line_end, bom) in [("lf", "\n", ""), ("crlf", "\r\n", BOM), ("cr", "\r", BOM)] {
            let bytes = format!("{bom}{}", plain.replace('\n', line_end)).into_bytes();
            let (count, bytes) = (bytes.len(), Arc::new(bytes));
            let llm = Upstream::by(move |seen| {
                let (left, right) = bytes.split_at(seen.number);
                stream_of(&[left, right]).end()
            });
            let llm = llm.await;
            let story = Story::new(&format!("split_{name}"), wire, &llm, "").await;
            for split in 1..count {
                assert_eq!(read(&story).await, whole, "{name}, split at {split}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_that_comes_byte_by_byte_reads_the_same() {
    for wire in Wire::ALL {
        let plain = small_stream(wire);
        let llm = stream_of(&[plain.as_bytes()]).end().start().await;
        let whole = read(&Story::new("at_once", wire, &llm, "").await).await;
        let bytes: Vec<_> = plain.as_bytes().chunks(1).collect();
        let llm = stream_of(&bytes).end().start().await;
        assert_eq!(read(&Story::new("byte_by_byte", wire, &llm, "").await).await, whole);
    }
}

#[tokio::test]
async fn malformed_fields_are_ignored() {
    for wire in Wire::ALL {
        let good = wire.says("a");
        let odd = format!(
            "nonsense\nfoo: bar\n:no space\nretry: +10\nretry: 1e3\nretry: -1\nretry:\nid: a\0b\ndata : x\n data: y\ndata: {good}\n\n\n\nevent: lonely\n\n"
        );
        let llm = wire.done(upstream().chunk(odd)).start().await;
        let story = Story::new("malformed", wire, &llm, "[retry_hint]\nenabled = false").await;
        let events = story.stream().await.rest().await;
        assert_eq!(events[0].data, good);
        assert_eq!((events[0].name.as_str(), events[0].retry), ("", None));
        assert_eq!(events.len(), 1 + wire.done_events(), "{events:?}");
    }
}

#[tokio::test]
async fn invalid_utf8_becomes_the_replacement_character_and_is_counted() {
    for wire in Wire::ALL {
        let good = wire.says("<>");
        let (left, right) = good.split_at(good.find("<>").expect("the text") + 1);
        let bytes = [b"data: ", left.as_bytes(), b"\xff\xe2\x82", right.as_bytes(), b"\n\n"].concat();
        let llm = wire.done(upstream().chunk(bytes)).start().await;
        let story = Story::new("utf8", wire, &llm, "").await;
        let before = story.proxy.metric("stream_utf8_repairs_total", &[]).await;
        assert_eq!(story.whole(story.stream().await).await, "<\u{fffd}\u{fffd}>");
        assert!(story.proxy.metric("stream_utf8_repairs_total", &[]).await >= before + 2.0);
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// A Brotli stream of one stored meta-block (RFC 7932 section 9.2): window of 16 bits, not last, four nibbles of
/// length, uncompressed; then the empty last meta-block.
fn brotli(data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() - 1).expect("a short text");
    assert!(length <= 0xffff, "one meta-block");
    let head = (length << 4 | 1 << 20).to_le_bytes();
    [&head[..3], data, &[3]].concat()
}

#[tokio::test]
async fn a_compressed_stream_is_read_although_a_plain_one_was_asked_for() {
    for wire in Wire::ALL {
        let plain = small_stream(wire);
        let llm = stream_of(&[plain.as_bytes()]).end().start().await;
        let whole = read(&Story::new("plain", wire, &llm, "").await).await;
        assert_eq!(llm.request(1).header("accept-encoding").as_deref(), Some("identity"));
        let codings = [
            ("gzip", gzip(plain.as_bytes())),
            ("deflate", deflate(plain.as_bytes())),
            ("br", brotli(plain.as_bytes())),
        ];
        for (coding, bytes) in codings {
            let headers = [("content-type", "text/event-stream"), ("content-encoding", coding)];
            let (left, right) = bytes.split_at(bytes.len() / 2);
            let llm = upstream().head(200, &headers).body(left).body(right).end().start().await;
            let story = Story::new(&format!("coding_{coding}"), wire, &llm, "").await;
            let reply = story.stream().await;
            assert_eq!(reply.header("content-encoding"), None);
            let events: Vec<_> = reply.rest().await.into_iter().map(|event| (event.name, event.data)).collect();
            assert_eq!(events, whole, "{coding}");
        }
    }
}

#[tokio::test]
async fn a_compressed_event_is_delivered_before_the_stream_is_over() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut flushed = |text: String| {
        encoder.write_all(text.as_bytes()).expect("memory takes it");
        encoder.flush().expect("memory takes it");
        std::mem::take(encoder.get_mut())
    };
    let first = flushed(format!("data: {}\n\n", Wire::Generic.says("a")));
    let rest = flushed("event: done\ndata: {}\n\n".to_owned());
    let gate = Gate::new();
    let headers = [("content-type", "text/event-stream"), ("content-encoding", "gzip")];
    let llm = upstream().head(200, &headers).body(first).gate(&gate).body(rest).end().start().await;
    let story = Story::new("flushed", Wire::Generic, &llm, "").await;
    let mut reply = story.stream().await;
    assert_eq!(reply.event().await.data, Wire::Generic.says("a"));
    gate.release();
    assert_eq!(data(&reply.rest().await), ["{}"]);
}

#[tokio::test]
async fn a_compression_bomb_ends_the_stream() {
    for wire in Wire::ALL {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(format!("data: {}\n\n", wire.says("a")).as_bytes()).expect("memory takes it");
        encoder.flush().expect("memory takes it");
        let fuse = std::mem::take(encoder.get_mut());
        encoder.write_all(&b":\n".repeat(6 * 1024 * 1024)).expect("memory takes it");
        let bomb = encoder.finish().expect("memory takes it");
        let headers = [("content-type", "text/event-stream"), ("content-encoding", "gzip")];
        let script = upstream().head(200, &headers).body(fuse);
        let llm = bomb.chunks(2048).fold(script, |script, part| script.body(part)).hang().start().await;
        let story = Story::new("bomb", wire, &llm, "").await;
        let (events, failure) = story.failure(story.stream().await).await;
        assert_eq!(wire.text(&events), "a");
        story.told(&failure, "event_too_large", "system", false).await;
        llm.closed().await;
    }
}

#[tokio::test]
async fn a_coding_that_nobody_knows_is_refused() {
    for wire in Wire::ALL {
        let headers = [("content-type", "text/event-stream"), ("content-encoding", "zstd")];
        let llm = upstream().head(200, &headers).body("?").end().start().await;
        let story = Story::new("zstd", wire, &llm, "").await;
        let failure = story.refusal(502).await;
        story.told(&failure, "bad_content_type", "system", false).await;
    }
}

#[tokio::test]
async fn broken_compression_is_a_broken_connection() {
    for wire in Wire::ALL {
        let headers = [("content-type", "text/event-stream"), ("content-encoding", "gzip")];
        let llm = upstream().head(200, &headers).body("this is no gzip").end().start().await;
        let story = Story::new("broken_gzip", wire, &llm, "").await;
        let failure = story.refusal(502).await;
        story.told(&failure, "upstream_reset", "system", true).await;
    }
}

#[tokio::test]
async fn a_compressed_refusal_arrives_readable() {
    for wire in Wire::ALL {
        let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
        let llm = upstream().head(400, &headers).body(gzip(b"{\"no\":1}")).end().start().await;
        let story = Story::new("gzip_400", wire, &llm, "").await;
        let reply = story.ask().send().await;
        assert_eq!((reply.status, reply.header("content-encoding")), (400, None));
        assert_eq!(reply.text().await, "{\"no\":1}");
    }
}
