//! A table that remembers what it was asked for.
//!
//! One call reads one key: it takes the value out, checks it, and falls back to the default after noting a problem, so the
//! reading always goes on and every problem is found in one run. What is left in a table when its reader is done is
//! unknown; what was asked for are the known keys. So a new key is one line where it is read, and nothing else.
//!
//! Not here: which keys there are (`file`, `routes`) and the kinds of values (`keys`). Not serde: its derived readers
//! stop at the first problem.

use std::cell::RefCell;

use toml::{Table, Value};

use super::effective::Effective;
use super::env::Env;
use super::problem::Problem;
use super::values::advice;

/// What one reading of a whole configuration shares.
pub(super) struct Context<'a> {
    env: &'a dyn Env,
    problems: RefCell<Vec<Problem>>,
    effective: RefCell<Effective>,
    /// Every key asked for, as a pattern such as `routes[].timeouts.idle`.
    #[cfg(test)]
    pub(super) asked: RefCell<std::collections::BTreeSet<String>>,
}

impl<'a> Context<'a> {
    /// Starts a reading.
    pub(super) fn new(env: &'a dyn Env) -> Self {
        Self {
            env,
            problems: RefCell::default(),
            effective: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// Reads the outermost table.
    pub(super) fn read<T>(&self, table: Table, read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
        Reader::scope(self, String::new(), table, read)
    }

    /// All problems found, in reading order, and all values in use.
    pub(super) fn finish(self) -> (Vec<Problem>, Effective) {
        (self.problems.into_inner(), self.effective.into_inner())
    }
}

/// One table being read.
pub(super) struct Reader<'a> {
    context: &'a Context<'a>,
    path: String,
    table: Table,
    known: Vec<&'static str>,
}

/// Tables: each method reads one key with the same reading function for what is inside.
impl<'a> Reader<'a> {
    /// A table; an absent one reads as empty, so that its defaults apply.
    pub(super) fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Reader<'a>) -> T) -> T {
        let table = self.take(key, into_table).unwrap_or_default();
        Self::scope(self.context, self.path_of(key), table, read)
    }

    /// A table that has no defaults: absent means `None`.
    pub(super) fn optional_table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Reader<'a>) -> T,
    ) -> Option<T> {
        let table = self.take(key, into_table)?;
        Some(self.inside(key, table, read))
    }

    /// A table that was taken out of its place already.
    pub(super) fn inside<T>(&self, key: &str, table: Table, read: impl FnOnce(&mut Reader<'a>) -> T) -> T {
        Self::scope(self.context, self.path_of(key), table, read)
    }

    /// A list whose items are strings, or tables where there is more to say. Items with a problem are left out.
    pub(super) fn strings_or_tables<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
        mut read: impl FnMut(&mut Reader<'a>) -> Option<T>,
    ) -> Vec<T> {
        let items = self.array(key, "a list of strings").unwrap_or_default();
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let place = format!("{key}[{index}]");
            match item {
                Value::Table(table) => values.extend(self.inside(&place, table, &mut read)),
                Value::String(string) => match parse(&string) {
                    Ok(value) => {
                        self.note(&place, text(&string));
                        values.push(value);
                    }
                    Err(message) => self.problem(&place, message),
                },
                other => self.problem(&place, expected("a string or a table", &other)),
            }
        }
        values
    }

    /// A table whose keys are names of the writer's own choice.
    pub(super) fn names(&mut self, key: &'static str) -> Vec<(String, Value)> {
        self.take(key, into_table).unwrap_or_default().into_iter().collect()
    }

    /// A list of tables. Those that yield `None` (after a problem) are left out.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        default: Vec<Table>,
        mut read: impl FnMut(&mut Reader<'a>) -> Option<T>,
    ) -> Vec<T> {
        let items = self.array(key, &format!("a list of tables; head each with [[{key}]]"));
        let items = items.unwrap_or_else(|| default.into_iter().map(Value::Table).collect());
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{key}[{index}]");
            match into_table(item) {
                Ok(table) => values.extend(Self::scope(self.context, self.path_of(&path), table, &mut read)),
                Err(message) => self.problem(&path, message),
            }
        }
        values
    }

    fn scope<'c, T>(
        context: &'c Context<'c>,
        path: String,
        table: Table,
        read: impl FnOnce(&mut Reader<'c>) -> T,
    ) -> T {
        let mut reader = Reader { context, path, table, known: Vec::new() };
        let value = read(&mut reader);
        reader.refuse_unknown();
        value
    }

    fn refuse_unknown(&self) {
        for key in self.table.keys() {
            self.problem(&quoted(key), format!("unknown key; {}", advice(key, &self.known)));
        }
    }
}

