//! The command line as a person meets it: exit codes, messages, and what is promised about dependencies.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

fn streamkeeper(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamkeeper"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    streamkeeper(arguments).output().expect("the binary runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

#[test]
fn the_sample_configuration_has_no_problem() {
    let output = run(&["check", "--config", concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn check_names_every_problem_with_its_path_and_a_suggestion() {
    let config = file(
        r#"
        [[upstreams]]
        name = "llm"
        endpoints = ["ftp://example.com"]
        [[routes]]
        upstream = "lm"
        timeouts = { frist_event = "1s", idle = "soon" }
        "#,
    );
    let output = run(&["check", "--config", config.path().to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    for expected in
        ["upstreams[0].endpoints", "routes[0].upstream", "did you mean `first_event`", "routes[0].timeouts.idle"]
    {
        assert!(told.contains(expected), "{expected} is missing in:\n{told}");
    }
}

#[test]
fn a_log_filter_that_is_none_is_a_problem_of_the_configuration() {
    let config =
        file("[[upstreams]]\nname = \"a\"\nendpoints = [\"http://127.0.0.1:1\"]\n[telemetry]\nlog = \"=,=\"\n");
    let output = run(&["check", "--config", config.path().to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("telemetry.log:"), "{}", stderr(&output));
}

#[test]
fn a_flag_that_does_not_exist_is_an_error_in_usage() {
    assert_eq!(run(&["run", "--lisen", "127.0.0.1:0"]).status.code(), Some(2));
}

#[test]
fn a_missing_file_says_which() {
    let output = run(&["--config", "no-such-file.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no-such-file.toml"));
}

#[test]
fn an_address_in_use_is_said_with_the_key_it_came_from() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let output = run(&["--upstream", "http://127.0.0.1:1", "--listen", &address, "--admin", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("listen.address"), "{}", stderr(&output));
}

#[test]
fn an_upstream_alone_is_enough_to_run_and_sigterm_ends_it_well() {
    let mut child =
        streamkeeper(&["--upstream", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
    let mut log = BufReader::new(child.stderr.take().expect("piped")).lines();
    let listening = log.by_ref().map_while(Result::ok).any(|line| line.contains("listening"));
    assert!(listening, "it says that it listens");
    ended(&mut child);
    assert!(log.map_while(Result::ok).any(|line| line.contains("draining")), "it says that it drains");
}

/// A listener that answers each connection with these bytes, whatever was asked.
fn answering(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

fn health(admin: SocketAddr) -> (Option<i32>, String) {
    let output = run(&["health", "--admin", &admin.to_string()]);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output))
}

#[test]
fn health_is_the_exit_code_of_readyz() {
    let ready = answering("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n");
    assert_eq!(health(ready), (Some(0), "ready\n".to_owned()));
    let draining = answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\ndraining\n");
    let (code, told) = health(draining);
    assert_eq!(code, Some(1));
    assert!(told.ends_with("is not ready: draining\n"), "{told}");
}

#[test]
fn health_says_why_there_is_no_answer_and_does_not_wait_for_ever() {
    for (answer, reason) in [
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "status 404; is it the admin port?"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP/1.1"),
        ("", "does not speak HTTP/1.1"),
    ] {
        let (code, told) = health(answering(answer));
        assert_eq!(code, Some(1));
        assert!(told.contains(reason), "{told}");
    }
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let (code, told) = health(free);
    assert_eq!(code, Some(1));
    assert!(told.contains("does not answer"), "{told}");
    // Accepts by itself, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (code, told) = health(silent.local_addr().expect("its address"));
    assert_eq!(code, Some(1));
    assert!(told.contains("timed out"), "{told}");
}

#[test]
fn a_running_proxy_is_healthy() {
    let mut child =
        streamkeeper(&["--upstream", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
    let mut log = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let line = log.find(|line| line.contains("listening")).expect("it says that it listens");
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON, where there is no terminal");
    let admin = line["admin"].as_str().or_else(|| line["fields"]["admin"].as_str()).expect("its address");
    assert_eq!(health(admin.parse().expect("an address")).0, Some(0));
    ended(&mut child);
}

/// Ends a process as an operator would.
fn ended(child: &mut Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn the_version_is_the_packages_and_the_commit_where_the_build_knew_it() {
    let output = run(&["--version"]);
    let told = String::from_utf8(output.stdout).expect("UTF-8");
    let rest = told.strip_prefix(concat!("streamkeeper ", env!("CARGO_PKG_VERSION"))).expect("name and version").trim();
    let is_commit = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).is_some_and(|c| !c.is_empty());
    assert!(rest.is_empty() || is_commit, "{told}");
    assert_eq!(streamkeeper::version::COMMIT.is_some(), is_commit, "{told}");
}

#[test]
fn completions_know_every_command_and_flag() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        for word in ["check", "health", "demo", "completions", "man", "upstream-only", "config"] {
            assert!(text.contains(word), "{word} is missing for {shell}");
        }
    }
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn completions_are_a_script_that_bash_takes() {
    let script = file(&String::from_utf8(run(&["completions", "bash"]).stdout).expect("UTF-8"));
    let output = Command::new("bash").arg("-n").arg(script.path()).output().expect("bash runs");
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn the_man_page_has_every_command_signal_and_exit_code() {
    let output = run(&["man"]);
    assert_eq!(output.status.code(), Some(0));
    let page = String::from_utf8(output.stdout).expect("UTF-8");
    for part in [
        ".TH streamkeeper 1",
        ".SH NAME",
        ".SH SYNOPSIS",
        ".SH OPTIONS",
        ".SS run",
        ".SS check",
        ".SS health",
        ".SS demo",
        "\\-\\-upstream\\-only",
        "SIGTERM",
        "SIGHUP",
        ".SH EXIT STATUS",
    ] {
        assert!(page.contains(part), "{part} is missing in\n{page}");
    }
}

#[test]
fn the_demos_upstream_can_be_had_alone() {
    let mut child = streamkeeper(&["demo", "--upstream-only", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut told = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut told).expect("a line");
    let address = told.trim().rsplit_once("//").expect("its address").1;
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(b"GET /v1/models HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("streamkeeper-demo"), "{answer}");
    ended(&mut child);
    let both = run(&["demo", "--upstream-only", "--admin", "127.0.0.1:0"]);
    assert_eq!(both.status.code(), Some(2), "there is no admin port then");
}

#[test]
fn the_versions_that_fix_known_floods_are_in_the_lock_file() {
    let lock: toml::Table = include_str!("../Cargo.lock").parse().expect("a lock file");
    let versions = |name: &str| -> Vec<Vec<u64>> {
        let packages = lock["package"].as_array().expect("packages");
        let named = packages.iter().filter(|package| package["name"].as_str() == Some(name));
        named
            .map(|package| {
                package["version"].as_str().expect("a version").split('.').map_while(|n| n.parse().ok()).collect()
            })
            .collect()
    };
    for (name, least) in [("hyper", vec![1, 11, 0]), ("h2", vec![0, 4, 16])] {
        let found = versions(name);
        assert!(!found.is_empty() && found.iter().all(|version| *version >= least), "{name} {found:?}");
    }
}
