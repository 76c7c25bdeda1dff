//! Sentinels know which server is the master, and find another one when it dies.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::login::{BY_SENTINELS, RULES, allow, file, the_rights_are_what_is_needed};
use super::replicas_support::process::{Process, free_port};
use super::replicas_support::{Fleet, Kind, Redis, Talk, eventually, other};
use super::{is_well, survives_the_death_of_a_replica};

/// A sentinel that decides alone.
struct Sentinel {
    port: u16,
    /// Dropped before its directory, which holds the log it shows.
    _process: Process,
    _dir: TempDir,
}

impl Sentinel {
    fn watching(master: &Redis) -> Self {
        let (dir, port) = (TempDir::new().expect("a directory of the test's"), free_port());
        let text = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor the-master 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds the-master 400\nsentinel failover-timeout the-master 5000\n",
            master.port
        );
        let file = Path::new(dir.path()).join("sentinel.conf");
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel").current_dir(dir.path());
        let process = Process::start("sentinel", &mut command, &dir.path().join("log"));
        Self { port, _process: process, _dir: dir }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_outlive_the_master_and_hop_whole() {
    let (mut master, heir) = (Redis::start().await, Redis::start().await);
    heir.follow(&master).await;
    let sentinel = Sentinel::watching(&master);
    eventually("the sentinel to know of the heir", async || {
        let asked = master.command(&["CLIENT", "LIST"]).await;
        let heard = heir.command(&["CLIENT", "LIST"]).await;
        [asked, heard].iter().all(|list| list.text().contains("name=sentinel"))
    })
    .await;
    for redis in [&master, &heir] {
        allow(redis, "streamkeeper", "its-password", &[&RULES[..], &[BY_SENTINELS]].concat()).await;
    }
    let password = file("its-password");
    // Of two sentinels one is dead.
    let store = format!(
        "[store]\nmode = 'sentinel'\nmaster = 'the-master'\nusername = 'streamkeeper'\n\
         url = ['redis://127.0.0.1:{}', 'redis://127.0.0.1:{}']\npassword = {{ file = '{}' }}\n",
        free_port(),
        sentinel.port,
        password.path().display()
    );
    let mut fleet = Fleet::on(heir, 2, &store).await;
    is_well(&fleet).await;
    let kinds = [Kind::Plain, Kind::Chat, Kind::Numbered];
    let (mut stay, mut come_back) = (Vec::new(), Vec::new());
    for n in 0..12 {
        stay.push(fleet.rider(&Talk::new(kinds[n % 3], 200, 25)).ride(other(n % 2)));
        come_back.push(fleet.rider(&Talk::new(kinds[n % 3], 200, 25)).ride(other(n % 2)));
    }
    for riding in stay.iter().chain(&come_back) {
        riding.has(10).await;
    }
    master.kill();
    eventually("the heir to become master", async || fleet.redis.is_master().await).await;
    for replica in &fleet.replicas {
        let down = async || replica.metric("stream_store_errors_total", &[]).await > 0.0;
        eventually("everybody to notice", down).await;
    }
    fleet.until_store_is(true).await;
    come_back.iter().for_each(|riding| riding.leave());
    for riding in stay.into_iter().chain(come_back) {
        let told = riding.told().await;
        told.must_be_whole();
        assert_eq!(fleet.service.asked(&told.talk).len(), 1, "{}", told.story());
    }
    is_well(&fleet).await;
    survives_the_death_of_a_replica(&mut fleet).await;
    the_rights_are_what_is_needed(&[&fleet.redis], BY_SENTINELS).await;
}
