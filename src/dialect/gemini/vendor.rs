//! `google.rpc` errors: what one of an upstream means, and which one says what ours say.
//!
//! Total: anything becomes a fault. Not here: where in a stream an error may stand (that is `reader`). Source:
//! `google/rpc/code.proto` (names and their HTTP codes), `google.rpc.RetryInfo`, and the Gemini API's troubleshooting
//! page (`FAILED_PRECONDITION` is about billing or the country, `CANCELLED` and `UNKNOWN` come and go).

use std::time::Duration;

use serde_json::{Map, Value};
use streamkeeper_session::{Code, ErrorEvent, Fault, Kind, Report};

use crate::dialect::json::{LABEL_CAP, MESSAGE_CAP, RawObject, WAIT_CAP, capped, is_hollow, text_of};

/// Names of `google.rpc.Code` with the HTTP code, our kind, and whether trying again can help.
const STATUSES: [(&str, u16, Kind, bool); 16] = [
    ("INVALID_ARGUMENT", 400, Kind::Validation, false),
    ("FAILED_PRECONDITION", 400, Kind::Business, false),
    ("OUT_OF_RANGE", 400, Kind::Validation, false),
    ("UNAUTHENTICATED", 401, Kind::Validation, false),
    ("PERMISSION_DENIED", 403, Kind::Business, false),
    ("NOT_FOUND", 404, Kind::Validation, false),
    ("ALREADY_EXISTS", 409, Kind::Validation, false),
    ("ABORTED", 409, Kind::System, true),
    ("RESOURCE_EXHAUSTED", 429, Kind::RateLimit, true),
    ("CANCELLED", 499, Kind::System, true),
    ("UNKNOWN", 500, Kind::System, true),
    ("INTERNAL", 500, Kind::System, true),
    ("DATA_LOSS", 500, Kind::System, true),
    ("UNIMPLEMENTED", 501, Kind::Validation, false),
    ("UNAVAILABLE", 503, Kind::System, true),
    ("DEADLINE_EXCEEDED", 504, Kind::Timeout, true),
];

/// Whether a JSON text is an object that reports an error, or a list with such an object.
pub(super) fn reports_error(data: &[u8]) -> bool {
    let reports =
        |object: &RawObject<'_>| object.get("error").is_some_and(|error| error.get() == "{}" || !is_hollow(error));
    match data.trim_ascii_start().first() {
        Some(b'[') => serde_json::from_slice::<Vec<RawObject<'_>>>(data).is_ok_and(|list| list.iter().any(reports)),
        _ => RawObject::read(data).is_some_and(|object| reports(&object)),
    }
}

/// The fault in a JSON text that is known to report one, or in plain text.
pub(super) fn fault(data: &[u8]) -> Box<Fault> {
    match serde_json::from_slice(data) {
        Ok(Value::Array(list)) => {
            let reporting = list.iter().find_map(|item| item.get("error").filter(|error| !error.is_null()));
            of_error(reporting.unwrap_or(&Value::Null))
        }
        Ok(Value::Object(whole)) => match whole.get("error") {
            Some(error) if !error.is_null() => of_error(error),
            _ => of_error(&Value::Object(whole)),
        },
        Ok(other) => of_error(&other),
        Err(_) => of_error(&Value::String(capped(String::from_utf8_lossy(data).trim(), MESSAGE_CAP).to_owned())),
    }
}

/// Reads `{"code","message","status","details"}`, or a message alone.
fn of_error(error: &Value) -> Box<Fault> {
    let none = Map::new();
    let said = error.as_object().unwrap_or(&none);
    let report = Report {
        kind: text_of(said.get("status"), LABEL_CAP),
        code: text_of(said.get("code"), LABEL_CAP),
        message: text_of(said.get("message"), MESSAGE_CAP).or_else(|| text_of(Some(error), MESSAGE_CAP)),
        traceback: None,
    };
    let (kind, recoverable) = kind_of(&report);
    Box::new(Fault::reported(kind, recoverable, report).retry_after(wait(said)))
}

