//! Keeps the connection, the lease and the peace: connects again and again, renews the lease, tells owners of the
//! clients here, notices owners that are gone, and hears doorbells.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::{Value, cmd};
use streamkeeper_session::{Code, SessionId};
use tokio::time::{Instant, MissedTickBehavior};

use super::bell::{Bell, Round};
use super::drop_keys;
use super::keys::Replica;
use super::link::Trouble;
use super::mirror::Mirror;
use super::shared::Shared;
use super::writer::{flush, show};
use crate::config::OnFailure;
use crate::store::Owner;
use crate::telemetry::metrics;

/// The coarse ticker of all sessions.
const TICK: Duration = Duration::from_millis(100);
/// A mirror is looked at so often, whether or not a bell rang.
const LOOK: Duration = Duration::from_secs(1);
/// A mirror that nobody reads is let go after this time.
const IDLE: Duration = Duration::from_secs(10);
/// Waits between two tries to connect.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Connects, holds the connection until it breaks, and begins anew.
pub(super) async fn run(shared: Arc<Shared>) {
    let (mut wait, mut down_since, mut said) = (AGAIN.0, Instant::now(), false);
    metrics::store_up(false);
    loop {
        match establish(&shared).await {
            Ok(()) => {
                metrics::store_up(true);
                tracing::info!("Redis is there: sessions are kept in it");
                wait = AGAIN.0;
                hold(&shared).await;
                metrics::store_up(false);
                (down_since, said) = (Instant::now(), false);
            }
            Err(trouble) => {
                metrics::store_error(trouble.kind());
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(cause = %trouble, policy = ?shared.settings.on_failure, "Redis cannot be used");
                }
                while_down(&shared, down_since.elapsed());
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(AGAIN.1);
            }
        }
    }
}

/// A connection with which everything is as it should be: the lease is taken, and every session was asked after.
async fn establish(shared: &Shared) -> Result<(), Trouble> {
    let conn = shared.link.connect().await?;
    let sent = shared.clock.now();
    let mut commands = shared.scripts.load();
    commands.push(shared.lease());
    for answer in shared.link.ask_over(conn.clone(), commands).await? {
        answer?;
    }
    shared.link.set(conn);
    verify(shared).await?;
    shared.lease_runs(sent + shared.settings.lease);
    wake_pumps(shared);
    Ok(())
}

/// Asks of every session whether it is still ours, and writes what it has.
async fn verify(shared: &Shared) -> Result<(), Trouble> {
    let ids: Vec<_> = shared.owned.iter().map(|owned| owned.session.id).collect();
    flush(shared, &ids, true).await?;
    shared.mirrors.iter().for_each(|mirror| shared.looks.push(mirror.session.id));
    Ok(())
}

/// Pumps that held still while the lease was in doubt go on.
fn wake_pumps(shared: &Shared) {
    for owned in &shared.owned {
        owned.session.control.update(|_| ());
    }
}

/// Redis has been away for `down`.
fn while_down(shared: &Shared, down: Duration) {
    let memory = shared.settings.on_failure == OnFailure::Memory;
    let given_up = down > if memory { shared.settings.timeout } else { shared.settings.lease };
    if shared.settings.acknowledged && given_up {
        for owned in &shared.owned {
            if !memory {
                owned.session.stop(Code::StoreUnavailable.into());
            }
            show(&owned.session, u64::MAX);
        }
    }
    if down > shared.settings.lease {
        // Their clients may find the owner itself.
        let mirrors: Vec<_> = shared.mirrors.iter().map(|mirror| Arc::clone(&mirror)).collect();
        for mirror in mirrors.into_iter().filter(|mirror| !mirror.session.is_ended()) {
            mirror.session.log.update(|log| log.parted = Some(Code::StoreUnavailable));
            let_go(shared, &mirror);
        }
    }
}

async fn hold(shared: &Arc<Shared>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let up_since = Instant::now();
    let (mut renewed, mut watched) = (Instant::now(), Instant::now());
    loop {
        tokio::select! {
            () = shared.link.until_down() => return,
            _ = ticks.tick() => {}
        }
        if renewed.elapsed() >= shared.settings.lease / 3 {
            if renew(shared).await.is_err() {
                return;
            }
            renewed = Instant::now();
        }
        attend(shared).await;
        if watched.elapsed() >= shared.settings.lease / 4 {
            watched = Instant::now();
            expire(shared);
            // After a break everybody needs the time to come back and renew.
            if up_since.elapsed() >= shared.settings.lease {
                let running = shared.mirrors.iter().filter(|mirror| !mirror.session.is_ended());
                let owners: HashSet<_> = running.filter_map(|mirror| mirror.lock().owner).collect();
                look_after(shared, owners).await;
            }
        }
    }
}

async fn renew(shared: &Shared) -> Result<(), Trouble> {
    let (late, sent) = (shared.lease_overdue(), shared.clock.now());
    let renewed = shared.link.ask_one(shared.lease()).await;
    if let Err(trouble) = renewed {
        metrics::store_error(trouble.kind());
        shared.link.hang_up(&trouble);
        return Err(trouble);
    }
    if late {
        verify(shared).await?;
    }
    shared.lease_runs(sent + shared.settings.lease);
    if late {
        wake_pumps(shared);
    }
    Ok(())
}

