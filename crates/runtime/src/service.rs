//! Programs that answer HTTP requests: each request is an inferlet of its own, from its first byte to the
//! last of the answer. A request that is given up ends its inferlet, unless that has detached itself, and gives
//! everything back as after any other end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use trace::SpanParent;
use tracing::Instrument;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::p3::Request;
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use crate::grant::Grant;
use crate::host::HostState;
use crate::inferlet::{Event, InferletState};
use crate::process::{Registration, explain, new_store, register, supervise};
use crate::program::Program;
use crate::queue::Receiver;
use crate::{InferletError, LaunchError, LaunchOptions, RuntimeState};

/// A program that answers HTTP requests.
pub struct Service {
    shared: Arc<RuntimeState>,
    program: Arc<Program>,
    handler: ServicePre<HostState>,
    options: LaunchOptions,
}

/// Among the extensions of a request: when it came. What it waited since then counts in the times of its inferlet.
#[derive(Clone, Copy, Debug)]
pub struct Arrival(pub Instant);

/// Among the extensions of a request: what is kept until its inferlet has ended, which may be long after its answer is out.
#[derive(Clone)]
pub struct KeptToTheEnd(pub Arc<dyn Send + Sync>);

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Too many inferlets run or wait.
    #[error("{0}")]
    Launch(#[from] LaunchError),
    /// The program ended before it answered.
    #[error("{error}")]
    Inferlet {
        /// Its inferlet, as the log has it.
        id: String,
        /// How it ended. A trap quotes what the program wrote to stderr.
        error: InferletError,
    },
}

impl Service {
    pub(crate) fn new(
        shared: Arc<RuntimeState>,
        program: Arc<Program>,
        options: LaunchOptions,
    ) -> Result<Service, LaunchError> {
        let handler = program.handler.clone();
        let handler = handler.ok_or_else(|| LaunchError::NoHandler(program.label().to_string()))?;
        Ok(Service { shared, program, handler, options })
    }

    /// The program's name or the beginning of its hash.
    pub fn label(&self) -> &str {
        self.program.label()
    }

    /// The user that its requests are inferlets of.
    pub fn user(&self) -> &str {
        &self.options.user
    }

    /// Answers one request, under a grant or as the user of the service. The head of the answer is here as soon as the program gives it; the body follows
    /// while the program writes it. Dropping the future, or the body before its end, ends the inferlet unless it has
    /// detached itself; what the program does after its answer, it may finish. The inferlet's span is below the
    /// [`SpanParent`] among the extensions of the request, if there is one; [`KeptToTheEnd`] is taken out of them.
    ///
    /// # Errors
    /// When the program cannot be started, or ended without an answer.
    pub async fn handle<B>(
        &self,
        request: http::Request<B>,
        grant: Option<&Arc<Grant>>,
    ) -> Result<http::Response<AnswerBody>, RequestError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::fmt::Display,
    {
        let is_head = request.method() == Method::HEAD;
        let broken = |error: B::Error| wasmtime_wasi_http::Error::InternalError(Some(error.to_string()));
        let mut request = request.map(|body| body.map_err(broken));
        let kept = request.extensions_mut().remove::<KeptToTheEnd>();
        let names = (&*self.program).into();
        let (registration, client) = register(&self.shared, names, self.options.clone(), grant, None)?;
        if let Some(Arrival(time)) = request.extensions().get() {
            registration.inferlet.set_arrived(*time);
        }
        if let Some(parent) = request.extensions().get::<SpanParent>() {
            registration.inferlet.begin_span(parent);
        }
        let guard = LeaveOnDrop(Some(registration.inferlet.clone()));
        log_events(registration.inferlet.id.clone(), client.events);
        let id = registration.inferlet.id.clone();
        let (head, answered) = oneshot::channel();
        let (ended, end) = oneshot::channel();
        let handler = self.handler.clone();
        let turns = registration.inferlet.user.turns.clone();
        let work = async move {
            let outcome = supervise(&registration, answer(&registration, &handler, request, head)).await;
            match &outcome {
                // Killed, since the client has left: that is no failure.
                Ok(()) | Err(InferletError::Killed) => {}
                Err(error) => {
                    let (id, program) = (&registration.inferlet.id, &registration.inferlet.program);
                    tracing::warn!(%id, %program, %error, "a request's inferlet failed");
                }
            }
            let _ = ended.send(outcome);
            // It has given back all else before whatever is kept for it goes.
            drop(registration);
            drop(kept);
        };
        // What it writes to the log is of the request that it answers.
        turns.spawn(work.in_current_span()).detach();
        match answered.await {
            Ok(response) => {
                let left = bytes_of_body(&response, is_head);
                let mut answer = response.map(|body| AnswerBody { body, left, guard });
                answer.body_mut().disarm_at_end();
                Ok(answer)
            }
            Err(_) => match end.await {
                Ok(Err(error)) => Err(RequestError::Inferlet { id, error }),
                // It sends the head before it can end well; only a process that stops leaves neither.
                Ok(Ok(())) | Err(_) => Err(RequestError::Inferlet { id, error: InferletError::Killed }),
            },
        }
    }
}

