//! What a session's log says, near and far: the same, at every position, under the same names, to the same end.

use std::sync::Arc;

use streamkeeper::store::{LiveSession, Name, Numbering};
use streamkeeper_session::{Code, End, Gap, GapReason, PushError, Splice};

use super::bench::{KIB, ROOMY, Said, agrees, bench, caller, failed, found, push, read, replay};
use super::replicas_support::eventually;
use super::stores::Make;

pub(crate) async fn what_is_appended_near_is_read_everywhere_in_order_to_the_end(make: Make) {
    let bench = bench(make, ROOMY).await;
    let session = bench.let_in(caller("a"), Vec::new()).await;
    let near = tokio::spawn(read(Arc::clone(&session)));
    let far = tokio::spawn(read(found(&*bench.far, &session).await));
    for n in 0..200_usize {
        push(&*bench.near, &session, format!("event {n}").as_bytes(), None);
        if n % 7 == 0 {
            tokio::task::yield_now().await;
        }
    }
    bench.complete(&session, 1);
    let all = replay(&session, 1).expect("nothing is gone");
    assert_eq!((all.len(), all.last()), (201, Some(&Said::End(None))));
    assert_eq!(near.await.expect("a reader reads"), all);
    assert_eq!(far.await.expect("a reader reads"), all);
    // And for who comes when all is over.
    let newcomer = bench.third().await;
    let late = found(&*newcomer, &session).await;
    assert_eq!(replay(&late, 1), Ok(all));
    assert!(late.is_ended());
}

pub(crate) async fn a_replay_from_each_position_is_the_same_everywhere(make: Make) {
    let bench = bench(make, ROOMY).await;
    let session = bench.let_in(caller("a"), Vec::new()).await;
    session.log.update(|log| log.numbering = Numbering::Kept);
    for n in 1..=12_u32 {
        let kept = format!("id {n}");
        push(&*bench.near, &session, format!("event {n}").as_bytes(), (n % 3 > 0).then_some(kept.as_bytes()));
    }
    let far = found(&*bench.far, &session).await;
    for sealed in [false, true] {
        if sealed {
            bench.complete(&session, 1);
        }
        agrees(&far, &session, 1).await;
        assert_eq!(far.log.peek(|log| log.numbering), Numbering::Kept);
        for from in 0..=16 {
            assert_eq!(replay(&far, from), replay(&session, from), "from {from}");
            let seen_all = |session: &LiveSession| session.log.peek(|log| log.ring.seen_all(from));
            assert_eq!(seen_all(&far), seen_all(&session), "from {from}");
            let kept = format!("id {from}");
            let find = |session: &LiveSession| session.log.peek(|log| log.ring.find_kept(kept.as_bytes()));
            assert_eq!(find(&far), find(&session), "{kept}");
        }
        assert_eq!(replay(&far, 16), Err(Gap { from: 13, to: 15, reason: GapReason::Epoch }));
    }
}

pub(crate) async fn any_bytes_come_through_as_they_were(make: Make) {
    let bench = bench(make, ROOMY).await;
    let session = bench.let_in(caller("a"), Vec::new()).await;
    let far = tokio::spawn(read(found(&*bench.far, &session).await));
    let large = vec![b'y'; 100 * KIB];
    let all: Vec<u8> = (0..=255).collect();
    let bodies = [&b"data: a\n\n"[..], b"", b"\0", b"$-1\r\n*3\r\n", "\u{1f600}".as_bytes(), b"\xff\xfe", &all, &large];
    for (n, body) in bodies.iter().enumerate() {
        push(&*bench.near, &session, body, bodies.get(n + 1).copied().filter(|kept| kept.len() < KIB));
    }
    bench.complete(&session, 1);
    assert_eq!(Ok(far.await.expect("a reader reads")), replay(&session, 1));
}

pub(crate) async fn evicted_events_are_a_gap_for_who_followed_and_for_who_comes_late(make: Make) {
    let bench = bench(make, ROOMY).await;
    let session = bench.let_in(caller("a"), vec![Name::Newest(1)]).await;
    let followed = found(&*bench.far, &session).await;
    // More than one session keeps.
    for _ in 0..6 {
        bench.grow(&session, 50);
        let next = session.log.peek(|log| log.ring.next_seq());
        eventually("the follower to keep up", async || followed.log.peek(|log| log.ring.next_seq()) == next).await;
    }
    bench.complete(&session, 1);
    let first = session.log.peek(|log| log.ring.first_seq());
    assert!(first > 10, "{first} is the first kept");
    assert_eq!(replay(&session, 1), Err(Gap { from: 1, to: first - 1, reason: GapReason::Evicted }));
    let newcomer = bench.third().await;
    let late = found(&*newcomer, &session).await;
    for other in [followed, late] {
        eventually("the end", async || other.is_ended()).await;
        let oldest = other.log.peek(|log| log.ring.first_seq());
        assert!((2..=first).contains(&oldest), "{oldest} is the first there, {first} here");
        assert_eq!(replay(&other, 1), Err(Gap { from: 1, to: oldest - 1, reason: GapReason::Evicted }));
        for from in first..=301 {
            assert_eq!(replay(&other, from), replay(&session, from), "from {from}");
        }
    }
}

pub(crate) async fn the_first_end_is_the_end_everywhere(make: Make) {
    let bench = bench(make, ROOMY).await;
    for code in [None, Some(Code::UpstreamReset), Some(Code::OwnerLost), Some(Code::TotalTimeout)] {
        let how = || code.map_or(End::Completed, |code| End::Failed(Box::new(code.into())));
        let session = bench.let_in(caller("a"), Vec::new()).await;
        bench.grow(&session, 2);
        let far = tokio::spawn(read(found(&*bench.far, &session).await));
        bench.end(&session, std::time::Duration::ZERO, how());
        let again = session.log.update(|log| (log.ring.seal(failed()), log.ring.push(b"late", None)));
        assert_eq!(again, (false, Err(PushError::Sealed)));
        bench.near.charge(&session);
        assert_eq!(far.await.expect("a reader reads").last(), Some(&Said::End(code)));
    }
}

pub(crate) async fn a_new_epoch_is_known_wherever_its_events_are(make: Make) {
    let bench = bench(make, ROOMY).await;
    let session = bench.let_in(caller("a"), Vec::new()).await;
    let followed = found(&*bench.far, &session).await;
    for (epoch, splice) in [(1, Splice::Differs), (2, Splice::Repeats), (5, Splice::Ends)] {
        bench.grow(&session, 4);
        agrees(&followed, &session, 1).await;
        session.log.update(|log| {
            assert!(log.epochs.begin(epoch, log.ring.next_seq()));
            log.epochs.settle(splice);
        });
        bench.near.charge(&session);
    }
    bench.grow(&session, 1);
    bench.complete(&session, 1);
    let newcomer = bench.third().await;
    let late = found(&*newcomer, &session).await;
    for other in [followed, late] {
        agrees(&other, &session, 1).await;
        for seq in 1..=13 {
            assert_eq!(other.event_id(seq).to_string(), session.event_id(seq).to_string());
        }
        for (epoch, seq) in (0..8).flat_map(|epoch| (0..16).map(move |seq| (epoch, seq))) {
            let stand = |session: &LiveSession| session.log.peek(|log| log.epochs.stand(epoch, seq));
            assert_eq!(stand(&other), stand(&session), "who has seen {seq} of epoch {epoch}");
        }
    }
}
