//! What only a store of several processes can promise: clients anywhere count, anybody may stop their session, and
//! when the one that reads it is gone exactly one other goes on, against whom nobody can write any more.

use std::sync::Arc;
use std::time::Duration;

use streamkeeper::store::{Durability, LiveSession, Opened, Owner, Phase, Refusal, StoreLimits};
use streamkeeper_session::{Code, End, Splice};

use super::bench::{
    Bench, KIB, ROOMY, Said, agrees, bench, caller, end, found, leased, once, owner_is, push, read, replay, session,
};
use super::replicas_support::eventually;
use super::stores::Make;

/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(600);

/// A session that was begun near and has some events everywhere: as near and far know it.
async fn begun(bench: &Bench) -> (Arc<LiveSession>, Arc<LiveSession>) {
    let session = bench.let_in(caller("a"), Vec::new()).await;
    bench.grow(&session, 3);
    let far = found(&*bench.far, &session).await;
    agrees(&far, &session, 1).await;
    (session, far)
}

/// Far goes on with what it took over, to the end.
async fn goes_on(bench: &Bench, far: &LiveSession) {
    let epoch = far.log.peek(|log| log.epochs.current());
    far.log.update(|log| log.epochs.settle(Splice::Differs));
    push(&*bench.far, far, b"by the heir", None);
    end(&*bench.far, far, Duration::ZERO, End::Completed);
    let seen = replay(far, 1).expect("nothing is gone");
    let newcomer = bench.third().await;
    let third = found(&*newcomer, far).await;
    agrees(&third, far, 1).await;
    let last_event = Said::Event { epoch, seq: 4, body: b"by the heir".to_vec(), kept: None };
    assert_eq!(seen[3..], [last_event, Said::End(None)]);
}

pub(crate) async fn it_says_that_it_is_shared_and_where_it_keeps_things(make: Make) {
    let bench = leased(make, ROOMY, SHORT).await;
    assert!(bench.near.is_shared() && bench.far.is_shared());
    assert_eq!(bench.near.durability(), Durability::Redis);
    bench.line().cut();
    eventually("near to notice", async || bench.near.durability() == Durability::Memory).await;
    assert_eq!(bench.far.durability(), Durability::Redis);
}

pub(crate) async fn clients_far_count_near_as_long_as_they_stay(make: Make) {
    let bench = bench(make, ROOMY).await;
    let (session, far) = begun(&bench).await;
    let remote = async |count| {
        let there = async || session.control.peek(|control| control.remote == count && control.readers == 0);
        eventually(&format!("{count} clients elsewhere"), there).await;
    };
    let one = far.attach(9).expect("room");
    remote(1).await;
    let other = far.attach(9).expect("room");
    remote(2).await;
    let newcomer = bench.third().await;
    let third = found(&*newcomer, &session).await;
    let elsewhere = third.attach(9).expect("room");
    remote(3).await;
    drop((one, elsewhere));
    remote(1).await;
    drop(other);
    remote(0).await;
    assert!(session.control.peek(|control| control.stop.is_none()));
}

pub(crate) async fn who_stops_a_session_far_stops_it_near(make: Make) {
    let bench = bench(make, ROOMY).await;
    let (session, far) = begun(&bench).await;
    let reader = tokio::spawn(read(far));
    bench.far.remove(session.id).await;
    eventually("near to be told", async || session.control.peek(|control| control.stop.is_some())).await;
    // Its pump does as it is told.
    let fault = session.control.peek(|control| control.stop.clone()).expect("it was told");
    bench.end(&session, Duration::ZERO, End::Failed(fault));
    assert_eq!(reader.await.expect("a reader reads").last(), Some(&Said::End(Some(Code::SessionNotFound))));
    let third = bench.third().await;
    for store in [&bench.near, &bench.far, &third] {
        eventually("it to be gone", async || {
            store.find(session.id, caller("a")).await.expect("the store can tell").is_none()
        })
        .await;
    }
}

