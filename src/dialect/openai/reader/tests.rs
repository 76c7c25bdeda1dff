//! Streams as vendors send them, written down from their references.

use proptest::prelude::*;
use streamkeeper_session::Kind;

use super::*;

fn event(data: &str) -> Event<'_> {
    Event { name: b"", data: data.as_bytes(), id: None }
}

/// What each event means, one letter each: Content, Replace, Preamble, Done, Error, Skip; and the clean end.
fn meanings(reader: &mut ChunkReader, stream: &[&str]) -> String {
    let letter = |data: &&str| match reader.read(&event(data)) {
        Meaning::Content => 'C',
        Meaning::Replace(_) => 'R',
        Meaning::Preamble => 'P',
        Meaning::Done => 'D',
        Meaning::Error(_) => 'E',
        Meaning::Skip => 'S',
        Meaning::Filler => 'F',
    };
    stream.iter().map(letter).collect()
}

fn read(stream: &[&str]) -> (String, CleanEnd) {
    let mut quick = ChunkReader::new(true);
    let mut slow = ChunkReader::new(false);
    let found = (meanings(&mut quick, stream), quick.clean_end());
    assert_eq!(found, (meanings(&mut slow, stream), slow.clean_end()), "the short cut changes nothing");
    found
}

fn delta(delta: &str) -> String {
    format!(
        r#"{{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":null}}]}}"#
    )
}

const FINISH: &str = r#"{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}"#;
const USAGE: &str = r#"{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;

