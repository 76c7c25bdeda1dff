//! Where the error objects of this API have their words; what these mean, `words` knows.
//!
//! Total: anything becomes a fault. Read are the nested `error` event, its flat form in the API reference, a failed
//! response (`response.failed`, or a JSON answer with that status) and the error body of a status. Not here: where in
//! a stream an error may stand (`reader`). Source: OpenAI's API reference, "Error codes" and the codes of
//! `response.error`; what the compatible servers send beside them.

use serde_json::{Map, Value};
use streamkeeper_session::{Fault, Report};

use super::ERROR;
use crate::dialect::json::{LABEL_CAP, MESSAGE_CAP, capped, text_of};
use crate::dialect::words::{self, judged};

/// The fault in a JSON text that is known to report one, or in plain text.
pub(super) fn fault(data: &[u8]) -> Box<Fault> {
    let report = match serde_json::from_slice(data) {
        Ok(Value::Object(whole)) => of_object(&whole),
        Ok(other) => Report { message: text_of(Some(&other), MESSAGE_CAP), ..Report::default() },
        Err(_) => words::plain(data),
    };
    judged(report)
}

fn of_object(whole: &Map<String, Value>) -> Report {
    let response = whole.get("response").and_then(Value::as_object).unwrap_or(whole);
    match response.get(ERROR).or_else(|| whole.get(ERROR)) {
        Some(Value::Object(inner)) => report(inner, response),
        Some(Value::String(text)) => {
            let message = Some(capped(text, MESSAGE_CAP).to_owned());
            Report { message, ..report(response, whole) }
        }
        _ => report(response, whole),
    }
}

/// Reads `inner`; what it lacks may stand beside it in `whole`.
fn report(inner: &Map<String, Value>, whole: &Map<String, Value>) -> Report {
    let first = |keys: &[&str], cap| words::first(inner, whole, keys, cap);
    Report {
        // Of the flat form and of a failed response, `type` says only what the event is.
        kind: first(&["type", "error_type"], LABEL_CAP).filter(|kind| kind != ERROR && !kind.starts_with("response.")),
        code: first(&["code", "status_code", "status"], LABEL_CAP).filter(|code| code != "failed"),
        message: first(&["message", "detail"], MESSAGE_CAP),
        traceback: None,
    }
}

#[cfg(test)]
mod tests {
    use streamkeeper_session::Kind;

    use super::*;

    #[test]
    fn vendors_words_decide_the_kind_and_whether_a_retry_helps() {
        let cases: &[(&str, Kind, bool)] = &[
            (
                r#"{"type":"error","sequence_number":3,"code":"server_error","message":"m","param":null}"#,
                Kind::System,
                true,
            ),
            (
                r#"{"type":"error","sequence_number":3,"error":{"type":"invalid_request_error","code":"context_length_exceeded","message":"m","param":"input"}}"#,
                Kind::Validation,
                false,
            ),
            (
                r#"{"type":"error","error":{"type":"insufficient_quota","code":"insufficient_quota","message":"m"}}"#,
                Kind::Business,
                false,
            ),
            (
                r#"{"type":"response.failed","response":{"id":"r","status":"failed","error":{"code":"rate_limit_exceeded","message":"m"}}}"#,
                Kind::RateLimit,
                true,
            ),
            (
                r#"{"id":"r","status":"failed","error":{"code":"vector_store_timeout","message":"m"}}"#,
                Kind::Timeout,
                true,
            ),
            (r#"{"error":{"code":"image_content_policy_violation","message":"m"}}"#, Kind::Business, false),
            (r#"{"error":{"code":"image_too_large","message":"m"}}"#, Kind::Validation, false),
            (r#"{"error":{"code":"invalid_prompt","message":"m"}}"#, Kind::Validation, false),
            (r#"{"error":{"message":"m","type":"BadRequestError","param":null,"code":400}}"#, Kind::Validation, false),
            (r#"{"error":{"code":429,"message":"m"}}"#, Kind::RateLimit, true),
            (r#"{"error":{"code":"503","message":"m"}}"#, Kind::System, true),
            (r#"{"error":"m"}"#, Kind::System, true),
        ];
        for (data, wanted, recoverable) in cases {
            let fault = fault(data.as_bytes());
            assert_eq!((fault.kind, fault.recoverable, fault.message.as_ref()), (*wanted, *recoverable, "m"), "{data}");
        }
    }

    #[test]
    fn the_type_of_an_event_is_not_the_type_of_its_error() {
        for data in [
            r#"{"type":"error","code":"ERR_SOMETHING","message":"m","param":null,"sequence_number":1}"#,
            r#"{"type":"response.failed","response":{"error":{"code":"ERR_SOMETHING","message":"m"}}}"#,
        ] {
            let report = fault(data.as_bytes()).report.unwrap();
            assert_eq!((report.kind, report.code.as_deref()), (None, Some("ERR_SOMETHING")), "{data}");
        }
    }

    #[test]
    fn plain_text_is_a_message_and_nothing_is_a_system_fault() {
        assert_eq!(fault(b" went wrong\n").message, "went wrong");
        assert_eq!(fault(b"\"went wrong\"").message, "went wrong");
        for empty in ["", "null", "[]", "{}", "{\"error\":{}}", "{\"type\":\"error\"}", "{\"response\":{}}"] {
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
