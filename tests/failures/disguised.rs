use serde_json::json;

use crate::support::script::Script;
use crate::support::{Story, Wire, upstream};

/// An error as a vendor words it, and what becomes of it: status, type, whether a retry can help.
struct Case {
    name: &'static str,
    said: serde_json::Value,
    status: u16,
    kind: &'static str,
    recoverable: bool,
}

fn cases(wire: Wire) -> Vec<Case> {
    let case = |name, said, status, kind, recoverable| Case { name, said, status, kind, recoverable };
    match wire {
        Wire::OpenAi => vec![
            case("limit", json!({"type": "requests", "code": "rate_limit_exceeded"}), 429, "rate_limit", true),
            case("invalid", json!({"type": "invalid_request_error", "code": null}), 400, "validation", false),
            case("quota", json!({"type": "insufficient_quota"}), 502, "business", false),
            case("server", json!({"type": "server_error", "code": null}), 502, "system", true),
            case("slow", json!({"type": "timeout"}), 504, "timeout", true),
            case("number", json!({"code": 429}), 429, "rate_limit", true),
        ],
        Wire::Generic => vec![
            case("limit", json!({"type": "rate_limit"}), 429, "rate_limit", true),
            case("invalid", json!({"type": "validation", "severity": "error"}), 400, "validation", false),
            case("refused", json!({"type": "business", "code": "no_funds"}), 502, "business", false),
            case("server", json!({"type": "system"}), 502, "system", true),
            case("slow", json!({"type": "timeout", "recoverable": true}), 504, "timeout", true),
            case("odd", json!({"type": "weird"}), 502, "system", true),
        ],
    }
}

/// Each vendor's error, said by `script`, must become a status.
async fn each_becomes_a_status(place: &str, script: impl Fn(Wire, &str) -> Script) {
    for wire in Wire::ALL {
        for Case { name, mut said, status, kind, recoverable } in cases(wire) {
            said["message"] = "the words of the upstream".into();
            let llm = script(wire, &json!({ "error": said }).to_string()).start().await;
            let story = Story::new(&format!("{place}_{name}"), wire, &llm, "").await;
            let failure = story.refusal(status).await;
            story.told(&failure, "upstream_error", kind, recoverable).await;
            assert_eq!(failure.message, "the words of the upstream");
            assert_eq!(failure.whole["upstream_type"], said["type"], "{name}");
            let tries = if recoverable { 3 } else { 1 };
            assert_eq!(llm.requests(), tries, "{name}");
        }
    }
}

#[tokio::test]
async fn a_json_error_with_status_200_becomes_the_status_it_should_have_had() {
    each_becomes_a_status("json_error", |_, error| upstream().json(200, error)).await;
}

#[tokio::test]
async fn an_error_as_the_first_event_becomes_a_status() {
    each_becomes_a_status("first_event", |wire, error| {
        let event = upstream().event(error);
        let event = if wire == Wire::Generic { event.named("error") } else { event };
        event.event("[DONE]").end()
    })
    .await;
}

#[tokio::test]
async fn an_error_behind_a_bare_role_becomes_a_status() {
    let role = r#"{"choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}"#;
    let error = r#"{"error":{"message":"m","type":"invalid_request_error"}}"#;
    let llm = upstream().event(role).event(error).end().start().await;
    let story = Story::new("behind_a_role", Wire::OpenAi, &llm, "").await;
    let failure = story.refusal(400).await;
    story.told(&failure, "upstream_error", "validation", false).await;
}

#[tokio::test]
async fn a_json_success_becomes_a_valid_stream() {
    for wire in Wire::ALL {
        for media_type in ["application/json", "application/json; charset=utf-8", "application/vnd.x+json"] {
            let llm = upstream().answer(200, media_type, &wire.answer("all of it")).start().await;
            let story = Story::new("json_success", wire, &llm, "").await;
            let reply = story.stream().await;
            assert!(reply.header("content-length").is_none());
            let session = reply.session();
            let events = reply.rest().await;
            assert_eq!(wire.text(&events), "all of it");
            assert_eq!(llm.requests(), 1);
            if wire == Wire::OpenAi {
                assert_eq!(events.last().map(|event| event.data.as_str()), Some("[DONE]"));
                let finishes = events.iter().filter(|event| event.data.contains("\"finish_reason\":\"stop\"")).count();
                let roles = events.iter().filter(|event| event.data.contains("\"role\"")).count();
                assert_eq!((finishes, roles), (1, 1), "{events:?}");
            } else {
                assert_eq!(events.last().map(|event| event.name.as_str()), Some("done"));
            }
            // It is a session like any other: it can be read again.
            let again = story.proxy.session("GET", &session).events().await.rest().await;
            assert_eq!(wire.text(&again), "all of it");
        }
    }
}

#[tokio::test]
async fn something_else_than_a_stream_or_an_answer_is_a_502_that_no_retry_helps() {
    for wire in Wire::ALL {
        let bodies = [
            ("html", "text/html", "<html>login</html>"),
            ("text", "text/plain", "data: not a stream\n\n"),
            ("no_json", "application/json", "{\"choices\":"),
            ("empty_json", "application/json", ""),
            ("look_alike", "text/event-streams", "data: a\n\n"),
        ];
        for (name, media_type, body) in bodies {
            let llm = upstream().answer(200, media_type, body).start().await;
            let story = Story::new(&format!("odd_{name}"), wire, &llm, "").await;
            let failure = story.refusal(502).await;
            story.told(&failure, "bad_content_type", "system", false).await;
            assert_eq!(llm.requests(), 1);
        }
    }
}

#[tokio::test]
async fn an_answer_larger_than_its_cap_is_refused() {
    for wire in Wire::ALL {
        let llm = upstream().json(200, &wire.answer(&"x".repeat(70 * 1024))).start().await;
        let story = Story::new("huge_answer", wire, &llm, "[limits]\nanswer_body = '64KiB'").await;
        let failure = story.refusal(502).await;
        story.told(&failure, "event_too_large", "system", false).await;
    }
}

#[tokio::test]
async fn a_callers_own_mistakes_do_not_make_the_upstream_ill() {
    for (name, kind, ill) in [("mistakes", "invalid_request_error", false), ("illness", "server_error", true)] {
        let llm = upstream().json(200, &json!({ "error": { "type": kind, "message": "m" } }).to_string()).start().await;
        let story = Story::new(name, Wire::OpenAi, &llm, "").await;
        for _ in 0..3 {
            assert!(story.ask().send().await.status >= 400);
        }
        let app = &story.proxy.app;
        let dialler = app.upstreams.of(&app.settings.routes[0]).expect("the route has an upstream");
        assert_eq!(dialler.is_ill(), ill, "{name}");
    }
}
