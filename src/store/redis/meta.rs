//! What else is known of a session in Redis: a hash beside its stream. No credential and nothing of a prompt: who it
//! belongs to and which request it answers stand there as keyed hashes.

use std::collections::HashMap;

use http::header::{AUTHORIZATION, SET_COOKIE};

use redis::{Cmd, Value};

use super::keys::Replica;
use super::record::bytes;
use crate::header_lines::HeaderLines;
use crate::principal::Principal;
use crate::store::{LiveSession, Log, Numbering, Phase, Source};

/// A session as another replica gets to know it.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) principal: Principal,
    pub(super) route: String,
    pub(super) dialect: String,
    pub(super) note: Option<Box<str>>,
    pub(super) request_id: String,
    pub(super) fingerprint: u128,
    /// Who reads it; `None` if that one gave it up.
    pub(super) owner: Option<Replica>,
    /// What is decided when its first events come.
    pub(super) opening: Option<Opening>,
}

/// What a session's first events decide.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) numbering: Numbering,
    pub(super) source: Source,
    pub(super) headers: HeaderLines,
}

/// The fields of a session that begins, in pairs.
pub(super) fn beginning(session: &LiveSession, owner: Replica) -> Vec<(&'static str, Vec<u8>)> {
    let mut fields = vec![
        ("principal", hex(session.principal.bits())),
        ("route", session.route.name.clone().into_bytes()),
        ("dialect", session.dialect.name().into()),
        ("request_id", session.request_id.clone().into_bytes()),
        ("fingerprint", hex(session.fingerprint)),
        ("owner", owner.to_string().into_bytes()),
    ];
    if let Some(note) = &session.note {
        fields.push(("note", note.as_bytes().to_vec()));
    }
    fields
}

/// The command that says that nobody owns a session any more, if it is still there.
pub(super) fn release(key: &str) -> Cmd {
    let mut eval = redis::cmd("EVAL");
    eval.arg("if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'owner', '') end").arg(1).arg(key);
    eval
}

/// The fields that its first events decide; `None` before.
pub(super) fn opening(log: &Log) -> Option<Vec<(&'static str, Vec<u8>)>> {
    let numbering = NUMBERINGS.iter().find(|(numbering, _)| *numbering == log.numbering)?.1;
    let source = log.source.as_str();
    let decided = !log.ring.is_empty() || log.ring.end().is_some();
    let open = matches!(log.phase, Phase::Open) || decided;
    open.then(|| {
        vec![("numbering", numbering.into()), ("source", source.into()), ("headers", without_cookies(&log.headers))]
    })
}

impl Meta {
    /// Reads HGETALL's answer; `None` if there is no such session, or not one that can be read.
    pub(super) fn read(value: Value) -> Option<Self> {
        let mut fields = pairs(value)?;
        let text = |fields: &mut HashMap<Vec<u8>, Vec<u8>>, name: &str| {
            fields.remove(name.as_bytes()).and_then(|value| String::from_utf8(value).ok())
        };
        let number = |text: Option<String>| u128::from_str_radix(&text?, 16).ok();
        let opening = Opening::read(&fields);
        Some(Self {
            principal: Principal::from_bits(number(text(&mut fields, "principal"))?),
            route: text(&mut fields, "route")?,
            dialect: text(&mut fields, "dialect")?,
            note: text(&mut fields, "note").map(String::into_boxed_str),
            request_id: text(&mut fields, "request_id")?,
            fingerprint: number(text(&mut fields, "fingerprint"))?,
            owner: fields.get(&b"owner"[..]).and_then(|owner| Replica::read(owner)),
            opening,
        })
    }
}

impl Opening {
    fn read(fields: &HashMap<Vec<u8>, Vec<u8>>) -> Option<Self> {
        let field = |name: &str| fields.get(name.as_bytes()).map(Vec::as_slice);
        let numbering = field("numbering")?;
        let source = field("source")?;
        let known = |source: &Source| source.as_str().as_bytes();
        Some(Self {
            numbering: NUMBERINGS.iter().find(|(_, word)| word.as_bytes() == numbering)?.0,
            source: [Source::Live, Source::Fallback, Source::Continued].into_iter().find(|one| known(one) == source)?,
            headers: HeaderLines::from_bytes(field("headers").unwrap_or_default()),
        })
    }
}

const NUMBERINGS: [(Numbering, &str); 3] =
    [(Numbering::Issued, "issued"), (Numbering::Kept, "kept"), (Numbering::Off, "off")];

fn hex(bits: u128) -> Vec<u8> {
    format!("{bits:032x}").into_bytes()
}

fn pairs(value: Value) -> Option<HashMap<Vec<u8>, Vec<u8>>> {
    match value {
        Value::Array(flat) => {
            let mut flat = flat.into_iter();
            let mut fields = HashMap::new();
            while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
                fields.insert(bytes(name)?, bytes(value)?);
            }
            Some(fields)
        }
        Value::Map(pairs) => pairs.into_iter().map(|(name, value)| Some((bytes(name)?, bytes(value)?))).collect(),
        _ => None,
    }
}

/// A cookie that was set is its first client's alone.
fn without_cookies(headers: &HeaderLines) -> Vec<u8> {
    let mut map = headers.to_map();
    for name in [SET_COOKIE, AUTHORIZATION] {
        map.remove(name);
    }
    HeaderLines::of(&map).as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_kept_but_for_cookies_and_credentials() {
        let sent = HeaderLines::from_bytes(b"x-a:1\nset-cookie:s=1\nauthorization:me\nx-b:2\n");
        assert_eq!(without_cookies(&sent), b"x-a:1\nx-b:2\n");
    }

    #[test]
    fn nothing_is_no_session() {
        assert!(Meta::read(Value::Array(Vec::new())).is_none());
        assert!(Meta::read(Value::Nil).is_none());
    }
}
