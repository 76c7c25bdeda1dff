//! What one session has to write, from its log to one command. Events go from the ring into the command's own buffer
//! and nowhere between.

use redis::{Cmd, RedisWrite as _};
use streamkeeper_session::{Record, Splice};

use super::keys::Replica;
use super::meta;
use super::record::{EntryId, end_word};
use super::shared::Shared;
use super::writer::{Owned, State};
use crate::store::{LiveSession, Log};

/// Of one session in one flush; the rest follows in the next.
const FLUSH_BYTES: usize = 256 * 1024;
/// How long the end of a session that was stopped by its client can still be read elsewhere, in milliseconds.
const FAREWELL: u64 = 10_000;

/// How much of a session Redis has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// The seq to write next.
    pub(super) next: u64,
    /// The newest entry there.
    pub(super) top: Option<EntryId>,
    pub(super) told: Told,
    /// The oldest seq kept there.
    pub(super) first: u64,
}

/// How much of the hash is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    Beginning,
    All,
}

impl Written {
    /// Nothing.
    pub(super) const NOTHING: Self = Self { next: 1, top: None, told: Told::Nothing, first: 1 };

    /// All events up to `top`, the mark of its new owner. The hash may have been dropped before that.
    pub(super) fn taken_over(top: EntryId) -> Self {
        Self { next: top.seq + 1, top: Some(top), told: Told::Nothing, first: 1 }
    }
}

/// One session's part of a flush.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) command: Cmd,
    /// What Redis has once the command was carried out.
    pub(super) after: Written,
    pub(super) events: u64,
    /// With this, all is written.
    pub(super) sealed: bool,
    /// Not everything found room.
    pub(super) more: bool,
    /// The ring gave up events that Redis never took.
    pub(super) hole: bool,
}

impl Batch {
    /// What `log` has beyond what was written; `None` if that is nothing. `ask`: not even then, but the question whether
    /// the stream ends where it was left.
    pub(super) fn of(shared: &Shared, owned: &Owned, log: &Log, state: &State, ask: bool) -> Option<Self> {
        let (session, written, removed) = (&owned.session, state.written, state.removed);
        let (log_key, meta_key) = &owned.keys;
        let mut batch = Self {
            command: shared.scripts.append(log_key, meta_key),
            after: written,
            events: 0,
            sealed: false,
            more: false,
            hole: false,
        };
        match written.top {
            Some(top) => batch.command.write_arg_fmt(top),
            None => batch.command.write_arg(b""),
        }
        let about = batch.about(session, log, shared.me, removed);
        let entries = batch.entries(log, shared.me);
        if !entries && !about && !ask {
            return None;
        }
        let first = log.ring.first_seq();
        if first > batch.after.first {
            batch.after.first = first;
            batch.command.write_arg_fmt(EntryId { epoch: log.epochs.of(first), seq: first });
        } else {
            batch.command.write_arg(b"");
        }
        let lifetime = match (batch.sealed, removed) {
            (true, true) => FAREWELL,
            (true, false) => shared.retention(),
            (false, _) if about || written.top.is_none() => shared.lifetime(&session.route),
            (false, _) => 0,
        };
        batch.command.write_arg_fmt(lifetime);
        Some(batch)
    }

    /// The hash's part. `false` if there is none.
    fn about(&mut self, session: &LiveSession, log: &Log, me: Replica, removed: bool) -> bool {
        if removed {
            self.command.write_arg(b"-1");
            return false;
        }
        let opening = (self.after.told != Told::All).then(|| meta::opening(log)).flatten();
        let mut fields = Vec::new();
        if self.after.told == Told::Nothing {
            fields = meta::beginning(session, me);
            self.after.told = Told::Beginning;
        }
        if let Some(opening) = opening {
            fields.extend(opening);
            self.after.told = Told::All;
        }
        self.command.write_arg_fmt(fields.len() * 2);
        for (name, value) in &fields {
            self.command.write_arg(name.as_bytes());
            self.command.write_arg(value);
        }
        !fields.is_empty()
    }

    /// The entries. `false` if there are none.
    fn entries(&mut self, log: &Log, me: Replica) -> bool {
        let ring = &log.ring;
        if self.after.next < ring.first_seq() {
            self.hole = true;
            self.after.next = ring.first_seq();
        }
        let (before, mut bytes) = (self.after.top, 0);
        // An empty stream begins with the epoch of whatever comes first.
        let mut epoch =
            before.map_or_else(|| if ring.is_empty() { 0 } else { log.epochs.of(self.after.next) }, |top| top.epoch);
        for record in ring.iter_from(self.after.next).into_iter().flatten() {
            if bytes >= FLUSH_BYTES {
                self.more = true;
                return true;
            }
            match record {
                Record::Event(entry) => {
                    let id = EntryId { epoch: log.epochs.of(entry.seq), seq: entry.seq };
                    self.owners(log, me, &mut epoch, id.epoch);
                    let splice = begins(log, id);
                    self.entry(id, 1 + usize::from(entry.id.is_some()) + usize::from(splice.is_some()));
                    self.field("e", entry.body);
                    if let Some(kept) = entry.id {
                        self.field("k", kept);
                    }
                    if let Some(splice) = splice {
                        self.field("x", splice.as_str().as_bytes());
                    }
                    bytes += entry.body.len();
                    self.events += 1;
                    self.after.next = entry.seq + 1;
                }
                Record::Sealed(end) => {
                    self.owners(log, me, &mut epoch, log.epochs.current());
                    self.entry(EntryId { epoch, seq: ring.next_seq() }, 1);
                    self.field("s", end_word(end).as_bytes());
                    self.sealed = true;
                }
            }
        }
        self.owners(log, me, &mut epoch, log.epochs.current());
        self.after.top != before
    }

    /// The marks of all epochs after `epoch` and up to `to`.
    fn owners(&mut self, log: &Log, me: Replica, epoch: &mut u32, to: u32) {
        if *epoch >= to {
            return;
        }
        for (later, first, _) in log.epochs.iter().filter(|(later, ..)| *later > *epoch && *later <= to) {
            self.entry(EntryId { epoch: later, seq: first - 1 }, 1);
            self.field("o", me.to_string().as_bytes());
        }
        *epoch = to;
    }

    fn entry(&mut self, id: EntryId, fields: usize) {
        self.command.write_arg_fmt(id);
        self.command.write_arg_fmt(fields * 2);
        self.after.top = Some(id);
    }

    fn field(&mut self, name: &str, value: &[u8]) {
        self.command.write_arg(name.as_bytes());
        self.command.write_arg(value);
    }
}

/// How the epoch goes on whose first event this is.
fn begins(log: &Log, id: EntryId) -> Option<Splice> {
    if id.epoch == 0 {
        return None;
    }
    let (_, first, splice) = log.epochs.iter().find(|(epoch, ..)| *epoch == id.epoch)?;
    (first == id.seq && splice != Splice::Open).then_some(splice)
}
