//! Wires: what starts a stream, what ends it, what an error is, how we speak one.
//!
//! A dialect sees values, never sockets: request heads and bodies, events, JSON answers. Adding one is one file, its
//! name in the configuration, and one line in `named` (and in `RECOGNISED`, where a request gives it away). The
//! rules of what may be put into somebody else's stream are the same for all and live where events are delivered; a
//! dialect only says where it differs.

mod ai_sdk;
mod anthropic;
mod cohere;
mod gemini;
mod generic;
mod json;
mod langgraph;
mod langserve;
mod mcp;
mod openai;
mod responses;
mod wire;
mod words;

use std::sync::Arc;

use http::HeaderMap;

use crate::config::{DialectChoice, Route};

pub use ai_sdk::AiSdk;
pub use anthropic::Anthropic;
pub use cohere::Cohere;
pub use gemini::Gemini;
pub use generic::GenericDialect;
pub use langgraph::LangGraph;
pub use langserve::LangServe;
pub use mcp::Mcp;
pub use openai::OpenAi;
pub use responses::Responses;
pub use wire::*;

/// Whether a request gives a wire away, and which.
type Recognised = (fn(&Ask<'_>) -> bool, DialectChoice);

/// The wires that `auto` looks for, in this order: the path tells most of them.
const RECOGNISED: [Recognised; 8] = [
    (OpenAi::recognises, DialectChoice::OpenAi),
    (Responses::recognises, DialectChoice::Responses),
    (Anthropic::recognises, DialectChoice::Anthropic),
    (Gemini::recognises, DialectChoice::Gemini),
    (Cohere::recognises, DialectChoice::Cohere),
    (LangGraph::recognises, DialectChoice::LangGraph),
    (Mcp::recognises, DialectChoice::Mcp),
    (LangServe::recognises, DialectChoice::LangServe),
];

/// The dialect for a request on `route`. Its body may not be there yet; [`settle`] decides what only a body can tell.
pub fn choose(route: &Route, ask: &Ask<'_>) -> Arc<dyn Dialect> {
    let recognised = || RECOGNISED.iter().find(|(recognises, _)| recognises(ask)).map(|(_, choice)| *choice);
    match route.dialect {
        DialectChoice::Auto => named(recognised().unwrap_or(DialectChoice::Generic), route),
        choice => named(choice, route),
    }
}

/// The dialect, now that the request's body is there: a path such as `/stream` fits other apps, too.
pub fn settle(route: &Route, chosen: Arc<dyn Dialect>, ask: &Ask<'_>) -> Arc<dyn Dialect> {
    let doubtful = route.dialect == DialectChoice::Auto && chosen.name() == LangServe.name();
    if doubtful && !chosen.asks_in_body(ask) { named(DialectChoice::Generic, route) } else { chosen }
}

/// The dialect of an event stream that nobody announced: its response may say more than its request did.
pub fn answered(route: &Route, chosen: Arc<dyn Dialect>, headers: &HeaderMap) -> Arc<dyn Dialect> {
    let open = route.dialect == DialectChoice::Auto && chosen.name() == "generic";
    if open && AiSdk::answers(headers) { named(DialectChoice::AiSdk, route) } else { chosen }
}

/// The dialect of this name, as another process calls it.
pub fn by_name(name: &str, route: &Route) -> Option<Arc<dyn Dialect>> {
    let choices = [
        DialectChoice::OpenAi,
        DialectChoice::Responses,
        DialectChoice::Anthropic,
        DialectChoice::Gemini,
        DialectChoice::Cohere,
        DialectChoice::Mcp,
        DialectChoice::LangGraph,
        DialectChoice::LangServe,
        DialectChoice::AiSdk,
        DialectChoice::Generic,
    ];
    choices.into_iter().map(|choice| named(choice, route)).find(|dialect| dialect.name() == name)
}

fn named(choice: DialectChoice, route: &Route) -> Arc<dyn Dialect> {
    match choice {
        DialectChoice::OpenAi => Arc::new(OpenAi),
        DialectChoice::Responses => Arc::new(Responses),
        DialectChoice::Anthropic => Arc::new(Anthropic),
        DialectChoice::Gemini => Arc::new(Gemini),
        DialectChoice::Cohere => Arc::new(Cohere),
        DialectChoice::Mcp => Arc::new(Mcp),
        DialectChoice::LangGraph => Arc::new(LangGraph),
        DialectChoice::LangServe => Arc::new(LangServe),
        DialectChoice::AiSdk => Arc::new(AiSdk),
        DialectChoice::Auto | DialectChoice::Generic => Arc::new(GenericDialect::new(route.generic.clone())),
    }
}
