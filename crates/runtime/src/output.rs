//! stdout and stderr of an inferlet, as events for its client.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio_util::sync::ReusableBoxFuture;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use crate::inferlet::{Event, InferletState};
use crate::queue::Slot;

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdout,
    Stderr,
}

/// Bytes of one write, and so of one event.
const WRITE_BYTES: usize = 1 << 16;

/// Writes go to the client's queue of events and wait while it is full.
pub(crate) struct OutputPipe {
    inferlet: Arc<InferletState>,
    channel: Channel,
    /// The wait for room in the queue, which a write has begun; `None` of it when the client is gone.
    waiting: Option<ReusableBoxFuture<'static, Option<Slot<Event>>>>,
    /// Bytes that it waits for.
    bytes: usize,
}

impl OutputPipe {
    pub(crate) fn new(inferlet: Arc<InferletState>, channel: Channel) -> OutputPipe {
        OutputPipe { inferlet, channel, waiting: None, bytes: 0 }
    }
}

impl IsTerminal for OutputPipe {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for OutputPipe {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(OutputPipe::new(self.inferlet.clone(), self.channel))
    }
}

impl AsyncWrite for OutputPipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone");
        let pipe = &mut *self;
        if pipe.waiting.is_none() {
            let Some(events) = pipe.inferlet.events() else { return Poll::Ready(Err(gone())) };
            let bytes = bytes.len().min(WRITE_BYTES);
            let reserve = async move { events.reserve(bytes).await };
            (pipe.waiting, pipe.bytes) = (Some(ReusableBoxFuture::new(reserve)), bytes);
        }
        let Some(Poll::Ready(slot)) = pipe.waiting.as_mut().map(|waiting| waiting.poll(context)) else {
            return Poll::Pending;
        };
        pipe.waiting = None;
        // While it waits, the same bytes come again: they are kept when they are taken.
        let bytes = &bytes[..pipe.bytes.min(bytes.len())];
        if pipe.channel == Channel::Stderr {
            pipe.inferlet.keep_stderr(bytes);
        }
        let slot = match slot {
            Some(slot) => slot,
            None if pipe.channel == Channel::Stderr => return Poll::Ready(Ok(bytes.len())),
            None => return Poll::Ready(Err(gone())),
        };
        if let Err(limit) = pipe.inferlet.spend_output(bytes.len()) {
            return Poll::Ready(Err(io::Error::other(format!("{limit:?}"))));
        }
        slot.send(match pipe.channel {
            Channel::Stdout => Event::Stdout(bytes.to_vec()),
            Channel::Stderr => Event::Stderr(bytes.to_vec()),
        });
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::inferlet::tests::inferlet;
    use crate::queue::MESSAGES;

    #[test]
    fn stderr_that_waits_is_kept_once() {
        let (inferlet, mut client) = inferlet();
        let events = inferlet.events().unwrap();
        for _ in 0..MESSAGES {
            assert_eq!(events.send(Event::Text(String::new()), 0).now_or_never(), Some(true));
        }
        let mut pipe = OutputPipe::new(inferlet.clone(), Channel::Stderr);
        let mut write =
            || Pin::new(&mut pipe).poll_write(&mut Context::from_waker(std::task::Waker::noop()), b"why");
        assert!(write().is_pending() && write().is_pending());
        client.events.receive().now_or_never().unwrap();
        assert!(write().is_ready());
        assert_eq!(inferlet.stderr_tail(), "why");
    }
}
