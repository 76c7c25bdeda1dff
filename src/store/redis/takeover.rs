//! Becoming the owner of a session that has none: a mark with the next epoch behind its newest entry. Redis lets one
//! such mark in, so one process gets it.
//!
//! Not here: who wants it and what follows (`pump::heir`), and how an owner is known to be gone (`keeper`).

use std::sync::Arc;

use redis::RedisWrite as _;

use super::batch::Written;
use super::link::Trouble;
use super::mirror::{Mirror, look};
use super::record::{EntryId, bytes};
use super::{RedisStore, writer};
use crate::store::{LiveSession, Owner};

impl RedisStore {
    /// Writes the mark of a new owner behind the newest entry.
    async fn mark(&self, mirror: &Mirror) -> Result<Option<EntryId>, Trouble> {
        let (shared, session) = (&self.shared, &mirror.session);
        let last = mirror.lock().last;
        let (mark, sealed) = session.log.peek(|log| {
            let mark = EntryId { epoch: log.epochs.current() + 1, seq: log.ring.next_seq() - 1 };
            (mark, log.ring.end().is_some())
        });
        if sealed {
            return Ok(None);
        }
        let mut append = shared.scripts.append(&shared.keys.log(session.id), &shared.keys.meta(session.id));
        match last {
            Some(last) => append.write_arg_fmt(last),
            None => append.write_arg(b""),
        }
        let me = shared.me.to_string();
        append.arg(2).arg("owner").arg(&me).arg(mark.to_string()).arg(2).arg("o").arg(&me);
        append.arg("").arg(shared.lifetime(&session.route));
        Ok((bytes(shared.ask_script(append).await?).as_deref() == Some(b"OK")).then_some(mark))
    }

    pub(super) async fn take_over_shared(&self, session: &Arc<LiveSession>) -> Result<bool, Trouble> {
        let shared = &self.shared;
        let Some(mirror) = shared.mirror(session.id) else { return Ok(false) };
        look(shared, &[Arc::clone(&mirror)]).await?;
        if session.control.peek(|control| control.owner != Owner::Nobody) {
            return Ok(false);
        }
        mirror.lock().retired = true;
        let mark = match self.mark(&mirror).await {
            Ok(Some(mark)) => mark,
            other => {
                mirror.lock().retired = false;
                shared.looks.push(session.id);
                return other.map(|_| false);
            }
        };
        self.own(session, Written::taken_over(mark));
        shared.mirrors.remove(&session.id.as_u128());
        shared.local.began(session);
        session.log.update(|log| {
            log.epochs.begin(mark.epoch, mark.seq + 1);
            if shared.settings.acknowledged {
                log.shown = mark.seq + 1;
            }
        });
        session.control.update(|control| control.owner = Owner::Here);
        writer::again(shared, session);
        Ok(true)
    }
}
