//! What the admin port says as JSON: sessions and their time lines, upstreams, the program. No event, no header, no
//! address, no secret.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use streamkeeper_session::{Code, Dial, Fault, SessionId};

use crate::app::App;
use crate::store::{Durability, LiveSession, Mark, Owner, Stages, Told};
use crate::version;

/// So many sessions are listed unless the caller wants another number.
const LISTED: usize = 100;
/// More are never listed.
const MOST: usize = 1000;

/// Which sessions are listed, from a query: `limit`, `state`, `find`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted<'q> {
    limit: usize,
    /// A state, or `running` for `pending` and `live`.
    state: Option<&'q str>,
    /// Part of a session's or a request's id.
    find: Option<&'q str>,
}

impl<'q> Wanted<'q> {
    /// Reads a query string. What it does not know it leaves alone.
    pub(super) fn read(query: Option<&'q str>) -> Self {
        let value = |name: &str| {
            let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, value)| *key == name && !value.is_empty()).map(|(_, value)| value)
        };
        let limit = value("limit").and_then(|limit| limit.parse().ok()).unwrap_or(LISTED).min(MOST);
        Self { limit, state: value("state"), find: value("find") }
    }

    fn takes(&self, session: &LiveSession, state: &str) -> bool {
        let is_running = matches!(state, "pending" | "live");
        self.state.is_none_or(|wanted| wanted == state || (wanted == "running" && is_running))
            && self.find.is_none_or(|part| session.id.to_string().contains(part) || session.request_id.contains(part))
    }
}

/// The newest sessions that are wanted, and counts over all of them.
pub(super) fn sessions(app: &App, wanted: &Wanted<'_>) -> Value {
    let mut all = app.store.all();
    all.sort_unstable_by_key(|session| (Reverse(session.started), session.id.as_u128()));
    let mut totals = Totals::default();
    let mut listed = Vec::new();
    let mut matching = 0;
    for session in &all {
        let state = session.state();
        totals.count(session, state);
        if wanted.takes(session, state) {
            matching += 1;
            if listed.len() < wanted.limit {
                listed.push(session_row(app, session, &session.timeline.summary()));
            }
        }
    }
    let up = app.store.durability() == Durability::Redis;
    let store = if app.store.is_shared() { json!({ "kind": "redis", "up": up }) } else { json!({ "kind": "memory" }) };
    json!({
        "draining": app.is_draining(),
        "store": store,
        "totals": {
            "pending": totals.pending,
            "live": totals.live,
            "finished": totals.finished,
            "failed": totals.failed,
            "attached": totals.attached,
            "orphans": totals.orphans,
        },
        "matching": matching,
        "sessions": listed,
    })
}

#[derive(Debug, Default)]
struct Totals {
    pending: usize,
    live: usize,
    finished: usize,
    failed: usize,
    /// Clients attached here.
    attached: usize,
    /// Running sessions that no client is attached to, anywhere.
    orphans: usize,
}

impl Totals {
    fn count(&mut self, session: &LiveSession, state: &str) {
        let (here, anywhere) = session.control.peek(|control| (control.readers, control.attached()));
        self.attached += here;
        let of_state = match state {
            "pending" => &mut self.pending,
            "live" => &mut self.live,
            "finished" => &mut self.finished,
            _ => &mut self.failed,
        };
        *of_state += 1;
        self.orphans += usize::from(anywhere == 0 && matches!(state, "pending" | "live"));
    }
}

/// The session `id`, whoever it belongs to.
pub(super) fn find(app: &App, id: &str) -> Option<Arc<LiveSession>> {
    let id: SessionId = id.parse().ok()?;
    app.store.all().into_iter().find(|session| session.id == id)
}

/// One session with its time line.
pub(super) fn session(app: &App, session: &LiveSession) -> Value {
    let told = session.timeline.tell();
    let mut row = session_row(app, session, &told);
    let entries: Vec<_> = told.entries.iter().map(|(at, mark)| entry(*at, mark)).collect();
    if let Some(fields) = row.as_object_mut() {
        fields.insert("timeline".to_owned(), entries.into());
        // They are missing behind the first so many.
        fields.insert("timeline_first".to_owned(), Told::FIRST.into());
        fields.insert("timeline_dropped".to_owned(), told.dropped.into());
    }
    row
}

