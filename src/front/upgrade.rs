//! `Upgrade` (WebSocket and others): both connections are joined after the upstream's 101, bytes pass as they are.
//!
//! Source: RFC 9110 section 7.8.

use std::sync::Arc;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use streamkeeper_session::{Code, Fault};

use super::Answer;
use super::classify::UpstreamCall;
use super::pass::passed;
use super::serve::outgoing;
use crate::upstream::{Dialler, UpstreamBody};

/// Passes a request to upgrade, and joins the connections if the upstream agrees.
pub(super) async fn upgrade(
    dialler: &Arc<Dialler>,
    call: &mut UpstreamCall,
    body: UpstreamBody,
) -> Result<Answer, Fault> {
    let protocol = call.head.headers.get(UPGRADE).cloned();
    let mut outgoing = outgoing(call);
    if let Some(protocol) = protocol {
        outgoing.headers.insert(UPGRADE, protocol);
        outgoing.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let sending = dialler.send(outgoing, body);
    let mut response = match tokio::time::timeout(call.route.timeouts.total, sending).await {
        Err(_) => return Err(Code::TotalTimeout.into()),
        Ok(response) => response.map_err(|none| none.fault)?,
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(passed(response));
    }
    let theirs = hyper::upgrade::on(&mut response);
    let mut client = Request::new(());
    std::mem::swap(client.extensions_mut(), &mut call.head.extensions);
    let ours = hyper::upgrade::on(client);
    tokio::spawn(async move {
        match tokio::try_join!(ours, theirs) {
            Ok((ours, theirs)) => {
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
            }
            Err(error) => tracing::debug!(%error, "upgrade failed"),
        }
    });
    Ok(passed(response))
}
