//! Who logs in, and what they may do.

use std::collections::HashSet;
use std::io::Write as _;

use tempfile::NamedTempFile;

use super::replicas_support::{Fleet, Redis, Talk, Word, at};
use super::{is_well, lives_in_memory, survives_the_death_of_a_replica};

/// What a user needs, with the prefix `sk`: nothing more.
const RULES: [&str; 5] = ["resetkeys", "~sk:*", "resetchannels", "&sk:*", COMMANDS];
/// The commands, those of the scripts included.
const COMMANDS: &str = "-@all +evalsha +eval +script|load +get +set +exists +del +hgetall +hset +pexpire +xadd +xrange \
                        +xrevrange +xtrim +publish +subscribe";

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

async fn allow(redis: &Redis, user: &str, password: &str, rules: &[&str]) {
    let password = format!(">{password}");
    let rules = rules.iter().flat_map(|rule| rule.split_whitespace());
    let words: Vec<_> = ["ACL", "SETUSER", user, "reset", "on", &password].into_iter().chain(rules).collect();
    redis.command(&words).await;
}

/// What was denied to whom, as Redis tells it.
async fn denied(redis: &Redis) -> Word {
    redis.command(&["ACL", "LOG"]).await
}

/// Takes its rights from the default user, but for what the test itself needs.
async fn guard(redis: &Redis) {
    let words = "ACL SETUSER default resetkeys -@all +ping +acl +info +keys ~*";
    redis.command(&words.split(' ').collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_the_documented_rights_is_all_a_fleet_needs() {
    let redis = Redis::start().await;
    allow(&redis, "streamkeeper", "its-password", &RULES).await;
    guard(&redis).await;
    let password = file("its-password");
    let store = format!(
        "[store]\nusername = 'streamkeeper'\npassword = {{ file = '{}' }}\n[session]\nretention = '2s'",
        password.path().display()
    );
    let mut fleet = Fleet::on(redis, 2, &store).await;
    is_well(&fleet).await;
    survives_the_death_of_a_replica(&mut fleet).await;
    is_well(&fleet).await;
    // An owner that says goodbye.
    let riding = fleet.rider(&Talk::numbered(100, 20)).ride(super::replicas_support::other(0));
    riding.has(10).await;
    fleet.replicas[0].terminate();
    riding.told().await.must_be_whole();
    fleet.replicas[0].exited().await;
    fleet.replicas[0].revive().await;
    // A key whose session has failed is given to the next one: nobody answers for the first while it is refused.
    let talk = Talk::plain(2, 1);
    for _ in 0..2 {
        let reply = fleet.replicas[0].ask(&talk).header("idempotency-key", "once").events().await;
        reply.rest().await;
    }
    assert_eq!(denied(&fleet.redis).await, Word::List(Vec::new()));
    let stats = fleet.redis.command(&["INFO", "commandstats"]).await;
    let used: HashSet<_> = stats.text().lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next()).collect();
    for command in COMMANDS.split_whitespace().filter_map(|rule| rule.strip_prefix('+')) {
        assert!(used.contains(command), "{command} is allowed and never used: {used:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_rights_to_the_keys_is_refused_and_sessions_live_in_memory() {
    let redis = Redis::start().await;
    let elsewhere = RULES.map(|rule| if rule == "~sk:*" { "~elsewhere:*" } else { rule });
    allow(&redis, "streamkeeper", "its-password", &elsewhere).await;
    let password = file("its-password");
    let store = format!("[store]\nusername = 'streamkeeper'\npassword = {{ file = '{}' }}\n", password.path().display());
    let fleet = Fleet::on(redis, 2, &store).await;
    lives_in_memory(&fleet, "refused").await;
    assert!(!fleet.replicas[0].log().contains("its-password"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_and_password_may_stand_in_a_secret_url() {
    let redis = Redis::start().await;
    allow(&redis, "streamkeeper", "p@ss/w:rd,", &RULES).await;
    let url = file(&format!("redis://streamkeeper:p%40ss%2Fw%3Ard%2C@127.0.0.1:{}/0\n", redis.port));
    guard(&redis).await;
    let fleet = Fleet::on(redis, 2, &format!("[store]\nurl = {{ file = '{}' }}", url.path().display())).await;
    is_well(&fleet).await;
    assert_eq!(denied(&fleet.redis).await, Word::List(Vec::new()));
    for replica in &fleet.replicas {
        let log = replica.log();
        assert!(!log.contains("p@ss") && !log.contains("p%40ss"), "a password in the log of {}", replica.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_beside_the_url_wins_over_the_one_in_it() {
    let redis = Redis::guarded("the-password").await;
    let (url, password) = (file(&format!("redis://:wrong@127.0.0.1:{}/0", redis.port)), file("the-password"));
    let (at_url, at_password) = (url.path().display(), password.path().display());
    let store = format!("[store]\nurl = {{ file = '{at_url}' }}\npassword = {{ file = '{at_password}' }}");
    let fleet = Fleet::on(redis, 1, &store).await;
    fleet.until_store_is(true).await;
    fleet.rider(&Talk::plain(10, 1)).ride(at(0)).told().await.must_be_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_number_is_where_everything_goes() {
    let redis = Redis::start().await;
    let store = format!("[store]\nurl = 'redis://127.0.0.1:{}/3'", redis.port);
    let fleet = Fleet::on(redis, 2, &store).await;
    is_well(&fleet).await;
    let keyspace = fleet.redis.command(&["INFO", "keyspace"]).await;
    let databases: Vec<_> = keyspace.text().lines().filter(|line| line.starts_with("db")).collect();
    assert!(databases.len() == 1 && databases[0].starts_with("db3:"), "{databases:?}");
}
