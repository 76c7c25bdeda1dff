//! Says in the program which commit it was built from: `STREAMKEEPER_COMMIT` where it is set, else what git says, else
//! nothing. Git is asked for released builds only: others would be compiled anew after every commit.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=STREAMKEEPER_COMMIT");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    match given().or_else(from_git) {
        Some(commit) => {
            println!("cargo:rustc-env=STREAMKEEPER_BUILD_COMMIT={commit}");
            println!("cargo:rustc-env=STREAMKEEPER_BUILD={version} ({commit})");
        }
        None => println!("cargo:rustc-env=STREAMKEEPER_BUILD={version}"),
    }
}

fn given() -> Option<String> {
    word(env::var("STREAMKEEPER_COMMIT").ok()?)
}

fn from_git() -> Option<String> {
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if !is_release || !Path::new(".git").exists() {
        return None;
    }
    // HEAD changes with the branch, its log with every commit.
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    if output.status.success() { word(String::from_utf8(output.stdout).ok()?) } else { None }
}

/// One word without surprises: it goes into a line of cargo's, a metric's label and a page.
fn word(text: String) -> Option<String> {
    let text = text.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/+".contains(c);
    (!text.is_empty() && text.chars().all(plain)).then(|| text.to_owned())
}
