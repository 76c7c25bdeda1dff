//! What every session store promises, as a list of cases that runs over each of them. A store joins with one line
//! at the end of this file.
//!
//! Black box: only the trait is used, and what a session itself shows.

#[path = "conformance/bench.rs"]
mod bench;

use std::collections::HashSet;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use bench::{KIB, Make, RETENTION, ROOMY, bench, caller, failed, once, session};
use streamkeeper::principal::Principal;
use streamkeeper::store::{MemoryStore, Name, Opened, StoreLimits};
use streamkeeper_session::{Code, Gap, GapReason, SessionId};

// Finding

async fn what_was_opened_is_found_by_its_owner_and_listed(make: Make) {
    let bench = bench(make, ROOMY);
    let session = bench.let_in(caller("a"), Vec::new()).await;
    let found = bench.find(session.id, caller("a")).await.expect("it is there");
    assert!(Arc::ptr_eq(&found, &session));
    let all: Vec<_> = bench.store.all().iter().map(|session| session.id).collect();
    assert_eq!(all, [session.id]);
}

async fn a_foreign_session_is_as_good_as_an_unknown_one(make: Make) {
    let bench = bench(make, ROOMY);
    let session = bench.let_in(caller("a"), vec![Name::Newest(7)]).await;
    for stranger in [caller("b"), Principal::ANYBODY] {
        assert!(bench.find(session.id, stranger).await.is_none());
        assert!(bench.find_named(7, stranger).await.is_none());
    }
    let unknown = SessionId::from_random(u128::MAX);
    assert!(bench.find(unknown, caller("a")).await.is_none());
    assert!(bench.find_named(8, caller("a")).await.is_none());
}

async fn a_removed_session_is_gone_with_its_names(make: Make) {
    let bench = bench(make, ROOMY);
    let names = vec![Name::Once { key: 1, fingerprint: 9 }, Name::Newest(2)];
    let session = bench.let_in(caller("a"), names).await;
    bench.store.remove(session.id).await;
    bench.store.remove(session.id).await;
    assert!(!bench.has(&session).await);
    assert!(bench.find_named(2, caller("a")).await.is_none());
    assert!(bench.store.all().is_empty());
    bench.let_in(caller("a"), once(1, 10)).await;
}

// Names

async fn the_same_request_under_the_same_once_name_joins(make: Make) {
    let bench = bench(make, ROOMY);
    let first = bench.let_in(caller("a"), once(1, 9)).await;
    let second = session(caller("a"));
    match bench.open(&second, once(1, 9)).await {
        Opened::Joined(joined) => assert!(Arc::ptr_eq(&joined, &first)),
        opened => panic!("{opened:?}"),
    }
    assert!(!bench.has(&second).await, "who joins leaves no session of its own");
    bench.complete(&first, 1);
    assert!(matches!(bench.open(&session(caller("a")), once(1, 9)).await, Opened::Joined(_)), "finished, still there");
}

async fn another_request_under_the_same_once_name_is_a_mismatch(make: Make) {
    let bench = bench(make, ROOMY);
    let first = bench.let_in(caller("a"), once(1, 9)).await;
    let second = session(caller("a"));
    assert!(matches!(bench.open(&second, once(1, 10)).await, Opened::Mismatch));
    assert!(!bench.has(&second).await && bench.has(&first).await);
    assert!(matches!(bench.open(&session(caller("a")), once(1, 9)).await, Opened::Joined(_)), "the name stays");
}

async fn a_once_name_of_a_failed_session_is_free_for_another_try(make: Make) {
    let bench = bench(make, ROOMY);
    let first = bench.let_in(caller("a"), once(1, 9)).await;
    bench.end(&first, Duration::ZERO, failed());
    let second = bench.let_in(caller("a"), once(1, 9)).await;
    match bench.open(&session(caller("a")), once(1, 9)).await {
        Opened::Joined(joined) => assert!(Arc::ptr_eq(&joined, &second)),
        opened => panic!("{opened:?}"),
    }
    // The failed one takes nothing with it when it goes.
    bench.store.remove(first.id).await;
    assert!(matches!(bench.open(&session(caller("a")), once(1, 9)).await, Opened::Joined(_)));
}

async fn who_only_joins_or_mismatches_takes_no_place(make: Make) {
    let bench = bench(make, StoreLimits { sessions: 2, sessions_per_principal: 2, ..ROOMY });
    bench.let_in(caller("a"), once(1, 9)).await;
    for fingerprint in [9, 10, 9, 10] {
        let opened = bench.open(&session(caller("a")), once(1, fingerprint)).await;
        assert!(matches!(opened, Opened::Joined(_) | Opened::Mismatch), "{opened:?}");
    }
    bench.let_in(caller("a"), Vec::new()).await;
}

