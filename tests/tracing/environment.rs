//! What a process takes from its environment: whom it trusts, and what it is called.

use std::process::Command;

use super::ended;
use super::replicas_support::eventually;
use super::replicas_support::process::{Process, free_port};
use super::support::pki::Authority;
use super::support::{Collector, Proxy, Request, upstream};

#[tokio::test]
async fn a_collector_behind_tls_is_verified_and_the_environment_names_the_service() {
    let dir = tempfile::TempDir::new().expect("a directory of the story's");
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).expect("written");
        dir.path().join(name).display().to_string()
    };
    let (authority, stranger) = (Authority::new(), Authority::new());
    let issued = authority.issue("localhost");
    let (cert, key) = (file("cert.pem", &issued.cert), file("key.pem", &issued.key));
    let llm = upstream().event("a").end().start().await;
    for (trusted, arrives) in [(&authority, true), (&stranger, false)] {
        let collector = Collector::start().await;
        let tls = format!("[listen]\ntls = {{ cert = '{cert}', key = '{key}' }}\n");
        let before_it = Proxy::before(&collector.upstream, &tls).await;
        let (data, admin) = (free_port(), free_port());
        let config = file(
            "config.toml",
            &format!(
                "[listen]\naddress = '127.0.0.1:{data}'\n[admin]\naddress = '127.0.0.1:{admin}'\n\
                 [[upstreams]]\nname = 'llm'\nendpoints = ['http://{}']\n\
                 [telemetry]\notlp = {{ endpoint = 'https://localhost:{}' }}\n",
                llm.address,
                before_it.address.port()
            ),
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_streamkeeper"));
        command.args(["run", "--config", &config]).env("SSL_CERT_FILE", file("ca.pem", &trusted.pem));
        command.env("OTEL_SERVICE_NAME", "chat").env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test");
        let process = Process::start("streamkeeper", &mut command, &dir.path().join("log"));
        let listens = async || tokio::net::TcpStream::connect(("127.0.0.1", data)).await.is_ok();
        eventually("the process to listen", listens).await;
        ended(Request::new(([127, 0, 0, 1], data).into(), "GET", "/run").events().await).await;
        process.signal(rustix::process::Signal::TERM);
        assert!(process.exited().await.success());
        assert_eq!(collector.spans().len(), if arrives { 2 } else { 0 });
        if arrives {
            let resource = collector.resource();
            for (name, value) in [("service.name", "chat"), ("deployment.environment.name", "test")] {
                assert_eq!(resource.get(name).map(String::as_str), Some(value), "{name}");
            }
        }
    }
}
