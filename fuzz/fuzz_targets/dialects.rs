//! Arbitrary upstream bytes through every dialect: nothing panics, and no block comes out that a client's parser would
//! read as anything but the one event it is.
//!
//! The first byte picks the wire. The rest is read as its stream, and as the JSON answer that would stand in for one.

#![no_main]

use http::{HeaderMap, Method, Uri};
use libfuzzer_sys::fuzz_target;
use streamkeeper_session::{ErrorEvent, Gap, GapReason};
use streamkeeper_sse::{Decoder, Finish, Item, Limits, OwnedEvent, write_body};

// Whole modules are taken in by their path: the root crate would bring a server and TLS along.
#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../../src/config/mod.rs"]
mod config;
#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../../src/dialect/mod.rs"]
mod dialect;

use dialect::{Ask, Delivered, Dialect, Meaning, Moment};

const ASK: &[u8] = br#"{"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"x"}],"id":1}"#;

fn dialects() -> [Box<dyn Dialect>; 10] {
    let markers = config::Generic { done_events: vec!["done".into()], ..config::Generic::default() };
    [
        Box::new(dialect::OpenAi),
        Box::new(dialect::Responses),
        Box::new(dialect::Anthropic),
        Box::new(dialect::Gemini),
        Box::new(dialect::Cohere),
        Box::new(dialect::Mcp),
        Box::new(dialect::LangGraph),
        Box::new(dialect::LangServe),
        Box::new(dialect::AiSdk),
        Box::new(dialect::GenericDialect::new(markers)),
    ]
}

/// A block is one event: it has data, and a parser reads back exactly what was meant.
fn one_block(event: &OwnedEvent) {
    let mut block = Vec::new();
    event.write_block(&mut block);
    assert!(!block.contains(&b'\r'));
    let mut decoder = Decoder::new(Limits { line: usize::MAX, event: usize::MAX });
    let mut read = Vec::new();
    {
        let mut items = decoder.feed(&block);
        while let Some(item) = items.next() {
            match item.expect("no limit") {
                Item::Event(event) => read.push(OwnedEvent::from(event)),
                other => panic!("{other:?} in a block of ours"),
            }
        }
    }
    assert_eq!(decoder.finish(), Finish::Clean);
    assert_eq!(read.len(), 1, "{block:?}");
    assert_eq!(read[0].data, event.data.replace("\r\n", "\n").replace('\r', "\n"));
}

fn all_blocks(events: &[OwnedEvent]) {
    events.iter().for_each(one_block);
}

/// Reads `bytes` as a stream; gives what was delivered.
fn stream(dialect: &dyn Dialect, ask: &Ask<'_>, bytes: &[u8]) -> Vec<OwnedEvent> {
    let mut reader = dialect.reader(ask);
    let mut decoder = Decoder::new(Limits::default());
    let mut delivered: Vec<OwnedEvent> = Vec::new();
    let mut items = decoder.feed(bytes);
    while let Some(Ok(item)) = items.next() {
        let fault = match item {
            Item::Event(event) => match reader.read(&event) {
                Meaning::Content | Meaning::Preamble | Meaning::Filler => {
                    let mut body = Vec::new();
                    write_body(event.name, event.data, &mut body);
                    assert!(body.ends_with(b"\n") && body.windows(6).any(|bytes| bytes == b"data: "));
                    delivered.push(OwnedEvent::from(event));
                    None
                }
                Meaning::Replace(event) => {
                    one_block(&event);
                    delivered.push(event);
                    None
                }
                Meaning::Done => break,
                Meaning::Skip => None,
                Meaning::Error(fault) => Some(fault),
            },
            Item::Field { name, value } => reader.field(name, value),
            Item::Comment(_) | Item::Retry(_) => None,
        };
        if let Some(fault) = fault {
            let error = ErrorEvent::new(&fault, "r", std::time::Duration::from_secs(1), false);
            let note = dialect.note(ask);
            let last = delivered.last().map(Delivered::from);
            let told = dialect.error_events(&error, &Moment { note: note.as_deref(), last });
            assert!(!told.is_empty());
            all_blocks(&told);
            if dialect.name() == "openai" {
                assert!(told.iter().all(|event| event.name.is_empty()), "no name on these blocks");
            }
            serde_json::from_slice::<serde_json::Value>(&dialect.error_body(&error)).expect("JSON");
            break;
        }
    }
    let _ = (reader.clean_end(), reader.is_whole());
    delivered
}

fuzz_target!(|input: &[u8]| {
    let Some((pick, bytes)) = input.split_first() else { return };
    let dialects = dialects();
    let dialect = &*dialects[usize::from(*pick) % dialects.len()];
    let (uri, headers) = (Uri::from_static("/v1/models/m:streamGenerateContent?alt=sse"), HeaderMap::new());
    let ask = Ask { method: &Method::POST, uri: &uri, headers: &headers, body: ASK };
    let delivered = stream(dialect, &ask, bytes);
    if let Ok(events) = dialect.events_of(&ask, bytes) {
        all_blocks(&events);
    }
    if let Some(rest) = dialect.rest_of(&ask, &mut delivered.iter().map(Delivered::from), bytes) {
        all_blocks(&rest);
    }
    for prefill in [config::Prefill::Prefix, config::Prefill::ContinueFinalMessage, config::Prefill::Trailing] {
        if let Some(next) = dialect.continuation(&ask, prefill, &mut delivered.iter().map(Delivered::from)) {
            serde_json::from_slice::<serde_json::Value>(&next.body).expect("JSON");
        }
    }
    if let Some(event) = dialect.gap_event(&Gap { from: 1, to: 2, reason: GapReason::Lost }) {
        one_block(&event);
    }
    // A body that is no request of this wire must not trouble anybody either.
    let stranger = Ask { body: bytes, ..ask };
    let _ = (dialect.asks(&stranger), dialect.asks_in_body(&stranger), dialect.without_stream(&stranger), dialect.note(&stranger));
});
