//! Where values come from that are not in the file. An argument, so that a test needs no process environment.

use std::io;
use std::path::Path;

/// The world outside the configuration's text.
pub trait Env {
    /// An environment variable; `None` if it is not set or is not Unicode.
    fn var(&self, name: &str) -> Option<String>;

    /// A whole text file. A relative path is seen from the working directory.
    ///
    /// # Errors
    /// What the system says when the file cannot be read or is not UTF-8.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// The real one: this process's environment and file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Env for Process {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// A world with nothing in it: no variable is set, no file exists.
#[derive(Debug, Clone, Copy, Default)]
pub struct Empty;

impl Env for Empty {
    fn var(&self, _: &str) -> Option<String> {
        None
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}
