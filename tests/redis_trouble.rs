//! Redis in trouble under live streams: whoever stays notices nothing, whoever comes back gets everything or is told
//! what is missing, nobody waits for ever, and afterwards sessions are durable again.

mod replicas_support;
mod support;

/// Redis is there, and has forgotten something.
#[path = "redis_trouble/forgetful.rs"]
mod forgetful;
/// Redis goes away, or stands still.
#[path = "redis_trouble/gone.rs"]
mod gone;
/// Redis is there, and refuses.
#[path = "redis_trouble/refusing.rs"]
mod refusing;

use std::time::Duration;

use replicas_support::{End, Fleet, Kind, Riding, Talk, Told, at, eventually, other};

/// The store of these stories: a command that is not answered in this time is given up.
const STORE: &str = "[store]\ntimeout = '500ms'\n";
/// Clients that stay, and as many that come back.
const CLIENTS: usize = 24;

/// Clients under way.
struct Load {
    stay: Vec<Riding>,
    come_back: Vec<Riding>,
}

impl Load {
    /// Begins streams of `events` events each at both replicas; every client has some.
    async fn begin(fleet: &Fleet, events: usize) -> Self {
        let (mut stay, mut come_back) = (Vec::new(), Vec::new());
        for n in 0..CLIENTS {
            let kind = [Kind::Plain, Kind::Chat, Kind::Numbered][n % 3];
            stay.push(fleet.rider(&Talk::new(kind, events, 25)).ride(at(n % 2)));
            come_back.push(fleet.rider(&Talk::new(kind, events, 25)).ride(other(n % 2)));
        }
        let load = Self { stay, come_back };
        load.have(10).await;
        load
    }

    /// Waits until everybody has so many events.
    async fn have(&self, events: usize) {
        for riding in self.stay.iter().chain(&self.come_back) {
            riding.has(events).await;
        }
    }

    /// Those who come back leave, and ask at the other replica.
    fn hop(&self) {
        self.come_back.iter().for_each(Riding::leave);
    }

    /// Waits for all; who stayed has all of it, and nobody misses anything unawares. Those who came back. Most of them
    /// have all of it, too: the owners of their streams have lost nothing.
    async fn judged(self, fleet: &Fleet) -> Vec<Told> {
        for riding in self.stay {
            let told = riding.told().await;
            told.must_be_whole();
            assert_eq!(told.visits.len(), 1, "{}", told.story());
            assert_eq!(fleet.service.asked(&told.talk).len(), 1, "{}", told.story());
        }
        let mut back = Vec::new();
        for riding in self.come_back {
            let told = riding.told().await;
            told.must_be_honest();
            back.push(told);
        }
        let whole = back.iter().filter(|told| told.end == End::Done && told.gaps() == 0).count();
        assert!(whole > CLIENTS * 3 / 4, "{whole} of {CLIENTS} that came back got all of it");
        back
    }
}

/// New sessions are in Redis again: one begins at each replica, and hops.
async fn is_durable_again(fleet: &Fleet) {
    for first in [0, 1] {
        let talk = Talk::plain(40, 5);
        let told = fleet.rider(&talk).cut_at([5, 15, 25]).ride(other(first)).told().await;
        told.must_be_whole();
        assert_eq!(fleet.service.asked(&talk).len(), 1, "{}", told.story());
        for visit in told.visits.iter().filter(|visit| visit.status == Some(200)) {
            assert_eq!(visit.header("streamkeeper-durability"), Some("redis"), "{}", told.story());
        }
    }
}

/// New sessions live in memory alone, are whole, and say so.
async fn goes_on_in_memory(fleet: &Fleet) {
    let begun = (0..10).map(|n| fleet.rider(&Talk::plain(20, 5)).ride(at(n % 2)));
    for riding in begun.collect::<Vec<_>>() {
        let told = riding.told().await;
        told.must_be_whole();
        assert_eq!(told.visits[0].header("streamkeeper-durability"), Some("memory"), "{}", told.story());
    }
}

/// Waits until every replica has counted a trouble of this kind.
async fn counted(fleet: &Fleet, kind: &str) {
    for replica in &fleet.replicas {
        let errors = async || replica.metric("stream_store_errors_total", &[("kind", kind)]).await > 0.0;
        eventually(&format!("{} to count {kind}", replica.name), errors).await;
    }
}

/// How long a trouble lasts that should last: well beyond the lease.
async fn for_a_while() {
    tokio::time::sleep(Duration::from_millis(1600)).await;
}

/// Warnings and errors in a replica's log.
fn warnings(fleet: &Fleet, replica: usize) -> usize {
    let log = fleet.replicas[replica].log();
    let loud = |line: &&str| line.contains(r#""level":"WARN""#) || line.contains(r#""level":"ERROR""#);
    log.lines().filter(loud).count()
}
