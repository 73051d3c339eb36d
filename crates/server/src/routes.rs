//! What the server answers itself, and the routers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use http::header::{
    AUTHORIZATION, CONNECTION, HOST, ORIGIN, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL, WWW_AUTHENTICATE,
};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use runtime::{Arrival, Grant, InferletError, KeptToTheEnd, LaunchError, RequestError, Service};
use serde_json::json;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer, ExposeHeaders};

use crate::admission::{ClientBounds, Place};
use crate::auth::{Refused, X_API_KEY};
use crate::dashboard;
use crate::mounts::strip_mount;
use crate::observed::{Observer, Passed, observed};
use crate::patience::TimedBody;
use crate::session::upgrade;
use crate::{Front, HttpLimits, Phase, recording, requests, spans, stats};

/// The part of the path that led to a program; the program itself sees the rest.
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// A path that the server answers itself. No program can take it.
pub struct Route {
    /// The path, without a slash at its end.
    pub path: &'static str,
    /// What it answers, for documents.
    pub about: &'static str,
    /// Who may ask for it, where there are keys.
    access: Access,
    handler: fn() -> MethodRouter<Front>,
}

/// Who may ask for one of the server's own paths.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Everybody, or whom the handler lets in.
    Open,
    /// Holders of a key that shows the whole server.
    Admin,
}

/// All of them: the router, the paths that are refused to programs, the answer 404 and the documents read
/// this table.
pub const ROUTES: &[Route] = &[
    Route {
        path: "/health",
        about: "`GET`: 200 and `{\"status\":\"ok\"}`; 503 and `{\"status\":\"starting\"}` while models load, `stopping` \
            while the server ends, or `failed` and the `models` whose engine is dead",
        access: Access::Open,
        handler: || get(health),
    },
    Route {
        path: "/health/live",
        about: "`GET`: 200 as long as the server answers and no engine is dead, else 503: whether to start it anew",
        access: Access::Open,
        handler: || get(live),
    },
    Route {
        path: "/health/ready",
        about: "`GET`: 200 when the server takes requests, else 503, as `/health`: whether to send it any",
        access: Access::Open,
        handler: || get(health),
    },
    Route {
        path: "/metrics",
        about: "`GET`: the metrics in Prometheus' text format, or as OpenMetrics where that is accepted",
        access: Access::Admin,
        handler: || get(stats::page),
    },
    Route {
        path: "/stats",
        about: "`GET`: the same as JSON, which `pie stats` makes tables of",
        access: Access::Admin,
        handler: || get(stats::json),
    },
    Route {
        path: dashboard::PATH,
        about: "`GET`: the dashboard, a page for a browser, which asks for a key where there are some; `/` is the same where \
            no program is mounted there. See docs/operating.md",
        access: Access::Open,
        handler: || get(dashboard::page),
    },
    Route {
        path: "/debug/trace",
        about: "`GET`: records for `?seconds=N` (1 to 60, by default 5) what the server does, as a file for Perfetto; \
            409 while another recording is made. See docs/tracing.md",
        access: Access::Admin,
        handler: || get(recording::record),
    },
    Route {
        path: protocol::PATH,
        about: "`GET`: a WebSocket, over which clients upload programs, launch them and talk with them. Where the server has \
            keys, for each of them. See docs/protocol.md",
        access: Access::Open,
        handler: || get(upgrade::open),
    },
];

/// The server's own routes, and the programs that are mounted.
pub(crate) fn server_router(front: Front) -> Router {
    let handler = |own: &Route| match own.access {
        Access::Open => (own.handler)(),
        Access::Admin => (own.handler)().route_layer(from_fn_with_state(front.clone(), admin_only)),
    };
    let own = ROUTES.iter().fold(Router::new(), |router, own| router.route(own.path, handler(own)));
    watched(own.merge(dashboard::files()).fallback(mounted), front)
}

/// One program for every path.
pub(crate) fn program_router(front: Front, service: Service) -> Router {
    let service = Arc::new(service);
    let route = format!("port of {}", service.label());
    let program = async move |State(front): State<Front>, request| {
        if let Some(refused) = not_ready(&front) {
            return refused;
        }
        answer(&front, &service, "/", &route, request).await
    };
    watched(Router::new().fallback(program), front)
}

