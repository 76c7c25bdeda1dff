//! A line to Redis that is slow, or stands still: nothing piles up beside the rings, afterwards everything is caught up
//! with, and callers that went away meanwhile have not put anything out of step.

use std::sync::Arc;
use std::time::Duration;

use streamkeeper::store::{LiveSession, StoreLimits};

use super::bench::{KIB, ROOMY, bench, caller, found, replay};
use super::replicas_support::{Fleet, Kind, Line, Redis, Riding, Talk, eventually, other};
use super::{is_well, stores};

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number of KiB") * KIB
}

/// Waits until `far` is where `session` is, and both say the same of what is still there.
async fn caught_up(far: &LiveSession, session: &LiveSession) {
    let next = |session: &LiveSession| session.log.peek(|log| log.ring.next_seq());
    eventually("far to catch up", async || next(far) == next(session)).await;
    let first = session.log.peek(|log| log.ring.first_seq());
    assert!(first > 1, "more was said than is kept");
    assert_eq!(replay(far, first), replay(session, first));
    assert!(replay(far, 1).is_err(), "what was never written is told to be missing");
}

async fn the_rings_are_the_only_buffer(trouble: impl Fn(&Line)) {
    const SESSIONS: usize = 8;
    const ROUNDS: usize = 100;
    const PIECES: usize = 200;
    let bench = bench(stores::redis, StoreLimits { ring_bytes: 4096 * KIB, ..ROOMY }).await;
    let mut sessions: Vec<(Arc<LiveSession>, Arc<LiveSession>)> = Vec::new();
    for _ in 0..SESSIONS {
        let session = bench.let_in(caller("a"), Vec::new()).await;
        bench.grow(&session, 1);
        let far = found(&*bench.far, &session).await;
        sessions.push((session, far));
    }
    let clients: Vec<_> = sessions.iter().map(|(_, far)| far.attach(9).expect("room")).collect();
    trouble(bench.line());
    let (before, mut most) = (resident(), 0);
    for _ in 0..ROUNDS {
        for (session, _) in &sessions {
            bench.grow(session, PIECES);
        }
        let held: usize = sessions.iter().map(|(session, _)| session.log.peek(|log| log.ring.footprint())).sum();
        assert!(held <= 4096 * KIB, "{held} bytes in rings");
        most = most.max(resident().saturating_sub(before));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let said = SESSIONS * ROUNDS * PIECES * KIB;
    assert!(most < said / 4, "{most} bytes more, of {said} that were said");
    bench.line().mend();
    for (session, far) in &sessions {
        caught_up(far, session).await;
        bench.complete(session, 1);
        eventually("the end", async || far.is_ended()).await;
    }
    drop(clients);
    assert!(!bench.near.in_doubt());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_slow_the_rings_are_the_only_buffer() {
    the_rings_are_the_only_buffer(|line| line.slow_down(Duration::from_millis(100))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_stands_still_the_rings_are_the_only_buffer() {
    the_rings_are_the_only_buffer(Line::stand_still).await;
}

/// Two replicas, the first of them behind a line.
async fn behind_a_line(toml: &str) -> (Fleet, Line) {
    let redis = Redis::start().await;
    let line = Line::to(redis.port);
    let behind = format!("[store]\nurl = 'redis://127.0.0.1:{}/0'\n{toml}", line.port);
    let fleet = Fleet::each(redis, &[&behind, &format!("[store]\n{toml}")]).await;
    fleet.until_store_is(true).await;
    (fleet, line)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_over_a_slow_line_are_never_queued_twice_and_hop_whole_afterwards() {
    const STREAMS: usize = 60;
    let (fleet, line) = behind_a_line("lease = '10s'\ntimeout = '3s'").await;
    let kinds = [Kind::Plain, Kind::Chat, Kind::Numbered];
    line.slow_down(Duration::from_millis(200));
    let riding: Vec<_> = (0..STREAMS).map(|n| fleet.rider(&Talk::new(kinds[n % 3], 400, 5)).ride(other(0))).collect();
    let a = &fleet.replicas[0];
    let mut sampled = 0;
    while riding.iter().any(|riding| riding.events() < 150) {
        let behind = a.metric("stream_store_behind_sessions", &[]).await;
        assert!(behind <= STREAMS as f64, "{behind} entries for {STREAMS} sessions");
        sampled += 1;
    }
    assert!(sampled > 0);
    line.mend();
    riding.iter().for_each(Riding::leave);
    for riding in riding {
        let told = riding.told().await;
        told.must_be_whole();
        assert_eq!(fleet.service.asked(&told.talk).len(), 1, "{}", told.story());
    }
    assert_eq!(fleet.metric("stream_store_errors_total", &[]).await, 0.0);
    eventually("nothing to be behind", async || a.metric("stream_store_behind_sessions", &[]).await == 0.0).await;
    is_well(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_while_redis_is_asked_put_nothing_out_of_step() {
    let (fleet, line) = behind_a_line("lease = '10s'\ntimeout = '5s'").await;
    let [a, b] = fleet.replicas.as_slice() else { panic!("two replicas") };
    // Read at b; all who come to a have to ask Redis.
    let mut sessions = Vec::new();
    for _ in 0..20 {
        let talk = Talk::plain(20, 1);
        let reply = b.ask(&talk).header("idempotency-key", &talk.key).events().await;
        sessions.push((talk, reply.session()));
        assert_eq!(reply.rest().await.len(), 21);
    }
    for round in 0..5 {
        line.stand_still();
        let mut asked = Vec::new();
        for (n, (talk, session)) in sessions.iter().enumerate() {
            let request = match n % 3 {
                0 => a.session("GET", session).header("accept", "text/event-stream"),
                1 => a.ask(talk).header("idempotency-key", &talk.key),
                _ => a.ask(&Talk::plain(5, 1)).header("idempotency-key", &format!("{round} {n}")),
            };
            asked.push(tokio::spawn(request.send()));
        }
        // Until they are where they wait: nobody has a head, as nobody was answered by Redis.
        tokio::time::sleep(Duration::from_millis(100)).await;
        for (n, asking) in asked.into_iter().enumerate() {
            if n % 4 > 0 {
                asking.abort();
                let _ = asking.await;
            } else {
                tokio::spawn(asking);
            }
        }
        line.mend();
        for (talk, session) in &sessions {
            let events = a.session("GET", session).header("accept", "text/event-stream").events().await.rest().await;
            let said: Vec<_> = (1..=20).map(|n| talk.said(n)).collect();
            let came: Vec<_> = events.iter().map(|event| event.data.clone()).take(20).collect();
            assert_eq!(came, said, "the answer to another question");
        }
    }
    assert_eq!(fleet.metric("stream_store_errors_total", &[]).await, 0.0);
    is_well(&fleet).await;
}
