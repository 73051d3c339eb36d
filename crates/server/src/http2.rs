//! HTTP/2: many requests on one connection.
//!
//! What patience is with HTTP/1 holds here too, though one stalled reader does not block the connection: a stream whose
//! client takes nothing of its answer for too long ends the connection, and with it its inferlets. A connection without a
//! request ends after the time that a head may take.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use http_body::{Frame, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use crate::Front;
use crate::patience::TimedWrites;

/// Requests of one connection at once. More wait at the client.
const STREAMS: u32 = 128;
/// Bytes of a request's head.
const HEAD_BYTES: u32 = 64 << 10;

/// Answers the requests of one connection.
pub(crate) async fn serve<T>(front: &Front, stream: T, router: Router)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = front.limits();
    let streams = Arc::new(Streams::default());
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let open = Open::new(&streams);
        let mut router = router.clone();
        async move {
            let answer = router.call(request.map(Body::new) as Request).await?;
            Ok::<_, std::convert::Infallible>(
                answer.map(|body| Body::new(Watched { body, open, rest: Bytes::new() })),
            )
        }
    });
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES)
        .keep_alive_interval(Some(limits.head))
        .keep_alive_timeout(limits.head);
    let io = TimedWrites::new(TokioIo::new(stream), limits.write);
    let last_write = io.last_write();
    let mut connection = std::pin::pin!(http.serve_connection(io, service));
    let mut look =
        tokio::time::interval(limits.head.min(limits.write).div_f64(4.0).max(Duration::from_millis(10)));
    let mut stopping = std::pin::pin!(front.stopping());
    let mut is_ending = None;
    loop {
        tokio::select! {
            served = &mut connection => {
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection broke off");
                }
                return;
            }
            () = &mut stopping, if is_ending.is_none() => {
                connection.as_mut().graceful_shutdown();
                is_ending = Some(Instant::now());
            }
            _ = look.tick() => {
                if streams.longest_stall().is_some_and(|stall| stall > limits.write) {
                    tracing::debug!("a connection is ended: its client takes nothing of an answer");
                    return;
                }
                // Bytes that a stream has handed over may still be on their way.
                let is_idle = streams.idle_for().is_some_and(|idle| idle.min(last_write.elapsed()) > limits.head);
                match is_ending {
                    None if is_idle => {
                        connection.as_mut().graceful_shutdown();
                        is_ending = Some(Instant::now());
                    }
                    // Told to end, without a request, and still there.
                    Some(since) if is_idle && since.elapsed() > limits.head => return,
                    _ => {}
                }
            }
        }
    }
}

/// The requests of a connection that are being answered.
struct Streams(Mutex<State>);

struct State {
    next: u64,
    /// For each, since when the client is to take what it was given; none while the answer has nothing for it.
    given: BTreeMap<u64, Option<Instant>>,
    idle_since: Instant,
}

impl Default for Streams {
    fn default() -> Streams {
        Streams(Mutex::new(State { next: 0, given: BTreeMap::new(), idle_since: Instant::now() }))
    }
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn longest_stall(&self) -> Option<Duration> {
        self.lock().given.values().flatten().map(Instant::elapsed).max()
    }

    fn idle_for(&self) -> Option<Duration> {
        let state = self.lock();
        state.given.is_empty().then(|| state.idle_since.elapsed())
    }
}

/// A request that is being answered.
struct Open {
    streams: Arc<Streams>,
    stream: u64,
}

impl Open {
    fn new(streams: &Arc<Streams>) -> Open {
        let mut state = streams.lock();
        let stream = state.next;
        state.next += 1;
        state.given.insert(stream, None);
        Open { streams: streams.clone(), stream }
    }

    fn set_given(&self, since: Option<Instant>) {
        self.streams.lock().given.insert(self.stream, since);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.streams.lock();
        state.given.remove(&self.stream);
        state.idle_since = Instant::now();
    }
}

/// An answer that notes when something of it was given out, and that more is asked for: that is when the client has room.
/// Each is small, so that a client that reads slowly is one that reads.
struct Watched {
    body: Body,
    open: Open,
    /// Of the last part of the body, what was not given out.
    rest: Bytes,
}

/// Bytes that are given out at once.
const PART_BYTES: usize = 16 << 10;

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => {
                        self.open.set_given(Some(Instant::now()));
                        return Poll::Ready(Some(Ok(trailers)));
                    }
                },
                end => {
                    self.open.set_given(end.is_ready().then(Instant::now));
                    return end;
                }
            }
        }
        self.open.set_given(Some(Instant::now()));
        let part = self.rest.len().min(PART_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(part)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
