//! What happened when: recordings that a person opens in Perfetto, and spans of requests for a collector ([`Telemetry`]).
//!
//! A [`Recorder`] is there all the time and costs a load of one flag where something could be recorded. While a
//! [`Session`] is open it keeps what inferlets and engines tell it, up to so many bytes, and counts the rest. The
//! [`Recording`] that comes of it is encoded when it is over, so nothing is encoded while programs run.
//!
//! Everything here is plain data: inferlets and passes are numbers, engines names. Who they are is the runtime's business.

mod encode;
mod events;
mod lanes;
mod perfetto;
mod recorder;
mod spans;

pub use events::{Batch, Counters, Life, Value};
pub use recorder::{Busy, Call, EngineTrack, Recorder, Recording, Session};
pub use spans::{InferletSpan, RequestHead, RequestSpan, SpanParent, Telemetry, TelemetryError, TokenUsage};
