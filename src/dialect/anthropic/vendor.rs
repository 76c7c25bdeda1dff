//! The vendor's error types: what they mean as faults, and which of them our own faults are.
//!
//! One table, read in both directions. Total: anything becomes a fault. Not here: where in a stream an error may
//! stand (that is `reader`). Source: Anthropic's API reference, "Errors"; the words are for servers that speak alike
//! but name their errors otherwise.

use serde_json::{Map, Value};
use streamkeeper_session::{ErrorEvent, Fault, Kind, Report};

use super::ERROR;
use crate::dialect::json::{LABEL_CAP, MESSAGE_CAP, capped, text_of};

/// One of the vendor's types.
struct Vendored {
    name: &'static str,
    kind: Kind,
    recoverable: bool,
    /// The vendor's own where that is a 4xx; else what the proxy says for such a failure.
    status: u16,
    /// What other servers call it, with `_`, `-` and spaces left out.
    words: &'static [&'static str],
}

const fn vendored(name: &'static str, kind: Kind, status: u16, words: &'static [&'static str]) -> Vendored {
    let recoverable = matches!(kind, Kind::RateLimit | Kind::Timeout | Kind::System);
    Vendored { name, kind, recoverable, status, words }
}

/// In the order in which words are looked for: a spent quota often comes as a 429, and yet no wait helps.
const TYPES: [Vendored; 10] = [
    vendored("billing_error", Kind::Business, 402, &["billing", "quota", "balance", "payment", "credit"]),
    vendored("permission_error", Kind::Business, 403, &["permission", "forbidden", "accessdenied", "contentpolicy"]),
    vendored(
        "rate_limit_error",
        Kind::RateLimit,
        429,
        &["ratelimit", "throttl", "toomanyrequests", "resourceexhausted"],
    ),
    vendored("timeout_error", Kind::Timeout, 504, &["timeout", "timedout", "deadlineexceeded"]),
    vendored("overloaded_error", Kind::System, 503, &["overload", "unavailable"]),
    vendored("authentication_error", Kind::Validation, 401, &["authentic", "unauthorized", "apikey"]),
    vendored("not_found_error", Kind::Validation, 404, &["notfound"]),
    vendored("request_too_large", Kind::Validation, 413, &["toolarge"]),
    vendored(
        "invalid_request_error",
        Kind::Validation,
        400,
        &["invalid", "badrequest", "validation", "unprocessable", "contextlength"],
    ),
    API_ERROR,
];

const API_ERROR: Vendored = vendored("api_error", Kind::System, 502, &["internal", "servererror"]);

/// The fault in a JSON text that is known to report one, or in plain text.
pub(super) fn fault(data: &[u8]) -> Box<Fault> {
    let report = match serde_json::from_slice(data) {
        Ok(Value::Object(whole)) => match whole.get(ERROR) {
            Some(Value::Object(inner)) => read(inner),
            Some(error @ Value::String(_)) => Report { message: text_of(Some(error), MESSAGE_CAP), ..read(&whole) },
            _ => read(&whole),
        },
        Ok(other) => Report { message: text_of(Some(&other), MESSAGE_CAP), ..Report::default() },
        Err(_) => {
            let text = String::from_utf8_lossy(data);
            let message = Some(capped(text.trim(), MESSAGE_CAP)).filter(|text| !text.is_empty()).map(str::to_owned);
            Report { message, ..Report::default() }
        }
    };
    let meant = meant(&report);
    Box::new(Fault::reported(meant.kind, meant.recoverable, report).status(meant.status))
}

fn read(object: &Map<String, Value>) -> Report {
    let text = |key: &str, cap| text_of(object.get(key), cap);
    Report {
        // In the outer object, `error` is what kind of event it is, not what kind of error.
        kind: text("type", LABEL_CAP).filter(|kind| kind != ERROR),
        code: text("code", LABEL_CAP),
        message: text("message", MESSAGE_CAP).or_else(|| text("detail", MESSAGE_CAP)),
        traceback: None,
    }
}

/// Which of the vendor's types a report is. What says nothing known is a failure of the server.
fn meant(report: &Report) -> &'static Vendored {
    let labels = || [report.kind.as_deref(), report.code.as_deref()].into_iter().flatten();
    let named = |wanted: &str| TYPES.iter().find(|known| known.name == wanted);
    if let Some(known) = labels().find_map(named) {
        return known;
    }
    let mut said = String::new();
    for label in labels() {
        said.extend(label.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).map(|c| c.to_ascii_lowercase()));
        said.push('\n');
    }
    let by_words = TYPES.iter().find(|known| known.words.iter().any(|word| said.contains(word)));
    let by_number = || {
        named(match labels().find_map(|label| label.parse::<u16>().ok())? {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            408 | 504 => "timeout_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            503 | 529 => "overloaded_error",
            _ => "api_error",
        })
    };
    by_words.or_else(by_number).unwrap_or(&API_ERROR)
}

