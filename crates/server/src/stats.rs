//! What the server tells of itself: the metrics of requests and connections, beside those that others add, as the page
//! `/metrics` and as JSON.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use metrics::{Family, Format, Kind, Row, Samples, Value};
use serde_json::json;

use crate::Front;
use crate::requests::RouteCounts;
use crate::session::SessionCounts;

/// Metrics of another part.
pub(crate) type Source = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Vec<Family>> + Send>> + Send + Sync>;

/// The metrics of others are read so often at most: their engines answer between two batches, and whoever reaches the
/// port may ask.
const READ_AGAIN: Duration = Duration::from_millis(10);

/// The numbers of one moment.
pub struct Reading {
    routes: BTreeMap<String, RouteCounts>,
    running: u64,
    waiting: u32,
    places: u32,
    connections: u64,
    refused: u64,
    sessions: SessionCounts,
    started: SystemTime,
    resident_bytes: Option<u64>,
}

/// A sample without labels.
fn one(value: impl Into<Value>) -> Samples {
    vec![(Vec::new(), value.into())]
}

/// All metrics of the server.
pub const METRICS: &[Row<Reading>] = &[
    Row {
        name: "pie_http_requests_total",
        kind: Kind::Counter,
        labels: &["route", "status"],
        help: "Requests that are over, by the path that their program is mounted at; 499: the client left before the answer",
        read: |r| {
            let of_route = |(route, counts): (&String, &RouteCounts)| {
                let route = route.clone();
                let by_status = counts.by_status.clone().into_iter();
                by_status.map(move |(status, count)| (vec![route.clone(), status.to_string()], count.into()))
            };
            r.routes.iter().flat_map(of_route).collect()
        },
    },
    Row {
        name: "pie_http_request_seconds",
        kind: Kind::Histogram,
        labels: &["route"],
        help: "From the head of a request to the last byte of its answer",
        read: |r| r.routes.iter().map(|(route, c)| (vec![route.clone()], c.seconds.into())).collect(),
    },
    Row {
        name: "pie_http_requests_running",
        kind: Kind::Gauge,
        labels: &[],
        help: "Requests whose answer is not out yet",
        read: |r| one(r.running),
    },
    Row {
        name: "pie_http_requests_waiting",
        kind: Kind::Gauge,
        labels: &[],
        help: "Of these, those that wait for a place: admission.running are taken, or the places of their key",
        read: |r| one(u64::from(r.waiting)),
    },
    Row {
        name: "pie_http_places_taken",
        kind: Kind::Gauge,
        labels: &[],
        help: "Places of admission.running that are taken: by requests, and by programs that go on behind their answer",
        read: |r| one(u64::from(r.places)),
    },
    Row {
        name: "pie_http_connections",
        kind: Kind::Gauge,
        labels: &[],
        help: "Connections that are open",
        read: |r| one(r.connections),
    },
    Row {
        name: "pie_http_connections_refused_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Connections refused, since their address had too many",
        read: |r| one(r.refused),
    },
    Row {
        name: "pie_sessions",
        kind: Kind::Gauge,
        labels: &["state"],
        help: "Sessions: connected, or away while their client may come back",
        read: |r| {
            let SessionCounts { sessions, connected, .. } = r.sessions;
            let of = |state: &str, count: u64| (vec![state.to_string()], count.into());
            vec![of("connected", connected), of("away", sessions - connected)]
        },
    },
    Row {
        name: "pie_session_inferlets",
        kind: Kind::Gauge,
        labels: &["state"],
        help: "Inferlets whose events are kept: attached to by a session, or detached",
        read: |r| {
            let SessionCounts { inferlets, detached, .. } = r.sessions;
            let of = |state: &str, count: u64| (vec![state.to_string()], count.into());
            vec![of("attached", inferlets - detached), of("detached", detached)]
        },
    },
    Row {
        name: "pie_session_event_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes of events of inferlets that no session has acknowledged yet",
        read: |r| one(r.sessions.event_bytes),
    },
    Row {
        name: "pie_build_info",
        kind: Kind::Gauge,
        labels: &["version"],
        help: "Always 1; its label is the version of the server",
        read: |_| vec![(vec![env!("CARGO_PKG_VERSION").to_string()], 1.0.into())],
    },
    Row {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "When the server began to start, in seconds since 1970",
        read: |r| one(r.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()),
    },
    Row {
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Memory of the process; only on Linux",
        read: |r| r.resident_bytes.map(one).unwrap_or_default(),
    },
];

impl Front {
    /// Adds the metrics of another part to the page. A second call replaces those of the first.
    pub fn set_metrics<F>(&self, source: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Vec<Family>> + Send + 'static,
    {
        self.0.source.send_replace(Some(Arc::new(move || Box::pin(source()))));
    }

    /// All metrics as they are now.
    pub async fn metrics(&self) -> Vec<Family> {
        let mut families = self.metrics_of_others().await;
        let admission = self.0.admission.counts();
        let reading = Reading {
            routes: self.0.requests.routes(),
            running: self.0.requests.running(),
            waiting: admission.waiting,
            places: admission.running,
            connections: self.0.connections.open(),
            refused: self.0.connections.refused(),
            sessions: self.session_counts(),
            started: self.0.started,
            resident_bytes: metrics::process::resident_bytes(),
        };
        families.extend(metrics::collect(METRICS, &reading));
        families
    }

    /// Those of the source, which is asked by one at a time.
    async fn metrics_of_others(&self) -> Vec<Family> {
        let source = self.0.source.borrow().clone();
        // Without one, the models are being loaded.
        let Some(source) = source else { return Vec::new() };
        let mut last = self.0.last_read.lock().await;
        match &*last {
            Some((read, families)) if read.elapsed() < READ_AGAIN => families.clone(),
            _ => {
                let families = source().await;
                *last = Some((Instant::now(), families.clone()));
                families
            }
        }
    }
}

/// `/metrics`.
pub(crate) async fn page(State(front): State<Front>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    let page = metrics::page(front.metrics().await, format);
    ([(CONTENT_TYPE, format.media_type()), (CACHE_CONTROL, "no-store")], page).into_response()
}

/// `/stats`.
pub(crate) async fn json(State(front): State<Front>) -> Response {
    let metrics = front.metrics().await;
    ([(CACHE_CONTROL, "no-store")], Json(json!({ "metrics": metrics }))).into_response()
}
