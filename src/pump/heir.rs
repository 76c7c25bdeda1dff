//! Goes on with a session whose owner died, by the request that a client here has sent again.
//!
//! Whoever reads a session of another replica stands by. When its owner is gone, one of all those who stand by
//! anywhere gets it: the store decides who. The rest is the pump's usual work, from where the log ends.
//!
//! Not here: how an owner is known to be gone, and how only one can follow it (the store's part).

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use streamkeeper_session::{Follower, Record, Ring};

use super::{Kept, Pump};
use crate::app::App;
use crate::store::{Control, LiveSession, Owner};
use crate::telemetry::metrics;

/// Somebody with the request may come in this time, before the session is given up for want of one.
const HEIRLESS: Duration = Duration::from_millis(500);
/// Between two tries to take over while the store cannot tell.
const AGAIN: Duration = Duration::from_millis(200);
/// How far back the upstream's own last id is looked for.
const BACK: usize = 64;

/// Stands by while a client here reads `session`, which another process owns. `request`: what began it, if a client
/// here has sent it again; `delivered`: that client has seen some of the answer, whatever the log knows of it.
pub(crate) fn stand_by(app: &Arc<App>, session: &Arc<LiveSession>, request: Option<Kept>, delivered: bool) {
    let (app, session) = (Arc::clone(app), Arc::clone(session));
    tokio::spawn(async move {
        let mut control = session.control.follow();
        while orphaned(&mut control).await {
            if request.is_none() {
                tokio::time::sleep(HEIRLESS).await;
                if !is_orphan(&session) {
                    continue;
                }
            }
            if app.store.take_over(&session).await {
                metrics::takeover(if request.is_some() { "taken" } else { "owner_lost" });
                tracing::info!(session = %session.id, request = request.is_some(), "took a session over");
                // A session may outlive its route in the configuration: then it can only be ended.
                let (dialler, request) = match app.upstreams.of(&session.route) {
                    Some(dialler) => (Some(dialler), request),
                    None => (app.upstreams.any(), None),
                };
                if let Some(dialler) = dialler.cloned() {
                    Pump::take_over(&app, &session, &dialler, request, delivered);
                }
                return;
            }
            if !is_orphan(&session) {
                metrics::takeover("lost_race");
            }
            tokio::time::sleep(AGAIN).await;
        }
    });
}

/// Waits until the session has no owner; `false` if nobody reads it here any more, or it is read here.
async fn orphaned(control: &mut Follower<Control>) -> bool {
    let settled = |control: &mut Control| match control.owner {
        _ if control.readers == 0 => Some(false),
        Owner::Here => Some(false),
        Owner::Nobody => Some(true),
        Owner::Elsewhere => None,
    };
    poll_fn(|cx| control.poll(cx, settled)).await
}

fn is_orphan(session: &LiveSession) -> bool {
    session.control.peek(|control| control.owner == Owner::Nobody && control.readers > 0)
}

/// The upstream's own last id in a ring.
pub(super) fn last_kept<E>(ring: &Ring<E>) -> Option<Vec<u8>> {
    let back = (ring.first_seq()..ring.next_seq()).rev().take(BACK);
    back.filter_map(|seq| ring.get(seq).ok().flatten()).find_map(|record| match record {
        Record::Event(entry) => entry.id.map(<[u8]>::to_vec),
        Record::Sealed(_) => None,
    })
}
