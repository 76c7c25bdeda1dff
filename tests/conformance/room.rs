//! Who is let in, how long the finished stay, and what gives way when memory is used up.

use std::time::{Duration, Instant};

use streamkeeper::principal::Principal;
use streamkeeper::store::{Name, Opened, StoreLimits};
use streamkeeper_session::{Code, End, Gap, GapReason};

use super::bench::{KIB, RETENTION, ROOMY, agrees, bench, caller, failed, found, once, session};
use super::replicas_support::eventually;
use super::stores::Make;

pub(crate) async fn no_more_sessions_run_than_allowed_and_an_ended_one_frees_its_place(make: Make) {
    let bench = bench(make, StoreLimits { sessions: 2, ..ROOMY }).await;
    let first = bench.let_in(Principal::ANYBODY, Vec::new()).await;
    bench.let_in(caller("a"), Vec::new()).await;
    assert_eq!(bench.refused(Principal::ANYBODY).await, Code::Overloaded);
    assert_eq!(bench.near.all().len(), 2, "who was refused is not held");
    bench.complete(&first, 1);
    assert!(bench.has(&first).await, "an ended one stays readable");
    bench.let_in(Principal::ANYBODY, Vec::new()).await;
    assert_eq!(bench.refused(caller("b")).await, Code::Overloaded);
}

pub(crate) async fn one_caller_cannot_take_every_place(make: Make) {
    let bench = bench(make, StoreLimits { sessions_per_principal: 1, ..ROOMY }).await;
    let first = bench.let_in(caller("a"), Vec::new()).await;
    assert_eq!(bench.refused(caller("a")).await, Code::Overloaded);
    bench.let_in(caller("b"), Vec::new()).await;
    bench.let_in(Principal::ANYBODY, Vec::new()).await;
    bench.let_in(Principal::ANYBODY, Vec::new()).await;
    bench.end(&first, Duration::ZERO, failed());
    bench.let_in(caller("a"), Vec::new()).await;
    assert_eq!(bench.refused(caller("a")).await, Code::Overloaded);
}

pub(crate) async fn a_refused_caller_leaves_its_name_free(make: Make) {
    let bench = bench(make, StoreLimits { sessions_per_principal: 1, ..ROOMY }).await;
    let running = bench.let_in(caller("a"), Vec::new()).await;
    assert!(matches!(bench.open(&session(caller("a")), once(3, 9)).await, Opened::Refused(_)));
    bench.complete(&running, 1);
    bench.let_in(caller("a"), once(3, 10)).await;
}

pub(crate) async fn a_sweep_forgets_what_is_past_its_retention_and_nothing_else(make: Make) {
    let bench = bench(make, ROOMY).await;
    let running = bench.let_in(caller("a"), Vec::new()).await;
    let old = bench.let_in(caller("a"), Vec::new()).await;
    let young = bench.let_in(caller("a"), Vec::new()).await;
    bench.complete(&old, 10);
    bench.complete(&young, 11);
    let due = Duration::from_secs(10) + RETENTION;
    bench.near.sweep(due - Duration::from_millis(1));
    assert!(bench.holds(&old));
    bench.near.sweep(due);
    assert!(!bench.holds(&old) && bench.holds(&young));
    bench.near.sweep(due + RETENTION * 100);
    assert!(bench.holds(&running) && !bench.holds(&young));
}

pub(crate) async fn a_finished_session_can_be_read_for_its_retention_and_no_longer(make: Make) {
    let retention = Duration::from_millis(700);
    let bench = bench(make, StoreLimits { retention, ..ROOMY }).await;
    let begun = Instant::now();
    let running = bench.let_in(caller("a"), Vec::new()).await;
    let old = bench.let_in(caller("a"), vec![Name::Newest(4)]).await;
    bench.grow(&old, 3);
    let far = found(&*bench.far, &old).await;
    agrees(&far, &old, 1).await;
    let finished = Instant::now();
    bench.end(&old, begun.elapsed(), End::Completed);
    for store in [&bench.near, &bench.far] {
        eventually("it to be forgotten", async || {
            store.sweep(begun.elapsed());
            store.find(old.id, caller("a")).await.expect("the store can tell").is_none()
        })
        .await;
        assert!(finished.elapsed() >= retention, "gone after {:?}", finished.elapsed());
        assert!(store.find_named(4, caller("a")).await.expect("the store can tell").is_none());
        assert!(store.find(running.id, caller("a")).await.expect("the store can tell").is_some());
    }
}

pub(crate) async fn over_budget_finished_sessions_go_first_the_oldest_of_them_in_front(make: Make) {
    let bench = bench(make, StoreLimits { ring_bytes: 32 * KIB, ..ROOMY }).await;
    let mut finished = Vec::new();
    // Opened in another order than they end.
    for _ in 0..3 {
        let session = bench.let_in(caller("a"), Vec::new()).await;
        bench.grow(&session, 4);
        finished.push(session);
    }
    for (session, at) in finished.iter().zip([2, 1, 3]) {
        bench.complete(session, at);
        bench.near.charge(session);
    }
    let growing = bench.let_in(caller("b"), Vec::new()).await;
    let mut order = Vec::new();
    for _ in 0..40 {
        bench.grow(&growing, 1);
        for (at, session) in finished.iter().enumerate() {
            if !bench.holds(session) && !order.contains(&at) {
                order.push(at);
            }
        }
        let whole = growing.log.peek(|log| log.ring.evicted() == 0);
        assert!(whole || order.len() == 3, "a running session lost events while finished ones were held");
    }
    assert_eq!(order, [1, 0, 2]);
}

pub(crate) async fn with_nothing_finished_the_growing_ring_gives_up_its_oldest_and_readers_are_told(make: Make) {
    let bench = bench(make, StoreLimits { ring_bytes: 32 * KIB, ..ROOMY }).await;
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

pub(crate) async fn forgotten_bytes_are_free_again(make: Make) {
    let bench = bench(make, StoreLimits { ring_bytes: 16 * KIB, ..ROOMY }).await;
    for round in 0..20 {
        let session = bench.let_in(caller("a"), Vec::new()).await;
        bench.grow(&session, 8);
        assert_eq!(session.log.peek(|log| log.ring.evicted()), 0, "round {round}: all room is there again");
        bench.complete(&session, round);
        bench.near.remove(session.id).await;
        // Its pump may still have a last word.
        bench.near.charge(&session);
    }
}
