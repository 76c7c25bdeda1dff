//! Wires: what starts a stream, what ends it, what an error is, how we speak one.
//!
//! A dialect sees values, never sockets: request heads and bodies, events, JSON answers. Adding one is one file
//! and one line in [`choose`]. The rules of what may be put into somebody else's stream are the same for all and
//! live where events are delivered; a dialect only says where it differs.

mod generic;
mod json;
mod openai;
mod wire;

use std::sync::Arc;

use crate::config::{DialectChoice, Route};

pub use generic::GenericDialect;
pub use openai::OpenAi;
pub use wire::*;

/// The dialect for a request on `route`.
pub fn choose(route: &Route, ask: &Ask<'_>) -> Arc<dyn Dialect> {
    let generic = || Arc::new(GenericDialect::new(route.generic.clone()));
    match route.dialect {
        DialectChoice::OpenAi => Arc::new(OpenAi),
        DialectChoice::Generic => generic(),
        DialectChoice::Auto if OpenAi::recognises(ask) => Arc::new(OpenAi),
        DialectChoice::Auto => generic(),
    }
}
