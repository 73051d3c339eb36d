//! Spans of requests, for a collector of OpenTelemetry (OTLP over HTTP).
//!
//! ```text
//! span of the client          traceparent: 00-TRACE-SPAN-01
//!   └─ POST /v1/chat/completions    a request, from its head to the end of its answer
//!        └─ inferlet api-chat       the inferlet that answers it, to its end
//!             └─ inferlet agent     one that it launched
//! ```
//!
//! A span that has ended goes into a bounded queue, from which a thread of the SDK sends batches. A queue that is full, or a
//! collector that is down, loses spans and delays nobody; what was lost is counted. Without [`Telemetry`] there are no
//! spans, and nothing here is called.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter as Exporter};

/// How long sending what is left may take at the end.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// Where a collector takes spans, below its address.
const TRACES_PATH: &str = "/v1/traces";

/// The exporter cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("spans cannot be sent to the collector: {0}; expected an address as `http://127.0.0.1:4318`")]
pub struct TelemetryError(String);

/// Makes spans and sends them.
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    counts: Arc<Counts>,
}

/// What became of spans.
#[derive(Debug, Default)]
struct Counts {
    ended: AtomicU64,
    sent: AtomicU64,
}

impl Telemetry {
    /// Begins to send spans to the collector at `endpoint`, or where the standard's variables of the environment say.
    /// These decide the rest as well: headers, timeouts, the sampler, the queue.
    ///
    /// # Errors
    /// When the address is none.
    pub fn start(endpoint: Option<&str>, service: Option<&str>) -> Result<Telemetry, TelemetryError> {
        // Fails when a provider is already there, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(traces_url(endpoint));
        }
        let inner = builder.build().map_err(|error| TelemetryError(error.to_string()))?;
        let counts = Arc::new(Counts::default());
        let exporter = Counted { inner, counts: counts.clone(), fails: AtomicBool::new(false) };
        let resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let resource = match service {
            Some(service) => resource.with_service_name(service.to_string()),
            None => resource,
        };
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_batch_exporter(exporter)
            .build();
        Ok(Telemetry { tracer: provider.tracer("pie"), provider, counts })
    }

    /// Begins the span of a request, which continues the trace that its headers name.
    pub fn request(&self, head: &RequestHead<'_>) -> RequestSpan {
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), head);
        let attributes = [
            KeyValue::new("http.request.method", head.method.to_string()),
            KeyValue::new("http.route", head.route.to_string()),
            KeyValue::new("url.path", head.path.to_string()),
            KeyValue::new("url.scheme", head.scheme),
            KeyValue::new("gen_ai.provider.name", "pie"),
        ];
        let builder = self
            .tracer
            .span_builder(format!("{} {}", head.method, head.route))
            .with_kind(SpanKind::Server)
            .with_attributes(attributes);
        let span = self.tracer.build_with_context(builder, &parent);
        let context = SpanParent {
            tracer: self.tracer.clone(),
            parent: span.span_context().clone(),
            counts: self.counts.clone(),
            tally: Arc::default(),
        };
        RequestSpan { span, context }
    }

    /// Sends what is left, for some seconds. The spans that did not reach the collector since the start.
    pub fn shutdown(&self) -> u64 {
        // What fails is counted.
        let _ = self.provider.shutdown_with_timeout(SHUTDOWN);
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        load(&self.counts.ended).saturating_sub(load(&self.counts.sent))
    }
}

/// The address for spans of a collector that is given by its own.
fn traces_url(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    match endpoint.ends_with(TRACES_PATH) {
        true => endpoint.to_string(),
        false => format!("{endpoint}{TRACES_PATH}"),
    }
}

/// Counts what reaches the collector, and says in the log when that begins and ceases to fail.
#[derive(Debug)]
struct Counted {
    inner: SpanExporter,
    counts: Arc<Counts>,
    fails: AtomicBool,
}

impl Exporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let sent = self.inner.export(batch).await;
        let failed = self.fails.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Ok(()) => {
                self.counts.sent.fetch_add(spans, Ordering::Relaxed);
                if failed {
                    tracing::info!("the collector takes spans again");
                }
            }
            Err(error) if !failed => tracing::warn!(%error, "spans do not reach the collector, and are lost"),
            Err(_) => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Its method.
    pub method: &'a str,
    /// Where what answers it is mounted: one of few, unlike the path.
    pub route: &'a str,
    /// Its path.
    pub path: &'a str,
    /// The header of that name: the trace of the client.
    pub traceparent: Option<&'a str>,
    /// The header of that name.
    pub tracestate: Option<&'a str>,
}

impl Extractor for RequestHead<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.traceparent,
            "tracestate" => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// The span of a request. It ends when it is dropped.
#[derive(Debug)]
pub struct RequestSpan {
    span: Span,
    context: SpanParent,
}

/// How many tokens an answer says that it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// Of the prompt.
    pub input: Option<u64>,
    /// Of the answer.
    pub output: Option<u64>,
}

impl RequestSpan {
    /// What the inferlets of this request are told, to begin spans of their own.
    pub fn parent(&self) -> SpanParent {
        self.context.clone()
    }

    /// What the route does, as OpenTelemetry names it.
    pub fn set_operation(&mut self, name: &'static str) {
        self.span.set_attribute(KeyValue::new("gen_ai.operation.name", name));
    }

    /// The status of the answer.
    pub fn set_status(&mut self, status: u16) {
        self.span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= 500 {
            self.span.set_attribute(KeyValue::new("error.type", status.to_string()));
            self.span.set_status(Status::error(""));
        }
    }