/// A router whose requests have ids, and are counted and logged.
fn watched(router: Router<Front>, front: Front) -> Router {
    let router = router.layer(from_fn_with_state(front.clone(), own_hosts));
    let router = router.layer(from_fn_with_state(front.clone(), requests::watch));
    with_cors(router, &front).with_state(front)
}

/// Without keys, refuses what a page of somebody else sends from a browser on this machine: one whose name was made to
/// point here, or any, with a request that a browser sends without asking first.
async fn own_hosts(State(front): State<Front>, request: Request, next: Next) -> Response {
    let refused = if front.0.own_hosts_only { foreign(&front, &request) } else { None };
    match refused {
        Some(why) => error(StatusCode::FORBIDDEN, "permission_error", "not_this_machine", &why),
        None => next.run(request).await,
    }
}

/// Why a request is not one of this machine.
fn foreign(front: &Front, request: &Request) -> Option<String> {
    if let Some(host) = host(request).filter(|host| !is_this_machine(host)) {
        return Some(format!(
            "without keys the server is this machine's only, and the request is for `{host}`"
        ));
    }
    let allowed = |origin: &str| front.0.cors_origins.iter().any(|known| known == "*" || known == origin);
    let origin = header(request, ORIGIN).filter(|origin| {
        let host = origin.split_once("://").map_or(*origin, |(_, host)| host);
        !is_this_machine(host) && !allowed(origin)
    })?;
    Some(format!("pages of `{origin}` may not send requests; see `http.cors_origins`"))
}

