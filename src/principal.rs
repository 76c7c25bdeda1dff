//! Whom a session belongs to: a keyed hash of the caller's credential headers.
//!
//! The hash is HMAC-SHA-256 under a key of this process (or of all that share a store), cut to 128 bits; the credentials
//! themselves are kept nowhere. A caller without credentials is [`Principal::ANYBODY`]: then the session's 128-bit id is the capability.

use http::HeaderMap;
use http::header::COOKIE;
use ring::hmac;

use crate::clock::Entropy;
use crate::config::CREDENTIAL_HEADERS;

/// The owner of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Principal(u128);

impl Principal {
    /// A caller without credentials.
    pub const ANYBODY: Self = Self(0);

    /// Its bits, for a store that other processes read.
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// From [`bits`](Self::bits).
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

/// Makes principals and other keyed fingerprints.
pub struct Keyed {
    key: hmac::Key,
}

impl std::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyed(***)")
    }
}

impl Keyed {
    /// A fresh key.
    pub fn new(entropy: &Entropy) -> Self {
        let mut key = [0_u8; 32];
        for part in key.chunks_mut(8) {
            part.copy_from_slice(&entropy.u64().to_be_bytes());
        }
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key) }
    }

    /// The key that all processes with the same `secret` make.
    pub fn shared(secret: &str) -> Self {
        let purpose = hmac::Key::new(hmac::HMAC_SHA256, b"streamkeeper principals and fingerprints");
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&purpose, secret.as_bytes()).as_ref()) }
    }

    /// The principal of a request. `cookies`: names of cookies that are credentials too.
    pub fn principal(&self, headers: &HeaderMap, cookies: &[String]) -> Principal {
        let mut parts: Vec<&[u8]> = Vec::new();
        for name in CREDENTIAL_HEADERS {
            for value in headers.get_all(name) {
                parts.extend([name.as_bytes(), value.as_bytes()]);
            }
        }
        for name in cookies {
            if let Some(value) = cookie(headers, name) {
                parts.extend([name.as_bytes(), value.as_bytes()]);
            }
        }
        if parts.is_empty() { Principal::ANYBODY } else { Principal(self.fingerprint(&parts)) }
    }

    /// A fingerprint of `parts`; each is length-prefixed, so that no two lists run together.
    pub fn fingerprint(&self, parts: &[&[u8]]) -> u128 {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        let mut bits = [0_u8; 16];
        for (to, from) in bits.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        // Zero is taken by ANYBODY.
        u128::from_be_bytes(bits).max(1)
    }

    /// What a session key or an Idempotency-Key of one principal is filed under.
    pub fn name(&self, principal: Principal, space: &str, key: &[u8]) -> u128 {
        self.fingerprint(&[&principal.0.to_be_bytes(), space.as_bytes(), key])
    }
}

/// The value of the cookie `name`.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed() -> Keyed {
        Keyed::new(&Entropy::seeded(7))
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn callers_without_credentials_are_anybody() {
        assert_eq!(keyed().principal(&headers(&[("accept", "*/*")]), &[]), Principal::ANYBODY);
    }

    #[test]
    fn each_credential_header_makes_its_own_principal() {
        let keyed = keyed();
        let one = keyed.principal(&headers(&[("authorization", "Bearer a")]), &[]);
        assert_ne!(one, Principal::ANYBODY);
        assert_ne!(one, keyed.principal(&headers(&[("authorization", "Bearer b")]), &[]));
        assert_ne!(one, keyed.principal(&headers(&[("x-api-key", "Bearer a")]), &[]));
        assert_eq!(one, keyed.principal(&headers(&[("authorization", "Bearer a"), ("accept", "*/*")]), &[]));
    }

    #[test]
    fn configured_cookies_are_credentials_and_others_are_not() {
        let keyed = keyed();
        let caller = headers(&[("cookie", "theme=dark; sid=42")]);
        assert_eq!(keyed.principal(&caller, &[]), Principal::ANYBODY);
        assert_ne!(keyed.principal(&caller, &["sid".into()]), Principal::ANYBODY);
    }

    #[test]
    fn lists_that_join_to_the_same_bytes_differ() {
        assert_ne!(keyed().fingerprint(&[b"ab", b"c"]), keyed().fingerprint(&[b"a", b"bc"]));
    }

    #[test]
    fn the_key_is_never_shown() {
        assert_eq!(format!("{:?}", keyed()), "Keyed(***)");
    }
}