pub(crate) async fn when_the_owner_is_gone_another_one_goes_on(make: Make) {
    let mut bench = leased(make, ROOMY, SHORT).await;
    let (_, far) = begun(&bench).await;
    assert!(!bench.far.take_over(&far).await, "its owner lives");
    bench.kill_near();
    owner_is(&far, Owner::Nobody).await;
    assert!(bench.far.take_over(&far).await);
    owner_is(&far, Owner::Here).await;
    assert!(!bench.far.take_over(&far).await, "once is enough");
    goes_on(&bench, &far).await;
}

pub(crate) async fn an_owner_that_says_goodbye_has_written_all_and_is_followed_at_once(make: Make) {
    // The lease is much longer than anybody waits.
    let mut bench = bench(make, ROOMY).await;
    let (session, far) = begun(&bench).await;
    let _client = far.attach(9).expect("room");
    eventually("near to know of far", async || session.control.peek(|control| control.remote == 1)).await;
    let unseen = bench.let_in(caller("b"), Vec::new()).await;
    bench.grow(&unseen, 300);
    bench.near.close().await;
    bench.kill_near();
    owner_is(&far, Owner::Nobody).await;
    assert!(bench.far.take_over(&far).await);
    let unseen_far = found(&*bench.far, &unseen).await;
    assert_eq!(replay(&unseen_far, 250), replay(&unseen, 250));
    owner_is(&unseen_far, Owner::Nobody).await;
    assert!(bench.far.take_over(&unseen_far).await);
    goes_on(&bench, &far).await;
}

pub(crate) async fn of_several_heirs_exactly_one_goes_on_and_the_others_follow_it(make: Make) {
    let mut bench = leased(make, ROOMY, SHORT).await;
    let (session, far) = begun(&bench).await;
    let mut heirs = vec![(Arc::clone(&bench.far), far)];
    for _ in 0..3 {
        let store = bench.third().await;
        let mirror = found(&*store, &session).await;
        agrees(&mirror, &session, 1).await;
        heirs.push((store, mirror));
    }
    bench.kill_near();
    for (_, mirror) in &heirs {
        owner_is(mirror, Owner::Nobody).await;
    }
    let tries = heirs.iter().map(|(store, mirror)| {
        let (store, mirror) = (Arc::clone(store), Arc::clone(mirror));
        tokio::spawn(async move { store.take_over(&mirror).await })
    });
    let mut won = Vec::new();
    for tried in tries.collect::<Vec<_>>() {
        won.push(tried.await.expect("nobody panics"));
    }
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    let winner = won.iter().position(|won| *won).expect("one of them");
    let (store, mirror) = &heirs[winner];
    push(&**store, mirror, b"by the heir", None);
    end(&**store, mirror, Duration::ZERO, End::Completed);
    for (_, other) in &heirs {
        agrees(other, mirror, 1).await;
    }
    let owners: Vec<_> = heirs.iter().map(|(_, mirror)| mirror.control.peek(|control| control.owner)).collect();
    assert_eq!(owners.iter().filter(|owner| **owner == Owner::Here).count(), 1, "{owners:?}");
}

pub(crate) async fn a_stale_owner_cannot_write_and_its_clients_follow_the_new_one(make: Make) {
    let bench = leased(make, ROOMY, SHORT).await;
    let (session, far) = begun(&bench).await;
    bench.line().cut();
    // Nobody has told its pump.
    push(&*bench.near, &session, b"by the stale one", None);
    push(&*bench.near, &session, b"by the stale one", None);
    owner_is(&far, Owner::Nobody).await;
    assert!(bench.far.take_over(&far).await);
    push(&*bench.far, &far, b"by the heir", None);
    bench.line().mend();
    push(&*bench.near, &session, b"by the stale one", None);
    owner_is(&session, Owner::Elsewhere).await;
    // Its pump stops.
    bench.near.handed_over(&session);
    agrees(&session, &far, 1).await;
    end(&*bench.far, &far, Duration::ZERO, End::Completed);
    agrees(&session, &far, 1).await;
    let newcomer = bench.third().await;
    let third = found(&*newcomer, &far).await;
    agrees(&third, &far, 1).await;
    let said = format!("{:?}", replay(&third, 1));
    assert!(!said.contains(&format!("{:?}", b"by the stale one")), "{said}");
}