async fn the_newest_session_has_the_newest_name(make: Make) {
    let bench = bench(make, ROOMY);
    let first = bench.let_in(caller("a"), vec![Name::Newest(5)]).await;
    let second = bench.let_in(caller("a"), vec![Name::Newest(5)]).await;
    let named = bench.find_named(5, caller("a")).await.expect("a session has the name");
    assert!(Arc::ptr_eq(&named, &second));
    assert!(bench.has(&first).await, "the older one is still found by its id");
    bench.store.remove(first.id).await;
    assert!(bench.find_named(5, caller("a")).await.is_some(), "its name was the other's by then");
}

// Admission

async fn no_more_sessions_run_than_allowed_and_an_ended_one_frees_its_place(make: Make) {
    let bench = bench(make, StoreLimits { sessions: 2, ..ROOMY });
    let first = bench.let_in(Principal::ANYBODY, Vec::new()).await;
    bench.let_in(caller("a"), Vec::new()).await;
    assert_eq!(bench.refused(Principal::ANYBODY).await, Code::Overloaded);
    assert_eq!(bench.store.all().len(), 2, "who was refused is not held");
    bench.complete(&first, 1);
    assert!(bench.has(&first).await, "an ended one stays readable");
    bench.let_in(Principal::ANYBODY, Vec::new()).await;
    assert_eq!(bench.refused(caller("b")).await, Code::Overloaded);
}

async fn one_caller_cannot_take_every_place(make: Make) {
    let bench = bench(make, StoreLimits { sessions_per_principal: 1, ..ROOMY });
    let first = bench.let_in(caller("a"), Vec::new()).await;
    assert_eq!(bench.refused(caller("a")).await, Code::Overloaded);
    bench.let_in(caller("b"), Vec::new()).await;
    bench.let_in(Principal::ANYBODY, Vec::new()).await;
    bench.let_in(Principal::ANYBODY, Vec::new()).await;
    bench.end(&first, Duration::ZERO, failed());
    bench.let_in(caller("a"), Vec::new()).await;
    assert_eq!(bench.refused(caller("a")).await, Code::Overloaded);
}

async fn a_refused_caller_leaves_its_name_free(make: Make) {
    let bench = bench(make, StoreLimits { sessions_per_principal: 1, ..ROOMY });
    let running = bench.let_in(caller("a"), Vec::new()).await;
    assert!(matches!(bench.open(&session(caller("a")), once(3, 9)).await, Opened::Refused(_)));
    bench.complete(&running, 1);
    bench.let_in(caller("a"), once(3, 10)).await;
}

// Forgetting

async fn a_sweep_forgets_what_is_past_its_retention_and_nothing_else(make: Make) {
    let bench = bench(make, ROOMY);
    let running = bench.let_in(caller("a"), Vec::new()).await;
    let old = bench.let_in(caller("a"), vec![Name::Newest(4)]).await;
    let young = bench.let_in(caller("a"), Vec::new()).await;
    bench.complete(&old, 10);
    bench.complete(&young, 11);
    let due = Duration::from_secs(10) + RETENTION;
    bench.store.sweep(due - Duration::from_millis(1));
    assert!(bench.has(&old).await);
    bench.store.sweep(due);
    assert!(!bench.has(&old).await && bench.has(&young).await);
    assert!(bench.find_named(4, caller("a")).await.is_none());
    bench.store.sweep(due + RETENTION * 100);
    assert!(bench.has(&running).await && !bench.has(&young).await);
}

async fn over_budget_finished_sessions_go_first_the_oldest_of_them_in_front(make: Make) {
    let bench = bench(make, StoreLimits { ring_bytes: 32 * KIB, ..ROOMY });
    let mut finished = Vec::new();
    // Opened in another order than they end.
    for _ in 0..3 {
        let session = bench.let_in(caller("a"), Vec::new()).await;
        bench.grow(&session, 4);
        finished.push(session);
    }
    for (session, at) in finished.iter().zip([2, 1, 3]) {
        bench.complete(session, at);
        bench.store.charge(session);
    }
    let growing = bench.let_in(caller("b"), Vec::new()).await;
    let mut order = Vec::new();
    for _ in 0..40 {
        bench.grow(&growing, 1);
        for (at, session) in finished.iter().enumerate() {
            if !bench.has(session).await && !order.contains(&at) {
                order.push(at);
            }
        }
        let whole = growing.log.peek(|log| log.ring.evicted() == 0);
        assert!(whole || order.len() == 3, "a running session lost events while finished ones were held");
    }
    assert_eq!(order, [1, 0, 2]);
}

async fn with_nothing_finished_the_growing_ring_gives_up_its_oldest_and_readers_are_told(make: Make) {
    let bench = bench(make, StoreLimits { ring_bytes: 32 * KIB, ..ROOMY });
    let quiet = bench.let_in(caller("a"), Vec::new()).await;
    bench.grow(&quiet, 4);
    let growing = bench.let_in(caller("b"), Vec::new()).await;
    bench.grow(&growing, 60);
    let (evicted, told, newest) = growing.log.peek(|log| {
        let newest = matches!(log.ring.get(60), Ok(Some(_)));
        (log.ring.evicted(), log.ring.iter_from(1).err(), newest)
    });
    assert!(evicted > 0 && newest, "{evicted} evicted");
    assert_eq!(told, Some(Gap { from: 1, to: evicted, reason: GapReason::Evicted }));
    assert_eq!(quiet.log.peek(|log| log.ring.evicted()), 0, "who does not grow loses nothing");
    let held: usize = [&quiet, &growing].iter().map(|session| session.log.peek(|log| log.ring.footprint())).sum();
    assert!(held <= 32 * KIB, "{held} bytes are held");
}