fn kind_of(report: &Report) -> (Kind, bool) {
    let named = STATUSES.iter().find(|(name, ..)| report.kind.as_deref() == Some(*name));
    if let Some((_, _, kind, recoverable)) = named {
        return (*kind, *recoverable);
    }
    match report.code.as_deref().and_then(|code| code.parse::<u16>().ok()) {
        Some(402 | 403) => (Kind::Business, false),
        Some(408 | 504) => (Kind::Timeout, true),
        Some(429) => (Kind::RateLimit, true),
        Some(499) => (Kind::System, true),
        Some(400..=498) => (Kind::Validation, false),
        _ => (Kind::System, true),
    }
}

/// `details[].retryDelay` of a `RetryInfo`: seconds with up to nine decimals and an `s`.
fn wait(error: &Map<String, Value>) -> Option<Duration> {
    let details = error.get("details")?.as_array()?;
    let delay = details.iter().find_map(|detail| detail.get("retryDelay")?.as_str()?.strip_suffix('s'))?;
    Duration::try_from_secs_f64(delay.parse().ok()?).ok().map(|wait| wait.min(WAIT_CAP))
}

/// The HTTP code (400 to 599) and the status name that tell a Google client what ours says. What the upstream
/// reported in Google's own words is repeated in them.
pub(super) fn spoken(error: &ErrorEvent) -> (u16, &'static str) {
    if error.code == Code::UpstreamError {
        return reported(error).unwrap_or(match error.kind {
            Kind::Validation => (400, "INVALID_ARGUMENT"),
            Kind::Business => (403, "PERMISSION_DENIED"),
            Kind::RateLimit => (429, "RESOURCE_EXHAUSTED"),
            Kind::Timeout => (504, "DEADLINE_EXCEEDED"),
            Kind::System if error.recoverable => (502, "UNAVAILABLE"),
            Kind::System => (502, "INTERNAL"),
        });
    }
    let status = match error.code {
        Code::InvalidRequest | Code::RequestTooLarge => "INVALID_ARGUMENT",
        Code::SessionNotFound => "NOT_FOUND",
        Code::SessionGap => "DATA_LOSS",
        Code::UpstreamRejected => "FAILED_PRECONDITION",
        Code::RateLimited => "RESOURCE_EXHAUSTED",
        Code::BadContentType | Code::EventTooLarge | Code::Internal => "INTERNAL",
        _ if error.code.kind() == Kind::Timeout => "DEADLINE_EXCEEDED",
        _ => "UNAVAILABLE",
    };
    (error.code.status(), status)
}

