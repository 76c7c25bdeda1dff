//! The kinds of values a key can have: one method of [`Reader`] each, with the message for what does not fit.
//!
//! Not here: tables and how problems are collected (`reader`), what a string means (`values`, `units`).

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::time::Duration;

use toml::{Table, Value};

use super::env::Env;
use super::reader::{Reader, expected, into_table, list, text};
use super::secret::Secret;
use super::settings::{Identity, Pem};
use super::units::{parse_duration, parse_size, show_duration, show_size};
use super::values::{list_of, nearest};

/// How a string becomes a value; the error is a message for a person.
pub(super) type Parse<'p, T> = &'p dyn Fn(&str) -> Result<T, String>;

/// Values: each method reads one key.
impl Reader<'_> {
    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let value = self.take(key, |value| value.as_bool().ok_or_else(|| expected("true or false", &value)));
        self.in_use(key, value, default, bool::to_string)
    }

    /// A string with a meaning; `None` if the key is absent, or after a problem.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (value, written) = self.string(key, |string| Ok((parse(string)?, text(string))))?;
        self.note(key, written);
        Some(value)
    }

    /// A string with a meaning and a default.
    pub(super) fn word<T: fmt::Display>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        let value = self.string(key, parse);
        self.in_use(key, value, default, |value| text(&value.to_string()))
    }

    /// A string with a meaning and no default; `None` after a problem.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let present = self.has(key);
        let value = self.optional(key, parse);
        if !present {
            self.problem(key, "missing; it has no default");
        }
        value
    }

    /// One of a closed set of words.
    pub(super) fn choice<T: Clone + PartialEq>(
        &mut self,
        key: &'static str,
        default: T,
        words: &[(&'static str, T)],
    ) -> T {
        let value = self.string(key, |word| one_of_words(word, words));
        let word = |value: &T| words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| *word);
        self.in_use(key, value, default, |value| text(word(value)))
    }

    /// A list of strings, each with a meaning.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        default: &[&str],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        if let Some(values) = self.optional_list(key, &parse) {
            return values;
        }
        self.note(key, list(default));
        default.iter().filter_map(|word| parse(word).ok()).collect()
    }

    /// A list of strings; `None` if the key is absent.
    pub(super) fn optional_list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let items = self.array(key, "a list of strings")?;
        let (mut values, mut written) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
        for (index, item) in items.iter().enumerate() {
            match item.as_str().ok_or_else(|| expected("a string", item)).and_then(&parse) {
                Ok(value) => values.push(value),
                Err(message) => self.problem(&format!("{key}[{index}]"), message),
            }
            written.extend(item.as_str());
        }
        self.note(key, list(&written));
        Some(values)
    }

    /// A whole number within a range.
    pub(super) fn count<T>(&mut self, key: &'static str, default: T, range: impl RangeBounds<T>) -> T
    where
        T: TryFrom<i64> + PartialOrd + Copy + ToString,
    {
        let value = self.take(key, |value| {
            let number = value.as_integer().ok_or_else(|| expected("a whole number", &value))?;
            match T::try_from(number) {
                Ok(number) => within(number, &range, T::to_string),
                Err(_) => Err(outside(&number, &range, T::to_string)),
            }
        });
        self.in_use(key, value, default, T::to_string)
    }

    /// A size in bytes within a range; a plain number counts bytes.
    pub(super) fn size(&mut self, key: &'static str, default: usize, range: impl RangeBounds<usize>) -> usize {
        let value = self.take(key, |value| {
            let bytes = match &value {
                Value::Integer(bytes) => {
                    usize::try_from(*bytes).map_err(|_| outside(bytes, &range, |bound| show_size(*bound)))
                }
                Value::String(text) => parse_size(text),
                _ => Err(expected("a size such as \"64KiB\"", &value)),
            };
            bytes.and_then(|bytes| within(bytes, &range, |bytes| show_size(*bytes)))
        });
        self.in_use(key, value, default, |bytes| text(&show_size(*bytes)))
    }

    /// A duration longer than nothing.
    pub(super) fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        let value = self.take(key, |value| match to_duration(&value)? {
            Duration::ZERO => Err("must be longer than zero".to_owned()),
            duration => Ok(duration),
        });
        self.in_use(key, value, default, |time| text(&show_duration(*time)))
    }

    /// A duration that may be nothing.
    pub(super) fn duration_or_zero(&mut self, key: &'static str, default: Duration) -> Duration {
        let value = self.take(key, |value| to_duration(&value));
        self.in_use(key, value, default, |time| text(&show_duration(*time)))
    }

    /// A part of one: 0.0 to 1.0.
    pub(super) fn ratio(&mut self, key: &'static str, default: f64) -> f64 {
        let value = self.take(key, |value| match value {
            Value::Float(ratio) => within(ratio, &(0.0..=1.0), f64::to_string),
            // `jitter = 1` is meant as 1.0; no integer but these two is in range.
            Value::Integer(0) => Ok(0.0),
            Value::Integer(1) => Ok(1.0),
            Value::Integer(other) => Err(outside(&other, &(0.0..=1.0), f64::to_string)),
            other => Err(expected("a number from 0.0 to 1.0", &other)),
        });
        self.in_use(key, value, default, f64::to_string)
    }

    /// A secret, from the environment or from a file. Its text stands in no message, nor does the name it was looked up by:
    /// that may be the secret itself, put in the wrong place.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<Secret> {
        let value = self.take(key, Ok)?;
        self.secret_of(key, value)
    }

    /// The same for a value that was taken out of its place already.
    pub(super) fn secret_of(&mut self, key: &str, value: Value) -> Option<Secret> {
        let env = self.env();
        let from_env =
            |name: &str| env.var(name).ok_or_else(|| "no environment variable has this name; set it".to_owned());
        let from_file = |path: &str| Ok(read_text(env, path)?.trim_end_matches(['\r', '\n']).to_owned());
        let table = into_secret_table(value).map_err(|message| self.problem(key, message)).ok()?;
        let text = self.inside(key, table, |secret| secret.one_of(&[("env", &from_env), ("file", &from_file)]))?;
        if text.is_empty() {
            self.problem(key, "the secret is empty; an empty variable or file keeps nobody out");
        }
        self.note_secret(key, &text);
        Some(Secret::new(text))
    }

    /// A PEM file with certificates.
    pub(super) fn certificates(&mut self, key: &'static str) -> Option<Pem> {
        self.pem(key, "certificate", &["CERTIFICATE"])
    }

    /// A PEM file with a private key that needs no passphrase: nobody is there to type one.
    pub(super) fn private_key(&mut self, key: &'static str) -> Option<Pem> {
        self.pem(key, "private key without a passphrase", &["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"])
    }

    /// The keys `cert` and `key` of this table, which go together.
    pub(super) fn identity(&mut self) -> Option<Identity> {
        for key in ["cert", "key"] {
            if !self.has(key) {
                self.problem(key, "missing; a certificate and its key go together");
            }
        }
        let (cert, key) = (self.certificates("cert"), self.private_key("key"));
        cert.zip(key).map(|(cert, key)| Identity { cert, key })
    }

    /// The file is opened here too: a typing slip should show in `check`, not at the first connection.
    fn pem(&mut self, key: &'static str, what: &str, labels: &[&str]) -> Option<Pem> {
        let env = self.env();
        let begins = |label: &&str| format!("-----BEGIN {label}-----");
        let pem = self.string(key, |path| {
            let text = read_text(env, path)?;
            if labels.iter().any(|label| text.contains(&begins(label))) {
                return Ok(Pem { path: path.into(), text: text.into() });
            }
            let expected = labels.first().map(begins).unwrap_or_default();
            Err(format!("the file holds no PEM {what} ({expected})"))
        })?;
        self.note_file(key, &pem.path.display().to_string(), &pem.text);
        Some(pem)
    }

    /// Notes a problem if the first value is larger than the second. Keys may be dotted to reach into tables.
    pub(super) fn at_most<Q: Quantity>(&self, (key, value): (&str, Q), (bound_key, bound): (&str, Q)) {
        if value > bound && self.sound(key) && self.sound(bound_key) {
            self.problem(
                key,
                format!(
                    "{} is more than `{bound_key}` ({}); lower it or raise `{bound_key}`",
                    value.show(),
                    bound.show()
                ),
            );
        }
    }

    /// Exactly one of several keys; `None` after a problem. What it is must be noted by the caller: it may be a secret.
    pub(super) fn one_of<T>(&mut self, keys: &[(&'static str, Parse<'_, T>)]) -> Option<T> {
        let present = keys.iter().filter(|(key, _)| self.has(key)).count();
        let mut found = None;
        for (key, parse) in keys {
            found = self.string(key, parse).or(found);
        }
        if present != 1 {
            let names = list_of(keys.iter().map(|(key, _)| *key));
            self.problem("", format!("needs exactly one of {names}"));
            return None;
        }
        found
    }

    /// A string with a meaning, of which nothing is noted.
    fn string<T>(&mut self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.take(key, |value| parse(value.as_str().ok_or_else(|| expected("a string", &value))?))
    }

    /// The value or its default, noted as it would be written.
    fn in_use<T>(&self, key: &str, value: Option<T>, default: T, show: impl FnOnce(&T) -> String) -> T {
        let value = value.unwrap_or(default);
        self.note(key, show(&value));
        value
    }
}

