//! What the server answers itself, and the routers.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use http::header::{CONNECTION, HOST, RETRY_AFTER};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderName, HeaderValue, StatusCode};
use runtime::{InferletError, LaunchError, RequestError, Service};
use serde_json::json;

use crate::mounts::strip_mount;
use crate::patience::TimedBody;
use crate::{Front, HttpLimits, Phase, recording, spans};

/// The part of the path that led to a program; the program itself sees the rest.
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// A path that the server answers itself. No program can take it.
pub struct Route {
    /// The path, without a slash at its end.
    pub path: &'static str,
    /// What it answers, for documents.
    pub about: &'static str,
    handler: fn() -> MethodRouter<Front>,
}

/// All of them: the router, the paths that are refused to programs, the answer 404 and the documents read
/// this table.
pub const ROUTES: &[Route] = &[
    Route {
        path: "/health",
        about: "`GET`: 200 and `{\"status\":\"ok\"}`; 503 and `{\"status\":\"starting\"}` while models load, `stopping` \
            while the server ends, or `failed` and the `models` whose engine is dead",
        handler: || get(health),
    },
    Route {
        path: "/debug/trace",
        about: "`GET`: records for `?seconds=N` (1 to 60, by default 5) what the server does, as a file for Perfetto; \
            409 while another recording is made. See docs/tracing.md",
        handler: || get(recording::record),
    },
];

/// The server's own routes, and the programs that are mounted.
pub(crate) fn server_router(front: Front) -> Router {
    let own = ROUTES.iter().fold(Router::new(), |router, own| router.route(own.path, (own.handler)()));
    own.fallback(mounted).with_state(front)
}

/// One program for every path.
pub(crate) fn program_router(front: Front, service: Service) -> Router {
    let service = Arc::new(service);
    let program = async move |State(front): State<Front>, request| {
        if let Some(refused) = not_ready(&front) {
            return refused;
        }
        answer(&front, &service, "/", request).await
    };
    Router::new().fallback(program).with_state(front)
}

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
        Some((service, mount)) => answer(&front, &service, &mount, request).await,
        None => {
            let programs = mounts.list().into_iter().map(|(path, _)| path);
            let own = ROUTES.iter().map(|route| route.path.to_string());
            let known = programs.chain(own).collect::<Vec<_>>().join(", ");
            failure(StatusCode::NOT_FOUND, &format!("nothing answers `{path}` here; paths served: {known}"))
        }
    }
}

/// Answers with a program, within the span of the request.
async fn answer(front: &Front, service: &Service, mount: &str, mut request: Request) -> Response {
    let span = spans::begin(front, mount, &mut request);
    let response = answer_of(front, service, mount, request).await;
    match span {
        Some(span) => span.answered(response),
        None => response,
    }
}

async fn answer_of(front: &Front, service: &Service, mount: &str, mut request: Request) -> Response {
    let Some(uri) = inner_uri(&request, mount) else {
        return failure(StatusCode::BAD_REQUEST, "the request has no usable host or path");
    };
    *request.uri_mut() = uri;
    if let Ok(prefix) = HeaderValue::from_str(mount.trim_end_matches('/')) {
        request.headers_mut().insert(PREFIX, prefix);
    }
    let HttpLimits { body: body_limit, first_byte, .. } = front.0.limits;
    let (head, body) = request.into_parts();
    let (body, stalled) = TimedBody::new(body, body_limit);
    // Dropping the future ends the inferlet.
    let handled = tokio::time::timeout(first_byte, service.handle(Request::from_parts(head, body)));
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
            with_retry_after(failure(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()))
        }
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
    (status, Json(json!({ "error": { "message": message, "type": kind, "param": null, "code": null } })))
        .into_response()
}
