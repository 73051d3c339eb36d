//! stdout and stderr of an inferlet, as events for its client.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio_util::sync::PollSender;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use crate::inferlet::{Event, InferletState};

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdout,
    Stderr,
}

/// Writes go to the client's queue of events and wait while it is full.
#[derive(Clone)]
pub(crate) struct OutputPipe {
    inferlet: Arc<InferletState>,
    channel: Channel,
    /// None when the inferlet has ended.
    events: Option<PollSender<Event>>,
}

impl OutputPipe {
    pub(crate) fn new(inferlet: Arc<InferletState>, channel: Channel) -> OutputPipe {
        let events = inferlet.events().map(PollSender::new);
        OutputPipe { inferlet, channel, events }
    }
}

impl IsTerminal for OutputPipe {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for OutputPipe {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for OutputPipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone");
        if self.channel == Channel::Stderr {
            self.inferlet.keep_stderr(bytes);
        }
        let Some(events) = self.events.as_mut() else { return Poll::Ready(Err(gone())) };
        match events.poll_reserve(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) if self.channel == Channel::Stderr => return Poll::Ready(Ok(bytes.len())),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(gone())),
            Poll::Ready(Ok(())) => {}
        }
        if let Err(limit) = self.inferlet.spend_output(bytes.len()) {
            return Poll::Ready(Err(io::Error::other(format!("{limit:?}"))));
        }
        let event = match self.channel {
            Channel::Stdout => Event::Stdout(bytes.to_vec()),
            Channel::Stderr => Event::Stderr(bytes.to_vec()),
        };
        let sent =
            self.events.as_mut().map_or(Err(gone()), |events| events.send_item(event).map_err(|_| gone()));
        Poll::Ready(sent.map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