/// Something that can be compared and shown in the file's own notation.
pub(super) trait Quantity: PartialOrd + Copy {
    /// As it would be written in the file.
    fn show(self) -> String;
}

impl Quantity for Duration {
    fn show(self) -> String {
        show_duration(self)
    }
}

/// Bytes.
impl Quantity for usize {
    fn show(self) -> String {
        show_size(self)
    }
}

/// Finds a word in a closed set.
pub(super) fn one_of_words<T: Clone>(word: &str, words: &[(&'static str, T)]) -> Result<T, String> {
    let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
    words.iter().find(|(name, _)| *name == word).map(|(_, value)| value.clone()).ok_or_else(|| {
        match nearest(word, &names) {
            Some(name) => format!("{word:?} is not known here; did you mean {name:?}?"),
            None => format!("{word:?} is not known here; write one of {}", list_of(names)),
        }
    })
}

/// The content of a file the configuration points to.
pub(super) fn read_text(env: &dyn Env, path: &str) -> Result<String, String> {
    env.read(Path::new(path))
        .map_err(|error| format!("the file cannot be read ({error}); check the path and its permissions"))
}

fn into_secret_table(value: Value) -> Result<Table, String> {
    const ADVICE: &str = "a secret does not belong in this file; \
        write { env = \"NAME\" } or { file = \"PATH\" }";
    if value.is_str() { Err(ADVICE.to_owned()) } else { into_table(value) }
}

fn to_duration(value: &Value) -> Result<Duration, String> {
    match value {
        Value::String(text) => parse_duration(text),
        Value::Integer(_) | Value::Float(_) => Err("a duration needs a unit and quotes, such as \"30s\"".to_owned()),
        _ => Err(expected("a duration such as \"30s\"", value)),
    }
}

fn within<T: PartialOrd>(value: T, range: &impl RangeBounds<T>, show: impl Fn(&T) -> String) -> Result<T, String> {
    if range.contains(&value) { Ok(value) } else { Err(outside(&show(&value), range, show)) }
}

fn outside<T>(value: &impl ToString, range: &impl RangeBounds<T>, show: impl Fn(&T) -> String) -> String {
    let shown = |bound: Bound<&T>| match bound {
        Bound::Included(bound) | Bound::Excluded(bound) => Some(show(bound)),
        Bound::Unbounded => None,
    };
    let allowed = match (shown(range.start_bound()), shown(range.end_bound())) {
        (Some(low), Some(high)) => format!("from {low} to {high}"),
        (Some(low), None) => format!("{low} or more"),
        (None, Some(high)) => format!("{high} or less"),
        (None, None) => "within the machine's range".to_owned(),
    };
    format!("{} is out of range; it must be {allowed}", value.to_string())
}
