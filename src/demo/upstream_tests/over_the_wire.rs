//! Over a real loopback socket: whole streams, each fault, live control, the end of serving.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::{CHAT, End, Wire, ask, question, serve, told, upstream, whole_events};

#[tokio::test(start_paused = true)]
async fn a_well_stream_is_whole_and_tells_what_the_json_tells() {
    let (head, body, end) = ask(CHAT, "").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: text/event-stream"), "{head}");
    assert!(body.ends_with("data: [DONE]\n\n"));
    assert_eq!(end, End::Clean);

    let address = upstream().await;
    let (_, json, _) = Wire::send(address, "POST", CHAT, "", &question("rivers", false)).await.finish().await;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json.pointer("/choices/0/message/content"), Some(&json!(told(&body))));
    let (_, answer, _) = Wire::send(address, "POST", "/demo/answer", "", r#"{"prompt":"rivers"}"#).await.finish().await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer.get("text"), Some(&json!(told(&body))));
}

#[tokio::test(start_paused = true)]
async fn events_come_at_the_asked_pace() {
    let begun = tokio::time::Instant::now();
    let (_, body, _) = ask(CHAT, "x-demo-fault: pace=100\r\n").await;
    let pauses = u32::try_from(whole_events(&body)).expect("few") - 1;
    let (took, asked) = (begun.elapsed(), Duration::from_millis(100) * pauses);
    // Each sleep may end up to a millisecond late.
    assert!(took >= asked && took <= asked + Duration::from_millis(2) * pauses, "{took:?} for {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reset_leaves_half_an_event_and_no_last_chunk() {
    for (path, header) in [("/v1/chat/completions?fault=reset@5", ""), (CHAT, "x-demo-fault: reset@5\r\n")] {
        let (head, body, end) = ask(path, header).await;
        assert!(head.starts_with("HTTP/1.1 200"));
        assert_eq!((whole_events(&body), end), (4, End::Broken));
        let (_, half) = body.rsplit_once("\n\n").expect("events");
        assert!(half.starts_with("data: {") && half.len() > 20, "{half}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_truncated_answer_ends_cleanly_without_done() {
    let (_, body, end) = ask("/v1/chat/completions?x=1&fault=truncate%405,pace%3D0", "").await;
    assert_eq!((whole_events(&body), end), (4, End::Clean));
    assert!(body.ends_with("\n\n") && !body.contains("[DONE]"));
    let (_, body, end) = ask("/v1/chat/completions?fault=truncate@1", "").await;
    assert_eq!((body.as_str(), end), ("", End::Clean));
}

#[tokio::test(start_paused = true)]
async fn an_error_chunk_is_the_last_event() {
    let (_, body, end) = ask("/v1/chat/completions?fault=error@5", "").await;
    assert_eq!((whole_events(&body), end), (5, End::Clean));
    let last = body.trim_end().rsplit("data: ").next().expect("an event");
    let last: Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(last.pointer("/error/type"), Some(&json!("server_error")));
    assert!(!body.contains("[DONE]"));
}

#[tokio::test(start_paused = true)]
async fn a_scripted_stall_is_silent_until_it_is_resumed() {
    let address = upstream().await;
    let headers = "x-demo-run: r1\r\nx-demo-fault: stall@5\r\n";
    let mut wire = Wire::send(address, "POST", CHAT, headers, &question("rivers", true)).await;
    assert!(wire.falls_silent().await);
    let (head, ..) = Wire::send(address, "POST", "/demo/runs/r1/resume", "", "").await.finish().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    wire.read_until("[DONE]").await;
}

#[tokio::test(start_paused = true)]
async fn a_running_answer_can_be_stalled_resumed_and_killed() {
    let address = upstream().await;
    let headers = "x-demo-run: r1\r\nx-demo-fault: pace=1000\r\n";
    let mut wire = Wire::send(address, "POST", CHAT, headers, &question("rivers", true)).await;
    wire.read_until("assistant").await;
    for verb in ["stall", "resume", "stall", "kill"] {
        let path = format!("/demo/runs/r1/{verb}");
        let (head, body, _) = Wire::send(address, "POST", &path, "", "").await.finish().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{verb}: {head}");
        assert!(body.contains(verb), "{body}");
        match verb {
            "stall" => assert!(wire.falls_silent().await),
            "resume" => drop(wire.read_until("\"content\":\" ").await),
            _ => {}
        }
    }
    let mut rest = String::new();
    let _ = wire.0.read_to_string(&mut rest).await;
    assert!(rest.contains("data: {") && !rest.ends_with("0\r\n\r\n") && !rest.contains("\n\n"), "{rest}");
    let (head, ..) = Wire::send(address, "POST", "/demo/runs/r1/kill", "", "").await.finish().await;
    assert!(head.starts_with("HTTP/1.1 404"), "the run left the table: {head}");
}

#[tokio::test(start_paused = true)]
async fn failures_before_the_head_have_their_status_for_streams_and_json_alike() {
    let address = upstream().await;
    for stream in [true, false] {
        let body = question("rivers", stream);
        let (head, text, _) = Wire::send(address, "POST", CHAT, "x-demo-fault: 500\r\n", &body).await.finish().await;
        assert!(head.starts_with("HTTP/1.1 500") && text.contains("server_error"), "{head} {text}");
        let (head, text, _) = Wire::send(address, "POST", CHAT, "x-demo-fault: 429\r\n", &body).await.finish().await;
        assert!(head.starts_with("HTTP/1.1 429") && head.contains("retry-after: 1"), "{head}");
        assert!(text.contains("rate_limit_exceeded"), "{text}");
        let mut hung = Wire::send(address, "POST", CHAT, "x-demo-fault: hang\r\n", &body).await;
        assert!(hung.falls_silent().await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_takes_its_run_with_it() {
    let address = upstream().await;
    let headers = "x-demo-run: gone\r\nx-demo-fault: stall@3\r\n";
    let mut wire = Wire::send(address, "POST", CHAT, headers, &question("rivers", true)).await;
    assert!(wire.falls_silent().await);
    drop(wire);
    // The upstream learns of it through its socket: ask until it has.
    for _ in 0..100 {
        let (head, ..) = Wire::send(address, "POST", "/demo/runs/gone/stall", "", "").await.finish().await;
        if head.starts_with("HTTP/1.1 404") {
            return;
        }
    }
    panic!("the run of a client that left is still listed");
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_serving_and_drops_what_is_open() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(serve(listener, async { drop(stopped.await) }));
    let headers = "x-demo-fault: stall@3\r\n";
    let mut wire = Wire::send(address, "POST", CHAT, headers, &question("rivers", true)).await;
    assert!(wire.falls_silent().await);
    stop.send(()).expect("still serving");
    served.await.expect("no panic").expect("a clean end");
    assert!(!wire.falls_silent().await, "the connection was dropped");
    assert!(TcpStream::connect(address).await.is_err());
}
