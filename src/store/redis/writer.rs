//! Writes what pumps of this process append: behind them, in one pipeline for all sessions that have news. While one
//! flush is on its way the next one gathers, so a slow Redis makes flushes larger and never more. The rings are the
//! only buffer.
//!
//! Each session's part is appended only if its stream ends where it was left (`append.lua`). If not, this is found
//! out at once: Redis lost something (it is written again from the ring), or somebody else owns the session by now.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{RedisResult, Value};
use streamkeeper_session::SessionId;
use tokio::time::Instant;

use super::batch::{Batch, Told, Written};
use super::bell::{Bell, Round};
use super::drop_keys;
use super::keys::Keys;
use super::link::Trouble;
use super::record::{EntryId, bytes};
use super::shared::{Followers, Shared, unknown_script};
use crate::store::{LiveSession, Owner};
use crate::telemetry::metrics;

/// From the beginning of one flush to that of the next.
const GATHER: Duration = Duration::from_millis(2);

/// A session that is read here.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) session: Arc<LiveSession>,
    /// Its stream's key and that of its hash, as they stand in every flush.
    pub(super) keys: (String, String),
    state: Mutex<State>,
}

/// What the store knows of it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) written: Written,
    /// Its client wants it forgotten.
    pub(super) removed: bool,
    pub(super) followers: Followers,
}

