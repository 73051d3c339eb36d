//! How long a client may take: for the body it sends, and to read what it is sent.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

/// Bytes of a body that must come in the time for it: one byte a minute is no progress.
const BODY_PROGRESS: usize = 1024;

/// Adds up the time for which something is waited for.
struct Clock {
    limit: Duration,
    /// Of the waits before this one.
    waited: Duration,
    /// Since when, and until when at most.
    wait: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Clock {
    fn new(limit: Duration) -> Clock {
        Clock { limit, waited: Duration::ZERO, wait: None }
    }

    /// The wait is over; the next adds to it.
    fn pause(&mut self) {
        if let Some((since, _)) = self.wait.take() {
            self.waited += since.elapsed();
        }
    }

    /// All waits are over, and forgotten.
    fn reset(&mut self) {
        (self.waited, self.wait) = (Duration::ZERO, None);
    }

    /// Waits: ready when the time is over, and wakes the task then.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let left = self.limit.saturating_sub(self.waited);
        let start = || (Instant::now(), Box::pin(tokio::time::sleep(left)));
        let (_, sleep) = self.wait.get_or_insert_with(start);
        sleep.as_mut().poll(context)
    }
}

/// A stream whose writes fail when the other side takes nothing for too long.
pub(crate) struct TimedWrites<T> {
    io: T,
    clock: Clock,
    last: LastWrite,
}

/// When the other side took something last. Cloning gives another handle to the same time.
#[derive(Clone)]
pub(crate) struct LastWrite(Arc<Mutex<Instant>>);

impl LastWrite {
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

impl<T> TimedWrites<T> {
    pub(crate) fn new(io: T, limit: Duration) -> TimedWrites<T> {
        TimedWrites { io, clock: Clock::new(limit), last: LastWrite(Arc::new(Mutex::new(Instant::now()))) }
    }

    pub(crate) fn into_inner(self) -> T {
        self.io
    }

    /// When it took something last.
    pub(crate) fn last_write(&self) -> LastWrite {
        self.last.clone()
    }

    fn in_time<R>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            *self.last.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            self.clock.reset();
            return written;
        }
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing of its answer");
        self.clock.poll(context).map(|()| Err(late()))
    }
}

impl<T: Read + Unpin> Read for TimedWrites<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: Write + Unpin> Write for TimedWrites<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, parts);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(context);
        self.in_time(context, shut)
    }
}

/// The body of a request, which fails when too little of it comes while the program waits for it.
pub(crate) struct TimedBody {
    body: Body,
    clock: Clock,
    /// Bytes since the clock was reset.
    progress: usize,
    /// Told when it fails so.
    stalled: Option<oneshot::Sender<()>>,
}

/// Why a body broke off.
pub(crate) enum BodyError {
    Stalled(Duration),
    Broken(axum::Error),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::Stalled(limit) => write!(f, "the client sent too little of it in {limit:?}"),
            BodyError::Broken(error) => write!(f, "{error}"),
        }
    }
}

impl TimedBody {
    /// The second is told when the body stalls, and is dropped with the body.
    pub(crate) fn new(body: Body, limit: Duration) -> (TimedBody, oneshot::Receiver<()>) {
        let (stalled, told) = oneshot::channel();
        (TimedBody { body, clock: Clock::new(limit), progress: 0, stalled: Some(stalled) }, told)
    }
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            self.progress += bytes.map_or(0, Bytes::len);
            self.clock.pause();
            if self.progress >= BODY_PROGRESS {
                self.progress = 0;
                self.clock.reset();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)));
        }
        let limit = self.clock.limit;
        self.clock.poll(context).map(|()| {
            if let Some(stalled) = self.stalled.take() {
                // The request may be answered already.
                let _ = stalled.send(());
            }
            Some(Err(BodyError::Stalled(limit)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
