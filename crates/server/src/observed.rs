//! The body of an answer, beside somebody who holds on to it or sees what passes. Dropping the body drops both.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};

/// What passes: a part of the body, why it broke off, or its end.
pub(crate) type Passed = Option<Result<Frame<Bytes>, axum::Error>>;

/// Who is there as long as the body is.
pub(crate) trait Observer: Send + Unpin + 'static {
    /// Something has passed. `is_out`: the body says that nothing comes after it.
    fn passed(&mut self, passed: &Passed, is_out: bool);
}

struct ObservedBody<O> {
    body: Body,
    observer: O,
}

/// The same body, observed.
pub(crate) fn observed(body: Body, observer: impl Observer) -> Body {
    Body::new(ObservedBody { body, observer })
}

impl<O: Observer> http_body::Body for ObservedBody<O> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Passed> {
        let ObservedBody { body, observer } = &mut *self;
        let frame = Pin::new(&mut *body).poll_frame(context);
        if let Poll::Ready(passed) = &frame {
            observer.passed(passed, body.is_end_stream());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
