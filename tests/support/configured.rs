//! A proxy whose configuration is a file, so that it can be changed while it runs.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use streamkeeper::clock::Entropy;
use streamkeeper::config::{self, Flags};
use streamkeeper::live::{Live, Taken};
use streamkeeper::reload::{self, Outcome, Reasons, Source};
use streamkeeper::run;
use tempfile::TempDir;

use super::client::Request;
use super::must;
use super::proxy::recorder;

/// A running proxy and its file.
#[derive(Debug)]
pub struct Configured {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// Its insides.
    pub live: Arc<Live>,
    source: Source,
    folder: TempDir,
}

impl Configured {
    /// A proxy with this configuration, which is read again only by [`reload`](Self::reload). Ports are free ones: the
    /// command line says so, and its word stays.
    pub async fn start(text: &str) -> Self {
        Self::set_up(text, &[], false).await
    }

    /// The same with other files in the configuration's folder, which the text may name by `{folder}`.
    pub async fn with_files(text: &str, files: &[(&str, &str)]) -> Self {
        Self::set_up(text, files, false).await
    }

    /// A proxy that watches its file.
    pub async fn watching(text: &str, files: &[(&str, &str)]) -> Self {
        Self::set_up(text, files, true).await
    }

    async fn set_up(text: &str, files: &[(&str, &str)], watch: bool) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        for (name, content) in files {
            fs::write(folder.path().join(name), content).expect("a file");
        }
        let path = folder.path().join("config.toml");
        let free = Some(([127, 0, 0, 1], 0).into());
        let source = Source { path, flags: Flags { listen: free, admin: free, upstream: None } };
        fs::write(&source.path, placed(text, &folder)).expect("a file");
        let settings = config::load(&source.path, &source.flags).unwrap_or_else(|error| panic!("{error}"));
        let mut bound = run::bind(settings, Entropy::System).await.expect("two loopback ports");
        if watch {
            bound = bound.reloading(Reasons::new(Some(source.clone())).expect("a signal"));
        }
        let (address, admin) = (bound.data_address().expect("bound"), bound.admin_address().expect("bound"));
        let live = Arc::clone(bound.live());
        tokio::spawn(bound.serve(recorder(), std::future::pending()));
        Self { address, admin, live, source, folder }
    }

    /// Another configuration; it is not read yet.
    pub fn write(&self, text: &str) {
        self.put("config.toml", &placed(text, &self.folder));
    }

    /// Another file in the configuration's folder, all at once.
    pub fn put(&self, name: &str, content: &str) {
        let next = self.file("next");
        fs::write(&next, content).expect("a file");
        fs::rename(next, self.file(name)).expect("one file in place of another");
    }

    /// A place in the configuration's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Reads the configuration again.
    pub async fn reload(&self) -> Outcome {
        reload::once(&self.live, &self.source).await
    }

    /// Another configuration, which must be taken over.
    pub async fn change(&self, text: &str) -> Taken {
        self.write(text);
        match self.reload().await {
            Outcome::Taken(taken) => taken,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until what serves is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&config::Settings) -> bool) {
        let come = async {
            while !wanted(&self.live.app().settings) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        must(what, come).await;
    }

    /// A GET to the data port.
    pub fn get(&self, path: &str) -> Request {
        Request::new(self.address, "GET", path)
    }

    /// A GET to the admin port, its status and body.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        let reply = Request::new(self.admin, "GET", path).header("connection", "close").send().await;
        (reply.status, reply.text().await)
    }

    /// The value of the one metric whose line begins so. The recorder belongs to the whole test process.
    pub async fn metric(&self, line: &str) -> f64 {
        let text = self.admin("/metrics").await.1;
        let mut values = text.lines().filter_map(|metric| metric.strip_prefix(line)?.trim().parse().ok());
        values.next().unwrap_or_else(|| panic!("{line} is no metric"))
    }
}

/// The text with the folder's name in it.
fn placed(text: &str, folder: &TempDir) -> String {
    text.replace("{folder}", folder.path().to_str().expect("UTF-8"))
}
