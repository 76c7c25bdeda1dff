//! Calls of a language model that are no streams: tried again and turned to another upstream like a stream before its
//! head. They only generate, so a second try costs at most money. Whatever the last try brought is passed on as it is.
//!
//! A client that leaves drops the call, and with it the upstream's work.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use streamkeeper_session::{Code, Fault, Seed, Verdict, may_fail_over, verdict};

use super::classify::UpstreamCall;
use super::serve::outgoing;
use crate::app::App;
use crate::pump::refusal_of;
use crate::telemetry::metrics;
use crate::upstream::{Dialler, Wish};

/// What an upstream's last try brought.
struct Failed {
    fault: Fault,
    sent: bool,
    response: Option<Response<Incoming>>,
}

/// The answer to `call`, whose whole body is `body`.
pub(super) async fn answer(app: &App, call: &UpstreamCall, body: &Bytes) -> Result<Response<Incoming>, Fault> {
    let all_tries = async {
        let mut seed = Seed::new(app.entropy.u64());
        let mut last = Err(Code::Internal.into());
        for dialler in app.upstreams.of(&call.route).into_iter().chain(app.upstreams.failover_of(&call.route)) {
            match at(dialler, call, body, &mut seed).await {
                Ok(response) => return Ok(response),
                Err(Failed { fault, sent, response }) => {
                    let elsewhere = may_fail_over(&call.route.retry, &fault, sent);
                    last = response.ok_or(fault);
                    if !elsewhere {
                        break;
                    }
                }
            }
        }
        last
    };
    tokio::time::timeout(call.route.timeouts.total, all_tries).await.unwrap_or_else(|_| Err(Code::TotalTimeout.into()))
}

/// All tries at one upstream.
async fn at(
    dialler: &Dialler,
    call: &UpstreamCall,
    body: &Bytes,
    seed: &mut Seed,
) -> Result<Response<Incoming>, Failed> {
    let group = dialler.group();
    let endpoints = u32::try_from(dialler.endpoints()).unwrap_or(u32::MAX);
    let mut tried = Vec::new();
    group.count_request();
    loop {
        let Some(out) = group.choose(&Wish { tried: &tried, ..Wish::default() }) else {
            return Err(Failed { fault: Code::UpstreamUnreachable.into(), sent: false, response: None });
        };
        tried.push(out.endpoint());
        let mut head = outgoing(call);
        head.headers.remove(CONTENT_LENGTH); // made anew from the body itself
        let body = Full::new(dialler.body(body)).map_err(|never| match never {}).boxed_unsync();
        let failed = match dialler.send_to(out.endpoint(), head, body).await {
            Err(none) => Failed { fault: none.fault, sent: none.sent, response: None },
            Ok(response) => {
                let (head, body) = response.into_parts();
                let refusal = refusal_of(&head).filter(|fault| fault.code != Code::UpstreamRejected);
                let mut response = Response::from_parts(head, body);
                match refusal {
                    None => {
                        metrics::attempt("ok");
                        // Out until its body is done; whoever passes it on says that it went well.
                        response.extensions_mut().insert(Arc::new(out));
                        return Ok(response);
                    }
                    Some(fault) => Failed { fault, sent: true, response: Some(response) },
                }
            }
        };
        metrics::attempt(failed.fault.code.as_str());
        out.failed(&failed.fault);
        drop(out);
        let tries = u32::try_from(tried.len()).unwrap_or(u32::MAX);
        let wait = match verdict(&call.route.retry, &failed.fault, failed.sent, tries, endpoints, seed.next()) {
            Verdict::Again(wait) => wait,
            Verdict::Next => Duration::ZERO,
            Verdict::GiveUp => return Err(failed),
        };
        if !group.spend_retry() {
            metrics::refused("retry_budget");
            return Err(failed);
        }
        tokio::time::sleep(wait).await;
    }
}
