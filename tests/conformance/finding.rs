//! Finding sessions again, by their id and by their second names.

use std::sync::Arc;
use std::time::Duration;

use streamkeeper::principal::Principal;
use streamkeeper::store::{Name, Opened, StoreLimits};
use streamkeeper_session::SessionId;

use super::bench::{ROOMY, bench, caller, failed, found, once, session};
use super::replicas_support::eventually;
use super::stores::Make;

pub(crate) async fn what_was_opened_is_found_by_its_owner_and_listed(make: Make) {
    let bench = bench(make, ROOMY).await;
    let session = bench.let_in(caller("a"), Vec::new()).await;
    let found = bench.find(session.id, caller("a")).await.expect("it is there");
    assert!(Arc::ptr_eq(&found, &session));
    let all: Vec<_> = bench.near.all().iter().map(|session| session.id).collect();
    assert_eq!(all, [session.id]);
}

pub(crate) async fn a_foreign_session_is_as_good_as_an_unknown_one(make: Make) {
    let bench = bench(make, ROOMY).await;
    let session = bench.let_in(caller("a"), vec![Name::Newest(7)]).await;
    for stranger in [caller("b"), Principal::ANYBODY] {
        assert!(bench.find(session.id, stranger).await.is_none());
        assert!(bench.find_named(7, stranger).await.is_none());
    }
    let unknown = SessionId::from_random(u128::MAX);
    assert!(bench.find(unknown, caller("a")).await.is_none());
    assert!(bench.find_named(8, caller("a")).await.is_none());
}

pub(crate) async fn a_removed_session_is_gone_with_its_names(make: Make) {
    let bench = bench(make, ROOMY).await;
    let names = vec![Name::Once { key: 1, fingerprint: 9 }, Name::Newest(2)];
    let session = bench.let_in(caller("a"), names).await;
    bench.near.remove(session.id).await;
    bench.near.remove(session.id).await;
    assert!(!bench.has(&session).await);
    assert!(bench.find_named(2, caller("a")).await.is_none());
    assert!(bench.near.all().is_empty());
    bench.let_in(caller("a"), once(1, 10)).await;
}

pub(crate) async fn the_same_request_under_the_same_once_name_joins(make: Make) {
    let bench = bench(make, ROOMY).await;
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

pub(crate) async fn another_request_under_the_same_once_name_is_a_mismatch(make: Make) {
    let bench = bench(make, ROOMY).await;
    let first = bench.let_in(caller("a"), once(1, 9)).await;
    let second = session(caller("a"));
    assert!(matches!(bench.open(&second, once(1, 10)).await, Opened::Mismatch));
    assert!(!bench.has(&second).await && bench.has(&first).await);
    assert!(matches!(bench.open(&session(caller("a")), once(1, 9)).await, Opened::Joined(_)), "the name stays");
}

pub(crate) async fn a_once_name_of_a_failed_session_is_free_for_another_try(make: Make) {
    let bench = bench(make, ROOMY).await;
    let first = bench.let_in(caller("a"), once(1, 9)).await;
    bench.end(&first, Duration::ZERO, failed());
    let second = bench.let_in(caller("a"), once(1, 9)).await;
    match bench.open(&session(caller("a")), once(1, 9)).await {
        Opened::Joined(joined) => assert!(Arc::ptr_eq(&joined, &second)),
        opened => panic!("{opened:?}"),
    }
    // The failed one takes nothing with it when it goes.
    bench.near.remove(first.id).await;
    assert!(matches!(bench.open(&session(caller("a")), once(1, 9)).await, Opened::Joined(_)));
}

pub(crate) async fn who_only_joins_or_mismatches_takes_no_place(make: Make) {
    let bench = bench(make, StoreLimits { sessions: 2, sessions_per_principal: 2, ..ROOMY }).await;
    bench.let_in(caller("a"), once(1, 9)).await;
    for fingerprint in [9, 10, 9, 10] {
        let opened = bench.open(&session(caller("a")), once(1, fingerprint)).await;
        assert!(matches!(opened, Opened::Joined(_) | Opened::Mismatch), "{opened:?}");
    }
    bench.let_in(caller("a"), Vec::new()).await;
}

pub(crate) async fn the_newest_session_has_the_newest_name(make: Make) {
    let bench = bench(make, ROOMY).await;
    let first = bench.let_in(caller("a"), vec![Name::Newest(5)]).await;
    let second = bench.let_in(caller("a"), vec![Name::Newest(5)]).await;
    let named = bench.find_named(5, caller("a")).await.expect("a session has the name");
    assert!(Arc::ptr_eq(&named, &second));
    assert!(bench.has(&first).await, "the older one is still found by its id");
    bench.near.remove(first.id).await;
    assert!(bench.find_named(5, caller("a")).await.is_some(), "its name was the other's by then");
}

pub(crate) async fn what_was_opened_near_is_found_far_by_its_owner_alone(make: Make) {
    let bench = bench(make, ROOMY).await;
    let session = bench.let_in(caller("a"), vec![Name::Newest(7)]).await;
    let far = found(&*bench.far, &session).await;
    assert_eq!((far.id, far.principal, &far.request_id), (session.id, caller("a"), &session.request_id));
    assert_eq!((far.fingerprint, &far.route.name), (session.fingerprint, &session.route.name));
    let named = bench.far.find_named(7, caller("a")).await.expect("the store can tell").expect("it has the name");
    assert_eq!(named.id, session.id);
    for stranger in [caller("b"), Principal::ANYBODY] {
        assert!(bench.far.find(session.id, stranger).await.expect("the store can tell").is_none());
        assert!(bench.far.find_named(7, stranger).await.expect("the store can tell").is_none());
    }
}

pub(crate) async fn a_session_removed_near_is_gone_far(make: Make) {
    let bench = bench(make, ROOMY).await;
    let session = bench.let_in(caller("a"), once(1, 9)).await;
    bench.grow(&session, 3);
    bench.near.remove(session.id).await;
    for store in [&bench.near, &bench.far] {
        eventually("it to be gone", async || {
            store.find(session.id, caller("a")).await.expect("the store can tell").is_none()
        })
        .await;
    }
    let again = super::bench::session(caller("a"));
    let opened = bench.far.open(Arc::clone(&again), once(1, 10)).await;
    assert!(matches!(opened, Opened::New), "its name is free: {opened:?}");
}

pub(crate) async fn a_once_name_given_near_is_known_far(make: Make) {
    let bench = bench(make, ROOMY).await;
    let first = bench.let_in(caller("a"), once(1, 9)).await;
    for _ in 0..2 {
        match bench.far.open(session(caller("a")), once(1, 9)).await {
            Opened::Joined(joined) => assert_eq!(joined.id, first.id),
            opened => panic!("{opened:?}"),
        }
        let mismatch = bench.far.open(session(caller("a")), once(1, 10)).await;
        assert!(matches!(mismatch, Opened::Mismatch), "{mismatch:?}");
        if !first.is_ended() {
            bench.complete(&first, 1);
        }
    }
}
