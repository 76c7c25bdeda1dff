//! What is wrong with a configuration: a list, because a person wants to mend everything at once.
//!
//! Messages say what is wrong and what to do. They name values a person may see; never the text of a secret and
//! never an endpoint's URL, which may hold a password.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// One thing to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: a TOML path such as `routes[1].upstream`, or `line 3, column 7` where the text is not TOML.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Everything that is wrong, in reading order; never empty. `Display` puts each problem on a line of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Ends a reading: the value if there is nothing to mend.
    pub(super) fn or<T>(problems: Vec<Problem>, value: T) -> Result<T, Self> {
        if problems.is_empty() { Ok(value) } else { Err(Self(problems)) }
    }

    /// The problems one by one.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read, or is not UTF-8.
    #[error("cannot read the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The flags do not fit the file: an error in usage, not in the configuration.
    #[error("--upstream replaces one upstream, but the file has {}; edit it", names.join(", "))]
    SeveralUpstreams {
        /// The names in the file.
        names: Vec<String>,
    },
    /// The configuration says something that cannot be.
    #[error(transparent)]
    Invalid(#[from] Problems),
}
