//! The log of a real process: a reader that is too slow, or has gone, holds nothing up.

mod replicas_support;
mod support;

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use replicas_support::eventually;
use replicas_support::process::free_port;
use rustix::process::{Pid, Signal, kill_process};
use support::{Request, Upstream, upstream};

/// A process whose standard error is a pipe; it is killed when it is dropped.
struct Running {
    child: Child,
    data: u16,
    admin: u16,
    _dir: tempfile::TempDir,
}

impl Running {
    async fn before(llm: &Upstream) -> Self {
        let dir = tempfile::TempDir::new().expect("a directory of the story's");
        let (data, admin, config) = (free_port(), free_port(), dir.path().join("config.toml"));
        let text = format!(
            "[listen]\naddress = '127.0.0.1:{data}'\n[admin]\naddress = '127.0.0.1:{admin}'\n\
             [[upstreams]]\nname = 'llm'\nendpoints = ['http://{}']\n[telemetry]\nlog = 'debug'\n",
            llm.address
        );
        std::fs::write(&config, text).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_streamkeeper"));
        command.args(["run", "--config"]).arg(config).stdin(Stdio::null()).stderr(Stdio::piped());
        let running = Self { child: command.spawn().expect("the binary runs"), data, admin, _dir: dir };
        eventually("the process to listen", async || tokio::net::TcpStream::connect(("127.0.0.1", data)).await.is_ok())
            .await;
        running
    }

    fn get(&self, path: &str) -> Request {
        Request::new(([127, 0, 0, 1], self.data).into(), "GET", path)
    }

    async fn dropped_lines(&self) -> f64 {
        let metrics = Request::new(([127, 0, 0, 1], self.admin).into(), "GET", "/metrics");
        let text = metrics.header("connection", "close").send().await.text().await;
        let line = text.lines().find_map(|line| line.strip_prefix("stream_log_lines_dropped_total "));
        line.and_then(|number| number.parse().ok()).expect("the metric is there")
    }

    /// Asks it to go, and waits until it has.
    async fn leave(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it takes signals");
        let mut status = None;
        eventually("the process to exit", async || {
            status = self.child.try_wait().expect("a child of this process");
            status.is_some()
        })
        .await;
        assert_eq!(status.and_then(|status| status.code()), Some(0));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_slows_no_stream_and_what_is_lost_is_counted() {
    let llm = upstream().event("a").end().start().await;
    let mut proxy = Running::before(&llm).await;
    assert_eq!(proxy.dropped_lines().await, 0.0);
    // Their paths are in the log at this level: more than the pipe, the queue and the writer can hold.
    let long = "x".repeat(50_000);
    for _ in 0..80 {
        assert_eq!(proxy.get(&format!("/{long}")).events().await.rest().await.len(), 1);
    }
    assert!(proxy.dropped_lines().await > 0.0);
    proxy.leave().await;
}

#[tokio::test]
async fn a_log_whose_reader_has_gone_ends_nothing() {
    let llm = upstream().event("a").end().start().await;
    let mut proxy = Running::before(&llm).await;
    drop(proxy.child.stderr.take());
    for _ in 0..3 {
        assert_eq!(proxy.get("/run").events().await.rest().await.len(), 1);
    }
    eventually("lost lines to be counted", async || proxy.dropped_lines().await > 0.0).await;
    proxy.leave().await;
}

#[tokio::test]
async fn the_last_lines_are_written_before_the_process_ends() {
    let llm = upstream().event("a").end().start().await;
    let mut proxy = Running::before(&llm).await;
    for _ in 0..20 {
        proxy.get("/run").events().await.rest().await;
    }
    let mut stderr = proxy.child.stderr.take().expect("a pipe");
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).map(|_| text)
    });
    proxy.leave().await;
    let text = reading.join().expect("no panic").expect("UTF-8");
    let streams = text.lines().filter(|line| line.contains("streamkeeper::stream")).count();
    assert_eq!(streams, 20, "one line for each stream");
    assert!(text.ends_with('\n') && !text.contains('\u{1b}'), "whole lines, and no colours for a pipe");
}
