//! Spans, and which requests have them: the handle that the rest of the program uses.
//!
//! A span is made when what it tells of is over, from facts that are there anyway; nothing is done per event. Not here:
//! how spans get to a collector (`export`), and what a session's spans say (`pump/trace.rs`).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use opentelemetry::trace::{Event, SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, SpanId, TraceId};
pub use opentelemetry::{KeyValue, trace::Event as SpanEvent};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tokio::sync::{mpsc, oneshot};

use super::context::Trace;
pub use super::export::CannotExport;
use super::export::{self, News};
use super::metrics;
use crate::clock::Entropy;
use crate::config::Otlp;
use crate::version;

/// Something that took time.
#[derive(Debug)]
pub struct Span {
    /// The trace it belongs to.
    pub trace: Trace,
    /// Its own id.
    pub id: u64,
    /// The span that caused it.
    pub parent: Option<u64>,
    /// What it is called: a word of a closed set, or made of configured names.
    pub name: Cow<'static, str>,
    /// Whom it was done for, or whom it waited for.
    pub side: Side,
    /// When it began.
    pub start: SystemTime,
    /// When it was over.
    pub end: SystemTime,
    /// What is known about it.
    pub attributes: Vec<KeyValue>,
    /// What happened meanwhile.
    pub events: Vec<Event>,
    /// So many more events are not in it.
    pub dropped_events: u64,
    /// It failed, and not for the caller's fault.
    pub failed: bool,
}

/// Which side of a request a span is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A client's request to us.
    Server,
    /// Our request to an upstream.
    Client,
}

/// Where spans go. Without a collector: nowhere.
#[derive(Debug, Clone, Default)]
pub struct Spans(Option<Arc<Exporting>>);

#[derive(Debug)]
struct Exporting {
    queue: mpsc::Sender<News>,
    /// Traces that begin here: this part of them is kept.
    sample: f64,
}

impl Spans {
    /// Spans are sent to the collector of `otlp`. Call inside a runtime.
    ///
    /// # Errors
    /// When no connection to it can be set up; whether it is there does not matter.
    pub fn to_collector(otlp: &Otlp) -> Result<Self, CannotExport> {
        let queue = export::start(otlp)?;
        Ok(Self(Some(Arc::new(Exporting { queue, sample: otlp.sample }))))
    }

    /// The trace of a request that came with these headers: the caller's; else one that begins here, if spans go
    /// anywhere.
    pub fn trace_of(&self, headers: &HeaderMap, entropy: &Entropy) -> Option<Trace> {
        Trace::of_caller(headers).or_else(|| {
            let exporting = self.0.as_ref()?;
            let id = entropy.u128();
            Some(Trace::begin(id, is_within(id, exporting.sample)))
        })
    }

    /// Whether the spans of `trace` are wanted.
    pub fn wants(&self, trace: &Trace) -> bool {
        self.0.is_some() && trace.is_sampled()
    }

    /// Sends a span on its way. If there is no room for it, it is dropped and counted.
    pub fn record(&self, span: Span) {
        let Some(exporting) = &self.0 else { return };
        if exporting.queue.try_send(News::Span(Box::new(span.into()))).is_err() {
            metrics::spans_dropped(1);
        }
    }

    /// Waits until everything recorded so far was sent or given up, but no longer than `within`.
    pub async fn flush(&self, within: Duration) {
        let Some(exporting) = &self.0 else { return };
        let (done, flushed) = oneshot::channel();
        let flush = async {
            if exporting.queue.send(News::Flush(done)).await.is_ok() {
                let _ = flushed.await;
            }
        };
        let _ = tokio::time::timeout(within, flush).await;
    }
}

/// Whether the trace `id` is in the part `ratio` of all: the same at every replica.
fn is_within(id: u128, ratio: f64) -> bool {
    // As the specification has it the lowest 56 bits are random, whatever stands above them.
    const BITS: u32 = 56;
    (id & ((1 << BITS) - 1)) as f64 / (1_u64 << BITS) as f64 <= ratio && ratio > 0.0
}

impl From<Span> for SpanData {
    fn from(span: Span) -> Self {
        let Span { trace, id, parent, name, side, start, end, attributes, events, dropped_events, failed } = span;
        let flags = TraceFlags::default().with_sampled(trace.is_sampled());
        let trace_id = TraceId::from_bytes(trace.id().to_be_bytes());
        let mut kept = SpanEvents::default();
        kept.events = events;
        kept.dropped_count = u32::try_from(dropped_events).unwrap_or(u32::MAX);
        Self {
            span_context: SpanContext::new(trace_id, span_id(id), flags, false, TraceState::NONE),
            parent_span_id: parent.map_or(SpanId::INVALID, span_id),
            parent_span_is_remote: parent.is_some() && parent == trace.parent(),
            span_kind: match side {
                Side::Server => SpanKind::Server,
                Side::Client => SpanKind::Client,
            },
            name,
            start_time: start,
            end_time: end.max(start),
            attributes,
            dropped_attributes_count: 0,
            events: kept,
            links: SpanLinks::default(),
            status: if failed { Status::error("") } else { Status::Unset },
            instrumentation_scope: InstrumentationScope::builder("streamkeeper").with_version(version::VERSION).build(),
        }
    }
}

fn span_id(id: u64) -> SpanId {
    SpanId::from_bytes(id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sampled_part_is_as_large_as_asked() {
        let entropy = Entropy::seeded(7);
        let ids: Vec<_> = (0..10_000).map(|_| entropy.u128()).collect();
        let share = |ratio| ids.iter().filter(|id| is_within(**id, ratio)).count();
        assert_eq!((share(0.0), share(1.0)), (0, 10_000));
        assert!((2_300..2_700).contains(&share(0.25)), "{}", share(0.25));
        assert!(
            ids.iter().all(|id| !is_within(*id, 0.25) || is_within(*id, 0.5)),
            "a larger part has the smaller in it"
        );
    }

    #[test]
    fn without_a_collector_only_a_callers_trace_goes_on_and_no_span_is_wanted() {
        let (spans, entropy) = (Spans::default(), Entropy::seeded(1));
        assert_eq!(spans.trace_of(&HeaderMap::new(), &entropy), None);
        let mut headers = HeaderMap::new();
        Trace::begin(5, true).write(6, &mut headers);
        let trace = spans.trace_of(&headers, &entropy).unwrap();
        assert_eq!((trace.id(), trace.parent(), spans.wants(&trace)), (5, Some(6), false));
    }
}