    /// What the answer says of its tokens.
    pub fn set_usage(&mut self, TokenUsage { input, output }: TokenUsage) {
        let attribute = |name: &'static str, count: u64| KeyValue::new(name, count as i64);
        let input = input.map(|count| attribute("gen_ai.usage.input_tokens", count));
        let output = output.map(|count| attribute("gen_ai.usage.output_tokens", count));
        self.span.set_attributes(input.into_iter().chain(output));
    }

    /// The client left before the answer was out.
    pub fn client_left(&mut self) {
        self.span.set_attribute(KeyValue::new("error.type", "client_left"));
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        self.context.end(&mut self.span, &self.context.tally);
    }
}

/// What a span is told of the passes below it.
#[derive(Debug, Default)]
struct Tally {
    passes: AtomicU64,
    computed: AtomicU64,
    cached: AtomicU64,
    /// Of the first pass.
    model: OnceLock<String>,
    user: OnceLock<String>,
}

impl Tally {
    fn pass(&self, model: &str, computed: u32, cached: u32) {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.computed.fetch_add(computed.into(), Ordering::Relaxed);
        self.cached.fetch_add(cached.into(), Ordering::Relaxed);
        self.model.get_or_init(|| model.to_string());
    }

    fn attributes(&self) -> impl Iterator<Item = KeyValue> {
        let count = |name: &'static str, count: &AtomicU64| {
            Some(KeyValue::new(name, count.load(Ordering::Relaxed) as i64))
        };
        let text = |name: &'static str, text: &OnceLock<String>| {
            text.get().map(|text| KeyValue::new(name, text.clone()))
        };
        let attributes = [
            text("user.name", &self.user),
            text("gen_ai.request.model", &self.model),
            count("pie.passes", &self.passes),
            count("pie.tokens.computed", &self.computed),
            count("pie.tokens.cached", &self.cached),
        ];
        attributes.into_iter().flatten()
    }
}

/// Where spans of inferlets begin: below a request, or below another inferlet.
#[derive(Clone, Debug)]
pub struct SpanParent {
    tracer: SdkTracer,
    parent: SpanContext,
    counts: Arc<Counts>,
    /// Of the request.
    tally: Arc<Tally>,
}

impl SpanParent {
    /// Begins the span of an inferlet.
    pub fn inferlet(&self, id: &str, program: &str, user: &str) -> InferletSpan {
        let parent = Context::new().with_remote_span_context(self.parent.clone());
        let attributes = [
            KeyValue::new("pie.inferlet.id", id.to_string()),
            KeyValue::new("pie.program", program.to_string()),
        ];
        let builder = self
            .tracer
            .span_builder(format!("inferlet {program}"))
            .with_kind(SpanKind::Internal)
            .with_attributes(attributes);
        let span = self.tracer.build_with_context(builder, &parent);
        let below = SpanParent { parent: span.span_context().clone(), ..self.clone() };
        let tally = Tally::default();
        for tally in [&tally, &*self.tally] {
            tally.user.get_or_init(|| user.to_string());
        }
        InferletSpan { span: Mutex::new(Some(span)), tally, below }
    }

    fn end(&self, span: &mut Span, tally: &Tally) {
        span.set_attributes(tally.attributes());
        if span.is_recording() {
            self.counts.ended.fetch_add(1, Ordering::Relaxed);
        }
        span.end();
    }
}

/// The span of an inferlet.
#[derive(Debug)]
pub struct InferletSpan {
    /// `None` once it has ended.
    span: Mutex<Option<Span>>,
    tally: Tally,
    below: SpanParent,
}

impl InferletSpan {
    /// Where spans of those that it launches begin.
    pub fn below(&self) -> &SpanParent {
        &self.below
    }

    /// A pass was computed for it.
    pub fn pass(&self, model: &str, computed: u32, cached: u32) {
        self.tally.pass(model, computed, cached);
        self.below.tally.pass(model, computed, cached);
    }

    /// It has ended.
    pub fn end(&self) {
        let span = self.span.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut span) = span {
            self.below.end(&mut span, &self.tally);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_the_collector_or_of_its_spans() {
        for endpoint in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"] {
            assert_eq!(traces_url(endpoint), "http://c:4318/v1/traces");
        }
        assert_eq!(traces_url("https://c/otlp"), "https://c/otlp/v1/traces");
    }

    fn head<'a>(traceparent: Option<&'a str>) -> RequestHead<'a> {
        RequestHead { scheme: "http", method: "GET", route: "/", path: "/", traceparent, tracestate: None }
    }

    #[test]
    fn a_collector_that_is_down_loses_spans_and_each_is_counted() {
        let telemetry = Telemetry::start(Some("http://127.0.0.1:9"), Some("test")).unwrap();
        let request = telemetry.request(&head(None));
        let inferlet = request.parent().inferlet("id", "p", "u");
        inferlet.pass("m", 3, 1);
        inferlet.end();
        inferlet.end();
        drop((inferlet, request));
        // Not sampled by its client.
        drop(telemetry.request(&head(Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"))));
        assert_eq!(telemetry.shutdown(), 2);
    }

    #[test]
    fn the_trace_of_the_client_goes_on_and_what_is_none_begins_a_new_one() {
        let telemetry = Telemetry::start(Some("http://127.0.0.1:9"), None).unwrap();
        let trace = |traceparent: &str| {
            let span = telemetry.request(&head(Some(traceparent)));
            span.context.parent.trace_id().to_string()
        };
        let id = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(trace(&format!("00-{id}-b7ad6b7169203331-01")), id);
        for wrong in [
            "",
            "00",
            "00-0-0-01",
            &format!("00-{id}"),
            &format!("ff-{id}-b7ad6b7169203331-01"),
            &"x".repeat(9000),
        ] {
            let new = trace(wrong);
            assert!(new != id && new.len() == 32, "{wrong}");
        }
    }
}
