//! Traces by OTLP over gRPC: sampling, and export of the spans to a collector. The only module that depends on
//! OpenTelemetry.
//!
//! Spans wait in a bounded queue, which a separate thread sends. If the collector is unreachable or slow, spans that do
//! not fit are dropped; no call waits.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler as SdkSampler, SdkTracerProvider, SpanData,
    SpanExporter as Exporter,
};
use parking_lot::Mutex;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, layer};
use uuid::Uuid;

use crate::spans::{self, Sampled, Sampler, SetParent};

/// Maximum number of spans in the queue, about 1 KiB each; further ones are dropped.
const QUEUE_SPANS: usize = 4_096;
/// Maximum number of spans in one message, so that it stays below the 4 MiB that collectors accept.
const BATCH_SPANS: usize = 512;
/// Maximum time that a span waits for a batch to fill.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// Maximum number of links of a span, one for each operation of a group.
const MAX_LINKS: u32 = 1_024;
/// Timeout for sending one message.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for sending the last messages when the server stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval of log lines about failed exports.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// W3C header with the caller's span.
const TRACEPARENT: &str = "traceparent";

/// Connection to the collector.
pub struct Traces {
    provider: SdkTracerProvider,
    ratio: f64,
}

impl Traces {
    /// Prepares the connection to a collector. It is opened with the first spans, and again after a loss. `ratio`:
    /// share of the calls without a traced caller that are traced, from 0 to 1.
    ///
    /// # Errors
    /// If the endpoint is not a URL, or the certificates of this machine cannot be read.
    pub fn new(endpoint: &str, ratio: f64) -> anyhow::Result<Self> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_channel(channel(endpoint)?)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .context("the exporter of traces cannot be made")?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS)
            .with_max_export_batch_size(BATCH_SPANS)
            .with_scheduled_delay(BATCH_DELAY)
            .build();
        let exporter = Reporting { exporter, last: Mutex::new((None, 0)) };
        let provider = SdkTracerProvider::builder()
            .with_resource(resource())
            // Only sampled calls have a span at all; see `sampler`.
            .with_sampler(SdkSampler::AlwaysOn)
            .with_max_links_per_span(MAX_LINKS)
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
            .build();
        Ok(Self { provider, ratio })
    }

    /// Layer that converts our spans to those of OpenTelemetry and ignores all others.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a> + layer::SubscriberExt>(&self) -> impl Layer<S> + use<S> {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("interlock"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(Targets::new().with_target(spans::TARGET, LevelFilter::INFO))
    }

    /// Returns the sampler: the caller's `traceparent` decides if a call is traced; calls without one are sampled by
    /// `ratio`.
    pub fn sampler(&self) -> Sampler {
        let (propagator, ratio) = (TraceContextPropagator::new(), self.ratio);
        Arc::new(move |headers| {
            let caller = headers.contains_key(TRACEPARENT).then(|| {
                // An empty context: that of this thread does not belong to the caller.
                propagator.extract_with_context(&Context::new(), &Headers(headers))
            });
            match caller.filter(|caller| caller.span().span_context().is_valid()) {
                Some(caller) => caller
                    .span()
                    .span_context()
                    .is_sampled()
                    .then(|| Sampled { is_callers_choice: true, set_parent: child_of(caller) }),
                None => (ratio > 0.0 && rand::random::<f64>() < ratio)
                    .then(|| Sampled { is_callers_choice: false, set_parent: Box::new(|_: &_| ()) }),
            }
        })
    }

    /// Sends the remaining spans, for at most 2 s.
    pub async fn stop(self) {
        let stop = move || self.provider.shutdown_with_timeout(FLUSH_TIMEOUT);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(stop).await {
            tracing::warn!(%error, "the last spans did not reach the collector");
        }
    }
}

fn child_of(caller: Context) -> SetParent {
    Box::new(move |span: &tracing::Span| {
        // This fails only for a span that has already started.
        let _ = span.set_parent(caller);
    })
}

fn channel(endpoint: &str) -> anyhow::Result<Channel> {
    let wrong = || format!("otlp_endpoint: {endpoint:?} is not a URL");
    let mut described = Endpoint::from_shared(endpoint.to_owned())
        .with_context(wrong)?
        .connect_timeout(EXPORT_TIMEOUT)
        .timeout(EXPORT_TIMEOUT);
    if endpoint.starts_with("https://") {
        let tls = ClientTlsConfig::new().with_native_roots();
        described = described.tls_config(tls).context("the certificates of this machine cannot be used")?;
    }
    Ok(described.connect_lazy())
}

fn resource() -> Resource {
    Resource::builder()
        .with_service_name("interlock")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", Uuid::new_v4().to_string()))
        .build()
}

/// Headers for the propagator.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// An exporter that logs its failures, at most one line per [`LOG_INTERVAL`].
struct Reporting {
    exporter: SpanExporter,
    /// Time of the last log line, and the spans lost since.
    last: Mutex<(Option<Instant>, usize)>,
}

impl Reporting {
    fn report(&self, spans: usize, error: &dyn fmt::Display) {
        let mut last = self.last.lock();
        last.1 += spans;
        if last.0.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            tracing::warn!(lost_spans = last.1, %error, "the collector of traces takes no spans; they are dropped");
            *last = (Some(Instant::now()), 0);
        }
    }
}

impl fmt::Debug for Reporting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Reporting")
    }
}

impl Exporter for Reporting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.exporter.export(batch).await.inspect_err(|error| self.report(spans, error))
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// True if a call with these headers is traced.
    fn is_traced(ratio: f64, headers: &[(&'static str, &str)]) -> bool {
        let traces = Traces { provider: SdkTracerProvider::default(), ratio };
        let parse =
            |(name, value): &(&'static str, &str)| (name.parse().expect("a name"), value.parse().expect("text"));
        (traces.sampler())(&headers.iter().map(parse).collect()).is_some()
    }

    #[test]
    fn the_caller_decides_and_of_others_a_share_is_traced() {
        let sampled = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let unsampled = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
        let garbled = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-01");
        for (ratio, headers, expected) in [
            (0.0, vec![sampled], true),
            (1.0, vec![unsampled], false),
            (1.0, vec![garbled], true),
            (0.0, vec![garbled], false),
            (1.0, vec![], true),
            (0.0, vec![], false),
        ] {
            assert_eq!(is_traced(ratio, &headers), expected, "{ratio} {headers:?}");
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_is_no_url_is_refused_with_its_text() {
        let error = Traces::new("http://a b:1", 1.0).map(drop).expect_err("no URL");
        assert!(format!("{error:#}").contains("a b:1"), "{error:#}");
    }
}
