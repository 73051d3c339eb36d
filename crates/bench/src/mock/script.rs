//! What a mock server does.

use std::str::FromStr;
use std::time::Duration;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// An answer with this status.
    Status(u16),
    /// The connection is reset before the answer.
    Reset,
    /// An answer that is not HTTP.
    Malformed,
    /// An event that is not JSON, in place of a token.
    MalformedEvent,
    /// The stream ends within an event, and the connection with it.
    Cut,
    /// The stream pauses.
    Stall,
    /// An event with an error, in place of a token.
    Error,
    /// No answer at all.
    Silent,
}

/// A fault, and which requests have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// Every so many requests, the last of them.
    pub every: u64,
}

/// A text that is no fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no fault: expected KIND@EVERY, with a kind of reset, malformed, malformed-event, cut, stall, error, silent or a status such as 503"
)]
pub struct ScriptError(String);

impl FromStr for Fault {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let (kind, every) = text.split_once('@').unwrap_or((text, "1"));
        let every = every.parse().ok().filter(|every| *every > 0);
        let kind = match kind {
            "reset" => Some(FaultKind::Reset),
            "malformed" => Some(FaultKind::Malformed),
            "malformed-event" => Some(FaultKind::MalformedEvent),
            "cut" => Some(FaultKind::Cut),
            "stall" => Some(FaultKind::Stall),
            "error" => Some(FaultKind::Error),
            "silent" => Some(FaultKind::Silent),
            other => other.parse().ok().filter(|status| (400..600).contains(status)).map(FaultKind::Status),
        };
        match (kind, every) {
            (Some(kind), Some(every)) => Ok(Self { kind, every }),
            _ => Err(ScriptError(text.to_string())),
        }
    }
}

/// What a mock server does with each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// From the whole request, or the free slot, to the first token.
    pub ttft: Duration,
    /// Between chunks, by an absolute schedule: what one is late does not delay the next.
    pub gap: Duration,
    /// Tokens of an answer; `None` for as many as are requested, 16 where none are.
    pub tokens: Option<u32>,
    /// Tokens in a chunk.
    pub tokens_per_chunk: u32,
    /// Chunks of reasoning before the first content, in a chat.
    pub reasoning_chunks: u32,
    /// Requests that are served at once; others wait in the order of their coming. `None` for all.
    pub slots: Option<usize>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Chunks before a fault within a stream.
    pub fault_after: u32,
    /// How long a stall is.
    pub stall: Duration,
    /// Whether chunks carry the number of tokens so far.
    pub continuous_usage: bool,
    /// Whether answers say how many tokens they had.
    pub usage: bool,
    /// The model's name.
    pub model: String,
    /// Threads that serve; `None` takes one for each core.
    pub threads: Option<usize>,
    /// Whether each write is written down.
    pub logs: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            ttft: Duration::from_millis(50),
            gap: Duration::from_millis(10),
            tokens: None,
            tokens_per_chunk: 1,
            reasoning_chunks: 0,
            slots: None,
            faults: Vec::new(),
            fault_after: 2,
            stall: Duration::from_secs(3600),
            continuous_usage: false,
            usage: true,
            model: "mock".into(),
            threads: None,
            logs: true,
        }
    }
}

impl Script {
    /// What goes wrong with the request of this number, from zero.
    pub fn fault(&self, number: u64) -> Option<FaultKind> {
        let hit = self.faults.iter().find(|fault| number % fault.every == fault.every - 1);
        hit.map(|fault| fault.kind)
    }
}