pub(crate) async fn a_finished_session_is_nobodys_to_take_over(make: Make) {
    let mut bench = leased(make, ROOMY, SHORT).await;
    let (session, far) = begun(&bench).await;
    let (_, running) = begun(&bench).await;
    bench.complete(&session, 1);
    agrees(&far, &session, 1).await;
    bench.kill_near();
    owner_is(&running, Owner::Nobody).await;
    assert!(!bench.far.take_over(&far).await);
    assert_eq!(replay(&far, 4), Ok(vec![Said::End(None)]));
}

pub(crate) async fn who_was_away_for_less_than_its_lease_catches_up_and_stays_the_owner(make: Make) {
    let bench = bench(make, ROOMY).await;
    let (session, far) = begun(&bench).await;
    for _ in 0..3 {
        bench.line().cut();
        bench.grow(&session, 20);
        eventually("near to notice", async || bench.near.durability() == Durability::Memory).await;
        bench.grow(&session, 20);
        bench.line().mend();
        bench.grow(&session, 20);
        agrees(&far, &session, 1).await;
    }
    assert_eq!(far.event_id(180).epoch, 0);
    assert_eq!(session.control.peek(|control| control.owner), Owner::Here);
    assert!(!bench.near.in_doubt());
}

pub(crate) async fn what_is_read_far_counts_in_the_budget_there(make: Make) {
    let bench = bench(make, StoreLimits { ring_bytes: 64 * KIB, ..ROOMY }).await;
    let mut found_far = Vec::new();
    for n in 0..8 {
        let session = bench.let_in(caller("a"), Vec::new()).await;
        bench.grow(&session, 12);
        bench.complete(&session, n);
        found_far.push(found(&*bench.far, &session).await);
        agrees(&found_far[found_far.len() - 1], &session, 1).await;
        let held: usize = bench.far.all().iter().map(|held| held.log.peek(|log| log.ring.footprint())).sum();
        assert!(held <= 64 * KIB, "{held} bytes are held");
    }
    assert!(bench.far.all().len() < found_far.len(), "the oldest ones went");
}

pub(crate) async fn who_took_over_and_never_heard_so_tries_again(make: Make) {
    let mut bench = bench(make, ROOMY).await;
    let own = bench.let_in(caller("a"), Vec::new()).await;
    eventually("near to be known", async || bench.redis(&own, &["EXISTS", "meta"]).await.int() == 1).await;
    let near = bench.redis(&own, &["HGET", "meta", "owner"]).await.text().to_owned();
    let begun = session(caller("a"));
    assert!(matches!(bench.far.open(Arc::clone(&begun), Vec::new()).await, Opened::New));
    for _ in 0..3 {
        push(&*bench.far, &begun, b"an event", None);
    }
    let heir = found(&*bench.near, &begun).await;
    agrees(&heir, &begun, 1).await;
    let _client = heir.attach(9).expect("room");
    eventually("far to know of near", async || begun.control.peek(|control| control.remote == 1)).await;
    bench.dismiss_far().await;
    owner_is(&heir, Owner::Nobody).await;
    // What a takeover does; its answer gets lost.
    bench.redis(&heir, &["HSET", "meta", "owner", &near]).await;
    bench.redis(&heir, &["XADD", "log", "1-3", "o", &near]).await;
    eventually("the mark to be read", async || heir.log.peek(|log| log.epochs.current()) == 1).await;
    owner_is(&heir, Owner::Nobody).await;
    assert!(bench.near.take_over(&heir).await);
    assert_eq!(heir.log.peek(|log| log.epochs.current()), 2);
    goes_on(&bench, &heir).await;
}

pub(crate) async fn an_heir_writes_the_whole_hash_again(make: Make) {
    let mut bench = leased(make, ROOMY, SHORT).await;
    let (session, far) = begun(&bench).await;
    bench.kill_near();
    owner_is(&far, Owner::Nobody).await;
    bench.redis(&session, &["DEL", "meta"]).await;
    assert!(bench.far.take_over(&far).await);
    let newcomer = bench.third().await;
    let third = found(&*newcomer, &session).await;
    assert_eq!(third.request_id, session.request_id);
    goes_on(&bench, &far).await;
}

