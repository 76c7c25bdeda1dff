//! The command line as a person meets it: exit codes, messages, and what is promised about dependencies.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

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
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert!(log.map_while(Result::ok).any(|line| line.contains("draining")), "it says that it drains");
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
