//! What a request looks like to one upstream: its own credential in place of the caller's, its headers, its names of
//! models.
//!
//! The caller's request itself stays as it came, for the next upstream may want it otherwise. Not here: headers of one
//! hop (`headers`).

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use http::header::COOKIE;
use http::uri::PathAndQuery;
use http::{HeaderName, Uri};
use serde_json::value::RawValue;

use super::Outgoing;
use crate::config::CREDENTIAL_HEADERS;
use crate::config::{Models, Upstream};

/// Query parameters that carry keys (Gemini's `key`, Azure's `api-key`, OAuth's `access_token` and their like).
const CREDENTIAL_PARAMETERS: [&str; 5] = ["key", "api_key", "api-key", "apikey", "access_token"];
/// Which account pays: of no use to another credential, and refused with it.
const ACCOUNT_HEADERS: [&str; 2] = ["openai-organization", "openai-project"];

/// Makes a request the upstream's. Where that one has a credential of its own, nothing of the caller's is left.
pub(super) fn dress(upstream: &Upstream, outgoing: &mut Outgoing) {
    if has_own_credential(upstream) {
        for name in CREDENTIAL_HEADERS.iter().chain(&ACCOUNT_HEADERS) {
            outgoing.headers.remove(*name);
        }
        outgoing.headers.remove(COOKIE);
        if let Some(uri) = without_keys(&outgoing.uri) {
            outgoing.uri = uri;
        }
    }
    if let Some(credential) = &upstream.credential {
        outgoing.headers.insert(credential.header.clone(), credential.value.clone());
    }
    for (name, value) in &upstream.headers {
        outgoing.headers.insert(name.clone(), value.clone());
    }
}

fn has_own_credential(upstream: &Upstream) -> bool {
    let carries = |name: &HeaderName| CREDENTIAL_HEADERS.contains(&name.as_str());
    upstream.credential.is_some() || upstream.headers.iter().any(|(name, _)| carries(name))
}

/// The same path and query without keys; `None` if there are none in it.
fn without_keys(uri: &Uri) -> Option<Uri> {
    let query = uri.query()?;
    let is_key = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        CREDENTIAL_PARAMETERS.iter().any(|key| name.eq_ignore_ascii_case(key))
    };
    query.split('&').find(is_key)?;
    let kept: Vec<_> = query.split('&').filter(|pair| !is_key(pair)).collect();
    let path = uri.path();
    let target = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

/// The body with the upstream's name of the model in it; as it is where that makes no difference. Everything but the
/// top-level `model` keeps its bytes.
pub(super) fn rename(models: &Models, body: &Bytes) -> Bytes {
    if models.any.is_none() && models.named.is_empty() {
        return body.clone();
    }
    renamed(models, body).unwrap_or_else(|| body.clone())
}

fn renamed(models: &Models, body: &Bytes) -> Option<Bytes> {
    let fields: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(body).ok()?;
    let raw = fields.get("model")?.get();
    let asked: String = serde_json::from_str(raw).ok()?;
    let named = models.named.iter().find(|(from, _)| *from == asked).map(|(_, to)| to);
    let name = named.or(models.any.as_ref())?;
    // The value is a slice of the body, so this is where it stands in it.
    let start = raw.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    let (before, after) = (body.get(..start)?, body.get(start + raw.len()..)?);
    Some([before, serde_json::Value::from(name.as_str()).to_string().as_bytes(), after].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Models {
        Models { named: vec![("gpt-4o".to_owned(), "mix\"tral".to_owned())], any: Some("small".to_owned()) }
    }

    fn renamed(body: &'static str) -> String {
        String::from_utf8(rename(&models(), &Bytes::from_static(body.as_bytes())).to_vec()).unwrap()
    }

    #[test]
    fn the_model_is_renamed_and_every_other_byte_stays() {
        assert_eq!(
            renamed(r#" {"z":1.0e2, "model" : "gpt-4o" ,"a":"é\u00e9","x":{"model":"gpt-4o"}}"#),
            r#" {"z":1.0e2, "model" : "mix\"tral" ,"a":"é\u00e9","x":{"model":"gpt-4o"}}"#
        );
        assert_eq!(renamed(r#"{"model":"gpt-\u0034o"}"#), r#"{"model":"mix\"tral"}"#);
        assert_eq!(renamed(r#"{"model":"other"}"#), r#"{"model":"small"}"#);
    }

    #[test]
    fn a_body_without_a_models_name_stays_as_it_is() {
        for body in ["", "{", "[]", "{}", r#"{"model":7}"#, "\u{e9}"] {
            assert_eq!(renamed(body), body);
        }
        let unnamed = Models { any: None, ..models() };
        let body = Bytes::from_static(br#"{"model":"other"}"#);
        assert_eq!(rename(&unnamed, &body), body);
    }

    #[test]
    fn keys_leave_the_query_and_the_rest_of_it_stays() {
        let without = |uri: &'static str| without_keys(&Uri::from_static(uri)).map(|uri| uri.to_string());
        assert_eq!(without("/v1/m:stream?alt=sse&key=K&x=%20").as_deref(), Some("/v1/m:stream?alt=sse&x=%20"));
        assert_eq!(without("/v1?API-KEY=K").as_deref(), Some("/v1"));
        assert_eq!(without("/v1?monkey=K"), None);
        assert_eq!(without("/v1"), None);
    }
}
