//! A machine in front of an upstream, so that the upstream can die and come back at its address.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::support::Upstream;

/// It passes connections on while it runs.
pub(super) struct Machine {
    /// Where it listens, or did.
    pub(super) address: SocketAddr,
    behind: SocketAddr,
    running: JoinHandle<()>,
}

impl Machine {
    /// One that runs.
    pub(super) async fn before(llm: &Upstream) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        Self { address, behind: llm.address, running: tokio::spawn(forward(listener, llm.address)) }
    }

    /// Ends it, with all its connections.
    pub(super) async fn kill(&mut self) {
        self.running.abort();
        assert!((&mut self.running).await.is_err());
    }

    /// Runs it again at its old address.
    pub(super) async fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("its port is still free");
        self.running = tokio::spawn(forward(listener, self.behind));
    }
}

/// Joins connections; all of them end with it.
async fn forward(listener: TcpListener, to: SocketAddr) {
    let mut open = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        open.spawn(async move {
            let mut behind = TcpStream::connect(to).await.expect("the upstream listens");
            let _ = tokio::io::copy_bidirectional(&mut client, &mut behind).await;
        });
    }
}
