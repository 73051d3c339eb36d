//! Who answers which path.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{HOST, RETRY_AFTER};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderName, HeaderValue, StatusCode};
use runtime::{LaunchError, RequestError, Service};
use serde_json::json;

/// The part of the path that led to a program; the program itself sees the rest.
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Programs by the path they answer, and whether the server is ready. Cloning gives another handle to the same ones.
#[derive(Clone, Default)]
pub struct Routes(Arc<Front>);

#[derive(Default)]
struct Front {
    programs: RwLock<BTreeMap<String, Arc<Service>>>,
    ready: AtomicBool,
}

/// Why a path cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Not a path.
    #[error(
        "`{0}` is not a path to serve: expected `/`, or names of letters, digits, `-`, `_` and `.` each after a `/`"
    )]
    Path(String),
    /// Another program has it.
    #[error("`{0}` is served already; end that with `unserve {0}`")]
    Taken(String),
    /// The server's own.
    #[error("`{0}` is the server's own; choose another path")]
    Reserved(String),
}

/// Paths of the server itself.
const RESERVED: &[&str] = &["/health"];

impl Routes {
    /// From now on requests are answered. Until then each gets 503 and a `retry-after`, `/health` among them: the port
    /// is taken first, so that nobody loads models only to learn that it is not free.
    pub fn set_ready(&self) {
        self.0.ready.store(true, Ordering::Release);
    }

    fn ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire)
    }

    fn programs(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<Service>>> {
        self.0.programs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn programs_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Arc<Service>>> {
        self.0.programs.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a program answer a path and all below it. The longest path that fits a request decides.
    ///
    /// # Errors
    /// When the path is malformed, taken or the server's own.
    pub fn mount(&self, path: &str, service: Service) -> Result<(), RouteError> {
        let path = checked(path)?;
        let mut programs = self.programs_mut();
        if programs.contains_key(&path) {
            return Err(RouteError::Taken(path));
        }
        programs.insert(path, Arc::new(service));
        Ok(())
    }

    /// Frees a path; whether anything answered it. Requests that are being answered go on.
    pub fn unmount(&self, path: &str) -> bool {
        let Ok(path) = checked(path) else { return false };
        self.programs_mut().remove(&path).is_some()
    }

    /// The paths and the programs that answer them.
    pub fn list(&self) -> Vec<(String, String)> {
        self.programs().iter().map(|(path, service)| (path.clone(), service.label().to_string())).collect()
    }

    /// Who answers `path`, and under which prefix.
    fn find(&self, path: &str) -> Option<(Arc<Service>, String)> {
        let programs = self.programs();
        let fitting = programs.iter().filter(|(prefix, _)| below(path, prefix).is_some());
        fitting
            .max_by_key(|(prefix, _)| prefix.len())
            .map(|(prefix, service)| (service.clone(), prefix.clone()))
    }
}

/// A path as it is kept: no slash at its end, unless it is nothing else.
fn checked(path: &str) -> Result<String, RouteError> {
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let name = |name: &str| {
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !name.is_empty() && name.chars().all(valid) && !name.chars().all(|c| c == '.')
    };
    match trimmed.strip_prefix('/') {
        None if path == "/" => Ok("/".to_string()),
        Some(names) if names.split('/').all(name) => match RESERVED.contains(&trimmed) {
            true => Err(RouteError::Reserved(trimmed.to_string())),
            false => Ok(trimmed.to_string()),
        },
        _ => Err(RouteError::Path(path.to_string())),
    }
}

/// What remains of `path` below `prefix`; none when it is not below.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// The server's own paths, and the programs'.
pub(crate) fn front(routes: Routes) -> Router {
    Router::new().route("/health", get(health)).fallback(mounted).with_state(routes)
}

async fn health(State(routes): State<Routes>) -> Response {
    match routes.ready() {
        true => Json(json!({ "status": "ok" })).into_response(),
        false => {
            not_now((StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "starting" }))).into_response())
        }
    }
}

/// One program for every path.
pub(crate) fn single(service: Service) -> Router {
    let program = async |State(service): State<Arc<Service>>, request| answer(&service, "/", request).await;
    Router::new().fallback(program).with_state(Arc::new(service))
}

async fn mounted(State(routes): State<Routes>, request: Request) -> Response {
    if !routes.ready() {
        let why = "the server is starting: its models are being loaded";
        return not_now(failure(StatusCode::SERVICE_UNAVAILABLE, why));
    }
    let path = request.uri().path();
    match routes.find(path) {
        Some((service, prefix)) => answer(&service, &prefix, request).await,
        None => {
            let known =
                routes.list().into_iter().map(|(path, _)| path).chain(RESERVED.iter().map(|r| r.to_string()));
            let known = known.collect::<Vec<_>>().join(", ");
            failure(StatusCode::NOT_FOUND, &format!("nothing answers `{path}` here; paths served: {known}"))
        }
    }
}

async fn answer(service: &Service, prefix: &str, mut request: Request) -> Response {
    let Some(uri) = inner_uri(&request, prefix) else {
        return failure(StatusCode::BAD_REQUEST, "the request has no usable host or path");
    };
    *request.uri_mut() = uri;
    if let Ok(prefix) = HeaderValue::from_str(prefix.trim_end_matches('/')) {
        request.headers_mut().insert(PREFIX, prefix);
    }
    match service.handle(request).await {
        Ok(response) => response.map(Body::new),
        Err(error @ RequestError::Launch(LaunchError::Overloaded(_))) => {
            not_now(failure(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()))
        }
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// The URI as the program sees it: absolute, the prefix taken off.
fn inner_uri(request: &Request, prefix: &str) -> Option<Uri> {
    let given = request.uri();
    let rest = below(given.path(), prefix)?;
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

/// Asks the client to come again in a second.
fn not_now(mut response: Response) -> Response {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// An error in the form that clients of the OpenAI API read.
fn failure(status: StatusCode, message: &str) -> Response {
    let kind = if status.is_client_error() { "invalid_request_error" } else { "server_error" };
    (status, Json(json!({ "error": { "message": message, "type": kind } }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_checked() {
        for (path, expected) in [("/", "/"), ("/a", "/a"), ("/a/", "/a"), ("/a.b/c-d_e", "/a.b/c-d_e")] {
            assert_eq!(checked(path).as_deref(), Ok(expected));
        }
        for path in ["", "a", "//", "/a//b", "/a b", "/..", "/a/./b", "/a?b", "/%61"] {
            assert_eq!(checked(path), Err(RouteError::Path(path.into())));
        }
        assert_eq!(checked("/health/"), Err(RouteError::Reserved("/health".into())));
    }

    #[test]
    fn a_prefix_ends_where_a_name_ends() {
        assert_eq!(below("/a/b", "/a"), Some("/b"));
        assert_eq!(below("/a", "/a"), Some(""));
        assert_eq!(below("/ab", "/a"), None);
        assert_eq!(below("/x/y", "/"), Some("/x/y"));
    }
}
