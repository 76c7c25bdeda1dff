//! Who logs in, and what they may do.

use std::collections::HashSet;
use std::io::Write as _;

use tempfile::NamedTempFile;

use super::replicas_support::{Fleet, Redis, Talk, Word, at, other};
use super::{is_well, lives_in_memory, survives_the_death_of_a_replica};

/// What a user needs, with the prefix `sk`: nothing more.
pub(super) const RULES: [&str; 5] = ["resetkeys", "~sk:*", "resetchannels", "&sk:*", COMMANDS];
/// The commands, those of the scripts included.
const COMMANDS: &str = "-@all +evalsha +eval +script|load +get +set +exists +del +hgetall +hset +pexpire +xadd +xrange \
                        +xrevrange +xtrim +publish +subscribe";
/// What it needs besides in a cluster.
pub(super) const IN_A_CLUSTER: &str = "+cluster|slots +ping";
/// What it needs besides where sentinels name the server.
pub(super) const BY_SENTINELS: &str = "+role";
/// What it needs besides for another database than 0.
const IN_A_DATABASE: &str = "+select";

pub(super) fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

pub(super) async fn allow(redis: &Redis, user: &str, password: &str, rules: &[&str]) {
    let password = format!(">{password}");
    let rules = rules.iter().flat_map(|rule| rule.split_whitespace());
    let words: Vec<_> = ["ACL", "SETUSER", user, "reset", "on", &password].into_iter().chain(rules).collect();
    redis.command(&words).await;
}

/// None of these servers denied anything to anybody, but for the name of the client library, which servers since 7.2
/// would note; and of what `commands` allows nothing goes unused.
pub(super) async fn the_rights_are_what_is_needed(servers: &[&Redis], commands: &str) {
    let mut used = HashSet::new();
    for redis in servers {
        let Word::List(denied) = redis.command(&["ACL", "LOG"]).await else { panic!("a list") };
        let denied = denied.iter().map(|entry| format!("{entry:?}")).filter(|entry| !entry.contains("client|setinfo"));
        assert_eq!(denied.collect::<Vec<_>>(), [""; 0]);
        let stats = redis.command(&["INFO", "commandstats"]).await;
        let names = stats.text().lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next());
        used.extend(names.map(str::to_owned));
    }
    for command in commands.split_whitespace().filter_map(|rule| rule.strip_prefix('+')) {
        assert!(used.contains(command), "{command} is allowed and never used: {used:?}");
    }
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
        "[store]\nusername = 'streamkeeper'\npassword = {{ file = '{}' }}\n[session]\nmax_events = 300\n\
         [drain]\ntimeout = '500ms'\nspread = '100ms'",
        password.path().display()
    );
    let mut fleet = Fleet::on(redis, 2, &store).await;
    is_well(&fleet).await;
    survives_the_death_of_a_replica(&mut fleet).await;
    is_well(&fleet).await;
    // An owner that says goodbye to what it has not finished.
    let riding = fleet.rider(&Talk::numbered(150, 20)).ride(other(0));
    riding.has(10).await;
    fleet.replicas[0].terminate();
    fleet.replicas[0].exited().await;
    riding.told().await.must_be_whole();
    fleet.replicas[0].revive().await;
    // More than is kept.
    fleet.rider(&Talk::plain(1000, 0)).ride(at(0)).told().await.must_be_whole();
    fleet.until_store_is(true).await;
    the_rights_are_what_is_needed(&[&fleet.redis], COMMANDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_rights_to_the_keys_is_refused_and_sessions_live_in_memory() {
    let redis = Redis::start().await;
    let elsewhere = RULES.map(|rule| if rule == "~sk:*" { "~elsewhere:*" } else { rule });
    allow(&redis, "streamkeeper", "its-password", &elsewhere).await;
    let password = file("its-password");
    let store =
        format!("[store]\nusername = 'streamkeeper'\npassword = {{ file = '{}' }}\n", password.path().display());
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
    the_rights_are_what_is_needed(&[&fleet.redis], "").await;
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
    allow(&redis, "streamkeeper", "its-password", &[&RULES[..], &[IN_A_DATABASE]].concat()).await;
    let url = file(&format!("redis://streamkeeper:its-password@127.0.0.1:{}/3", redis.port));
    let store = format!("[store]\nurl = {{ file = '{}' }}", url.path().display());
    let fleet = Fleet::on(redis, 2, &store).await;
    is_well(&fleet).await;
    the_rights_are_what_is_needed(&[&fleet.redis], IN_A_DATABASE).await;
    let keyspace = fleet.redis.command(&["INFO", "keyspace"]).await;
    let databases: Vec<_> = keyspace.text().lines().filter(|line| line.starts_with("db")).collect();
    assert!(databases.len() == 1 && databases[0].starts_with("db3:"), "{databases:?}");
}
