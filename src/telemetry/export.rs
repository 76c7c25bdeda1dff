//! Spans on their way to a collector: OTLP over HTTP, protobuf, in batches, from a bounded queue.
//!
//! A collector that is slow or away costs nobody anything but the spans, which are dropped and counted. Connections are
//! hyper's and rustls', as everywhere here. Not here: what a span says (`spans`).
//! Source: OTLP specification 1.x, section "OTLP/HTTP"; semantic conventions for resources.

use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry::KeyValue;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::metrics;
use crate::config::Otlp;
use crate::tls::{self, TlsError};
use crate::version;

/// Spans that wait to be sent, at most.
const QUEUE: usize = 2048;
/// Spans in one request.
const BATCH: usize = 512;
/// First span of a batch → it is sent, full or not.
const EVERY: Duration = Duration::from_secs(1);
/// One batch, all tries included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum CannotExport {
    /// There is nobody to trust.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The exporter does not take what is configured.
    #[error(transparent)]
    Exporter(#[from] ExporterBuildError),
}

/// What the exporting task hears.
pub(super) enum News {
    /// A span is over.
    Span(Box<SpanData>),
    /// Send what is there, and tell.
    Flush(oneshot::Sender<()>),
}

/// Starts the task that exports what comes out of the queue.
pub(super) fn start(otlp: &Otlp) -> Result<mpsc::Sender<News>, CannotExport> {
    let exporter = exporter(otlp)?;
    let (queue, news) = mpsc::channel(QUEUE);
    tokio::spawn(export(news, Collector { exporter, well: true }));
    Ok(queue)
}

fn exporter(otlp: &Otlp) -> Result<SpanExporter, CannotExport> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(TIMEOUT / 2));
    let tls = tls::plain_client(otlp.endpoint.starts_with("https:"))?;
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    let client = HyperClient::new(connector.wrap_connector(http), TIMEOUT, None);
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = otlp.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(format!("{}/v1/traces", otlp.endpoint))
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(TIMEOUT)
        .with_headers(headers)
        .build()?;
    exporter.set_resource(&resource());
    Ok(exporter)
}

/// Who is speaking. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` of the environment say more.
fn resource() -> Resource {
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", version::VERSION));
    let named = std::env::var_os("OTEL_SERVICE_NAME").is_some_and(|name| !name.is_empty());
    if named { builder.build() } else { builder.with_service_name("streamkeeper").build() }
}

async fn export(mut news: mpsc::Receiver<News>, mut collector: Collector) {
    let mut batch: Vec<SpanData> = Vec::new();
    let mut due = Instant::now();
    loop {
        let heard = if batch.is_empty() {
            news.recv().await
        } else {
            tokio::select! {
                heard = news.recv() => heard,
                () = tokio::time::sleep_until(due) => {
                    collector.take(&mut batch).await;
                    continue;
                }
            }
        };
        match heard {
            Some(News::Span(span)) => {
                if batch.is_empty() {
                    due = Instant::now() + EVERY;
                }
                batch.push(*span);
                if batch.len() >= BATCH {
                    collector.take(&mut batch).await;
                }
            }
            Some(News::Flush(done)) => {
                collector.take(&mut batch).await;
                let _ = done.send(());
            }
            None => return collector.take(&mut batch).await,
        }
    }
}

struct Collector {
    exporter: SpanExporter,
    /// It took the last batch.
    well: bool,
}

impl Collector {
    /// Sends a batch, or gives it up. Both are told to the log when they begin, not each time.
    async fn take(&mut self, batch: &mut Vec<SpanData>) {
        let spans = std::mem::take(batch);
        let count = spans.len();
        if count == 0 {
            return;
        }
        let sent = self.exporter.export(spans).await;
        if sent.is_err() {
            metrics::spans_dropped(u64::try_from(count).unwrap_or(u64::MAX));
        }
        match (&sent, self.well) {
            (Err(error), true) => tracing::warn!(%error, "spans cannot be exported; they are dropped (telemetry.otlp)"),
            (Ok(()), false) => tracing::info!("spans are exported again"),
            _ => {}
        }
        self.well = sent.is_ok();
    }
}