/// Sees to each session that has something to do with other replicas.
async fn attend(shared: &Shared) {
    let now = shared.clock.now();
    let (mut attached, mut idle) = (Round::default(), Vec::new());
    for mirror in &shared.mirrors {
        let readers = mirror.session.control.peek(|control| control.readers);
        let ended = mirror.session.is_ended();
        let mut state = mirror.lock();
        if readers > 0 {
            state.idle_since = None;
        } else if *state.idle_since.get_or_insert(now) + IDLE <= now
            || (ended && !shared.local.holds(mirror.session.id))
        {
            idle.push(Arc::clone(&mirror));
        }
        if ended {
            continue;
        }
        if state.looked_at + LOOK <= now {
            state.looked_at = now;
            shared.looks.push(mirror.session.id);
        }
        let Some(owner) = state.owner else { continue };
        if readers != state.told || (readers > 0 && state.told_at + shared.settings.lease / 2 <= now) {
            (state.told, state.told_at) = (readers, now);
            attached.add(owner, (mirror.session.id, readers));
        }
    }
    idle.iter().for_each(|mirror| let_go(shared, mirror));
    stop_elsewhere(shared).await;
    shared.ring(attached.into_bells(|counts| Bell::Attached(shared.me, counts))).await;
}

/// Asks the owners of sessions for their end, again and again until there is one; what has no owner ends here.
pub(super) async fn stop_elsewhere(shared: &Shared) {
    let (mut stops, mut orphans) = (Round::default(), Vec::new());
    for mirror in shared.mirrors.iter().filter(|mirror| mirror.lock().stop && !mirror.session.is_ended()) {
        match mirror.lock().owner {
            Some(owner) if mirror.session.control.peek(|control| control.owner != Owner::Nobody) => {
                stops.add(owner, mirror.session.id);
            }
            _ => orphans.push(mirror.session.id),
        }
    }
    for id in orphans {
        shared.mirrors.remove(&id.as_u128());
        drop_keys(shared, id, false).await;
    }
    shared.ring(stops.into_bells(Bell::Stop)).await;
}

/// Forgets clients at other replicas that were not heard of any more.
fn expire(shared: &Shared) {
    let now = shared.clock.now();
    for owned in &shared.owned {
        let remote = {
            let mut state = owned.lock();
            state.followers.expire(now);
            state.followers.attached()
        };
        count_remote(&owned.session, remote);
    }
}

fn count_remote(session: &crate::store::LiveSession, remote: usize) {
    if session.control.peek(|control| control.remote != remote) {
        session.control.update(|control| control.remote = remote);
    }
}

/// A mirror that is not followed any more. Who asks for the session again gets it from Redis again.
fn let_go(shared: &Shared, mirror: &Mirror) {
    shared.mirrors.remove(&mirror.session.id.as_u128());
    shared.local.forget(mirror.session.id);
}

/// Finds out which of `owners` are gone, and says so to whoever may take their sessions over.
async fn look_after(shared: &Shared, owners: HashSet<Replica>) {
    if owners.is_empty() {
        return;
    }
    let owners: Vec<_> = owners.into_iter().collect();
    let exists = owners.iter().map(|owner| {
        let mut exists = cmd("EXISTS");
        exists.arg(shared.keys.lease(*owner));
        exists
    });
    let Ok(answers) = shared.link.ask(exists.collect()).await else { return };
    let gone = |(owner, answer)| matches!(answer, Ok(Value::Int(0))).then_some(owner);
    let gone: HashSet<Replica> = owners.into_iter().zip(answers).filter_map(gone).collect();
    for mirror in &shared.mirrors {
        let orphaned = mirror.lock().owner.is_some_and(|owner| gone.contains(&owner));
        let news = mirror.session.control.peek(|control| control.owner == Owner::Elsewhere);
        if orphaned && news && !mirror.session.is_ended() {
            mirror.session.control.update(|control| control.owner = Owner::Nobody);
        }
    }
}

/// Hears doorbells, as long as the process lives.
pub(super) async fn hear(shared: Arc<Shared>) {
    loop {
        shared.link.until_up().await;
        let channel = shared.keys.bell(shared.me);
        if let Ok(mut heard) = shared.link.subscribe(&channel).await {
            // What was rung before this is seen by looking.
            shared.mirrors.iter().for_each(|mirror| shared.looks.push(mirror.session.id));
            let mut messages = heard.on_message();
            while let Some(message) = messages.next().await {
                if let Some(bell) = Bell::read(message.get_payload_bytes()) {
                    answer(&shared, bell).await;
                }
            }
        }
        tokio::time::sleep(AGAIN.0).await;
    }
}

async fn answer(shared: &Shared, bell: Bell) {
    match bell {
        Bell::Wrote(ids) => {
            ids.into_iter().filter(|id| shared.mirror(*id).is_some()).for_each(|id| shared.looks.push(id))
        }
        Bell::Stop(ids) => ids.into_iter().for_each(|id| stop(shared, id)),
        Bell::Gone(replica) => look_after(shared, HashSet::from([replica])).await,
        Bell::Attached(replica, counts) => {
            let until = shared.clock.now() + shared.settings.lease * 3 / 2;
            for (id, count) in counts {
                let Some(owned) = shared.owned(id) else { continue };
                let (new, remote) = {
                    let mut state = owned.lock();
                    let new = state.followers.note(replica, count, until);
                    (new, state.followers.attached())
                };
                count_remote(&owned.session, remote);
                if new {
                    // It may have missed what was written since it looked.
                    shared.ring(vec![(replica, Bell::Wrote(vec![id]))]).await;
                }
            }
        }
    }
}

/// The client of a session asked for its end, at another replica.
fn stop(shared: &Shared, id: SessionId) {
    let Some(owned) = shared.owned(id) else { return };
    owned.lock().removed = true;
    owned.session.stop_for_its_client();
    shared.local.forget(id);
}
