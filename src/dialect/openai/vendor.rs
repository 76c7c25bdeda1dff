//! Where a vendor's error object has its words.
//!
//! Total: anything becomes a fault. Not here: where in a stream an error may stand (that is `reader`), and what the
//! words mean (`words`).

use serde_json::{Map, Value};
use streamkeeper_session::{Fault, Report};

use crate::dialect::json::{LABEL_CAP, MESSAGE_CAP, text_of};
use crate::dialect::words::{self, judged};

/// The fault in a JSON text that is known to report one, or in plain text.
pub(super) fn fault(data: &[u8]) -> Box<Fault> {
    match serde_json::from_slice(data) {
        Ok(value) => of_value(&value),
        Err(_) => judged(words::plain(data)),
    }
}

fn of_value(value: &Value) -> Box<Fault> {
    match value {
        // Google's compatible endpoint wraps its error into a list.
        Value::Array(list) => list.first().map_or_else(|| judged(Report::default()), of_value),
        Value::Object(whole) => match whole.get("error") {
            Some(Value::Object(inner)) => judged(report(inner, whole)),
            Some(error) if !error.is_null() => {
                let message = text_of(Some(error), MESSAGE_CAP);
                judged(Report { message, ..report(whole, whole) })
            }
            _ => judged(report(whole, whole)),
        },
        other => judged(Report { message: text_of(Some(other), MESSAGE_CAP), ..Report::default() }),
    }
}

/// Reads `inner`; what it lacks may stand beside it in `whole`.
fn report(inner: &Map<String, Value>, whole: &Map<String, Value>) -> Report {
    let first = |keys: &[&str], cap| words::first(inner, whole, keys, cap);
    // `status` is a word with Google and a number with others.
    let status = first(&["status"], LABEL_CAP).filter(|status| status.parse::<u16>().is_err());
    Report {
        kind: first(&["type", "error_type"], LABEL_CAP).or(status),
        code: first(&["code", "http_status_code", "status_code", "status"], LABEL_CAP),
        message: first(&["message", "detail"], MESSAGE_CAP),
        traceback: None,
    }
}

#[cfg(test)]
mod tests {
    use streamkeeper_session::Kind;

    use super::*;

    fn kind(data: &str) -> (Kind, bool) {
        let fault = fault(data.as_bytes());
        (fault.kind, fault.recoverable)
    }

    #[test]
    fn vendors_words_decide_the_kind_and_whether_a_retry_helps() {
        let cases: &[(&str, Kind, bool)] = &[
            (r#"{"error":{"message":"m","type":"requests","code":"rate_limit_exceeded"}}"#, Kind::RateLimit, true),
            (
                r#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                Kind::Business,
                false,
            ),
            (
                r#"{"error":{"message":"m","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
                Kind::Validation,
                false,
            ),
            (
                r#"{"error":{"message":"m","type":"invalid_request_error","code":"invalid_api_key"}}"#,
                Kind::Validation,
                false,
            ),
            (r#"{"error":{"message":"m","type":"permission_error","code":null}}"#, Kind::Business, false),
            (r#"{"error":{"message":"m","code":"content_filter","status":400}}"#, Kind::Business, false),
            (r#"{"error":{"message":"m","type":"server_error","code":null}}"#, Kind::System, true),
            (
                r#"{"object":"error","message":"m","type":"BadRequestError","param":null,"code":400}"#,
                Kind::Validation,
                false,
            ),
            (r#"{"error":{"message":"m","type":"InternalServerError","param":null,"code":500}}"#, Kind::System, true),
            (r#"{"error":"m","error_type":"overloaded"}"#, Kind::System, true),
            (r#"{"error":"m","error_type":"validation"}"#, Kind::Validation, false),
            (r#"{"error":{"code":503,"message":"m","type":"unavailable_error"}}"#, Kind::System, true),
            (r#"{"error":{"code":429,"message":"m"}}"#, Kind::RateLimit, true),
            (r#"{"error":{"code":402,"message":"m"}}"#, Kind::Business, false),
            (r#"{"error":{"code":"504","message":"m"}}"#, Kind::Timeout, true),
            (r#"[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]"#, Kind::RateLimit, true),
        ];
        for (data, wanted, recoverable) in cases {
            assert_eq!(kind(data), (*wanted, *recoverable), "{data}");
            assert_eq!(fault(data.as_bytes()).message, "m", "{data}");
        }
    }

    #[test]
    fn plain_text_is_a_message_and_nothing_is_a_system_fault() {
        assert_eq!(fault(b" went wrong\n").message, "went wrong");
        for empty in ["", "null", "[]", "{}", "{\"error\":{}}", "{\"error\":false}"] {
            let fault = fault(empty.as_bytes());
            assert_eq!((fault.kind, fault.recoverable), (Kind::System, true), "{empty}");
            assert_eq!(fault.message, fault.code.message(), "{empty}");
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = "é".repeat(3000);
        let fault = fault(format!(r#"{{"error":{{"message":"x{long}"}}}}"#).as_bytes());
        assert_eq!(fault.message.len(), MESSAGE_CAP - 1);
    }
}
