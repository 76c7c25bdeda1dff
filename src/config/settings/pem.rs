//! PEM files that the configuration names. They are read together with it, so that what was checked is what is used, and
//! a file that changed is a configuration that changed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A PEM file as it was when the configuration was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// Where it is.
    pub path: PathBuf,
    /// What it held. It may be a private key.
    pub text: Arc<str>,
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// Who this process is in TLS: a certificate, with those between it and an authority, and its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificates, the own one first.
    pub cert: Pem,
    /// The key.
    pub key: Pem,
}
