//! `rediss://`: the server is checked, and checks.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::replicas_support::process::free_port;
use super::replicas_support::{Fleet, Redis};
use super::{is_well, lives_in_memory};

/// Certificates in files, all of one authority.
struct Files {
    dir: TempDir,
    authority: Issuer<'static, KeyPair>,
}

/// What a certificate for this name says. Subjects differ: OpenSSL tells by them who signed what.
fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Files {
    /// An authority, and what it issued for a server of this name.
    fn new(server: &str) -> Self {
        let (mut authority, key) = (params("authority.example"), KeyPair::generate().expect("a key"));
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = authority.self_signed(&key).expect("a certificate").pem();
        let dir = TempDir::new().expect("a directory of the test's");
        let files = Self { dir, authority: Issuer::new(authority, key) };
        files.write("ca.pem", &pem);
        files.issue("server", server);
        files
    }

    fn issue(&self, file: &str, name: &str) {
        let key = KeyPair::generate().expect("a key");
        let cert = params(name).signed_by(&key, &self.authority).expect("a certificate").pem();
        self.write(&format!("{file}.pem"), &cert);
        self.write(&format!("{file}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.dir.path()).join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path of plain letters").to_owned()
    }

    /// A Redis with a port for TLS besides its plain one. `clients`: whether they need a certificate, `yes` or `no`.
    async fn redis(&self, clients: &str) -> (Redis, u16) {
        let port = free_port();
        let (cert, key, ca) = (self.text("server.pem"), self.text("server.key"), self.text("ca.pem"));
        let arguments = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
        let tls_port = port.to_string();
        let all = [&["--tls-port", &tls_port, "--tls-auth-clients", clients][..], &arguments].concat();
        (Redis::with(&all).await, port)
    }
}

fn store(port: u16, more: &[(&str, String)]) -> String {
    let more: String = more.iter().map(|(key, path)| format!("{key} = '{path}'\n")).collect();
    format!("[store]\nurl = 'rediss://127.0.0.1:{port}/0'\n{more}")
}

/// Connections to the plain port besides the one that asks.
async fn plain_clients(redis: &Redis, tls: u16) -> usize {
    let list = redis.command(&["CLIENT", "LIST"]).await;
    list.text().lines().filter(|line| !line.contains(&format!("laddr=127.0.0.1:{tls}"))).count() - 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_its_authority_a_fleet_is_well_and_says_nothing_in_the_clear() {
    let files = Files::new("127.0.0.1");
    let (redis, port) = files.redis("no").await;
    let fleet = Fleet::on(redis, 2, &store(port, &[("ca", files.text("ca.pem"))])).await;
    is_well(&fleet).await;
    assert_eq!(plain_clients(&fleet.redis, port).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_demands_a_certificate_gets_one() {
    let files = Files::new("127.0.0.1");
    files.issue("client", "streamkeeper");
    let (redis, port) = files.redis("yes").await;
    let keys = [("ca", "ca.pem"), ("cert", "client.pem"), ("key", "client.key")];
    let fleet = Fleet::on(redis, 2, &store(port, &keys.map(|(key, file)| (key, files.text(file))))).await;
    is_well(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_demands_a_certificate_and_gets_none_is_no_store() {
    let files = Files::new("127.0.0.1");
    let (redis, port) = files.redis("yes").await;
    let fleet = Fleet::on(redis, 2, &store(port, &[("ca", files.text("ca.pem"))])).await;
    lives_in_memory(&fleet, "connect").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_authority_gets_neither_sessions_nor_a_password() {
    let (files, others) = (Files::new("127.0.0.1"), Files::new("127.0.0.1"));
    let (redis, port) = files.redis("no").await;
    files.write("password", "the-password");
    let keys = [("ca", others.text("ca.pem"))];
    let password = format!("password = {{ file = '{}' }}\n", files.text("password"));
    let fleet = Fleet::on(redis, 2, &format!("{}{password}", store(port, &keys))).await;
    lives_in_memory(&fleet, "connect").await;
    let stats = fleet.redis.command(&["INFO", "commandstats"]).await;
    assert!(!stats.text().contains("cmdstat_auth"), "{stats:?}");
    assert!(fleet.redis.keys("*").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_name_is_no_store() {
    let files = Files::new("redis.example");
    let (redis, port) = files.redis("no").await;
    let fleet = Fleet::on(redis, 1, &store(port, &[("ca", files.text("ca.pem"))])).await;
    lives_in_memory(&fleet, "connect").await;
}
