//! A judge that notices nothing would pass everything: each of them is shown what it must refuse.

use serde_json::json;

use super::replicas_support::rider::Item;
use super::replicas_support::{End, Fleet, Kind, Talk, Told, other};
use super::support::Event;

/// What a client of `talk` is told when all is well.
fn well(talk: &Talk) -> Told {
    let event = |n: usize, data: String, name: &str| {
        let id = if talk.kind == Kind::Numbered { n.to_string() } else { format!("session.0.{n}") };
        Item::Event(Event { id: Some(id), data, name: name.to_owned(), ..Event::default() })
    };
    let mut items: Vec<_> = (1..=talk.events)
        .map(|n| {
            let words = json!({ "choices": [{ "delta": { "content": talk.said(n) } }] }).to_string();
            event(n, if talk.is_chat() { words } else { talk.said(n) }, "")
        })
        .collect();
    let end = if talk.is_chat() { ("[DONE]", "") } else { ("{}", "done") };
    items.push(event(talk.events + 1, end.0.to_owned(), end.1));
    Told { talk: talk.clone(), items, visits: Vec::new(), end: End::Done }
}

fn talks() -> [Talk; 3] {
    [Talk::plain(9, 1), Talk::chat(9, 1), Talk::numbered(9, 1)]
}

#[test]
fn a_judge_passes_what_is_whole_and_refuses_what_is_lost_doubled_or_out_of_order() {
    for talk in talks() {
        well(&talk).whole().expect("all is well");
        for n in 0..talk.events {
            let (mut lost, mut doubled, mut swapped) = (well(&talk), well(&talk), well(&talk));
            lost.items.remove(n);
            doubled.items.insert(n, doubled.items[n].clone());
            swapped.items.swap(n, n + 1);
            for (what, told) in [("lost", lost), ("doubled", doubled), ("swapped", swapped)] {
                assert!(told.whole().is_err(), "{what} {n} of {talk:?}");
                assert!(told.honest().is_err(), "{what} {n} of {talk:?}, and nobody said so");
            }
        }
        let mut short = well(&talk);
        short.items.truncate(4);
        short.end = End::Failed("owner_lost".into());
        assert!(short.whole().is_err());
        short.must_be_a_prefix_before("owner_lost");
        short.must_be_honest();
        short.end = End::Stuck;
        assert!(short.honest().is_err());
    }
}

#[test]
fn a_judge_lets_pass_what_a_gap_names_and_nothing_else() {
    let with_gap = |to: usize| {
        let mut told = well(&talks()[0]);
        told.items.drain(2..5);
        told.items.insert(2, Item::Gap(json!({ "from": 3, "to": to, "reason": "lost" })));
        told
    };
    with_gap(5).must_be_honest();
    assert!(with_gap(5).whole().is_err(), "told or not, something is missing");
    assert!(with_gap(4).honest().is_err(), "the gap names too little");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_shared_store_the_other_replica_knows_nothing() {
    let fleet = Fleet::of(2, "[store]\nkind = 'memory'").await;
    for talk in talks() {
        let stays = Talk { key: format!("{}stays", talk.key), ..talk.clone() };
        fleet.rider(&stays).cut_at([2, 5]).ride(Box::new(|_| 0)).told().await.must_be_whole();
        let hops = fleet.rider(&talk).cut_at([2]).ride(other(0)).told().await;
        // Only an upstream that can resume itself helps out here.
        if talk.kind == Kind::Numbered {
            hops.must_be_whole();
        } else {
            hops.must_be_a_prefix_before("session_not_found");
        }
    }
}
