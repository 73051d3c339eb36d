//! Every request: its id and its session, its line in the log, and its counts.
//!
//! ```text
//! head ──> x-request-id, x-session-id ──> span `request` ──> handler ──> head of the answer, with both ──> body
//!          the client's, or made                             says whose it is                                │
//!                                                                           counts and log line <── its end ─┘
//! ```
//! A request is over when the last byte of its answer is out or its client has left, and is counted and logged then,
//! once. What nobody answers is counted as 499: its client left before the head.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use metrics::{Histogram, SECONDS};
use runtime::bytes_of_body;
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::Front;
use crate::observed::{Observer, Passed, observed};
use crate::routes::ROUTES;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");
/// Characters of an id that a client gives.
const ID_LENGTH: usize = 128;
/// Routes that are counted apart; those beyond, which only an operator makes, share one.
const COUNTED_ROUTES: usize = 256;
/// The route of what nothing answers.
const NO_ROUTE: &str = "none";
/// The status of a request whose client left before the head of the answer.
const CLIENT_LEFT: u16 = 499;

/// The counts of all requests.
#[derive(Default)]
pub(crate) struct Requests {
    running: AtomicU64,
    routes: Mutex<BTreeMap<String, RouteCounts>>,
}

/// The counts of one route.
#[derive(Clone)]
pub(crate) struct RouteCounts {
    pub(crate) by_status: BTreeMap<u16, u64>,
    pub(crate) seconds: Histogram,
}

impl Requests {
    /// Requests that are not over.
    pub(crate) fn running(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    /// By the route.
    pub(crate) fn routes(&self) -> BTreeMap<String, RouteCounts> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, route: &str, status: u16, seconds: f64) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let route = if routes.contains_key(route) || routes.len() < COUNTED_ROUTES { route } else { "other" };
        let new = || RouteCounts { by_status: BTreeMap::new(), seconds: Histogram::new(SECONDS) };
        let counts = routes.entry(route.to_string()).or_insert_with(new);
        *counts.by_status.entry(status).or_default() += 1;
        counts.seconds.observe(seconds);
    }
}

/// Whose request it is, which its handler says.
#[derive(Clone, Default)]
struct Belongs(Arc<OnceLock<(String, String)>>);

/// Says what answers a request, where it is mounted, and for which user.
pub(crate) fn belongs(request: &Request, route: &str, user: &str) {
    if let Some(Belongs(belongs)) = request.extensions().get() {
        let _ = belongs.set((route.to_string(), user.to_string()));
    }
}

/// The layer around all that answers.
pub(crate) async fn watch(State(front): State<Front>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let request_id = id(request.headers_mut(), REQUEST_ID);
    let session = id(request.headers_mut(), SESSION_ID);
    let belongs = Belongs::default();
    request.extensions_mut().insert(belongs.clone());
    // Of a target and level of its own, which the log has whatever else was chosen to be in it.
    let span = tracing::error_span!(target: "request", "request", request_id = text(&request_id));
    front.0.requests.running.fetch_add(1, Ordering::Relaxed);
    let method = request.method().clone();
    let path = request.uri().path();
    let own = ROUTES.iter().find(|route| route.path == path).map(|route| route.path);
    let mut watched = Watched {
        front,
        start,
        span,
        method,
        own,
        belongs,
        session: session.clone(),
        status: None,
        left: None,
    };
    let mut response = next.run(request).instrument(watched.span.clone()).await;
    response.headers_mut().insert(REQUEST_ID, request_id);
    response.headers_mut().insert(SESSION_ID, session);
    watched.status = Some(response.status().as_u16());
    watched.left = bytes_of_body(&response, watched.method == Method::HEAD);
    response.map(|body| observed(body, watched))
}

/// The client's id, which is one of visible characters, or a new one, in the header.
fn id(headers: &mut HeaderMap, name: HeaderName) -> HeaderValue {
    let is_visible =
        |value: &&HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_graphic);
    let given = headers.get(&name).filter(is_visible).filter(|value| value.len() <= ID_LENGTH).cloned();
    let id = given.unwrap_or_else(new_id);
    headers.insert(name, id.clone());
    id
}

fn new_id() -> HeaderValue {
    HeaderValue::from_str(&Uuid::new_v4().to_string()).expect("digits and dashes")
}

fn text(id: &HeaderValue) -> &str {
    id.to_str().expect("an id is of visible characters")
}

/// A request that is not over. Dropping it is its end.
struct Watched {
    front: Front,
    start: Instant,
    span: Span,
    method: Method,
    /// The server's own route.
    own: Option<&'static str>,
    belongs: Belongs,
    session: HeaderValue,
    /// None as long as there is no answer.
    status: Option<u16>,
    /// Bytes of the answer still to come, where that is known.
    left: Option<u64>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let requests = &self.front.0.requests;
        let nobody = (self.own.unwrap_or(NO_ROUTE).to_string(), String::new());
        let (route, user) = self.belongs.0.get().unwrap_or(&nobody);
        let (status, elapsed) = (self.status.unwrap_or(CLIENT_LEFT), self.start.elapsed());
        requests.running.fetch_sub(1, Ordering::Relaxed);
        requests.count(route, status, elapsed.as_secs_f64());
        let (method, session) = (access_method(&self.method), text(&self.session));
        let (duration_ms, complete) = (elapsed.as_micros() as f64 / 1e3, self.left == Some(0));
        self.span.in_scope(|| {
            tracing::info!(target: "access", method, route, status, duration_ms, user, session, complete, "request");
        });
    }
}

/// A method as the log has it: one that nobody knows may be as long as a head.
fn access_method(method: &Method) -> &str {
    let method = method.as_str();
    &method[..method.floor_char_boundary(16)]
}

impl Observer for Watched {
    fn passed(&mut self, passed: &Passed, _: bool) {
        match passed {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(bytes));
            }
            None => self.left = Some(0),
            Some(Err(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_clients_where_it_is_short_and_visible() {
        let long = "x".repeat(ID_LENGTH);
        let longer = "x".repeat(ID_LENGTH + 1);
        let cases: [(&[u8], bool); 7] = [
            (b"a-1_{\"b\"}", true),
            (long.as_bytes(), true),
            (longer.as_bytes(), false),
            (b"", false),
            (b"two words", false),
            (b"tab\t", false),
            ("\u{e9}".as_bytes(), false),
        ];
        for (given, is_taken) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(given).unwrap());
            headers.append(REQUEST_ID, HeaderValue::from_static("second"));
            let id = id(&mut headers, REQUEST_ID);
            assert_eq!(id.as_bytes() == given, is_taken, "{given:?}");
            assert_eq!(headers.get_all(REQUEST_ID).iter().collect::<Vec<_>>(), [&id], "the program sees one");
            assert!(is_taken || Uuid::parse_str(text(&id)).is_ok(), "{id:?}");
        }
    }

    #[test]
    fn so_many_routes_are_counted_apart() {
        let requests = Requests::default();
        (0..COUNTED_ROUTES + 10).for_each(|route| requests.count(&format!("/{route}"), 200, 0.1));
        requests.count("/7", 404, 0.1);
        let routes = requests.routes();
        assert_eq!((routes.len(), routes["other"].by_status[&200]), (COUNTED_ROUTES + 1, 10));
        assert_eq!(routes["/7"].by_status, BTreeMap::from([(200, 1), (404, 1)]));
        assert_eq!(routes["/7"].seconds.distribution().count(), 2);
    }
}
