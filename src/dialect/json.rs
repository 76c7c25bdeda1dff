//! JSON as all dialects handle it: the standard error in one key order, objects whose values stay as they were
//! written, and a few questions that more than one wire asks.
//!
//! Not here: what any field means on a wire. Values that are only passed on are never parsed and printed again,
//! so that numbers of any size, escapes and the order of keys survive (RFC 8259 leaves all of them to the reader).

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use streamkeeper_session::ErrorEvent;

/// The most bytes of an upstream's message that are passed on.
pub(super) const MESSAGE_CAP: usize = 2 * 1024;
/// The most bytes of an upstream's own code or type that are passed on.
pub(super) const LABEL_CAP: usize = 128;
/// The most bytes of an app's trace that are kept for development mode.
pub(super) const TRACE_CAP: usize = 16 * 1024;
/// The longest wait an upstream's error is believed to ask for.
pub(super) const WAIT_CAP: Duration = Duration::from_secs(24 * 60 * 60);

/// At most `cap` bytes of `text`, cut between characters.
pub(super) fn capped(text: &str, cap: usize) -> &str {
    let mut end = cap.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// A string that says something, or a number, as text of at most `cap` bytes.
pub(super) fn text_of(value: Option<&Value>, cap: usize) -> Option<String> {
    match value? {
        Value::String(text) if !text.trim().is_empty() => Some(capped(text, cap).to_owned()),
        Value::Number(number) => Some(capped(&number.to_string(), cap).to_owned()),
        _ => None,
    }
}

/// The standard error (the design's `STD`), keys in the order in which it is documented. `param` is the
/// `"param": null` that OpenAI's clients expect.
pub(super) fn standard(error: &ErrorEvent, param: bool) -> Map<String, Value> {
    let mut std = Map::new();
    let mut put = |key: &str, value: Value| {
        std.insert(key.to_owned(), value);
    };
    put("type", error.kind.as_str().into());
    put("severity", error.severity.as_str().into());
    put("message", error.message.as_ref().into());
    put("code", error.code.as_str().into());
    put("recoverable", error.recoverable.into());
    put("request_id", error.request_id.as_str().into());
    if let Some(wait) = error.retry_after_ms {
        put("retry_after_ms", wait.into());
    }
    if param {
        put("param", Value::Null);
    }
    let report = error.upstream.as_deref();
    if let Some(code) = report.and_then(|report| report.code.as_deref()) {
        put("upstream_code", capped(code, LABEL_CAP).into());
    }
    if let Some(kind) = report.and_then(|report| report.kind.as_deref()) {
        put("upstream_type", capped(kind, LABEL_CAP).into());
    }
    if let Some(traceback) = &error.traceback {
        put("traceback", traceback.as_str().into());
    }
    std
}

/// Whether a value says nothing: `null`, `false`, zero, or empty text, list or object.
pub(super) fn is_hollow(raw: &RawValue) -> bool {
    matches!(raw.get(), "null" | "false" | "0" | "\"\"" | "[]" | "{}")
}

/// Whether `Accept` names `text/event-stream` (`*/*` does not).
pub(super) fn accepts(headers: &HeaderMap, media: &str) -> bool {
    let texts = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(media));
        named && !parts.any(refuses)
    })
}

/// Whether a request's body calls itself JSON.
pub(super) fn sends_json(headers: &HeaderMap) -> bool {
    let named = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = named.map(|value| value.split(';').next().unwrap_or(value).trim());
    media.is_some_and(|media| media.eq_ignore_ascii_case("application/json"))
}

/// `q=0`, in any of its spellings.
fn refuses(parameter: &str) -> bool {
    let Some((name, weight)) = parameter.split_once('=') else {
        return false;
    };
    name.trim().eq_ignore_ascii_case("q") && weight.trim().parse().is_ok_and(|weight: f32| weight <= 0.0)
}

/// The same JSON text without white space between its tokens, so that it is one line; `None` if it is no JSON.
pub(super) fn compact(text: &[u8]) -> Option<String> {
    let whole: &RawValue = serde_json::from_slice(text).ok()?;
    let (mut quoted, mut escaped) = (false, false);
    let keep = |c: &char| {
        if !quoted {
            quoted = *c == '"';
            return !matches!(c, ' ' | '\t' | '\n' | '\r');
        }
        quoted = escaped || *c != '"';
        escaped = !escaped && *c == '\\';
        true
    };
    Some(whole.get().chars().filter(keep).collect())
}