#[test]
fn openai_begins_with_a_role_and_ends_with_done() {
    let role = delta(r#"{"role":"assistant","content":"","refusal":null}"#);
    let (hello, quoted) =
        (delta(r#"{"content":"Hello"}"#), delta(r#"{"content":"\"finish_reason\":\"x\" \"error\":{}"}"#));
    let stream = [role.as_str(), &hello, &quoted, &hello, FINISH, USAGE, "[DONE]"];
    assert_eq!(read(&stream), ("PCCCCCD".into(), CleanEnd::Unmarked));
    assert_eq!(read(&stream[..4]), ("PCCC".into(), CleanEnd::Truncated));
    assert_eq!(read(&stream[..5]).1, CleanEnd::Unmarked);
    assert_eq!(read(&[]).1, CleanEnd::Truncated);
}

#[test]
fn tokens_that_look_like_keys_are_still_content() {
    for word in ["error", "choices", "finish_reason", "[DONE]"] {
        let token = delta(&format!(r#"{{"content":"{word}"}}"#));
        assert_eq!(read(&[&token, &token]), ("CC".into(), CleanEnd::Truncated));
    }
}

#[test]
fn azure_reports_on_the_prompt_first_and_on_filters_in_between() {
    let prompt = r#"{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}"#;
    let role = r#"{"choices":[{"content_filter_results":{},"delta":{"content":"","refusal":null,"role":"assistant"},"finish_reason":null,"index":0,"logprobs":null}],"created":1,"id":"c1","model":"m","object":"chat.completion.chunk"}"#;
    let word = r#"{"choices":[{"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}},"delta":{"content":"Hi"},"finish_reason":null,"index":0,"logprobs":null}],"created":1,"id":"c1","model":"m","object":"chat.completion.chunk"}"#;
    let unfiltered = r#"{"choices":[{"content_filter_results":{"error":{"code":"content_filter_error","message":"The contents are not filtered"}},"delta":{"content":"Hi"},"finish_reason":null,"index":0}],"id":"c1"}"#;
    assert_eq!(read(&[prompt, role, word, unfiltered, FINISH, "[DONE]"]).0, "PPCCCD");
}

#[test]
fn deepseek_thinks_before_it_speaks() {
    let role = delta(r#"{"role":"assistant","content":null,"reasoning_content":""}"#);
    let thought = delta(r#"{"content":null,"reasoning_content":"Hm"}"#);
    assert_eq!(read(&[&role, &thought, &thought, FINISH]), ("PCCC".into(), CleanEnd::Unmarked));
}

#[test]
fn tool_calls_are_content_from_their_first_piece_on() {
    let call = delta(
        r#"{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":"f","arguments":""}}]}"#,
    );
    let arguments = delta(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"finish_reason\":1"}}]}"#);
    assert_eq!(read(&[&call, &arguments, FINISH]), ("CCC".into(), CleanEnd::Unmarked));
}

#[test]
fn every_choice_must_finish() {
    let part = |index: u32, finish: &str| {
        format!(r#"{{"choices":[{{"index":{index},"delta":{{"content":"x"}},"finish_reason":{finish}}}]}}"#)
    };
    let (a, b, end_a, end_b) = (part(0, "null"), part(1, "null"), part(0, "\"stop\""), part(1, "\"length\""));
    let mut reader = ChunkReader::new(false);
    meanings(&mut reader, &[&a, &b, &end_a]);
    assert_eq!(reader.clean_end(), CleanEnd::Truncated);
    meanings(&mut reader, &[&end_b]);
    assert_eq!(reader.clean_end(), CleanEnd::Unmarked);
    meanings(&mut reader, &[&part(128, "\"stop\"")]);
    assert_eq!(reader.clean_end(), CleanEnd::Truncated, "nobody keeps count beyond the API's limit");
}

#[test]
fn legacy_completions_are_read_alike() {
    let text = r#"{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"text":"Once","index":0,"logprobs":null,"finish_reason":null}]}"#;
    let last = r#"{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"text":"","index":0,"logprobs":{"tokens":[]},"finish_reason":"length"}]}"#;
    let empty = r#"{"id":"cmpl-1","choices":[{"text":"","index":0,"logprobs":null,"finish_reason":null}]}"#;
    assert_eq!(read(&[empty, text, text, last]), ("PCCC".into(), CleanEnd::Unmarked));
    assert_eq!(read(&[text, text]).1, CleanEnd::Truncated);
}

#[test]
fn vendors_report_errors_in_many_forms() {
    let token = delta(r#"{"content":"x"}"#);
    let cases = [
        (r#"{"error":{"message":"m","type":"server_error","param":null,"code":null}}"#, Kind::System),
        (r#"{"object":"error","message":"m","type":"BadRequestError","param":null,"code":400}"#, Kind::Validation),
        (r#"{"error":{"message":"m","type":"BadRequestError","param":null,"code":400}}"#, Kind::Validation),
        (r#"{"error":"m","error_type":"overloaded"}"#, Kind::System),
        (r#"{"error":{"message":"m","http_status_code":429}}"#, Kind::RateLimit),
        (r#"{"error":{"code":500,"message":"m","type":"server_error"}}"#, Kind::System),
        (
            r#"{"id":"g","object":"chat.completion.chunk","error":{"code":429,"message":"m"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}"#,
            Kind::RateLimit,
        ),
        (r#"[{"error":{"code":403,"message":"m","status":"PERMISSION_DENIED"}}]"#, Kind::Business),
        (r#"{"error":{"message":"m"},"choices":null}"#, Kind::System),
    ];
    for before in [&[][..], &[token.as_str()]] {
        for (data, kind) in cases {
            for one_choice in [true, false] {
                let mut reader = ChunkReader::new(one_choice);
                meanings(&mut reader, before);
                let Meaning::Error(fault) = reader.read(&event(data)) else { panic!("{data}") };
                assert_eq!((fault.kind, fault.message.as_ref()), (kind, "m"), "{data}");
            }
        }
    }
}

#[test]
fn an_event_named_error_is_one_whatever_it_says() {
    for data in ["", "boom", r#"{"message":"boom"}"#, "[DONE]"] {
        let meaning = ChunkReader::new(true).read(&Event { name: b"error", ..event(data) });
        assert!(matches!(meaning, Meaning::Error(_)), "{data}");
    }
    let named = ChunkReader::new(true).read(&Event { name: b"completion.chunk", ..event(FINISH) });
    assert_eq!(named, Meaning::Content);
}

#[test]
fn old_llama_cpp_reports_in_a_field_of_its_own() {
    let mut reader = ChunkReader::new(true);
    let fault =
        reader.field(b"error", br#"{"code":400,"message":"too long","type":"exceed_context_size_error"}"#).unwrap();
    assert_eq!((fault.kind, fault.message.as_ref()), (Kind::Validation, "too long"));
    assert_eq!(reader.field(b"errors", b"x"), None);
}

#[test]
fn an_empty_error_is_taken_out_of_its_chunk() {
    let chunk = r#"{"id":"c1","error":null,"choices":[{"index":0,"delta":{"content":"12345678901234567890"},"finish_reason":"stop"}]}"#;
    let mut reader = ChunkReader::new(true);
    let Meaning::Replace(replaced) = reader.read(&Event { name: b"n", data: chunk.as_bytes(), id: Some(b"7") }) else {
        panic!("still there")
    };
    assert_eq!(replaced.data, chunk.replace(r#""error":null,"#, ""));
    assert_eq!((replaced.name.as_str(), replaced.id.as_deref()), ("n", Some("7")));
    assert_eq!(reader.clean_end(), CleanEnd::Unmarked);
}

#[test]
fn what_says_nothing_is_skipped_and_what_nobody_knows_passes() {
    assert_eq!(read(&["", "  "]).0, "SS");
    assert_eq!(read(&["ping", r#"{"detail":"x"}"#, r#"{"choices":"x"}"#, "[1]", r#"{"choices":[null]}"#]).0, "CCCCC");
    assert_eq!(read(&[" [DONE] "]).0, "D");
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(name in prop::collection::vec(any::<u8>(), 0..6), data in prop::collection::vec(any::<u8>(), 0..80), one in any::<bool>()) {
        let mut reader = ChunkReader::new(one);
        reader.read(&Event { name: &name, data: &data, id: None });
        reader.field(&name, &data);
        reader.field(b"error", &data);
        reader.clean_end();
    }

    #[test]
    fn no_cut_or_change_in_a_chunk_makes_a_reader_panic(cut in 0..200_usize, at in 0..200_usize, byte in any::<u8>()) {
        let mut data = delta(r#"{"content":"x"}"#).into_bytes();
        let at = at % data.len();
        data[at] = byte;
        data.truncate(cut);
        for one in [true, false] {
            let mut reader = ChunkReader::new(one);
            reader.read(&event(FINISH));
            reader.read(&Event { name: b"", data: &data, id: None });
        }
    }

    #[test]
    fn the_short_cut_is_right_whatever_is_said(words in prop::collection::vec(r#"[a-z"\\{}:, ]{0,12}|finish_reason|error"#, 1..6), spaced in any::<bool>()) {
        let say = |word: &String| delta(&format!(r#"{{"content":{}}}"#, serde_json::Value::from(word.as_str())));
        let spread = |chunk: String| if spaced { chunk.replace(":null", " : null") } else { chunk };
        let stream: Vec<String> = words.iter().map(say).map(spread).collect();
        read(&stream.iter().map(String::as_str).chain([FINISH]).collect::<Vec<_>>());
    }
}
