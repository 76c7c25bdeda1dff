//! The owner of a session dies: `kill -9`, at any moment, under load. The replica where the client comes back goes on
//! with the client's own request, or says that nobody can.

mod replicas_support;
mod support;

/// One death at a time: who may take over, how, and what it looks like to those who are there.
#[path = "takeover/alone.rs"]
mod alone;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use replicas_support::{Chance, End, Kind, Redis, Replica, Rider, Service, Talk, Told, anywhere, eventually};
use tokio::task::{JoinSet, LocalSet};

/// Pairs of replicas, each with a prefix of its own on one Redis.
const PAIRS: usize = 10;
/// Deaths in each pair.
const KILLS: usize = 5;
/// Clients of each pair at any time.
const CLIENTS: usize = 8;

/// What happened in one pair.
struct Havoc {
    told: Vec<Told>,
    /// Answers that were on their way when their owner died.
    hit: usize,
    /// Takeovers that ended well.
    resumed: f64,
}

/// Lets clients want one talk after the other from two replicas, kills the one that has work `KILLS` times, and lets
/// the rest end.
async fn havoc(number: usize, kind: Kind, redis: Arc<Redis>, service: Arc<Service>, store: &'static str) -> Havoc {
    let toml = format!("[store]\nprefix = 'pair{number}'\n{store}");
    let names = ["a", "b"].map(|name| format!("{name}{number}"));
    let mut replicas = Vec::new();
    for name in &names {
        replicas.push(Replica::start(name, &service, &redis.url(), &toml).await);
    }
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let seed = number * 1000 + client;
        clients.spawn(demand(kind, seed, Rider::of(&Talk::new(kind, 40, 40), &replicas), Arc::clone(&over)));
    }
    let (mut hit, mut resumed) = (0, 0.0);
    for kill in 0..KILLS {
        let victim = (number + kill) % 2;
        eventually("the next victim to have work", async || service.going(&names[victim]) >= 2).await;
        resumed += taken_over(&replicas[victim]).await;
        hit += service.going(&names[victim]);
        replicas[victim].kill();
        replicas[victim].revive().await;
    }
    over.store(true, Ordering::Relaxed);
    let told = clients.join_all().await.into_iter().flatten().collect();
    for replica in &replicas {
        resumed += taken_over(replica).await;
    }
    Havoc { told, hit, resumed }
}

async fn taken_over(replica: &Replica) -> f64 {
    replica.metric("stream_takeovers_total", &[("result", "taken")]).await
}

/// A client that wants one talk after the other until it is over.
async fn demand(kind: Kind, seed: usize, rider: Rider, over: Arc<AtomicBool>) -> Vec<Told> {
    let mut told = Vec::new();
    let mut chance = Chance::of(seed);
    while !over.load(Ordering::Relaxed) {
        let talk = Talk::new(kind, 30 + chance.below(30), 20 + chance.below(20) as u64);
        told.push(rider.clone().wants(&talk).ride(anywhere(seed + told.len())).told().await);
    }
    told
}

/// `havoc` in all pairs at once.
async fn everywhere(kind: Kind, store: &'static str) -> Vec<Havoc> {
    let redis = Arc::new(Redis::start().await);
    let service = Arc::new(Service::start().await);
    let all = async {
        let mut pairs = JoinSet::new();
        for number in 0..PAIRS {
            pairs.spawn_local(havoc(number, kind, Arc::clone(&redis), Arc::clone(&service), store));
        }
        pairs.join_all().await
    };
    LocalSet::new().run_until(all).await
}

/// Every stream of these is whole, and many of them were hit.
fn all_whole(pairs: &[Havoc]) {
    let (mut streams, mut hit, mut resumed) = (0, 0, 0.0);
    for pair in pairs {
        for told in &pair.told {
            told.must_be_whole();
        }
        streams += pair.told.len();
        hit += pair.hit;
        resumed += pair.resumed;
    }
    assert!(hit >= 2 * PAIRS * KILLS, "{hit} of {streams} streams were hit");
    assert!(resumed > 0.0, "some of the {hit} streams that were hit went on by a takeover");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_deaths_of_owners_lose_nothing_of_what_a_resumable_upstream_says() {
    all_whole(&everywhere(Kind::Numbered, "").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_deaths_of_owners_lose_nothing_of_what_a_model_can_continue() {
    all_whole(&everywhere(Kind::Chat, "acknowledged = true").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_can_continue_ends_with_owner_lost_after_what_was_delivered() {
    let mut lost = 0;
    let pairs = everywhere(Kind::Plain, "").await;
    let hit: usize = pairs.iter().map(|pair| pair.hit).sum();
    for told in pairs.iter().flat_map(|pair| &pair.told) {
        if told.end == End::Done {
            told.must_be_whole();
        } else {
            told.must_be_a_prefix_before("owner_lost");
            assert_eq!(told.failure()["recoverable"], true, "{}", told.story());
            lost += 1;
        }
    }
    assert!(lost > PAIRS * KILLS / 2 && lost <= hit, "{lost} streams ended with owner_lost, {hit} were hit");
}