impl Owned {
    /// A session that is read here from now on.
    pub(super) fn new(session: Arc<LiveSession>, keys: &Keys, written: Written) -> Self {
        let keys = (keys.log(session.id), keys.meta(session.id));
        Self { session, keys, state: Mutex::new(State { written, removed: false, followers: Followers::default() }) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes whenever there is news and Redis is there. After a pause at once; while there is much to write news gathers, for
/// a flush costs much more than what is in it. Nobody waits for it, unless readers wait for what Redis has confirmed.
pub(super) async fn run(shared: Arc<Shared>) {
    let pause = if shared.settings.acknowledged { Duration::ZERO } else { GATHER };
    let (mut ids, mut next) = (Vec::new(), Instant::now());
    loop {
        shared.link.until_up().await;
        shared.news.filled().await;
        if Instant::now() < next {
            tokio::time::sleep_until(next).await;
        }
        next = Instant::now() + pause;
        shared.news.take(&mut ids);
        // What could not be written waits in the rings.
        let _ = flush(&shared, &ids, false).await;
    }
}

/// Writes what `ids` have; `verify`: also asks of those that have nothing whether they are still where they were left.
///
/// # Errors
/// When Redis could not be asked, or refused. The connection is given up then, and nothing is assumed to be written.
pub(super) async fn flush(shared: &Shared, ids: &[SessionId], verify: bool) -> Result<(), Trouble> {
    let _alone = shared.flushing.lock().await;
    let unwritten = write(shared, ids, verify).await?;
    if unwritten.is_empty() {
        return Ok(());
    }
    let trouble = match shared.teach().await {
        Ok(()) if write(shared, &unwritten, verify).await?.is_empty() => return Ok(()),
        Ok(()) => Trouble::Refused("scripts do not stay loaded".to_owned()),
        Err(trouble) => trouble,
    };
    // With the next connection all sessions are written that are not yet.
    metrics::store_error(trouble.kind());
    shared.link.hang_up(&trouble);
    Err(trouble)
}

/// One round of a flush. The sessions whose part Redis did not know how to append.
async fn write(shared: &Shared, ids: &[SessionId], verify: bool) -> Result<Vec<SessionId>, Trouble> {
    let (mut commands, mut parts) = (Vec::new(), Vec::new());
    for owned in ids.iter().filter_map(|id| shared.owned(*id)) {
        owned.session.noted.store(false, Ordering::Release);
        let batch = owned.session.log.peek(|log| {
            let state = owned.lock();
            Batch::of(shared, &owned, log, &state, verify)
        });
        if let Some(mut batch) = batch {
            commands.push(std::mem::take(&mut batch.command));
            parts.push((owned, batch));
        }
    }
    if commands.is_empty() {
        return Ok(Vec::new());
    }
    let answers = match shared.link.ask(commands).await {
        Ok(answers) => answers,
        Err(trouble) => {
            parts.iter().for_each(|(owned, _)| again(shared, &owned.session));
            metrics::store_error(trouble.kind());
            return Err(trouble);
        }
    };
    let (mut round, mut refused, mut lost, mut fenced) = (Round::default(), None, 0, 0);
    let (mut removed, mut unwritten) = (Vec::new(), Vec::new());
    for ((owned, batch), answer) in parts.into_iter().zip(answers) {
        if answer.as_ref().is_err_and(unknown_script) {
            unwritten.push(owned.session.id);
            continue;
        }
        if batch.sealed && owned.lock().removed {
            removed.push(owned.session.id);
        }
        match settle(shared, &owned, batch, answer, &mut round) {
            Ok(Settled::Well) => {}
            Ok(Settled::Lost) => lost += 1,
            Ok(Settled::Fenced) => fenced += 1,
            Err(trouble) => {
                again(shared, &owned.session);
                refused = Some(trouble);
            }
        }
    }
    if lost > 0 {
        tracing::warn!(sessions = lost, "Redis lost events; they are written again");
    }
    if fenced > 0 {
        tracing::warn!(sessions = fenced, "other replicas took sessions over while this one was away");
    }
    shared.ring(round.into_bells(Bell::Wrote)).await;
    for id in removed {
        drop_keys(shared, id, true).await;
    }
    let Some(trouble) = refused else { return Ok(unwritten) };
    // Whatever it is that Redis refuses, it is no place to write to now.
    metrics::store_error(trouble.kind());
    shared.link.hang_up(&trouble);
    Err(trouble)
}

/// Has a session looked at again.
pub(super) fn again(shared: &Shared, session: &LiveSession) {
    // Whoever has changed the log since a flush looked at it sees here what that flush said before it looked.
    if !session.noted.load(Ordering::Relaxed) && !session.noted.swap(true, Ordering::AcqRel) {
        shared.news.push(session.id);
    }
}

/// What became of one session's part.
enum Settled {
    /// All is as it should be, or soon will be.
    Well,
    /// Redis lost something.
    Lost,
    /// Another process owns the session by now.
    Fenced,
}

/// Takes in what became of one session's part.
fn settle(
    shared: &Shared,
    owned: &Owned,
    batch: Batch,
    answer: RedisResult<Value>,
    round: &mut Round<SessionId>,
) -> Result<Settled, Trouble> {
    let answer = bytes(answer?).unwrap_or_default();
    match &answer[..] {
        b"OK" => {}
        b"-" => {
            owned.lock().written.told = Told::Nothing;
            metrics::store_error("lost");
            again(shared, &owned.session);
            return Ok(Settled::Lost);
        }
        top => return Ok(stands_elsewhere(shared, owned, EntryId::read(top))),
    }
    if batch.hole {
        metrics::store_error("lost");
    }
    metrics::store_appended(batch.events);
    {
        let mut state = owned.lock();
        state.written = batch.after;
        for replica in state.followers.replicas() {
            round.add(replica, owned.session.id);
        }
    }
    if shared.settings.acknowledged {
        show(&owned.session, if batch.sealed { u64::MAX } else { batch.after.next });
    }
    if batch.sealed {
        shared.owned.remove(&owned.session.id.as_u128());
    } else if batch.more {
        again(shared, &owned.session);
    }
    Ok(Settled::Well)
}

/// Events below `seq` may be shown now.
pub(super) fn show(session: &LiveSession, seq: u64) {
    if session.log.peek(|log| log.shown < seq) {
        session.log.update(|log| log.shown = log.shown.max(seq));
    }
}

/// The stream does not end where it was left, but at `top`.
fn stands_elsewhere(shared: &Shared, owned: &Owned, top: Option<EntryId>) -> Settled {
    let session = &owned.session;
    let next = session.log.peek(|log| match top {
        Some(top) if top.epoch > log.epochs.current() => None,
        // Nothing there: all of it again.
        None => Some(log.ring.first_seq()),
        Some(top) => {
            let later = log.epochs.iter().find(|(epoch, ..)| *epoch > top.epoch).map(|(_, first, _)| first);
            Some((top.seq + 1).min(later.unwrap_or(u64::MAX)).min(log.ring.next_seq()))
        }
    });
    let Some(next) = next else {
        lose(shared, session);
        return Settled::Fenced;
    };
    let lost = {
        let written = &mut owned.lock().written;
        let lost = next < written.next;
        written.told = if top.is_none() { Told::Nothing } else { written.told };
        (written.next, written.top) = (next, top);
        lost
    };
    again(shared, session);
    if !lost {
        return Settled::Well;
    }
    metrics::store_error("lost");
    Settled::Lost
}

/// Another process owns the session by now: what this one still says of it is void.
fn lose(shared: &Shared, session: &Arc<LiveSession>) {
    metrics::store_error("fenced");
    shared.owned.remove(&session.id.as_u128());
    if session.is_ended() {
        // No pump is left that could stop; who asks for it again gets it from Redis.
        shared.local.forget(session.id);
    } else {
        session.control.update(|control| control.owner = Owner::Elsewhere);
    }
}
