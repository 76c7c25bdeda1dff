//! Asking the vendor itself for the events after the last one delivered.
//!
//! `GET {path}/{id}?stream=true&starting_after=N`, with the caller's own query (Azure's `api-version`). Not here:
//! which requests the vendor goes on with although nobody listens; only those with `background: true` that are
//! stored. Source: OpenAI's guide, "Background mode", and the API reference, "Get a model response".

use http::{Method, Uri};

use super::rest;
use crate::dialect::json::{RawObject, raw_text};
use crate::dialect::{Delivered, Resume};

/// The longest id that is believed.
const ID_CAP: usize = 256;

/// The request for what comes after `delivered`; `None` where that does not tell which response it is and where it
/// stands.
pub(super) fn request(asked: &Uri, delivered: &mut dyn Iterator<Item = Delivered<'_>>) -> Option<Resume> {
    let (mut id, mut last) = (None, None);
    for event in delivered {
        if id.is_none() {
            id = id_in(&event);
        }
        last = Some(event);
    }
    let (id, number) = (id?, rest::number_of(&last?)?);
    let mut uri = format!("{}/{id}?", asked.path());
    let kept = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        !name.is_empty() && name != "stream" && name != "starting_after"
    };
    for pair in asked.query().unwrap_or_default().split('&').filter(kept) {
        uri.push_str(pair);
        uri.push('&');
    }
    uri.push_str(&format!("stream=true&starting_after={number}"));
    Some(Resume { method: Method::GET, uri: uri.parse().ok()?, last_event_id: None, keep_body: false })
}

/// The id in `response.created`. It becomes part of a path, so it may not be anything: letters, digits and what
/// known servers use beside them.
fn id_in(event: &Delivered<'_>) -> Option<String> {
    let fields = RawObject::read(event.data.trim().as_bytes())?;
    let created = fields.get("type").map_or(event.name == CREATED, |kind| kind.get().trim_matches('"') == CREATED);
    let response = fields.get("response").filter(|_| created).and_then(RawObject::of)?;
    let id = raw_text(response.get("id")?)?;
    let harmless = id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'='));
    (harmless && (1..=ID_CAP).contains(&id.len())).then(|| id.into_owned())
}

const CREATED: &str = "response.created";

#[cfg(test)]
mod tests;