fn reported(error: &ErrorEvent) -> Option<(u16, &'static str)> {
    let report = error.upstream.as_deref()?;
    let (name, usual, ..) = STATUSES.iter().find(|(name, ..)| report.kind.as_deref() == Some(*name))?;
    let said = report.code.as_deref().and_then(|code| code.parse().ok());
    Some((said.filter(|code| (400..=599).contains(code)).unwrap_or(*usual), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &str) -> (Kind, bool, String) {
        let fault = fault(data.as_bytes());
        (fault.kind, fault.recoverable, fault.message.into_owned())
    }

    #[test]
    fn googles_words_decide_the_kind_and_whether_a_retry_helps() {
        let cases: &[(&str, Kind, bool)] = &[
            (r#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}"#, Kind::RateLimit, true),
            (r#"{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}"#, Kind::System, true),
            (r#"{"error":{"code":504,"message":"m","status":"DEADLINE_EXCEEDED"}}"#, Kind::Timeout, true),
            (r#"{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}"#, Kind::Validation, false),
            (r#"{"error":{"code":400,"message":"m","status":"FAILED_PRECONDITION"}}"#, Kind::Business, false),
            (r#"{"error":{"code":403,"message":"m","status":"PERMISSION_DENIED"}}"#, Kind::Business, false),
            (r#"{"error":{"code":499,"message":"m","status":"CANCELLED"}}"#, Kind::System, true),
            (r#"[{"error":{"code":404,"message":"m","status":"NOT_FOUND"}}]"#, Kind::Validation, false),
            (r#"{"error":{"code":429,"message":"m"}}"#, Kind::RateLimit, true),
            (r#"{"error":{"code":"504","message":"m"}}"#, Kind::Timeout, true),
            (r#"{"error":{"code":418,"message":"m","status":"TEAPOT"}}"#, Kind::Validation, false),
            (r#"{"code":500,"message":"m"}"#, Kind::System, true),
            (r#"{"error":"m"}"#, Kind::System, true),
            ("m", Kind::System, true),
        ];
        for (data, kind, recoverable) in cases {
            assert_eq!(read(data), (*kind, *recoverable, "m".to_owned()), "{data}");
        }
    }

    #[test]
    fn nothing_said_is_a_system_fault_with_our_own_message() {
        for empty in ["", "null", "[]", "{}", r#"{"error":{}}"#, r#"{"error":{"message":" "}}"#] {
            assert_eq!(read(empty), (Kind::System, true, Code::UpstreamError.message().to_owned()), "{empty}");
        }
    }

    #[test]
    fn the_wait_that_google_asks_for_is_kept_within_bounds() {
        let asked = |delay: &str| {
            let info = format!(r#"{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{delay}"}}"#);
            fault(format!(r#"{{"error":{{"code":429,"details":[{{"@type":"x"}},{info}]}}}}"#).as_bytes()).retry_after
        };
        assert_eq!(asked("37s"), Some(Duration::from_secs(37)));
        assert_eq!(asked("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(asked("1e300s"), None);
        assert_eq!(asked("999999999s"), Some(WAIT_CAP));
        for none in ["-1s", "37", "soons", "NaNs", ""] {
            assert_eq!(asked(none), None, "{none}");
        }
    }

    #[test]
    fn every_code_of_ours_is_an_http_error_with_a_status_that_google_knows() {
        for code in Code::ALL {
            let (number, name) = spoken(&ErrorEvent::new(&Fault::new(*code), "r", Duration::ZERO, false));
            assert!((400..=599).contains(&number), "{code}");
            assert!(STATUSES.iter().any(|(known, ..)| *known == name), "{code}");
        }
        let said = |code: Code| spoken(&ErrorEvent::new(&Fault::new(code), "r", Duration::ZERO, false));
        assert_eq!(said(Code::IdleTimeout), (504, "DEADLINE_EXCEEDED"));
        assert_eq!(said(Code::UpstreamTruncated), (502, "UNAVAILABLE"));
        assert_eq!(said(Code::Overloaded), (503, "UNAVAILABLE"));
        assert_eq!(said(Code::RateLimited), (429, "RESOURCE_EXHAUSTED"));
        assert_eq!(said(Code::SessionGap), (410, "DATA_LOSS"));
        assert_eq!(said(Code::Internal), (500, "INTERNAL"));
    }

    #[test]
    fn what_google_reported_is_repeated_in_its_own_words() {
        let said = |data: &str| spoken(&ErrorEvent::new(&fault(data.as_bytes()), "r", Duration::ZERO, false));
        assert_eq!(said(r#"{"error":{"code":403,"status":"PERMISSION_DENIED"}}"#), (403, "PERMISSION_DENIED"));
        assert_eq!(said(r#"{"error":{"code":14,"status":"UNAVAILABLE"}}"#), (503, "UNAVAILABLE"));
        assert_eq!(said(r#"{"error":{"code":429,"status":"SLOW_DOWN"}}"#), (429, "RESOURCE_EXHAUSTED"));
        assert_eq!(said(r#"{"error":{"code":403}}"#), (403, "PERMISSION_DENIED"));
    }
}
