//! What the tests of the demo's upstream share: a raw connection, read byte by byte. Time is paused in all of them: a
//! stall lasts an hour and costs nothing.

mod over_the_wire;
mod routes;

use std::future::pending;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::upstream::serve;

const HOUR: Duration = Duration::from_secs(3600);
const CHAT: &str = "/v1/chat/completions";

/// Starts an upstream and returns its address. It ends with the test's runtime.
async fn upstream() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(listener, pending()));
    address
}

fn question(prompt: &str, stream: bool) -> String {
    json!({"messages": [{"role": "user", "content": prompt}], "stream": stream}).to_string()
}

/// A raw connection on which one request has been sent.
struct Wire(TcpStream);

/// How a connection's bytes ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With the last chunk, or with the whole of a body of known length.
    Clean,
    /// Without.
    Broken,
}

impl Wire {
    async fn send(to: std::net::SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Self {
        let mut stream = TcpStream::connect(to).await.expect("connected");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        Self(stream)
    }

    /// Everything to the end of the connection: head, body (chunks undone), and how it ended.
    async fn finish(mut self) -> (String, String, End) {
        let mut bytes = Vec::new();
        // A reset after data is an end like any other here.
        let _ = self.0.read_to_end(&mut bytes).await;
        let text = String::from_utf8(bytes).expect("UTF-8 (a break may not cut these texts inside a character)");
        let (head, rest) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        if !head.contains("transfer-encoding: chunked") {
            return (head.to_owned(), rest.to_owned(), End::Clean);
        }
        let (body, end) = unchunk(rest);
        (head.to_owned(), body, end)
    }

    /// Reads until `wanted` has been seen.
    async fn read_until(&mut self, wanted: &str) -> String {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            let byte = self.0.read_u8().await.expect("more to come");
            seen.push(byte);
        }
        String::from_utf8(seen).expect("UTF-8")
    }

    /// Whether nothing more arrives for an hour of paused time, once what is under way has been read.
    async fn falls_silent(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match tokio::time::timeout(HOUR, self.0.read(&mut buffer)).await {
                Err(_) => return true,
                Ok(Ok(n)) if n > 0 => {}
                Ok(_) => return false,
            }
        }
    }
}

fn unchunk(mut rest: &str) -> (String, End) {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk size");
        if size == 0 {
            return (body, End::Clean);
        }
        let Some(chunk) = after.get(..size) else {
            break;
        };
        body.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or("");
    }
    (body, End::Broken)
}

/// The text of a stream's whole events.
fn told(body: &str) -> String {
    let data = body.split_inclusive("\n\n").filter_map(|event| event.strip_prefix("data: ")?.strip_suffix("\n\n"));
    data.filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .filter_map(|value| value.pointer("/choices/0/delta/content").and_then(Value::as_str).map(str::to_owned))
        .collect()
}

async fn ask(path: &str, headers: &str) -> (String, String, End) {
    let body = question("rivers", true);
    Wire::send(upstream().await, "POST", path, headers, &body).await.finish().await
}

fn whole_events(body: &str) -> usize {
    body.matches("\n\n").count()
}
