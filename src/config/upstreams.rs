//! `[[upstreams]]`: the named groups of endpoints.

use std::path::PathBuf;
use std::sync::Arc;

use super::keys::read_text;
use super::reader::Reader;
use super::settings::{Protocol, Upstream};
use super::values;

/// Reads all upstreams. One whose endpoints are wrong still counts, so that routes to it are not called wrong as well.
pub(super) fn read(r: &mut Reader<'_>) -> Vec<Arc<Upstream>> {
    let mut seen: Vec<(String, String)> = Vec::new();
    let upstreams = r.tables("upstreams", Vec::new(), |r| {
        let upstream = upstream(r)?;
        match seen.iter().find(|(name, _)| *name == upstream.name) {
            Some((name, place)) => {
                r.problem("name", format!("{name:?} is the name of {place} already; names are unique"))
            }
            None => seen.push((upstream.name.clone(), r.path().to_owned())),
        }
        Some(Arc::new(upstream))
    });
    if upstreams.is_empty() && r.sound("upstreams") {
        r.problem("upstreams", "there is none; write [[upstreams]] or give --upstream URL");
    }
    upstreams
}

fn upstream(r: &mut Reader<'_>) -> Option<Upstream> {
    const PROTOCOLS: [(&str, Protocol); 3] =
        [("auto", Protocol::Auto), ("http1", Protocol::Http1), ("http2", Protocol::Http2)];
    let name = r.required("name", values::label);
    let endpoints = r.list("endpoints", Vec::new(), values::endpoint);
    if endpoints.is_empty() && r.sound("endpoints") {
        r.problem("endpoints", "there is none; write at least one, such as [\"http://127.0.0.1:8000\"]");
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        if endpoints.iter().take(index).any(|earlier| earlier == endpoint) && r.sound("endpoints") {
            r.problem(&format!("endpoints[{index}]"), "stands in the list already; remove it");
        }
    }
    let upstream = Upstream {
        name: name.clone().unwrap_or_default(),
        endpoints,
        protocol: r.choice("protocol", Protocol::Auto, &PROTOCOLS),
        ca: certificates(r),
    };
    name.map(|_| upstream)
}

/// The path of a PEM file. It is opened here too: a typing slip should show in `check`, not at the first connection.
fn certificates(r: &mut Reader<'_>) -> Option<PathBuf> {
    let env = r.env();
    r.optional("ca", |path| {
        if read_text(env, path)?.contains("-----BEGIN CERTIFICATE-----") {
            Ok(path.into())
        } else {
            Err("the file holds no PEM certificate (-----BEGIN CERTIFICATE-----)".to_owned())
        }
    })
}
