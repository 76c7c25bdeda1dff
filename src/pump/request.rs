//! The request of a try: the client's own, or what mends a broken stream.

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue};
use streamkeeper_session::Dial;
use streamkeeper_sse::OwnedEvent;

use super::{Kept, attempt};
use crate::dialect::{Ask, Delivered, Reader};
use crate::store::LiveSession;
use crate::upstream::Outgoing;
use crate::upstream::headers::{LAST_EVENT_ID, for_stream};

/// A request to send.
pub(super) struct Next {
    pub(super) outgoing: Outgoing,
    pub(super) body: Bytes,
    /// Reads the answer, where the dialect's ordinary reader would not do.
    pub(super) reader: Option<Box<dyn Reader>>,
}

/// The request that `dial` calls for; `None` if there is none for this stream. `last_id`: the upstream's own last one;
/// `partial`: some of the answer was delivered.
pub(super) fn next(
    session: &LiveSession,
    kept: &Kept,
    dial: Dial,
    last_id: Option<&[u8]>,
    partial: bool,
) -> Option<Next> {
    let mut outgoing = kept.outgoing();
    let asked = kept.outgoing();
    let ask = kept.ask(&asked);
    for_stream(&mut outgoing.headers);
    match dial {
        Dial::Stream { .. } => Some(Next { outgoing, body: kept.body.clone(), reader: None }),
        Dial::Resume => resume(session, kept, &ask, outgoing, last_id),
        Dial::Continuation => continuation(session, &ask, outgoing),
        Dial::Fallback if partial && !session.dialect.tells_rest() => None,
        Dial::Fallback => {
            let (uri, body) = session.dialect.without_stream(&ask)?;
            outgoing.uri = uri;
            outgoing.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
            Some(Next { outgoing, body, reader: None })
        }
    }
}

fn resume(
    session: &LiveSession,
    kept: &Kept,
    ask: &Ask<'_>,
    mut outgoing: Outgoing,
    last_id: Option<&[u8]>,
) -> Option<Next> {
    let delivered = delivered(session);
    let mut views = delivered.iter().map(Delivered::from);
    let resume = session.dialect.native_resume(ask, last_id, &mut views)?;
    outgoing.method = resume.method;
    outgoing.uri = resume.uri;
    if let Some(id) = resume.last_event_id {
        outgoing.headers.insert(LAST_EVENT_ID, id);
    }
    let body = if resume.keep_body { kept.body.clone() } else { Bytes::new() };
    Some(Next { outgoing, body, reader: None })
}

fn continuation(session: &LiveSession, ask: &Ask<'_>, mut outgoing: Outgoing) -> Option<Next> {
    let delivered = whole(session)?;
    let mut views = delivered.iter().map(Delivered::from);
    let continuation = session.dialect.continuation(ask, session.route.prefill?, &mut views)?;
    outgoing.uri = continuation.uri;
    Some(Next { outgoing, body: continuation.body, reader: Some(continuation.reader) })
}

/// Everything delivered that is still there.
fn delivered(session: &LiveSession) -> Vec<OwnedEvent> {
    session.log.peek(|log| attempt::events_in(&log.ring).collect())
}

/// Everything delivered, from the first event on; `None` if the beginning is gone: nothing can be compared with it then.
pub(super) fn whole(session: &LiveSession) -> Option<Vec<OwnedEvent>> {
    session.log.peek(|log| (log.ring.first_seq() == 1).then(|| attempt::events_in(&log.ring).collect()))
}
