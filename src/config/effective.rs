//! The configuration in use, key by key, as it would be written: for the log of a reload, and for operators.
//!
//! It comes into being while the keys are read (`keys`), so that defaults are in it like what is written. A secret is
//! three stars; whether it, or a file that a key names, became another one is told by a hash.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

/// What stands in place of a secret.
const HIDDEN: &str = "***";

/// One key and its value.
#[derive(Clone, PartialEq, Eq)]
struct Entry {
    path: String,
    shown: String,
    /// A hash of what `shown` does not tell: a secret, or what is in a file.
    content: Option<u64>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.path, self.shown)
    }
}

/// All keys with their values, in reading order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effective(Vec<Entry>);

/// One key whose value differs between two configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where: a TOML path such as `routes[1].timeouts.idle`.
    pub path: String,
    /// What was there, in TOML's notation; `(none)` where nothing was, stars for a secret.
    pub from: String,
    /// What is there now.
    pub to: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.path, self.from, self.to)
    }
}

impl Effective {
    /// All keys as TOML paths, with their values in TOML's notation; secrets are stars.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|entry| (entry.path.as_str(), entry.shown.as_str()))
    }

    /// What differs in `new`, in its order; then what is gone.
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let (before, after) = (self.by_path(), new.by_path());
        let mut changes = Vec::new();
        for entry in &new.0 {
            match before.get(entry.path.as_str()) {
                Some(old) if *old == entry => {}
                old => changes.push(change(old.copied(), Some(entry))),
            }
        }
        let gone = self.0.iter().filter(|entry| !after.contains_key(entry.path.as_str()));
        changes.extend(gone.map(|entry| change(Some(entry), None)));
        changes
    }

    /// Takes everything at `path` and below it from `other`.
    pub(super) fn keep(&mut self, other: &Self, path: &str) {
        let inside = |entry: &Entry| {
            entry.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let place = self.0.iter().position(inside).unwrap_or(self.0.len());
        self.0.retain(|entry| !inside(entry));
        self.0.splice(place..place, other.0.iter().filter(|entry| inside(entry)).cloned());
    }

    /// Notes a value that may be seen.
    pub(super) fn note(&mut self, path: String, shown: String) {
        self.0.push(Entry { path, shown, content: None });
    }

    /// Notes a secret.
    pub(super) fn note_secret(&mut self, path: String, secret: &str) {
        self.0.push(Entry { path, shown: HIDDEN.to_owned(), content: Some(hash(secret)) });
    }

    /// Notes a file and what is in it.
    pub(super) fn note_file(&mut self, path: String, file: String, content: &str) {
        self.0.push(Entry { path, shown: file, content: Some(hash(content)) });
    }

    fn by_path(&self) -> HashMap<&str, &Entry> {
        self.0.iter().map(|entry| (entry.path.as_str(), entry)).collect()
    }
}

fn change(old: Option<&Entry>, new: Option<&Entry>) -> Change {
    let shown = |entry: Option<&Entry>| entry.map_or_else(|| "(none)".to_owned(), |entry| entry.shown.clone());
    let (from, mut to) = (shown(old), shown(new));
    if from == to {
        to.push_str(" (new content)");
    }
    let path = new.or(old).map(|entry| entry.path.clone()).unwrap_or_default();
    Change { path, from, to }
}

/// Equal hashes mean equal texts, as far as chance goes; the key is this process's own, so a hash says nothing elsewhere.
fn hash(text: &str) -> u64 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    KEY.get_or_init(RandomState::new).hash_one(text)
}
