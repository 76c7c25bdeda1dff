//! The configuration changes while streams run: none of them notices, and what begins later sees the new one whole.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use streamkeeper::config::{Change, LoadError};
use streamkeeper::reload::Outcome;
use support::client::Connection;
use support::events::data;
use support::{Configured, Gate, Upstream, must, upstream};
use tokio::task::JoinSet;

/// Everything goes to `address`; `more` follows.
fn to(address: SocketAddr, more: &str) -> String {
    format!("[[upstreams]]\nname = 'llm'\nendpoints = ['http://{address}']\n{more}")
}

fn lines(changes: &[Change]) -> Vec<String> {
    changes.iter().map(Change::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_200_streams_cut_none_and_each_is_whole() {
    const STREAMS: usize = 200;
    let gate = Gate::new();
    let waits = gate.clone();
    let old = Upstream::by(move |seen| upstream().event(&seen.path).gate(&waits).event("b").event("c").end()).await;
    let new = upstream().event("new").end().start().await;
    let proxy = Arc::new(Configured::start(&to(old.address, "")).await);
    let first = Arc::downgrade(&proxy.live.app());
    let mut streams = JoinSet::new();
    for n in 0..STREAMS {
        let proxy = Arc::clone(&proxy);
        streams.spawn(async move {
            let path = format!("/old/{n}");
            let mut reply = proxy.get(&path).events().await;
            assert_eq!(reply.event().await.data, path);
            (proxy, reply)
        });
    }
    let live = must("all streams to begin", streams.join_all()).await;

    // Another upstream, another route, other limits; then once more; then a file with a mistake.
    let route = "[[routes]]\nmatch = { path = '/new' }\nupstream = 'llm'\n";
    let taken = proxy.change(&to(new.address, &format!("{route}[limits]\nsessions = 300\n"))).await;
    assert!(lines(&taken.changed).contains(&"limits.sessions: 10000 → 300".to_owned()), "{taken:?}");
    assert_eq!(data(&proxy.get("/new").events().await.rest().await), ["new"]);
    assert_eq!(proxy.get("/old/1").send().await.status, 404, "no route leads there any more");
    proxy.change(&to(new.address, "[heartbeat]\ninterval = '1s'\n")).await;
    proxy.write("nonsense");
    assert!(matches!(proxy.reload().await, Outcome::Unreadable(_)));

    assert!(first.upgrade().is_some(), "running streams keep what they began with");
    gate.open();
    for (n, (_, reply)) in live.into_iter().enumerate() {
        assert_eq!(data(&reply.rest().await), ["b", "c"], "stream {n}");
    }
    assert_eq!((old.requests(), new.requests()), (STREAMS, 1));
    let gone = async {
        while first.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    must("the first configuration to go with its last stream", gone).await;
}

#[tokio::test]
async fn a_client_that_comes_back_after_a_reload_finds_its_session() {
    let gate = Gate::new();
    let llm = upstream().event("a").gate(&gate).event("b").end().start().await;
    let proxy = Configured::start(&to(llm.address, "")).await;
    let mut reply = proxy.get("/chat").events().await;
    let a = reply.event().await;
    drop(reply);
    proxy.change(&to(Upstream::nobody().await, "[limits]\nsessions = 7\n")).await;
    let back = proxy.get("/chat").after(a.id()).events().await;
    gate.open();
    assert_eq!(data(&back.rest().await), ["b"]);
    assert_eq!(llm.requests(), 1);
}

#[tokio::test]
async fn an_open_connection_sees_the_new_configuration_with_its_next_request() {
    let old = upstream().answer(200, "text/plain", "old").start().await;
    let new = upstream().answer(200, "text/plain", "new").start().await;
    let proxy = Configured::start(&to(old.address, "")).await;
    let reply = proxy.get("/x").send().await;
    let mut connection = reply.finish().await;
    proxy.change(&to(new.address, "")).await;
    proxy.get("/x").write_to(&mut connection).await;
    assert_eq!(connection.reply().await.text().await, "new");
}

#[tokio::test]
async fn a_file_with_mistakes_changes_nothing_and_all_of_them_are_told() {
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let text = to(llm.address, "");
    let proxy = Configured::start(&text).await;
    let failed = "stream_config_reloads_total{result=\"failed\"}";
    let before = proxy.metric(failed).await;
    proxy.write(&to(llm.address, "[limits]\nsesions = 1\nevent = '1B'\n[listen]\nhosts = ['other.example']\n"));
    let outcome = proxy.reload().await;
    let Outcome::Unreadable(LoadError::Invalid(problems)) = outcome else { panic!("{outcome:?}") };
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["limits.event", "limits.sesions"]);
    assert_eq!(proxy.get("/x").send().await.text().await, "ok", "not even the part that is right is taken");
    assert!(proxy.metric(failed).await > before);
    assert_eq!(proxy.admin("/readyz").await.0, 200);

    fs::remove_file(proxy.file("config.toml")).expect("it is there");
    assert!(matches!(proxy.reload().await, Outcome::Unreadable(LoadError::Unreadable { .. })));

    proxy.write(&text);
    assert!(matches!(proxy.reload().await, Outcome::Unchanged(_)));
}

#[tokio::test]
async fn what_needs_a_restart_is_said_and_the_rest_is_taken() {
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let proxy = Configured::start(&to(llm.address, "")).await;
    let more = "[listen]\nhosts = ['a.example']\n[telemetry]\nlog = 'debug'\n\
                [store]\nkind = 'redis'\nurl = 'redis://127.0.0.1:1'\n";
    let taken = proxy.change(&to(llm.address, more)).await;
    assert_eq!(lines(&taken.changed), ["listen.hosts: [] → [\"a.example\"]"]);
    let waiting = lines(&taken.waiting);
    for line in ["store.kind: \"memory\" → \"redis\"", "telemetry.log: \"info\" → \"debug\""] {
        assert!(waiting.contains(&line.to_owned()), "{waiting:?}");
    }
    assert_eq!(proxy.get("/x").send().await.status, 400, "the host is another");
    assert_eq!(proxy.get("/x").header("host", "a.example").send().await.status, 200);
}

#[tokio::test]
async fn an_upstream_that_stays_the_same_keeps_its_breaker_and_its_connections() {
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let nobody = Upstream::nobody().await;
    let text = |more: &str| {
        let spare =
            format!("[[upstreams]]\nname = 'ill'\nendpoints = ['http://{nobody}']\nbreaker = {{ failures = 1 }}\n");
        let routes = "[[routes]]\nmatch = { path = '/' }\nupstream = 'llm'\n\
                      [[routes]]\nmatch = { path = '/ill' }\nupstream = 'ill'\n";
        to(llm.address, &format!("{spare}{routes}{more}"))
    };
    let proxy = Configured::start(&text("")).await;
    assert_eq!(proxy.get("/x").send().await.text().await, "ok");
    assert_eq!(proxy.get("/ill").send().await.status, 502);
    let breaker = |upstreams: &str| {
        let upstreams: serde_json::Value = serde_json::from_str(upstreams).expect("JSON");
        upstreams["upstreams"][1]["endpoints"][0]["state"].as_str().map(str::to_owned)
    };
    assert_eq!(breaker(&proxy.admin("/api/upstreams").await.1).as_deref(), Some("open"));
    proxy.change(&text("[limits]\nsessions = 9\n")).await;
    assert_eq!(breaker(&proxy.admin("/api/upstreams").await.1).as_deref(), Some("open"));
    assert_eq!(proxy.get("/x").send().await.text().await, "ok");
    assert_eq!((llm.requests(), llm.connections()), (2, 1));
    proxy.change(&text("").replace("failures = 1", "failures = 2")).await;
    assert_eq!(
        breaker(&proxy.admin("/api/upstreams").await.1).as_deref(),
        Some("closed"),
        "it is another upstream now"
    );
}

#[tokio::test]
async fn active_checks_follow_the_configuration() {
    let asked = |llm: &Upstream| llm.requests();
    let old = upstream().answer(200, "text/plain", "ok").start().await;
    let new = upstream().answer(200, "text/plain", "ok").start().await;
    let health = "health = { path = '/health', interval = '5ms' }\n";
    let proxy = Configured::start(&to(old.address, health)).await;
    old.until("checks", |log| log.requests.len() > 2).await;
    proxy.change(&to(new.address, health)).await;
    new.until("checks", |log| log.requests.len() > 2).await;
    // A check may have been under way; after that there is none.
    let before = asked(&old);
    new.until("ten more checks", |log| log.requests.len() > 12).await;
    assert!(asked(&old) <= before + 1);
}

#[tokio::test]
async fn limits_follow_the_configuration() {
    let llm = upstream().event("a").hang().start().await;
    let proxy = Configured::start(&to(llm.address, "[limits]\nsessions = 1\nconnections = 2\n")).await;
    let first = proxy.get("/1").events().await;
    let refused = proxy.get("/2").header("accept", "text/event-stream").send().await;
    assert_eq!(refused.status, 503);
    // Both places are taken: this one waits until there are more.
    let waiting = tokio::spawn(proxy.get("/3").events());
    proxy.change(&to(llm.address, "[limits]\nsessions = 2\nconnections = 3\n")).await;
    let third = must("a place", waiting).await.expect("a stream");
    assert_eq!(proxy.metric("stream_limit{name=\"sessions\"}").await, 2.0);

    // Fewer places: nobody is cut, and nobody comes in before enough have left, but for the one that was awaited already.
    proxy.change(&to(llm.address, "[limits]\nsessions = 5\nconnections = 1\n")).await;
    let ask = || async {
        let mut connection = Connection::open(proxy.address).await;
        proxy.get("/_streamkeeper/sessions/none").write_to(&mut connection).await;
        connection
    };
    let (awaited, mut waiting) = (ask().await, ask().await);
    drop(first);
    let awaited = awaited.reply().await;
    drop((refused, awaited));
    for _ in 0..4 {
        proxy.admin("/healthz").await;
    }
    assert_eq!(waiting.surplus(), None, "the third still has the only place");
    drop(third);
    assert_eq!(waiting.reply().await.status, 404);
}

#[tokio::test]
async fn a_watched_file_is_taken_up_however_it_is_replaced() {
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let sessions = |count: usize| to(llm.address, &format!("[limits]\nsessions = {count}\n"));
    let proxy = Configured::watching(&sessions(1), &[]).await;
    let taken = |count: usize| move |settings: &streamkeeper::config::Settings| settings.limits.sessions == count;
    // As an editor does it.
    proxy.write(&sessions(2));
    proxy.until("a renamed file", taken(2)).await;
    // In place.
    fs::write(proxy.file("config.toml"), sessions(3)).expect("a file");
    proxy.until("a file that was written over", taken(3)).await;
    // As Kubernetes does it: the file is a link into a folder that is a link, and that one is swapped.
    for count in [4, 5] {
        let folder = proxy.file(&format!("v{count}"));
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("config.toml"), sessions(count)).expect("a file");
        symlink(&folder, proxy.file("next")).expect("a link");
        fs::rename(proxy.file("next"), proxy.file("data")).expect("one link in place of another");
        if count == 4 {
            symlink(proxy.file("data/config.toml"), proxy.file("next")).expect("a link");
            fs::rename(proxy.file("next"), proxy.file("config.toml")).expect("a link in place of a file");
        }
        proxy.until("a link that was swapped", taken(count)).await;
    }
}

#[tokio::test]
async fn a_secret_in_a_watched_file_is_taken_up_when_it_rotates() {
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let text = to(llm.address, "credential = { file = '{folder}/key' }\n");
    let proxy = Configured::watching(&text, &[("key", "one")]).await;
    proxy.get("/x").send().await;
    assert_eq!(llm.request(1).header("authorization").as_deref(), Some("Bearer one"));
    proxy.put("key", "two");
    let carries = |value: &str| format!("Bearer {value}");
    let wanted = carries("two");
    let rotated = |settings: &streamkeeper::config::Settings| {
        settings.upstreams[0].credential.as_ref().is_some_and(|own| own.value == wanted.as_str())
    };
    proxy.until("the other key", rotated).await;
    proxy.get("/x").send().await;
    assert_eq!(llm.request(2).header("authorization").as_deref(), Some("Bearer two"));
}

/// The program itself, ended with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    fn start(arguments: &[&str]) -> (Self, BufReader<ChildStderr>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_streamkeeper"))
            .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        (Self(child), stderr)
    }

    fn hang_up(&self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it runs");
    }
}