pub(crate) async fn who_follows_what_it_cannot_read_is_told(make: Make) {
    let bench = bench(make, ROOMY).await;
    let (session, far) = begun(&bench).await;
    bench.redis(&session, &["XADD", "log", "0-4", "of another version", "1"]).await;
    eventually("its readers to be told", async || far.log.peek(|log| log.parted) == Some(Code::StoreUnavailable)).await;
    assert_eq!(replay(&far, 1), replay(&session, 1), "what could be read stays");
}

pub(crate) async fn what_is_removed_while_it_is_written_stays_gone(make: Make) {
    let bench = bench(make, ROOMY).await;
    for round in 0..10 {
        // While this one is on its way the others gather.
        bench.line().stand_still();
        let mut all = Vec::new();
        for n in 0..50 {
            let session = bench.let_in(caller(&format!("c{n}")), Vec::new()).await;
            bench.grow(&session, 10);
            all.push(session);
        }
        bench.line().mend();
        for session in &all {
            bench.near.remove(session.id).await;
        }
        for session in &all {
            assert_eq!(bench.redis(session, &["EXISTS", "meta"]).await.int(), 0, "round {round}");
            end(&*bench.near, session, Duration::ZERO, End::Completed);
        }
    }
}

pub(crate) async fn who_joined_what_was_not_let_in_is_told_and_the_name_is_free(make: Make) {
    let bench = Arc::new(bench(make, StoreLimits { sessions: 1, ..ROOMY }).await);
    // By its name it is in Redis when it is let in: nothing is on its way any more.
    bench.let_in(caller("a"), once(1, 9)).await;
    bench.line().stand_still();
    let late = session(caller("a"));
    let opening = tokio::spawn({
        let (bench, late) = (Arc::clone(&bench), Arc::clone(&late));
        async move { bench.open(&late, once(3, 9)).await }
    });
    // It is known elsewhere before it knows its place.
    let far = found(&*bench.far, &late).await;
    let reader = tokio::spawn(read(far));
    bench.line().mend();
    assert!(matches!(opening.await.expect("nobody panics"), Opened::Refused(_)));
    assert_eq!(bench.redis(&late, &["EXISTS", "name 3"]).await.int(), 0);
    assert_eq!(reader.await.expect("a reader reads"), [Said::End(Some(Code::Overloaded))]);
}

pub(crate) async fn who_joined_what_is_then_refused_is_told_and_the_name_is_free(make: Make) {
    let bench = bench(make, ROOMY).await;
    let near = bench.let_in(caller("a"), once(7, 9)).await;
    let Opened::Joined(far) = bench.far.open(session(caller("a")), once(7, 9)).await else {
        panic!("its name is taken")
    };
    // As a pump refuses whose upstream does.
    near.log.update(|log| {
        log.ended = Some(Duration::ZERO);
        log.phase = Phase::Refused(Arc::new(Refusal { fault: Code::RateLimited.into(), answer: None }));
    });
    bench.near.remove(near.id).await;
    assert_eq!(read(Arc::clone(&far)).await, [Said::End(Some(Code::RateLimited))]);
    let told = far.log.peek(|log| log.phase.clone());
    assert!(matches!(&told, Phase::Refused(refusal) if refusal.fault.code == Code::RateLimited), "{told:?}");
    for store in [&bench.near, &bench.far] {
        let again = session(caller("a"));
        assert!(matches!(store.open(Arc::clone(&again), once(7, 9)).await, Opened::New));
        store.remove(again.id).await;
    }
}

pub(crate) async fn a_redis_that_forgot_the_scripts_learns_them_at_once(make: Make) {
    let bench = bench(make, ROOMY).await;
    let first = bench.let_in(caller("a"), Vec::new()).await;
    bench.redis(&first, &["SCRIPT", "FLUSH"]).await;
    // A name that could not be claimed would be had twice.
    bench.let_in(caller("a"), once(5, 9)).await;
    assert_eq!(bench.redis(&first, &["EXISTS", "name 5"]).await.int(), 1);
    assert!(matches!(bench.far.open(session(caller("a")), once(5, 9)).await, Opened::Joined(_)));
}
