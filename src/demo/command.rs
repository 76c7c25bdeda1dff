//! How the proxy is set up for the demo, and what the terminal says.

use std::net::SocketAddr;

use crate::config::{self, Problems, Settings};

/// The proxy's settings: short times, so that a stall can be watched, and no mending after content, so that a killed
/// upstream shows its error event.
///
/// # Errors
/// None that a caller can cause; the text below is parsed like any configuration.
pub fn settings(listen: SocketAddr, admin: SocketAddr, upstream: SocketAddr) -> Result<Settings, Problems> {
    let text = format!(
        r#"
        [listen]
        address = "{listen}"
        [admin]
        address = "{admin}"
        [[upstreams]]
        name = "demo"
        endpoints = ["http://{upstream}"]
        [[routes]]
        match = {{ path = "/" }}
        upstream = "demo"
        timeouts = {{ head = "10s", first_event = "10s", idle = "20s", total = "10m" }}
        commit_after = "3s"
        after_partial = []
        [heartbeat]
        interval = "2s"
        [retry_hint]
        base = "1500ms"
        [telemetry]
        log = "warn,streamkeeper::stream=info"
        "#
    );
    config::parse(&text, &config::env::Empty)
}

/// What to do now.
pub fn greeting(data: SocketAddr, admin: SocketAddr) -> String {
    format!(
        r#"
  Streamkeeper demo: a built-in upstream that speaks like an LLM, the proxy before it, and a page.

    open in a browser   http://{data}/

  Or in a terminal (the upstream dies at event 9 and the client is told):

    curl -N http://{data}/v1/chat/completions -H 'content-type: application/json' -d '{{"stream":true,"messages":[{{"role":"user","content":"rivers"}}]}}'
    curl -N 'http://{data}/v1/chat/completions?fault=reset@9' -H 'content-type: application/json' -d '{{"stream":true,"messages":[{{"role":"user","content":"rivers"}}]}}'

  Metrics: http://{admin}/metrics   Sessions: http://{admin}/api/sessions   Ctrl-C ends it.
"#
    )
}
