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
        Events::open(async move |events| match write(events).await {
            Ok(()) => events.send_done().await,
            Err(error) => events.send(&error.body()).await,
        })
    }

    /// A response whose events `write` sends, all of them.
    pub(crate) fn open(write: impl AsyncFnOnce(&Events) -> Result<()> + 'static) -> Response {
        let (writer, body) = Body::written();
        spawn(async move {
            // When the client is gone, so is this program.
            let _ = write(&Events(Mutex::new(writer))).await;
        });
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    /// The mark of the end.
    pub(crate) async fn send_done(&self) -> Result<()> {
        self.write("data: [DONE]\n\n".to_string()).await
    }

    /// Sends an event with its type as its name.
    pub(crate) async fn send_typed(&self, event: &Value) -> Result<()> {
        let name = event["type"].as_str().unwrap_or("message");
        self.write(format!("event: {name}\ndata: {event}\n\n")).await
    }

    /// Sends an event.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn send(&self, event: &Value) -> Result<()> {
        self.write(format!("data: {event}\n\n")).await
    }

    async fn write(&self, text: String) -> Result<()> {
        self.0.lock().await.write(text).await.map_err(ApiError::from)
    }
}
