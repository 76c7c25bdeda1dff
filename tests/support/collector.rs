//! A collector of spans: what comes over OTLP, decoded with the protocol's own types.

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as proto;
use prost::Message as _;

use super::upstream::{Seen, Upstream};
use super::{Proxy, must, upstream};

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    /// It, as a server.
    pub upstream: Upstream,
}

/// A span as it arrived, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub trace: String,
    pub id: String,
    /// Empty where there is none.
    pub parent: String,
    pub name: String,
    /// `server` or `client`.
    pub kind: &'static str,
    /// Nanoseconds since 1970.
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
    pub events: Vec<(String, BTreeMap<String, String>)>,
    pub failed: bool,
}

impl Told {
    /// An attribute; empty where it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// The attributes of the first event of this name, which must be there.
    pub fn event(&self, name: &str) -> &BTreeMap<String, String> {
        let found = self.events.iter().find(|(event, _)| event == name);
        &found.unwrap_or_else(|| panic!("no event {name} in {self:#?}")).1
    }
}

impl Collector {
    /// One that takes everything.
    pub async fn start() -> Self {
        Self { upstream: upstream().answer(200, "application/x-protobuf", "").start().await }
    }

    /// The configuration that sends spans to it.
    pub fn toml(&self) -> String {
        format!("[telemetry.otlp]\nendpoint = '{}'\n", self.url())
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.upstream.address)
    }

    /// All batches as they came.
    pub fn batches(&self) -> Vec<Seen> {
        (1..=self.upstream.requests()).map(|number| self.upstream.request(number)).filter(|seen| seen.whole).collect()
    }

    /// All that came, decoded.
    pub fn decoded(&self) -> Vec<ExportTraceServiceRequest> {
        let decode = |seen: Seen| ExportTraceServiceRequest::decode(seen.body.as_slice()).expect("protobuf");
        self.batches().into_iter().map(decode).collect()
    }

    /// Who sent them: the attributes of the first batch's resource.
    pub fn resource(&self) -> BTreeMap<String, String> {
        let resource = self.decoded()[0].resource_spans[0].resource.clone().unwrap_or_default();
        words(&resource.attributes)
    }

    /// All spans that came.
    pub fn spans(&self) -> Vec<Told> {
        let batches = self.decoded().into_iter().flat_map(|batch| batch.resource_spans);
        let scopes = batches.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).map(told).collect()
    }

    /// Makes `proxy` send what it has, and waits for so many spans: the session's last.
    pub async fn of(&self, proxy: &Proxy, count: usize) -> Vec<Told> {
        proxy.app.spans.flush(Duration::from_secs(10)).await;
        self.until(count).await
    }

    /// Waits for so many spans.
    pub async fn until(&self, count: usize) -> Vec<Told> {
        let waited = async {
            while self.spans().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        must("spans to come", waited).await;
        let spans = self.spans();
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans
    }
}

fn told(span: proto::Span) -> Told {
    Told {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        kind: match proto::span::SpanKind::try_from(span.kind) {
            Ok(proto::span::SpanKind::Server) => "server",
            Ok(proto::span::SpanKind::Client) => "client",
            other => panic!("strange kind: {other:?}"),
        },
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: words(&span.attributes),
        events: span.events.into_iter().map(|event| (event.name, words(&event.attributes))).collect(),
        failed: span.status.is_some_and(|status| status.code == proto::status::StatusCode::Error as i32),
    }
}

/// Attributes in words.
fn words(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let word = |pair: &KeyValue| {
        let value = match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(any_value::Value::StringValue(text)) => text.clone(),
            Some(any_value::Value::IntValue(number)) => number.to_string(),
            other => panic!("strange value of {}: {other:?}", pair.key),
        };
        (pair.key.clone(), value)
    };
    attributes.iter().map(word).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