/// Problems and the plumbing under the two blocks above.
impl<'a> Reader<'a> {
    /// Where this table stands, such as `routes[1].timeouts`; empty for the whole file.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What lies outside the file.
    pub(super) fn env(&self) -> &'a dyn Env {
        self.context.env
    }

    /// Whether the key is written and not read yet.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Notes the value in use of a key, in TOML's notation.
    pub(super) fn note(&self, key: &str, shown: impl Into<String>) {
        self.context.effective.borrow_mut().note(self.path_of(key), shown.into());
    }

    /// Notes that a key holds a secret.
    pub(super) fn note_secret(&self, key: &str, secret: &str) {
        self.context.effective.borrow_mut().note_secret(self.path_of(key), secret);
    }

    /// Notes that a key names a file, and what is in that.
    pub(super) fn note_file(&self, key: &str, file: &str, content: &str) {
        self.context.effective.borrow_mut().note_file(self.path_of(key), text(file), content);
    }

    /// Notes a problem at a key of this table, or at the table itself if `key` is empty.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        let (path, message) = (self.path_of(key), message.into());
        self.context.problems.borrow_mut().push(Problem { path, message });
    }

    /// Whether no problem was noted at the key or inside it. Checks between keys ask first, because a value that could not be
    /// read was replaced by its default, and a complaint about that one would only confuse.
    pub(super) fn sound(&self, key: &str) -> bool {
        let path = self.path_of(key);
        let inside =
            |other: &str| other.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        !self.context.problems.borrow().iter().any(|problem| inside(&problem.path))
    }

    /// Lets all keys not read yet pass, where a problem already noted makes them meaningless.
    pub(super) fn ignore_the_rest(&mut self) {
        self.table.clear();
    }

    pub(super) fn array(&mut self, key: &'static str, what: &str) -> Option<Vec<Value>> {
        self.take(key, |value| match value {
            Value::Array(items) => Ok(items),
            other => Err(expected(what, &other)),
        })
    }

    /// The one way a key is read: it becomes known, its value leaves the table, what is wrong with it is noted.
    pub(super) fn take<T>(&mut self, key: &'static str, read: impl FnOnce(Value) -> Result<T, String>) -> Option<T> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        #[cfg(test)]
        self.context.asked.borrow_mut().insert(pattern(&self.path_of(key)));
        match read(self.table.remove(key)?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problem(key, message);
                None
            }
        }
    }

    fn path_of(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }
}

/// A value that must be a table.
pub(super) fn into_table(value: Value) -> Result<Table, String> {
    match value {
        Value::Table(table) => Ok(table),
        other => Err(expected("a table", &other)),
    }
}

/// The message for a value of the wrong kind. It names the kind only: the value may be a secret.
pub(super) fn expected(what: &str, found: &Value) -> String {
    let article = if matches!(found, Value::Integer(_) | Value::Array(_)) { "an" } else { "a" };
    format!("expected {what}, found {article} {}", found.type_str())
}

/// A string in TOML's notation.
pub(super) fn text(string: &str) -> String {
    Value::from(string).to_string()
}

/// A list of strings in TOML's notation.
pub(super) fn list(strings: &[impl AsRef<str>]) -> String {
    format!("[{}]", strings.iter().map(|string| text(string.as_ref())).collect::<Vec<_>>().join(", "))
}

/// A key as TOML would write it in a path.
pub(super) fn quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { format!("{key:?}") }
}

/// `routes[12].path` → `routes[].path`.
#[cfg(test)]
fn pattern(path: &str) -> String {
    path.split('[').map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit())).collect::<Vec<_>>().join("[")
}
