//! Streams as Google sends them, written down from its references.

use proptest::prelude::*;
use streamkeeper_session::Kind;
use streamkeeper_sse::{Decoder, Item, Limits};

use super::*;

/// What each block means, one letter each: Content, Replace, Preamble, Done, Error, Skip; and the clean end.
fn read(stream: &[&str]) -> (String, CleanEnd) {
    let mut reader = BlockReader::default();
    let letter = |data: &&str| match reader.read(&Event { name: b"", data: data.as_bytes(), id: None }) {
        Meaning::Content => 'C',
        Meaning::Replace(_) => 'R',
        Meaning::Preamble => 'P',
        Meaning::Done => 'D',
        Meaning::Error(_) => 'E',
        Meaning::Skip => 'S',
        Meaning::Filler => 'F',
    };
    let letters = stream.iter().map(letter).collect();
    (letters, reader.clean_end())
}

fn candidate(fields: &str) -> String {
    format!(
        r#"{{"candidates": [{{{fields}}}],"usageMetadata": {{"promptTokenCount": 4,"totalTokenCount": 9}},"modelVersion": "gemini-2.5-flash","responseId": "r1"}}"#
    )
}

fn says(text: &str) -> String {
    candidate(&format!(r#""content": {{"parts": [{{"text": "{text}"}}],"role": "model"}},"index": 0"#))
}

fn ends(text: &str) -> String {
    candidate(&format!(
        r#""content": {{"parts": [{{"text": "{text}"}}],"role": "model"}},"finishReason": "STOP","index": 0"#
    ))
}

const WHOLE: CleanEnd = CleanEnd::Complete;
const CUT: CleanEnd = CleanEnd::Truncated;

#[test]
fn the_last_block_has_the_finish_and_the_usage() {
    let (first, second, last) = (says("Hello"), says(" wide"), ends(" world"));
    assert_eq!(read(&[&first, &second, &last]), ("CCC".into(), WHOLE));
    assert_eq!(read(&[&last]), ("C".into(), WHOLE));
    for cut in [&[first.as_str()] as &[&str], &[&first, &second], &[]] {
        assert_eq!(read(cut).1, CUT);
    }
}

#[test]
fn what_follows_a_finish_is_not_lost() {
    let usage = r#"{"usageMetadata":{"promptTokenCount":4,"totalTokenCount":9}}"#;
    let grounding = candidate(r#""groundingMetadata":{"webSearchQueries":["q"]},"index":0"#);
    assert_eq!(read(&[&says("a"), &ends("b"), usage, &grounding]), ("CCCC".into(), WHOLE));
}

#[test]
fn models_that_finish_every_block_end_with_the_last_one() {
    assert_eq!(read(&[&ends("a"), &ends("b"), &ends("c")]), ("CCC".into(), WHOLE));
    assert_eq!(read(&[&ends("a"), &says("b")]), ("CC".into(), CUT), "it spoke on, so it had not finished");
}

#[test]
fn every_candidate_must_finish() {
    let second = |finish: &str| candidate(&format!(r#""content":{{"parts":[{{"text":"b"}}]}},{finish}"index":1"#));
    let stop = second(r#""finishReason":"STOP","#);
    assert_eq!(read(&[&says("a"), &second(""), &ends("a")]), ("CCC".into(), CUT));
    assert_eq!(read(&[&says("a"), &second(""), &ends("a"), &stop]), ("CCCC".into(), WHOLE));
    let both = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"},{"content":{"parts":[{"text":"b"}]},"index":1}]}"#;
    assert_eq!(read(&[&says("a"), both]).1, CUT, "an absent index is the first");
    assert_eq!(read(&[both, &stop]).1, WHOLE);
    let unknown = candidate(r#""content":{"parts":[{"text":"b"}]},"finishReason":"STOP","index":"x""#);
    assert_eq!(read(&[&unknown]).1, CUT);
    assert_eq!(read(&[&unknown, &ends("a")]).1, CUT, "nobody can tell whether that one finished");
}

#[test]
fn a_blocked_prompt_is_a_whole_answer() {
    let blocked = r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":4}}"#;
    assert_eq!(read(&[blocked]), ("C".into(), WHOLE));
    let late = says("b").replacen('{', r#"{"promptFeedback":{"blockReason":"OTHER"},"#, 1);
    assert_eq!(read(&[&says("a"), &late]), ("CC".into(), WHOLE));
    let harmless = r#"{"promptFeedback":{"safetyRatings":[],"blockReason":"BLOCK_REASON_UNSPECIFIED"}}"#;
    assert_eq!(read(&[harmless, &says("a")]), ("PC".into(), CUT));
}

#[test]
fn reasons_of_every_kind_finish_and_no_reason_does_not() {
    for reason in ["MAX_TOKENS", "SAFETY", "RECITATION", "MALFORMED_FUNCTION_CALL", "OTHER"] {
        let last = candidate(&format!(r#""finishReason":"{reason}","index":0"#));
        assert_eq!(read(&[&says("a"), &last]), ("CC".into(), WHOLE), "{reason}");
        assert_eq!(read(&[&last]), ("C".into(), WHOLE), "{reason}");
    }
    for none in ["null", "\"\"", "\"FINISH_REASON_UNSPECIFIED\""] {
        assert_eq!(read(&[&says("a"), &candidate(&format!(r#""finishReason":{none}"#))]).1, CUT, "{none}");
    }
}

#[test]
fn blocks_that_say_nothing_yet_are_held_back() {
    let usage = r#"{"usageMetadata":{"promptTokenCount":4}}"#;
    let empty = candidate(r#""content":{"parts":[{"text":"","thought":true}],"role":"model"},"index":0"#);
    let role = candidate(r#""content":{"role":"model"}"#);
    assert_eq!(read(&[usage, &role, &empty, &says("a"), &empty]), ("PPPCC".into(), CUT));
}

#[test]
fn thoughts_calls_and_data_are_content() {
    for part in [
        r#"{"text":"Hm","thought":true}"#,
        r#"{"functionCall":{"name":"f","args":{}}}"#,
        r#"{"inlineData":{"mimeType":"image/png","data":"AAAA"}}"#,
        r#"{"text":"","thoughtSignature":"c2ln"}"#,
        r#"{"executableCode":{"language":"PYTHON","code":"1"}}"#,
    ] {
        let block = candidate(&format!(r#""content":{{"parts":[{part}],"role":"model"}},"index":0"#));
        assert_eq!(read(&[&block]), ("C".into(), CUT), "{part}");
    }
}

#[test]
fn words_that_look_like_keys_are_still_content() {
    for word in ["error", "finishReason", "candidates", "[DONE]", r#"\"finishReason\": \"STOP\""#, r#"\"error\":{}"#] {
        let token = says(word);
        assert_eq!(read(&[&token, &token]), ("CC".into(), CUT), "{word}");
    }
    let call = candidate(
        r#""content":{"parts":[{"functionCall":{"name":"f","args":{"error":{"code":1},"finishReason":"STOP","blockReason":"x","index":3}}}]}"#,
    );
    assert_eq!(read(&[&says("a"), &call, &call]), ("CCC".into(), CUT));
}

#[test]
fn blocks_inside_a_response_are_read_alike() {
    let wrapped = |block: String| format!(r#"{{"response":{block},"traceId":"t"}}"#);
    let (first, last) = (wrapped(says("a")), wrapped(ends("b")));
    assert_eq!(read(&[&first, &first, &last]), ("CCC".into(), WHOLE));
    assert_eq!(read(&[&first, &first]).1, CUT);
}

#[test]
fn errors_are_errors_wherever_they_come() {
    let error = r#"{"error": {"code": 503,"message": "The model is overloaded.","status": "UNAVAILABLE"}}"#;
    assert_eq!(read(&[error]).0, "E");
    assert_eq!(read(&[&says("a"), error]).0, "CE");
    assert_eq!(read(&[&says("a"), &format!("[{error}]")]).0, "CE");
    assert_eq!(read(&[&says("a"), r#"{"error":{}}"#]).0, "CE");
    let beside = says("b").replacen('{', r#"{"error": {"code": 500},"#, 1);
    assert_eq!(read(&[&says("a"), &beside]).0, "CE");
    assert_eq!(read(&["", "[DONE]", "ping"]).0, "SSC");
    let mut reader = BlockReader::default();
    let Meaning::Error(fault) = reader.read(&Event { name: b"", data: error.as_bytes(), id: None }) else {
        panic!("no error");
    };
    assert_eq!((fault.kind, fault.recoverable), (Kind::System, true));
    let report = fault.report.unwrap();
    assert_eq!(report.kind.as_deref(), Some("UNAVAILABLE"));
    assert_eq!(report.code.as_deref(), Some("503"));
    assert_eq!(report.message.as_deref(), Some("The model is overloaded."));
    let named = reader.read(&Event { name: b"error", data: b"went wrong", id: None });
    assert!(matches!(named, Meaning::Error(fault) if fault.message == "went wrong"));
}

#[test]
fn an_error_that_says_nothing_is_taken_out() {
    let block = says("a").replacen('{', r#"{"error":null,"#, 1);
    let mut reader = BlockReader::default();
    let meaning = reader.read(&Event { name: b"", data: block.as_bytes(), id: None });
    let Meaning::Replace(event) = meaning else { panic!("{meaning:?}") };
    assert!(!event.data.contains("error") && event.data.contains("candidates"));
}

/// The fault in a stream's bytes, read as the pump reads them.
fn fault_in(stream: &str) -> Option<Box<Fault>> {
    let (mut decoder, mut reader) = (Decoder::new(Limits::default()), BlockReader::default());
    let mut items = decoder.feed(stream.as_bytes());
    while let Some(item) = items.next() {
        let fault = match item.unwrap() {
            Item::Event(event) => match reader.read(&event) {
                Meaning::Error(fault) => Some(fault),
                _ => None,
            },
            Item::Field { name, value } => reader.field(name, value),
            _ => None,
        };
        if fault.is_some() {
            return fault;
        }
    }
    None
}

#[test]
fn an_error_that_comes_as_bare_json_is_one() {
    let first = format!("data: {}\r\n\r\n", says("a"));
    let pretty = "{\n  \"error\": {\n    \"code\": 500,\n    \"message\": \"An internal error: {\\\" } see https://example.com\",\n    \"status\": \"INTERNAL\"\n  }\n}\n";
    let line = "{\"error\":{\"code\":500,\"message\":\"An internal error: {\\\" } see https://example.com\",\"status\":\"INTERNAL\"}}\n";
    for bare in [pretty.to_owned(), line.to_owned(), format!("[{pretty}]\n")] {
        let fault = fault_in(&format!("{first}{bare}")).unwrap();
        assert_eq!(fault.message, "An internal error: {\" } see https://example.com");
        assert_eq!(fault.report.unwrap().kind.as_deref(), Some("INTERNAL"));
    }
    for harmless in ["{}\n", "x: {\"error\":1}\n", "{\"a\":1}\n", "{\"error\":\n", "[\n]\n"] {
        assert_eq!(fault_in(&format!("{first}{harmless}")), None, "{harmless}");
    }
    let after = format!("{first}{{\"a\":1}}\n{line}");
    assert!(fault_in(&after).is_some(), "what came before it does not hide it");
    let long = format!("{{\"a\":\"{}\n{line}", "x".repeat(BARE_CAP));
    assert!(fault_in(&long).is_some(), "nor does what was too long");
}

proptest! {
    #[test]
    fn the_short_cut_changes_nothing(blocks in prop::collection::vec((0..6_usize, "[a-z\\\\\":{},]{0,6}"), 0..8)) {
        let mut quick = BlockReader::default();
        let mut slow = BlockReader::default();
        for (which, text) in blocks {
            let text = serde_json::Value::from(text).to_string();
            let text = text.trim_matches('"');
            let block = match which {
                0..3 => says(text),
                3 => ends(text),
                4 => r#"{"usageMetadata":{"totalTokenCount":1}}"#.into(),
                _ => says(text).replace("\"index\": 0", "\"index\": 1"),
            };
            let event = Event { name: b"", data: block.as_bytes(), id: None };
            prop_assert_eq!(quick.read(&event), slow.examine(&event, block.as_bytes()));
            prop_assert_eq!(quick.clean_end(), slow.clean_end());
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(data in prop::collection::vec(any::<u8>(), 0..80), name in prop::collection::vec(any::<u8>(), 0..8)) {
        let mut reader = BlockReader::default();
        reader.read(&Event { name: b"", data: says("a").as_bytes(), id: None });
        reader.read(&Event { name: &name, data: &data, id: None });
        reader.field(&name, &data);
        reader.field(b"{", &data);
        reader.clean_end();
    }

    #[test]
    fn no_change_in_a_block_makes_the_reader_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut block = ends("a").into_bytes();
        let at = at.index(block.len());
        block[at] = byte;
        let mut reader = BlockReader::default();
        reader.read(&Event { name: b"", data: &block, id: None });
        reader.clean_end();
    }
}
