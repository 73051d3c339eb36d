//! `/debug/trace`: a recording of what the server does, as a file for Perfetto.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::Front;
use crate::routes::{failure, not_ready, with_retry_after};

/// Seconds that a recording may take: what it holds is in memory.
pub const RECORDING_SECONDS: std::ops::RangeInclusive<u64> = 1..=60;
/// Seconds of a recording that says nothing else.
const DEFAULT_SECONDS: u64 = 5;
/// Bytes of a file that are written at once, so that the place is kept while the client reads.
const PART_BYTES: usize = 64 << 10;

/// How many events the file has, and how many it has not, since the recording was full.
const EVENTS: HeaderName = HeaderName::from_static("x-pie-trace-events");
const DROPPED: HeaderName = HeaderName::from_static("x-pie-trace-dropped");

/// Records for so many seconds, or until the server stops.
pub(crate) async fn record(State(front): State<Front>, RawQuery(query): RawQuery) -> Response {
    if let Some(refused) = not_ready(&front) {
        return refused;
    }
    let time = match seconds(query.as_deref().unwrap_or_default()) {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(why) => return failure(StatusCode::BAD_REQUEST, &why),
    };
    let Some(runtime) = front.0.recorded.get() else {
        return failure(StatusCode::SERVICE_UNAVAILABLE, "this server makes no recordings");
    };
    // Until its file is out: readers that are slow must not keep many in memory.
    let Ok(place) = front.0.recording.clone().try_acquire_owned() else {
        return with_retry_after(failure(StatusCode::CONFLICT, &trace::Busy.to_string()));
    };
    let end = async {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = front.stopping() => {}
        }
    };
    let recording = match runtime.record(end).await {
        Ok(recording) => recording,
        Err(busy) => return with_retry_after(failure(StatusCode::CONFLICT, &busy.to_string())),
    };
    let (events, dropped) = (recording.events(), recording.dropped());
    // A second of work for a full recording.
    let encoded = tokio::task::spawn_blocking(move || recording.encode()).await;
    let Ok(bytes) = encoded else {
        return failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the recording could not be encoded; see the server's log",
        );
    };
    let head = [
        (CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf")),
        (CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"pie.pftrace\"")),
        (EVENTS, events.into()),
        (DROPPED, dropped.into()),
    ];
    (head, Body::new(FileBody { bytes: bytes.into(), _place: place })).into_response()
}

/// The bytes of a recording, which has the place of the next one until they are out.
struct FileBody {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.bytes.len().min(PART_BYTES);
        let part = self.bytes.split_to(length);
        Poll::Ready((!part.is_empty()).then(|| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

/// The seconds that a query asks for.
///
/// # Errors
/// What is wrong with it, in words.
fn seconds(query: &str) -> Result<u64, String> {
    let (low, high) = (RECORDING_SECONDS.start(), RECORDING_SECONDS.end());
    let mut seconds = DEFAULT_SECONDS;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name != "seconds" {
            return Err(format!("unknown parameter `{name}`: expected `seconds`"));
        }
        let given = value.parse().ok().filter(|seconds| RECORDING_SECONDS.contains(seconds));
        seconds =
            given.ok_or_else(|| format!("`seconds` is `{value}`: expected a number from {low} to {high}"))?;
    }
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_checked_in_words() {
        for (query, expected) in [("", 5), ("seconds=1", 1), ("seconds=60", 60), ("&seconds=7&", 7)] {
            assert_eq!(seconds(query), Ok(expected), "{query}");
        }
        for (query, said) in [
            ("seconds=0", "`seconds` is `0`: expected a number from 1 to 60"),
            ("seconds=61", "is `61`"),
            ("seconds=-1", "is `-1`"),
            ("seconds", "is ``"),
            ("seconds=1.5", "is `1.5`"),
            ("second=1", "unknown parameter `second`: expected `seconds`"),
        ] {
            let error = seconds(query).unwrap_err();
            assert!(error.contains(said), "{query}: {error}");
        }
    }
}