/// An object whose values are left as they were written. Order and repeated keys are kept.
#[derive(Debug, Clone, Default)]
pub(super) struct RawObject<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> RawObject<'a> {
    /// Reads an object; `None` if it is anything else.
    pub(super) fn read(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Reads a value as an object.
    pub(super) fn of(raw: &'a RawValue) -> Option<Self> {
        Self::read(raw.get().as_bytes())
    }

    /// The value of `key`; of a repeated one the last, as in Python and JavaScript.
    pub(super) fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// The value of `key` if it says something (see [`is_hollow`]).
    pub(super) fn solid(&self, key: &str) -> Option<&'a RawValue> {
        self.get(key).filter(|value| !is_hollow(value))
    }

    /// All fields, in order.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// Written again, without the fields in `dropped`.
    pub(super) fn without(&self, dropped: &[&str]) -> String {
        let mut out = ObjectWriter::new();
        for (name, value) in self.fields().filter(|(name, _)| !dropped.contains(name)) {
            out.raw(name, value.get());
        }
        out.finish()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawObject<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        impl<'de> Visitor<'de> for Fields {
            type Value = RawObject<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((Key(name), value)) = map.next_entry()? {
                    fields.push((name, value));
                }
                Ok(RawObject(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// The elements of a list, as they were written; `None` if it is none.
pub(super) fn raw_list(raw: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(raw.get()).ok()
}

/// The text of a JSON string; `None` if it is none.
pub(super) fn raw_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    serde_json::from_str(raw.get()).ok().map(|Text(text)| text)
}

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Writes one object out of values that are JSON already.
#[derive(Debug)]
pub(super) struct ObjectWriter {
    out: String,
}

impl ObjectWriter {
    pub(super) fn new() -> Self {
        Self { out: String::from("{") }
    }

    /// `"key": json`. The caller answers for `json` being one value.
    pub(super) fn raw(&mut self, key: &str, json: &str) {
        if !self.is_empty() {
            self.out.push(',');
        }
        self.out.push_str(&quoted(key));
        self.out.push(':');
        self.out.push_str(json);
    }

    /// Whether nothing was written yet.
    pub(super) fn is_empty(&self) -> bool {
        self.out.len() == 1
    }

    pub(super) fn finish(mut self) -> String {
        self.out.push('}');
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn accepts(text: &'static str) -> bool {
        super::accepts(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(text))]), "text/event-stream")
    }

    #[test]
    fn a_cap_never_cuts_a_character() {
        assert_eq!(capped("aéb", 2), "a");
        assert_eq!(capped("aéb", 3), "aé");
        assert_eq!(capped("aéb", 99), "aéb");
    }

    #[test]
    fn an_event_stream_is_wanted_where_accept_names_it() {
        assert!(accepts("text/event-stream"));
        assert!(accepts("application/json, Text/Event-Stream;q=0.9"));
        assert!(!accepts("*/*"));
        assert!(!accepts("text/event-stream;q=0.0, application/json"));
        assert!(!accepts("text/event-streams"));
    }

    #[test]
    fn a_body_is_json_where_its_content_type_says_so() {
        let json =
            |text: &'static str| sends_json(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(text))]));
        assert!(json("application/json") && json("Application/JSON; charset=utf-8"));
        assert!(!json("application/jsonl") && !json("text/plain") && !sends_json(&HeaderMap::new()));
    }

    #[test]
    fn compacting_leaves_strings_and_numbers_alone() {
        let text = " {\r\n \"a b\" : [ 1.0e+400 , \"x \\\" \\\\\" , \" \" ]\n}\n";
        assert_eq!(compact(text.as_bytes()).unwrap(), r#"{"a b":[1.0e+400,"x \" \\"," "]}"#);
        assert_eq!(compact(b"{\"a\":1} x"), None);
    }

    #[test]
    fn an_object_is_written_again_as_it_was_read() {
        let text = r#"{"z":12345678901234567890123,"a":"é\u00e9","gone":1,"b":[ 1 ],"gone":2}"#;
        let object = RawObject::read(text.as_bytes()).unwrap();
        assert_eq!(object.get("gone").unwrap().get(), "2");
        assert_eq!(object.without(&["gone"]), r#"{"z":12345678901234567890123,"a":"é\u00e9","b":[ 1 ]}"#);
        assert!(RawObject::read(b"[]").is_none());
    }

    proptest! {
        #[test]
        fn compacting_changes_no_value(text in r#"[\[\]{}:," \\\n\ta1é]{0,24}"#) {
            let before: Option<Value> = serde_json::from_str(&text).ok();
            let after = compact(text.as_bytes()).map(|text| serde_json::from_str::<Value>(&text).unwrap());
            prop_assert_eq!(before, after);
        }
    }
}
