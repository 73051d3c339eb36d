//! What the server answers itself, and the routers.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use http::header::{HOST, RETRY_AFTER};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderName, HeaderValue, StatusCode};
use runtime::{LaunchError, RequestError, Service};
use serde_json::json;

use crate::mounts::{Mounts, strip_mount};

/// The part of the path that led to a program; the program itself sees the rest.
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// A path that the server answers itself. No program can take it.
pub struct Route {
    /// The path, without a slash at its end.
    pub path: &'static str,
    /// What it answers, for documents.
    pub about: &'static str,
    handler: fn() -> MethodRouter<Mounts>,
}

/// All of them: the router, the paths that are refused to programs, the answer 404 and the documents read
/// this table.
pub const ROUTES: &[Route] = &[Route {
    path: "/health",
    about: "`GET`: 200 and `{\"status\":\"ok\"}`, or 503 and `{\"status\":\"starting\"}` while models load",
    handler: || get(health),
}];

/// The server's own routes, and the programs that are mounted.
pub(crate) fn server_router(mounts: Mounts) -> Router {
    let own = ROUTES.iter().fold(Router::new(), |router, own| router.route(own.path, (own.handler)()));
    own.fallback(mounted).with_state(mounts)
}

/// One program for every path.
pub(crate) fn program_router(service: Service) -> Router {
    let program = async |State(service): State<Arc<Service>>, request| answer(&service, "/", request).await;
    Router::new().fallback(program).with_state(Arc::new(service))
}

async fn health(State(mounts): State<Mounts>) -> Response {
    if mounts.is_ready() {
        return Json(json!({ "status": "ok" })).into_response();
    }
    let starting = Json(json!({ "status": "starting" }));
    with_retry_after((StatusCode::SERVICE_UNAVAILABLE, starting).into_response())
}

async fn mounted(State(mounts): State<Mounts>, request: Request) -> Response {
    if !mounts.is_ready() {
        let why = "the server is starting: its models are being loaded";
        return with_retry_after(failure(StatusCode::SERVICE_UNAVAILABLE, why));
    }
    let path = request.uri().path();
    match mounts.find(path) {
        Some((service, mount)) => answer(&service, &mount, request).await,
        None => {
            let programs = mounts.list().into_iter().map(|(path, _)| path);
            let own = ROUTES.iter().map(|route| route.path.to_string());
            let known = programs.chain(own).collect::<Vec<_>>().join(", ");
            failure(StatusCode::NOT_FOUND, &format!("nothing answers `{path}` here; paths served: {known}"))
        }
    }
}

async fn answer(service: &Service, mount: &str, mut request: Request) -> Response {
    let Some(uri) = inner_uri(&request, mount) else {
        return failure(StatusCode::BAD_REQUEST, "the request has no usable host or path");
    };
    *request.uri_mut() = uri;
    if let Ok(prefix) = HeaderValue::from_str(mount.trim_end_matches('/')) {
        request.headers_mut().insert(PREFIX, prefix);
    }
    match service.handle(request).await {
        Ok(response) => response.map(Body::new),
        Err(error @ RequestError::Launch(LaunchError::Overloaded(_))) => {
            with_retry_after(failure(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()))
        }
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
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
fn with_retry_after(mut response: Response) -> Response {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// An error in the form that clients of the OpenAI API read.
fn failure(status: StatusCode, message: &str) -> Response {
    let kind = if status.is_client_error() { "invalid_request_error" } else { "server_error" };
    (status, Json(json!({ "error": { "message": message, "type": kind } }))).into_response()
}