/// The vendor's type of our error: what the upstream itself called it where that fits, else by our kind.
pub(super) fn spoken(error: &ErrorEvent) -> &'static str {
    let reported = error.upstream.as_deref().map(meant).filter(|known| known.kind == error.kind);
    if let Some(known) = reported {
        return known.name;
    }
    match error.kind {
        Kind::Validation => "invalid_request_error",
        Kind::Business => "permission_error",
        Kind::Timeout => "timeout_error",
        Kind::RateLimit => "rate_limit_error",
        // "Come back later" where that is what we mean, which is what the vendor says with it.
        Kind::System if error.code.status() == 503 => "overloaded_error",
        Kind::System => API_ERROR.name,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use streamkeeper_session::Code;

    use super::*;

    fn told(fault: &Fault) -> ErrorEvent {
        ErrorEvent::new(fault, "r-1", Duration::from_secs(1), false)
    }

    #[test]
    fn the_vendors_types_decide_kind_status_and_whether_a_retry_helps() {
        let cases = [
            ("invalid_request_error", Kind::Validation, 400),
            ("authentication_error", Kind::Validation, 401),
            ("billing_error", Kind::Business, 402),
            ("permission_error", Kind::Business, 403),
            ("not_found_error", Kind::Validation, 404),
            ("request_too_large", Kind::Validation, 413),
            ("rate_limit_error", Kind::RateLimit, 429),
            ("timeout_error", Kind::Timeout, 504),
            ("api_error", Kind::System, 502),
            ("overloaded_error", Kind::System, 503),
        ];
        for (name, kind, status) in cases {
            let data = format!(r#"{{"type":"error","error":{{"type":"{name}","message":"m"}},"request_id":"req_1"}}"#);
            let fault = fault(data.as_bytes());
            assert_eq!((fault.kind, fault.status, fault.message.as_ref()), (kind, status, "m"), "{name}");
            assert_eq!(fault.recoverable, status == 429 || status >= 500, "{name}");
            assert_eq!(fault.report.as_ref().unwrap().kind.as_deref(), Some(name));
            assert_eq!(spoken(&told(&fault)), name, "what the vendor said is said again");
        }
    }

    #[test]
    fn other_servers_words_are_understood() {
        let cases = [
            (r#"{"error":{"type":"BadRequestError","message":"m","code":400}}"#, "invalid_request_error"),
            (r#"{"type":"error","error":{"type":"error","message":"m","code":429}}"#, "rate_limit_error"),
            (r#"{"error":{"code":"insufficient_quota","type":"requests","message":"m"}}"#, "billing_error"),
            (r#"{"type":"ThrottlingException","message":"m"}"#, "rate_limit_error"),
            (r#"{"error":{"code":529,"message":"m"}}"#, "overloaded_error"),
            (r#"{"error":{"type":"internal_server_error","message":"m"}}"#, "api_error"),
            (r#"{"type":"error","error":"m"}"#, "api_error"),
            (r#"{"type":"error","message":"m"}"#, "api_error"),
            (r#""m""#, "api_error"),
            (" m\n", "api_error"),
        ];
        for (data, name) in cases {
            let fault = fault(data.as_bytes());
            assert_eq!((spoken(&told(&fault)), fault.message.as_ref()), (name, "m"), "{data}");
        }
    }

    #[test]
    fn nothing_said_is_a_failure_of_the_server_in_our_words() {
        for empty in ["", "null", "[]", "{}", r#"{"type":"error"}"#, r#"{"type":"error","error":{}}"#] {
            let fault = fault(empty.as_bytes());
            assert_eq!((fault.kind, fault.recoverable), (Kind::System, true), "{empty}");
            assert_eq!(fault.message, fault.code.message(), "{empty}");
        }
    }

    #[test]
    fn our_own_errors_have_the_vendors_type_of_their_kind() {
        let spoken = |code: Code| super::spoken(&told(&code.into()));
        assert_eq!(spoken(Code::IdleTimeout), "timeout_error");
        assert_eq!(spoken(Code::RateLimited), "rate_limit_error");
        assert_eq!(spoken(Code::InvalidRequest), "invalid_request_error");
        assert_eq!(spoken(Code::UpstreamRejected), "permission_error");
        assert_eq!(spoken(Code::UpstreamTruncated), "api_error");
        assert_eq!(spoken(Code::Draining), "overloaded_error");
    }

    #[test]
    fn a_report_of_another_kind_does_not_name_our_error() {
        let report = Report { kind: Some("rate_limit_error".into()), ..Report::default() };
        assert_eq!(spoken(&told(&Fault::reported(Kind::Timeout, true, report))), "timeout_error");
    }
}