/// Ends a session. What has ended stays as it is.
pub(super) async fn stop(app: &App, session: &LiveSession) {
    if session.is_ended() {
        return;
    }
    session.timeline.mark(Mark::Stopped);
    tracing::info!(session = %session.id, "stopped by an operator");
    session.stop(Fault::new(Code::SessionNotFound).message("The session was stopped by an operator."));
    if session.control.peek(|control| control.owner != Owner::Here) {
        // Its owner is told by the store.
        app.store.remove(session.id).await;
    }
}

/// Every key of the configuration with the value in force; secrets are stars.
pub(super) fn config(app: &App) -> Value {
    let keys = app.settings.effective.iter().map(|(key, value)| json!({ "key": key, "value": value }));
    json!({ "config": keys.collect::<Vec<_>>() })
}

/// Which program this is.
pub(super) fn version(app: &App) -> Value {
    json!({ "version": version::VERSION, "commit": version::COMMIT, "uptime_ms": ms(app.clock.now()) })
}

fn session_row(app: &App, session: &LiveSession, told: &Told) -> Value {
    let Stages { head, first_event, committed, ended } = told.stages;
    let mut row = app.state_of(session);
    let asked = told.asked.as_ref();
    let more = json!({
        "owner": match session.control.peek(|control| control.owner) {
            Owner::Here => "here",
            Owner::Elsewhere => "elsewhere",
            Owner::Nobody => "nobody",
        },
        "upstream": asked.map(|(upstream, endpoint)| json!({ "name": upstream.name, "endpoint": endpoint })),
        "tries": told.tries,
        "last_failure": told.last_failure.map(Code::as_str),
        "stages": {
            "head_ms": head.map(ms),
            "first_event_ms": first_event.map(ms),
            "committed_ms": committed.map(ms),
            "ended_ms": ended.map(ms),
        },
    });
    if let (Some(row), Value::Object(more)) = (row.as_object_mut(), more) {
        row.extend(more);
    }
    row
}

fn entry(at: Duration, mark: &Mark) -> Value {
    let at = ms(at);
    match mark {
        Mark::Begun => json!({ "at_ms": at, "what": "begun" }),
        Mark::Adopted => json!({ "at_ms": at, "what": "adopted" }),
        Mark::Try { upstream, endpoint, dial } => {
            json!({ "at_ms": at, "what": "try", "upstream": upstream.name, "endpoint": endpoint, "kind": kind(*dial) })
        }
        Mark::Head(status) => json!({ "at_ms": at, "what": "head", "status": status }),
        Mark::FirstEvent => json!({ "at_ms": at, "what": "first_event" }),
        Mark::Committed => json!({ "at_ms": at, "what": "committed" }),
        Mark::TryFailed(code) => json!({ "at_ms": at, "what": "try_failed", "code": code.as_str() }),
        Mark::Came(attached) => json!({ "at_ms": at, "what": "client_came", "attached": attached }),
        Mark::Left(attached) => json!({ "at_ms": at, "what": "client_left", "attached": attached }),
        Mark::Resumed(result) => json!({ "at_ms": at, "what": "resumed", "result": result }),
        Mark::Gap(reason) => json!({ "at_ms": at, "what": "gap", "reason": reason.as_str() }),
        Mark::Stopped => json!({ "at_ms": at, "what": "stopped" }),
        Mark::HandedOver => json!({ "at_ms": at, "what": "handed_over" }),
        Mark::TakenOver => json!({ "at_ms": at, "what": "taken_over" }),
        Mark::Ended(code) => json!({ "at_ms": at, "what": "ended", "code": code.map(Code::as_str) }),
    }
}

fn kind(dial: Dial) -> &'static str {
    match dial {
        Dial::Stream { .. } => "stream",
        Dial::Resume => "native_resume",
        Dial::Continuation => "continuation",
        Dial::Fallback => "fallback",
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_sessions_are_wanted() {
        let wanted = |query| Wanted::read(Some(query));
        assert_eq!(Wanted::read(None), Wanted { limit: LISTED, state: None, find: None });
        let expected = Wanted { limit: 7, state: Some("running"), find: Some("abc") };
        assert_eq!(wanted("state=running&limit=7&find=abc&other=1"), expected);
        assert_eq!(wanted("limit=999999&state=&find=").limit, MOST);
        assert_eq!(wanted("limit=-1"), Wanted { limit: LISTED, state: None, find: None });
    }
}
