//! Without a socket: first tries, caps, refusals, the page.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::{CHAT, question};
use crate::demo::runs::MAX_RUNS;
use crate::demo::upstream::{Shared, respond};

#[tokio::test(start_paused = true)]
async fn once_fails_the_first_try_of_a_request_id_or_else_of_a_prompt() {
    let shared = Shared::default();
    let status = async |fault: &str, prompt: &str, id: Option<&str>| {
        let mut request = Request::post(CHAT).header("x-demo-fault", fault);
        if let Some(id) = id {
            request = request.header("x-request-id", id);
        }
        let request = request.body(Full::new(Bytes::from(question(prompt, false)))).expect("a request");
        respond(&shared, request).await.status().as_u16()
    };
    assert_eq!(status("once:500", "a", None).await, 500);
    assert_eq!(status("once:500", "a", None).await, 200);
    assert_eq!(status("once:500", "b", None).await, 500);
    assert_eq!(status("once:429", "a", None).await, 429, "another fault is another first try");
    assert_eq!(status("once:500", "a", Some("1")).await, 500);
    assert_eq!(status("once:500", "c", Some("1")).await, 200);
    assert_eq!(status("once:500", "a", Some("2")).await, 500);
}

#[tokio::test(start_paused = true)]
async fn runs_are_capped_and_bad_names_are_refused() {
    let shared = Shared::default();
    let start = async |name: &str| {
        let body = Full::new(Bytes::from(question("rivers", true)));
        respond(&shared, Request::post(CHAT).header("x-demo-run", name).body(body).expect("a request")).await
    };
    let mut held = Vec::new();
    for n in 0..MAX_RUNS + 10 {
        held.push(start(&format!("run-{n}")).await);
    }
    assert!(held.iter().all(|response| response.status() == StatusCode::OK));
    assert_eq!(shared.runs.len(), MAX_RUNS);
    held.clear();
    assert_eq!(shared.runs.len(), 0);
    for name in ["", "a/b", "a b", &"x".repeat(65)] {
        assert_eq!(start(name).await.status(), StatusCode::BAD_REQUEST, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_finished_answer_leaves_the_table_before_its_connection_ends() {
    let shared = Shared::default();
    let body = Full::new(Bytes::from(question("rivers", true)));
    let request = Request::post(CHAT).header("x-demo-run", "r").body(body).expect("a request");
    let mut response = respond(&shared, request).await;
    assert_eq!(shared.runs.len(), 1);
    while let Some(frame) = response.body_mut().frame().await {
        assert!(frame.is_ok());
    }
    assert_eq!(shared.runs.len(), 0, "although the body is still held");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_served_is_refused_with_a_reason() {
    let shared = Shared::default();
    let status = async |method: &str, path: &str, fault: &str, body: Vec<u8>| {
        let request = Request::builder().method(method).uri(path).header("x-demo-fault", fault);
        let response = respond(&shared, request.body(Full::new(Bytes::from(body))).expect("a request")).await;
        let status = response.status().as_u16();
        let json = response.into_body().collect().await.expect("a body").to_bytes();
        let json: Value = serde_json::from_slice(&json).expect("JSON");
        assert!(json.pointer("/error/message").is_some_and(Value::is_string), "{json}");
        status
    };
    let good = || question("rivers", true).into_bytes();
    assert_eq!(status("POST", CHAT, "explode", good()).await, 400);
    assert_eq!(status("POST", "/v1/chat/completions?fault=%4", "500", good()).await, 400);
    assert_eq!(status("POST", "/v1/chat/completions?fault=%ff", "500", good()).await, 400);
    assert_eq!(status("POST", CHAT, "500", b"no JSON".to_vec()).await, 400);
    assert_eq!(status("POST", CHAT, "500", vec![b' '; 1024 * 1024 + 1]).await, 413);
    assert_eq!(status("POST", "/demo/answer", "500", b"{}".to_vec()).await, 400);
    assert_eq!(status("GET", CHAT, "500", Vec::new()).await, 405);
    assert_eq!(status("DELETE", "/", "500", Vec::new()).await, 405);
    assert_eq!(status("GET", "/demo/runs/a/kill", "500", Vec::new()).await, 405);
    for path in ["/demo/runs/a/kill", "/demo/runs/a/explode", "/demo/runs/", "/nowhere", "/_streamkeeper/sessions/x"] {
        assert_eq!(status("POST", path, "500", Vec::new()).await, 404, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_page_comes_with_its_policy_and_hello_knows_a_proxy() {
    let shared = Shared::default();
    let get = async |path: &str, proxied: bool| {
        let request = Request::get(path).header(if proxied { "x-forwarded-for" } else { "x-other" }, "127.0.0.1");
        respond(&shared, request.body(Full::new(Bytes::new())).expect("a request")).await
    };
    for path in ["/", "/demo/page.css", "/demo/page.js", "/demo/view.js", "/demo/wire.js", "/demo/icon.svg"] {
        let response = get(path, true).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let policy = response.headers().get("content-security-policy").and_then(|p| p.to_str().ok()).expect("a policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(!response.into_body().collect().await.expect("a body").to_bytes().is_empty());
    }
    for proxied in [true, false] {
        let hello = get("/demo/hello", proxied).await.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(serde_json::from_slice::<Value>(&hello).ok(), Some(json!({"proxied": proxied})));
    }
    assert_eq!(get("/v1/models", true).await.status(), StatusCode::OK);
}
