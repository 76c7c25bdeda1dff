//! What the command line may override. Flags are written into the table before it is read, so one reading checks what will
//! really be used: a port off loopback needs its token whether the file or a flag put it there.

use std::net::SocketAddr;

use toml::{Table, Value};

use super::problem::LoadError;

/// The name of the upstream that `--upstream` makes when no file names one.
const UPSTREAM: &str = "upstream";

/// Flags of `streamkeeper run`. The default overrides nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen`: replaces `listen.address`.
    pub listen: Option<SocketAddr>,
    /// `--admin`: replaces `admin.address`.
    pub admin: Option<SocketAddr>,
    /// `--upstream`: replaces the endpoints of the only upstream, or makes one where there is none.
    pub upstream: Option<String>,
}

impl Flags {
    /// Writes the flags into a configuration that is not read yet. Where its shape is wrong it stays as it is: reading it
    /// says so.
    pub(super) fn write_into(&self, table: &mut Table) -> Result<(), LoadError> {
        for (port, address) in [("listen", self.listen), ("admin", self.admin)] {
            if let Some(address) = address
                && let Value::Table(port) = table.entry(port).or_insert_with(|| Table::new().into())
            {
                port.insert("address".to_owned(), address.to_string().into());
            }
        }
        match &self.upstream {
            Some(url) => write_upstream(url, table),
            None => Ok(()),
        }
    }
}

/// A configuration that says nothing but where the requests go.
pub(super) fn only_upstream(url: &str) -> Table {
    Table::from_iter([("upstreams".to_owned(), vec![upstream(url)].into())])
}

fn upstream(url: &str) -> Table {
    Table::from_iter([("name".to_owned(), UPSTREAM.into()), ("endpoints".to_owned(), vec![url].into())])
}

fn write_upstream(url: &str, table: &mut Table) -> Result<(), LoadError> {
    let upstreams = table.entry("upstreams").or_insert_with(|| Value::Array(Vec::new()));
    let Value::Array(upstreams) = upstreams else {
        return Ok(());
    };
    match upstreams.as_mut_slice() {
        [] => {
            upstreams.push(upstream(url).into());
            Ok(())
        }
        [Value::Table(only)] => {
            only.insert("endpoints".to_owned(), vec![url].into());
            Ok(())
        }
        [_] => Ok(()),
        several => {
            let name = |upstream: &Value| upstream.get("name")?.as_str().map(str::to_owned);
            let names =
                several.iter().map(|upstream| name(upstream).unwrap_or_else(|| "one without a name".to_owned()));
            Err(LoadError::SeveralUpstreams { names: names.collect() })
        }
    }
}