/// A header; `?` where it is not of visible characters.
fn header(request: &Request, name: HeaderName) -> Option<&str> {
    request.headers().get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// The host that a request is for.
fn host(request: &Request) -> Option<&str> {
    header(request, HOST).or_else(|| request.uri().authority().map(Authority::as_str))
}

/// Whether a host, perhaps with a port, is a name or an address of the machine itself.
fn is_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Lets those in that may see the whole server.
async fn admin_only(State(front): State<Front>, request: Request, next: Next) -> Response {
    match front.0.auth.client(request.headers()) {
        Ok(Some(client)) if !client.key.admin => {
            let path = request.uri().path();
            let why = format!("the key does not open `{path}`: expected one made with `pie key add --admin`");
            error(StatusCode::FORBIDDEN, "permission_error", "not_admin", &why)
        }
        Ok(_) => next.run(request).await,
        Err(refused) => not_allowed(&refused),
    }
}

async fn live(State(front): State<Front>) -> Response {
    match front.phase() {
        Phase::Starting | Phase::Stopping => Json(json!({ "status": "ok" })).into_response(),
        Phase::Ready(_) => health(State(front)).await,
    }
}

/// Lets pages of the configured origins send requests. What a browser asks before it does needs no key.
fn with_cors(router: Router<Front>, front: &Front) -> Router<Front> {
    let origins = &front.0.cors_origins;
    if origins.is_empty() {
        return router;
    }
    let origins = match origins.iter().any(|origin| origin == "*") {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    let cors = CorsLayer::new().allow_origin(origins).max_age(CORS_AGE);
    let cors =
        cors.allow_methods(AllowMethods::mirror_request()).allow_headers(AllowHeaders::mirror_request());
    router.layer(cors.expose_headers(ExposeHeaders::any()))
}

/// How long a browser may remember what is allowed.
const CORS_AGE: Duration = Duration::from_secs(3600);

async fn health(State(front): State<Front>) -> Response {
    let status = match front.phase() {
        Phase::Starting => json!({ "status": "starting" }),
        Phase::Stopping => json!({ "status": "stopping" }),
        Phase::Ready(dead_models) => match dead_models() {
            dead if dead.is_empty() => return Json(json!({ "status": "ok" })).into_response(),
            dead => json!({ "status": "failed", "models": dead }),
        },
    };
    with_retry_after((StatusCode::SERVICE_UNAVAILABLE, Json(status)).into_response())
}

/// The answer to requests that come too early or too late.
pub(crate) fn not_ready(front: &Front) -> Option<Response> {
    let why = match front.phase() {
        Phase::Ready(_) => return None,
        Phase::Starting => "the server is starting: its models are being loaded",
        Phase::Stopping => "the server is stopping and takes no more requests",
    };
    Some(with_retry_after(failure(StatusCode::SERVICE_UNAVAILABLE, why)))
}

async fn mounted(State(front): State<Front>, request: Request) -> Response {
    if let Some(refused) = not_ready(&front) {
        return refused;
    }
    let path = request.uri().path();
    let mounts = front.mounts();
    match mounts.find(path) {
        Some((service, mount)) => answer(&front, &service, &mount, &mount, request).await,
        None if path == "/" && matches!(*request.method(), Method::GET | Method::HEAD) => {
            dashboard::page(request).await
        }
        None => {
            // What is served is nothing for strangers.
            if let Err(refused) = front.0.auth.client(request.headers()) {
                return not_allowed(&refused);
            }
            let programs = mounts.list().into_iter().map(|(path, _)| path);
            let own = ROUTES.iter().map(|route| route.path.to_string());
            let known = programs.chain(own).collect::<Vec<_>>().join(", ");
            failure(StatusCode::NOT_FOUND, &format!("nothing answers `{path}` here; paths served: {known}"))
        }
    }
}

/// Answers with a program, within the span of the request.
async fn answer(
    front: &Front,
    service: &Service,
    mount: &str,
    route: &str,
    mut request: Request,
) -> Response {
    let span = spans::begin(front, mount, &mut request);
    let response = admit(front, service, mount, route, request).await;
    match span {
        Some(span) => span.answered(response),
        None => response,
    }
}

/// Lets a program answer a request that is allowed, when it has a place. `route` is what the request is counted for.
async fn admit(front: &Front, service: &Service, mount: &str, route: &str, mut request: Request) -> Response {
    request.extensions_mut().insert(Arrival(Instant::now()));
    let client = match front.0.auth.client(request.headers()) {
        Ok(client) => client,
        Err(refused) => {
            requests::belongs(&request, route, "");
            return not_allowed(&refused);
        }
    };
    let user = client.as_ref().map_or(service.user(), |client| client.key.grant.user());
    requests::belongs(&request, route, user);
    let mut bounds = ClientBounds::default();
    if let Some(client) = &client {
        if !client.key.grant.allows_program(service.label()) {
            let why = format!("the key does not allow the program `{}`", service.label());
            return error(StatusCode::FORBIDDEN, "permission_error", "program_not_allowed", &why);
        }
        if let Err(refused) = client.take_request() {
            return not_allowed(&refused);
        }
        // The key is the server's business and no program's.
        request.headers_mut().remove(AUTHORIZATION);
        request.headers_mut().remove(X_API_KEY);
        request.headers_mut().remove(SEC_WEBSOCKET_PROTOCOL);
        bounds = client.key.bounds;
    }
    let grant = client.as_ref().map(|client| &client.key.grant);
    let (id, tokens) = (grant.map_or("", |grant| grant.name()), grant.map(|grant| grant.tokens()));
    let place = match front.0.admission.enter(id, bounds, tokens).await {
        Ok(place) => Arc::new(place),
        Err(refused) => return busy(&format!("{refused}; try again later"), RETRY_SECONDS),
    };
    request.extensions_mut().insert(KeptToTheEnd(place.clone()));
    let answer = run(front, service, mount, request, grant).await;
    answer.map(|body| observed(body, place))
}

/// Seconds after which a client may try again that found no place.
const RETRY_SECONDS: u64 = 1;

/// A request has its place until its answer is out and its program has ended.
impl Observer for Arc<Place> {
    fn passed(&mut self, _: &Passed, _: bool) {}
}

/// The answer to a request whose key is not enough.
pub(crate) fn not_allowed(refused: &Refused) -> Response {
    let text = refused.to_string();
    match refused {
        Refused::NoKey | Refused::WrongKey => {
            let mut response =
                error(StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key", &text);
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        Refused::Starting => with_retry_after(failure(StatusCode::SERVICE_UNAVAILABLE, &text)),
        Refused::Requests { after, .. } | Refused::Tokens { after, .. } => busy(&text, after.as_secs() + 1),
    }
}

/// The answer to a request that may be sent again later.
fn busy(why: &str, seconds: u64) -> Response {
    let mut response = error(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded", why);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

async fn run(
    front: &Front,
    service: &Service,
    mount: &str,
    mut request: Request,
    grant: Option<&Arc<Grant>>,
) -> Response {
    let Some(uri) = inner_uri(&request, mount) else {
        return failure(StatusCode::BAD_REQUEST, "the request has no usable host or path");
    };
    *request.uri_mut() = uri;
    if let Ok(prefix) = HeaderValue::from_str(mount.trim_end_matches('/')) {
        request.headers_mut().insert(PREFIX, prefix);
    }
    let HttpLimits { body: body_limit, first_byte, .. } = front.limits();
    let (head, body) = request.into_parts();
    let (body, stalled) = TimedBody::new(body, body_limit);
    // Dropping the future ends the inferlet.
    let handled = tokio::time::timeout(first_byte, service.handle(Request::from_parts(head, body), grant));
    let handled = tokio::select! {
        // The body tells the program as well: before it can answer, this does.
        biased;
        Ok(()) = stalled => {
            let why = format!("too little of the request's body came in {body_limit:?}");
            return closing(failure(StatusCode::REQUEST_TIMEOUT, &why));
        }
        handled = handled => handled,
    };
    match handled {
        Ok(Ok(response)) => response.map(Body::new),
        Ok(Err(RequestError::Launch(error @ LaunchError::Overloaded(_)))) => {
            busy(&error.to_string(), RETRY_SECONDS)
        }
        Ok(Err(RequestError::Launch(LaunchError::Revoked))) => not_allowed(&Refused::WrongKey),
        Ok(Err(error)) => failure(StatusCode::INTERNAL_SERVER_ERROR, &public(&error)),
        Err(_) => {
            let why = format!("the program began no answer in {first_byte:?}");
            failure(StatusCode::GATEWAY_TIMEOUT, &why)
        }
    }
}

/// An error as a client may see it: what a program wrote to stderr is for its operator, in the log.
fn public(error: &RequestError) -> String {
    match error {
        RequestError::Inferlet { id, error: InferletError::Trap(_) } => {
            format!("the program failed before it answered; the server's log says why, of inferlet {id}")
        }
        error => error.to_string(),
    }
}

/// The URI as the program sees it: absolute, the mount taken off.
fn inner_uri(request: &Request, mount: &str) -> Option<Uri> {
    let given = request.uri();
    let rest = strip_mount(given.path(), mount)?;
    let path = if rest.is_empty() { "/" } else { rest };
    let path = match given.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_string(),
    };
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| given.authority().map(Authority::as_str)).unwrap_or("localhost");
    Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(host)
        .path_and_query(PathAndQuery::try_from(path).ok()?)
        .build()
        .ok()
}

/// Tells the client to come again in a second.
pub(crate) fn with_retry_after(mut response: Response) -> Response {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The last answer of its connection.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// An error in the form that clients of the OpenAI API read.
pub(crate) fn failure(status: StatusCode, message: &str) -> Response {
    let kind = if status.is_client_error() { "invalid_request_error" } else { "server_error" };
    error(status, kind, None, message)
}

fn error<'a>(status: StatusCode, kind: &str, code: impl Into<Option<&'a str>>, message: &str) -> Response {
    let error = json!({ "message": message, "type": kind, "param": null, "code": code.into() });
    (status, Json(json!({ "error": error }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_of_this_machine_are_told_from_others() {
        for own in
            ["localhost", "localhost:8080", "127.0.0.1:1", "127.9.9.9", "[::1]:8080", "[::ffff:127.0.0.1]"]
        {
            assert!(is_this_machine(own), "{own}");
        }
        for other in
            ["evil.example", "localhost.evil.example", "10.0.0.1:80", "[2001:db8::1]", "", "?", "null"]
        {
            assert!(!is_this_machine(other), "{other}");
        }
    }
}
