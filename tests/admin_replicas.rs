//! The operators' port of one of several replicas: what it knows of sessions that others read.

mod replicas_support;
mod support;

use replicas_support::{Answering, Asked, Fleet, Replica, Talk, eventually};
use serde_json::{Value, json};
use support::Request;

async fn told(replica: &Replica, session: &str) -> Value {
    let path = format!("/api/sessions/{session}");
    let reply = Request::new(replica.admin, "GET", &path).header("connection", "close").send().await;
    assert_eq!(reply.status, 200, "at {}", replica.name);
    reply.json().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_and_stops_at_one_replica_what_another_one_reads() {
    let fleet = Fleet::of(2, "").await;
    let [a, b] = fleet.replicas.as_slice() else { panic!("two replicas") };
    let talk = Talk::plain(40, 5);
    let _never = fleet.service.hold(&talk, 20);
    let mut here = a.ask(&talk).events().await;
    here.take(20).await;
    let session = here.session();
    let mut there = b.session("GET", &session).events().await;
    there.take(20).await;
    let mirrored = told(b, &session).await;
    assert_eq!(
        (&mirrored["owner"], &mirrored["attached"], &mirrored["tries"]),
        (&json!("elsewhere"), &json!(1), &json!(0))
    );
    eventually("the owner to know of both", async || {
        let owned = told(a, &session).await;
        owned["owner"] == "here" && owned["attached"] == 1 && owned["attached_elsewhere"] == 1
    })
    .await;

    let stop = Request::new(b.admin, "DELETE", &format!("/api/sessions/{session}")).header("x-streamkeeper", "1");
    assert_eq!(stop.send().await.status, 204);
    let stopped = |asked: &[Asked]| asked[0].state == Answering::HungUp;
    fleet.service.until("the owner to hang up", &talk, stopped).await;
    let (here, there) = tokio::join!(here.rest(), there.rest());
    for rest in [here, there] {
        assert_eq!((rest.len(), &rest[0].json()["code"]), (1, &json!("session_not_found")), "{rest:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_over_is_on_the_time_line() {
    let mut fleet = Fleet::of(2, "").await;
    let talk = Talk::numbered(40, 5);
    let hold = fleet.service.hold(&talk, 20);
    let mut first = fleet.replicas[0].ask(&talk).events().await;
    let seen = first.take(10).await;
    let session = first.session();
    let second = fleet.replicas[1].ask(&talk).after(seen[9].id()).events().await;
    fleet.replicas[0].kill();
    hold.open();
    let rest = second.rest().await;
    assert!(rest.last().is_some_and(|last| last.name != "error"), "{rest:?}");
    let told = told(&fleet.replicas[1], &session).await;
    let line = told["timeline"].as_array().expect("a list");
    let place = |what: &str| line.iter().position(|entry| entry["what"] == what);
    let (taken, tried, ended) = (place("taken_over"), place("try"), place("ended"));
    assert!(taken.is_some() && taken < tried && tried < ended, "{line:?}");
    assert_eq!(tried.map(|tried| &line[tried]["kind"]), Some(&json!("native_resume")));
    assert_eq!((&told["owner"], &told["state"]), (&json!("here"), &json!("finished")));
}
