//! What the words of an error report mean: which of our kinds it is and whether trying again can help.
//!
//! Total: anything becomes a fault. Where in a body the words stand, each dialect knows. The words are those of OpenAI,
//! Azure, vLLM (`BadRequestError`), TGI (`error_type`), llama.cpp (`unavailable_error`), OpenRouter (numeric codes) and
//! Google's compatible endpoint (`RESOURCE_EXHAUSTED`), from their references and sources.

use serde_json::{Map, Value};
use streamkeeper_session::{Fault, Kind, Report};

use super::json::{MESSAGE_CAP, capped, text_of};

/// Words to look for in type and code with `_`, `-` and spaces left out, in this order: money stands before rates,
/// because `insufficient_quota` comes as a 429 and yet no wait helps, and policies before the images they are about.
const WORDS: &[(Kind, bool, &[&str])] = &[
    (
        Kind::Business,
        false,
        &[
            "quota",
            "billing",
            "balance",
            "payment",
            "permission",
            "forbidden",
            "contentfilter",
            "policy",
            "cancel",
            "business",
        ],
    ),
    (Kind::RateLimit, true, &["ratelimit", "toomanyrequests", "throttl", "resourceexhausted"]),
    (Kind::Timeout, true, &["timeout", "timedout", "deadlineexceeded"]),
    (Kind::System, true, &["overload", "unavailable", "servererror", "internal"]),
    (
        Kind::Validation,
        false,
        &[
            "invalid",
            "badrequest",
            "authentic",
            "unauthorized",
            "apikey",
            "notfound",
            "contextlength",
            "contextsize",
            "image",
            "validation",
            "unprocessable",
            "notsupported",
            "unsupported",
        ],
    ),
];

/// The fault that a report tells of.
pub(super) fn judged(report: Report) -> Box<Fault> {
    let (kind, recoverable) = kind_of(&report);
    Box::new(Fault::reported(kind, recoverable, report))
}

/// A report that is only a text.
pub(super) fn plain(data: &[u8]) -> Report {
    let text = String::from_utf8_lossy(data);
    let message = Some(capped(text.trim(), MESSAGE_CAP)).filter(|text| !text.is_empty()).map(str::to_owned);
    Report { message, ..Report::default() }
}

/// The first of `keys` that `inner` has as a text, else the first that `whole` has; at most `cap` bytes of it.
pub(super) fn first(
    inner: &Map<String, Value>,
    whole: &Map<String, Value>,
    keys: &[&str],
    cap: usize,
) -> Option<String> {
    let both = [inner, whole].into_iter();
    both.flat_map(|map| keys.iter().map(|key| map.get(*key))).find_map(|value| text_of(value, cap))
}

fn kind_of(report: &Report) -> (Kind, bool) {
    let labels = [report.kind.as_deref(), report.code.as_deref()];
    let mut words = String::new();
    for label in labels.into_iter().flatten() {
        words.extend(label.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).map(|c| c.to_ascii_lowercase()));
        words.push('\n');
    }
    let named = WORDS.iter().find(|(_, _, wanted)| wanted.iter().any(|word| words.contains(word)));
    if let Some((kind, recoverable, _)) = named {
        return (*kind, *recoverable);
    }
    match labels.into_iter().flatten().find_map(|label| label.parse::<u16>().ok()) {
        Some(402 | 403) => (Kind::Business, false),
        Some(408 | 504) => (Kind::Timeout, true),
        Some(429) => (Kind::RateLimit, true),
        Some(400..=499) => (Kind::Validation, false),
        _ => (Kind::System, true),
    }
}
