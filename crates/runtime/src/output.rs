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
        let Some(events) = self.events.as_mut() else { return Poll::Ready(Err(gone())) };
        // While it waits, the same bytes come again: they are kept when they are taken.
        let Poll::Ready(reserved) = events.poll_reserve(context) else { return Poll::Pending };
        if self.channel == Channel::Stderr {
            self.inferlet.keep_stderr(bytes);
        }
        match reserved {
            Ok(()) => {}
            Err(_) if self.channel == Channel::Stderr => return Poll::Ready(Ok(bytes.len())),
            Err(_) => return Poll::Ready(Err(gone())),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inferlet::{EVENTS, InferletState};
    use crate::limits::InferletLimits;

    #[test]
    fn stderr_that_waits_is_kept_once() {
        let limits = InferletLimits::default();
        let (inferlet, mut client) =
            InferletState::new(scheduler::OwnerId(1), "p".into(), "u".into(), Vec::new(), limits);
        let inferlet = Arc::new(inferlet);
        let sender = inferlet.events().unwrap();
        (0..EVENTS).for_each(|_| sender.try_send(Event::Text(String::new())).unwrap());
        let mut pipe = OutputPipe::new(inferlet.clone(), Channel::Stderr);
        let mut write =
            || Pin::new(&mut pipe).poll_write(&mut Context::from_waker(std::task::Waker::noop()), b"why");
        assert!(write().is_pending() && write().is_pending());
        client.events.try_recv().unwrap();
        assert!(write().is_ready());
        assert_eq!(inferlet.stderr_tail(), "why");
    }
}
