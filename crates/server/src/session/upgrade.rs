//! From a request of HTTP/1.1 to a WebSocket.
//!
//! The route answers 101 and leaves what is to be served in a place that the connection looks at when HTTP is over. So a
//! session is served by the task of its connection, and holds that connection's place for as long as it lasts.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderValue, Method, StatusCode};

use super::connection::Opening;
use crate::Front;
use crate::requests::belongs;
use crate::routes::{failure, not_allowed, not_ready};

/// What a connection goes on with when HTTP is over. Cloning gives another handle to the same place.
#[derive(Clone, Default)]
pub(crate) struct Upgrade(Arc<Mutex<Option<Opening>>>);

impl Upgrade {
    /// What was left there.
    pub(crate) fn take(&self) -> Option<Opening> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, opening: Opening) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(opening);
    }
}

/// Answers the handshake.
pub(crate) async fn open(State(front): State<Front>, request: Request) -> Response {
    if let Some(refused) = not_ready(&front) {
        return refused;
    }
    let client = match front.0.auth.client(request.headers()) {
        Ok(client) => client,
        Err(refused) => return not_allowed(&refused),
    };
    let Some(hub) = front.0.sessions.get().cloned() else {
        return failure(StatusCode::NOT_IMPLEMENTED, "this server has no sessions");
    };
    let user = client.as_ref().map_or(hub.options.user.as_str(), |client| client.key.grant.user());
    belongs(&request, protocol::PATH, user);
    let place = request.extensions().get::<Upgrade>().cloned();
    let (Some(place), true) =
        (place, request.method() == Method::GET && has(request.headers(), CONNECTION, "upgrade"))
    else {
        let words = "a session is a WebSocket over HTTP/1.1; see docs/protocol.md";
        let mut response = failure(StatusCode::UPGRADE_REQUIRED, words);
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        return response;
    };
    let headers = request.headers();
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let (Some(key), true) =
        (key, has(headers, UPGRADE, "websocket") && has(headers, SEC_WEBSOCKET_VERSION, "13"))
    else {
        let words = "the request is no handshake of a WebSocket: expected `upgrade: websocket`, \
            `sec-websocket-version: 13` and a `sec-websocket-key`";
        return failure(StatusCode::BAD_REQUEST, words);
    };
    let accept = protocol::socket::accept_key(key.as_bytes());
    let is_offered = has(headers, SEC_WEBSOCKET_PROTOCOL, protocol::SUBPROTOCOL);
    place.put(Opening { client, hub, is_own: false });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answers = response.headers_mut();
    answers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).expect("base64"));
    // A browser ends a connection on which none of the subprotocols is chosen that it offered.
    if is_offered {
        answers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol::SUBPROTOCOL));
    }
    response
}

/// Whether one of the values of a header is this word.
fn has(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
}