/// Lines of the log up to the one with `wanted` in it.
fn until(log: &mut BufReader<ChildStderr>, wanted: &str) -> String {
    let mut told = String::new();
    loop {
        let start = told.len();
        assert!(log.read_line(&mut told).expect("a log") > 0, "the log ended without {wanted:?}:\n{told}");
        if told[start..].contains(wanted) {
            return told;
        }
    }
}

#[test]
fn sighup_reloads_and_the_log_says_what_changed_without_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, key) = (folder.path().join("config.toml"), folder.path().join("key"));
    // All at once: both files are watched, and half of one must not be read.
    let put = |path: &Path, text: &str| {
        let next = folder.path().join("next");
        fs::write(&next, text).expect("a file");
        fs::rename(next, path).expect("one file in place of another");
    };
    let write = |secret: &str, more: &str| {
        put(&key, secret);
        let text = format!(
            "[[upstreams]]\nname = 'llm'\nendpoints = ['http://127.0.0.1:1']\n\
             credential = {{ file = '{}' }}\n[telemetry]\nformat = 'json'\n{more}",
            key.display()
        );
        put(&config, &text);
    };
    write("hunter1", "");
    let (program, mut log) = Program::start(&["--config", config.to_str().expect("UTF-8")]);
    let told = until(&mut log, "listening");
    let admin = told.split("\"admin\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an address");
    write("hunter2", "[store]\nkind = 'redis'\nurl = 'redis://127.0.0.1:1'\n[limits]\nsessions = 7\n");
    program.hang_up();
    // The watch may see the credential before the configuration is there.
    let told = until(&mut log, "limits.sessions") + &until(&mut log, "configuration reloaded");
    for part in [
        r#""key":"limits.sessions","from":"10000","to":"7""#,
        r#""key":"upstreams[0].credential","from":"***""#,
        r#""key":"store.kind","from":"\"memory\"","to":"\"redis\"""#,
        "needs a restart",
    ] {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    assert!(!told.contains("hunter"), "{told}");
    assert!(get(admin, "/metrics").contains("\nstream_config_reload_ok 1\n"));
    write("hunter3", "[limits]\nsessions = 'many'\nevents = 1\n");
    program.hang_up();
    let told = until(&mut log, "limits.sessions") + &until(&mut log, "the old one stays");
    for part in [r#""key":"limits.sessions""#, r#""key":"limits.events""#, "did you mean `event`"] {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    assert!(!told.contains("hunter"), "{told}");
    let metrics = get(admin, "/metrics");
    assert!(metrics.contains("\nstream_config_reload_ok 0\n"), "{metrics}");
    // The watch may have seen a change before the signal came, so each was counted at least once.
    for result in ["ok", "failed"] {
        let line = format!("\nstream_config_reloads_total{{result=\"{result}\"}} ");
        assert!(metrics.contains(&line) && !metrics.contains(&format!("{line}0\n")), "{line:?} in\n{metrics}");
    }
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200 "));
}

/// A whole answer of the admin port.
fn get(admin: &str, path: &str) -> String {
    let mut socket = std::net::TcpStream::connect(admin).expect("it listens");
    write!(socket, "GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn sighup_without_a_file_ends_nothing() {
    let (program, mut log) = Program::start(&["--upstream", "http://127.0.0.1:1"]);
    until(&mut log, "listening");
    program.hang_up();
    until(&mut log, "there is no configuration file");
    program.hang_up();
    until(&mut log, "there is no configuration file");
}