async fn forgotten_bytes_are_free_again(make: Make) {
    let bench = bench(make, StoreLimits { ring_bytes: 16 * KIB, ..ROOMY });
    for round in 0..20 {
        let session = bench.let_in(caller("a"), Vec::new()).await;
        bench.grow(&session, 8);
        assert_eq!(session.log.peek(|log| log.ring.evicted()), 0, "round {round}: all room is there again");
        bench.complete(&session, round);
        bench.store.remove(session.id).await;
        // Its pump may still have a last word.
        bench.store.charge(&session);
    }
}

// Many at once

async fn of_many_who_open_the_same_once_name_exactly_one_is_new(make: Make) {
    const THREADS: usize = 16;
    for round in 0..50_u128 {
        let bench = Arc::new(bench(make, ROOMY));
        let start = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (bench, start) = (Arc::clone(&bench), Arc::clone(&start));
                std::thread::spawn(move || {
                    let mine = session(caller("a"));
                    start.wait();
                    match wait(bench.open(&mine, once(round, 9))) {
                        Opened::New => (true, mine.id),
                        Opened::Joined(other) => (false, other.id),
                        opened => panic!("{opened:?}"),
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect();
        let new: Vec<_> = outcomes.iter().filter(|(new, _)| *new).map(|(_, id)| *id).collect();
        let led_to: HashSet<_> = outcomes.iter().map(|(_, id)| *id).collect();
        assert_eq!(new.len(), 1, "round {round}");
        assert_eq!(led_to, HashSet::from_iter(new), "all have the same session");
        assert_eq!(bench.store.all().len(), 1);
    }
}

async fn many_who_come_go_and_grow_at_once_leave_the_count_right(make: Make) {
    const THREADS: u64 = 8;
    let limits = StoreLimits { sessions: THREADS as usize, ring_bytes: 64 * KIB, ..ROOMY };
    let bench = Arc::new(bench(make, limits));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let bench = Arc::clone(&bench);
            std::thread::spawn(move || {
                for round in 0..40 {
                    let session = wait(bench.let_in(caller(&format!("t{}", thread % 3)), vec![Name::Newest(1)]));
                    bench.grow(&session, 12);
                    bench.complete(&session, round);
                    if round % 2 == 0 {
                        wait(bench.store.remove(session.id));
                    } else {
                        bench.store.sweep(Duration::from_secs(round) + RETENTION);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no thread panics");
    }
    bench.store.sweep(RETENTION * 10);
    assert!(bench.store.all().is_empty());
    let last = bench.let_in(caller("t0"), Vec::new()).await;
    bench.grow(&last, 32);
    assert_eq!(last.log.peek(|log| log.ring.evicted()), 0, "all room is there again");
    for _ in 1..THREADS {
        bench.let_in(Principal::ANYBODY, Vec::new()).await;
    }
    assert_eq!(bench.refused(Principal::ANYBODY).await, Code::Overloaded, "all places are there again, and no more");
}

/// Runs a future on this thread alone.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

macro_rules! cases {
    ($make:expr; $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                super::$case($make).await;
            }
        )*
    };
}

/// All cases over one store.
macro_rules! conformance {
    ($store:ident, $make:expr) => {
        mod $store {
            use super::*;

            cases! { $make;
                what_was_opened_is_found_by_its_owner_and_listed
                a_foreign_session_is_as_good_as_an_unknown_one
                a_removed_session_is_gone_with_its_names
                the_same_request_under_the_same_once_name_joins
                another_request_under_the_same_once_name_is_a_mismatch
                a_once_name_of_a_failed_session_is_free_for_another_try
                who_only_joins_or_mismatches_takes_no_place
                the_newest_session_has_the_newest_name
                no_more_sessions_run_than_allowed_and_an_ended_one_frees_its_place
                one_caller_cannot_take_every_place
                a_refused_caller_leaves_its_name_free
                a_sweep_forgets_what_is_past_its_retention_and_nothing_else
                over_budget_finished_sessions_go_first_the_oldest_of_them_in_front
                with_nothing_finished_the_growing_ring_gives_up_its_oldest_and_readers_are_told
                forgotten_bytes_are_free_again
                of_many_who_open_the_same_once_name_exactly_one_is_new
                many_who_come_go_and_grow_at_once_leave_the_count_right
            }
        }
    };
}

conformance!(memory, |limits| Arc::new(MemoryStore::new(limits)));
