//! Many at once, at both handles.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use streamkeeper::principal::Principal;
use streamkeeper::store::{Name, Opened, StoreLimits};
use streamkeeper_session::Code;
use tokio::runtime::Handle;

use super::bench::{KIB, RETENTION, ROOMY, Said, bench, caller, found, once, push, read, replay, session};
use super::stores::Make;

pub(crate) async fn of_many_who_open_the_same_once_name_exactly_one_is_new(make: Make) {
    const THREADS: usize = 16;
    let bench = Arc::new(bench(make, ROOMY).await);
    let mut winners = HashSet::new();
    for round in 0..50_u128 {
        let start = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (bench, start, runtime) = (Arc::clone(&bench), Arc::clone(&start), Handle::current());
                std::thread::spawn(move || {
                    let (mine, near) = (session(caller("a")), thread % 2 == 0);
                    let store = if near { &bench.near } else { &bench.far };
                    start.wait();
                    match runtime.block_on(store.open(Arc::clone(&mine), once(round, 9))) {
                        Opened::New => (true, near, mine),
                        Opened::Joined(other) => (false, near, other),
                        opened => panic!("{opened:?}"),
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect();
        let mut new = outcomes.iter().filter(|(new, ..)| *new);
        let (Some((_, near, winner)), None) = (new.next(), new.next()) else { panic!("round {round}: {outcomes:?}") };
        for (_, at, other) in &outcomes {
            assert_eq!(other.id, winner.id, "all have the same session");
            assert!(at != near || Arc::ptr_eq(other, winner), "round {round}: where it is read it is itself");
        }
        bench.complete_at(*near, winner);
        winners.insert(winner.id);
        for store in [&bench.near, &bench.far] {
            assert!(store.all().iter().all(|held| winners.contains(&held.id)), "who joins leaves nothing behind");
        }
    }
}

pub(crate) async fn two_writers_of_one_session_make_one_log(make: Make) {
    const EACH: usize = 100;
    let bench = Arc::new(bench(make, ROOMY).await);
    let session = bench.let_in(caller("a"), Vec::new()).await;
    let far = tokio::spawn(read(found(&*bench.far, &session).await));
    let threads: Vec<_> = ["one", "other"]
        .map(|writer| {
            let (bench, session) = (Arc::clone(&bench), Arc::clone(&session));
            std::thread::spawn(move || {
                for n in 0..EACH {
                    push(&*bench.near, &session, format!("{writer} {n}").as_bytes(), None);
                }
            })
        })
        .into_iter()
        .collect();
    for thread in threads {
        thread.join().expect("no thread panics");
    }
    bench.complete(&session, 1);
    let all = far.await.expect("a reader reads");
    assert_eq!(replay(&session, 1).as_ref(), Ok(&all));
    for writer in ["one", "other"] {
        let of = all.iter().filter_map(|said| match said {
            Said::Event { body, .. } => {
                std::str::from_utf8(body).ok()?.strip_prefix(writer)?.trim().parse::<usize>().ok()
            }
            Said::End(_) => None,
        });
        assert!(of.eq(0..EACH), "{writer} is in order");
    }
}

pub(crate) async fn many_who_come_go_and_grow_at_once_leave_the_count_right(make: Make) {
    const THREADS: u64 = 8;
    let limits = StoreLimits { sessions: THREADS as usize, ring_bytes: 64 * KIB, ..ROOMY };
    let bench = Arc::new(bench(make, limits).await);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (bench, runtime) = (Arc::clone(&bench), Handle::current());
            std::thread::spawn(move || {
                for round in 0..40 {
                    let (whose, name) = (caller(&format!("t{}", thread % 3)), vec![Name::Newest(1)]);
                    let session = session(whose);
                    // Whoever makes room has made it before the next one is judged.
                    let opened = runtime.block_on(bench.open(&session, name));
                    assert!(matches!(opened, Opened::New), "{opened:?}");
                    bench.grow(&session, 12);
                    bench.complete(&session, round);
                    if round % 2 == 0 {
                        runtime.block_on(bench.near.remove(session.id));
                    } else {
                        bench.near.sweep(Duration::from_secs(round) + RETENTION);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no thread panics");
    }
    bench.near.sweep(RETENTION * 10);
    assert!(bench.near.all().is_empty());
    let last = bench.let_in(caller("t0"), Vec::new()).await;
    bench.grow(&last, 32);
    assert_eq!(last.log.peek(|log| log.ring.evicted()), 0, "all room is there again");
    for _ in 1..THREADS {
        bench.let_in(Principal::ANYBODY, Vec::new()).await;
    }
    assert_eq!(bench.refused(Principal::ANYBODY).await, Code::Overloaded, "all places are there again, and no more");
}

pub(crate) async fn who_comes_while_others_make_room_is_let_in(make: Make) {
    const GROWING: usize = 3;
    let bench = Arc::new(bench(make, StoreLimits { ring_bytes: 32 * KIB, ..ROOMY }).await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut growing = Vec::new();
    for _ in 0..GROWING {
        let (bench, stop) = (Arc::clone(&bench), Arc::clone(&stop));
        let session = bench.let_in(caller("a"), Vec::new()).await;
        growing.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                bench.grow(&session, 1);
            }
        }));
    }
    for _ in 0..1000 {
        let session = bench.let_in(caller("b"), Vec::new()).await;
        bench.near.ended(&session);
        bench.near.remove(session.id).await;
    }
    stop.store(true, Ordering::Relaxed);
    for thread in growing {
        thread.join().expect("no thread panics");
    }
}