/// Calls the program's handler, gives out its answer, and goes on until all that the program started is done.
async fn answer<B>(
    registration: &Registration,
    handler: &ServicePre<HostState>,
    request: http::Request<B>,
    head: oneshot::Sender<http::Response<WasiBody>>,
) -> Result<(), InferletError>
where
    B: Body<Data = Bytes, Error = wasmtime_wasi_http::Error> + Send + 'static,
{
    let mut store = new_store(registration);
    let work = async {
        let service = handler.instantiate_async(&mut store).await?;
        // The second half tells how the body of the request was read, which is the program's business.
        let (request, _) = Request::from_http(store.data_mut().http().hooks, request);
        let talk = async |accessor: &Accessor<HostState>| {
            let response = match service.handle(accessor, request).await? {
                Ok(response) => response,
                Err(code) => return Ok(Err(InferletError::Program(format!("the handler failed: {code:?}")))),
            };
            let response = accessor.with(|mut access| response.into_http(&mut access, async { Ok(()) }))?;
            // The client may be gone; the guard has then killed this inferlet already.
            let _ = head.send(response);
            std::future::poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
            wasmtime::error::Ok(Ok(()))
        };
        store.run_concurrent(talk).await?
    };
    match work.await {
        Ok(result) => result,
        Err(error) => {
            let error = explain(&error, &registration.inferlet, &store);
            // Before the body of its answer ends, which is when the store goes.
            registration.inferlet.fail();
            Err(error)
        }
    }
}

/// What the program prints goes to the log: an HTTP client has no place for it.
fn log_events(id: String, mut events: Receiver<Event>) {
    let log = async move {
        while let Some(event) = events.receive().await {
            match event {
                Event::Text(text) => tracing::info!(%id, "{text}"),
                Event::Stdout(bytes) => tracing::info!(%id, "{}", String::from_utf8_lossy(&bytes).trim_end()),
                Event::Stderr(bytes) => tracing::warn!(%id, "{}", String::from_utf8_lossy(&bytes).trim_end()),
                Event::Blob(bytes) => tracing::info!(%id, "[{} bytes]", bytes.len()),
            }
        }
    };
    tokio::spawn(log.in_current_span());
}

/// Tells an inferlet that its client has left, unless disarmed.
struct LeaveOnDrop(Option<Arc<InferletState>>);

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        if let Some(inferlet) = &self.0 {
            inferlet.client_left();
        }
    }
}

/// The bytes of an answer's body, where its head or its kind tells them: then nobody asks the body for an
/// end.
pub fn bytes_of_body<B: Body>(response: &http::Response<B>, is_head: bool) -> Option<u64> {
    let status = response.status();
    let has_none = is_head
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if has_none {
        return Some(0);
    }
    let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    length.or_else(|| response.body().size_hint().exact())
}

/// The body of an answer, as the program writes it. Dropped before its end, it ends a program that is not detached.
pub struct AnswerBody {
    body: WasiBody,
    /// Bytes that are still to come, where that is known.
    left: Option<u64>,
    guard: LeaveOnDrop,
}

impl AnswerBody {
    /// When the answer is out, dropping the body ends nothing.
    fn disarm_at_end(&mut self) {
        if self.left == Some(0) || self.body.is_end_stream() {
            self.guard.0 = None;
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => match frame.data_ref() {
                Some(data) => {
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    self.disarm_at_end();
                }
                // Trailers are the last frame.
                None => self.guard.0 = None,
            },
            Poll::Ready(None) => {
                // What is cut off must not look whole.
                if self.guard.0.take().is_some_and(|inferlet| inferlet.has_failed()) {
                    let why = "the program was ended, or failed, before its answer was out";
                    return Poll::Ready(Some(Err(std::io::Error::other(why))));
                }
            }
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        frame.map_err(|error| std::io::Error::other(format!("the program broke off its answer: {error:?}")))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
