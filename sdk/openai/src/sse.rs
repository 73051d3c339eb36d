//! Answers in pieces: server-sent events.

use inferlet::futures::lock::Mutex;
use inferlet::http::{Body, BodyWriter, HeaderValue, Response, header};
use inferlet::{Value, spawn};

use crate::{ApiError, Result};

/// Where the events of an answer go. Several choices of one answer write in turn.
pub struct Events(Mutex<BodyWriter>);

impl Events {
    /// A response whose events `write` sends. An error ends them with an event of its own, and so does the mark that
    /// clients wait for.
    pub fn response(write: impl AsyncFnOnce(&Events) -> Result<()> + 'static) -> Response {
        let (writer, body) = Body::written();
        spawn(async move {
            let events = Events(Mutex::new(writer));
            // When the client is gone, so is this program.
            let _ = match write(&events).await {
                Ok(()) => events.send_text("[DONE]").await,
                Err(error) => events.send(&error.body()).await,
            };
        });
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    /// Sends an event.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn send(&self, event: &Value) -> Result<()> {
        self.send_text(&event.to_string()).await
    }

    async fn send_text(&self, text: &str) -> Result<()> {
        let sent = self.0.lock().await.write(format!("data: {text}\n\n")).await;
        sent.map_err(ApiError::from)
    }
}
