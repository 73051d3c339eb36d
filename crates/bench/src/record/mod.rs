//! What happened to one request: every moment of its life on the clock of the run.
//!
//! ```text
//! intended ..... enqueued ..... released ..... started ..... sent ..... headers . first byte . first token . end
//!      late timer      no free slot     busy worker     connecting    the server at work
//! ```
//!
//! Response time counts from `intended`, service time from `started`. The two differ by what a request waited for
//! a slot, which a user of the server would have felt, and by what the client itself was late.

use serde::Serialize;

use crate::clock::Nanos;

/// One piece of an answer, as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// When the read that brought its end returned.
    pub at: Nanos,
    /// Tokens in it; zero where the server does not say.
    pub tokens: u32,
}

/// Why a request has no whole answer. One word each, the same in every report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Nobody listens at the address.
    Refused,
    /// The name of the host has no address.
    Resolve,
    /// No connection: no route, no free port, no file descriptor.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// No connection within the time allowed.
    ConnectTimeout,
    /// The connection was reset.
    Reset,
    /// A status other than 2xx.
    Status,
    /// What came is not HTTP.
    MalformedHttp,
    /// What came is not the stream of events that was asked for.
    MalformedStream,
    /// The server reported an error within its stream.
    ServerError,
    /// No byte within the time allowed.
    FirstByteTimeout,
    /// The answer stopped for longer than allowed.
    Stalled,
    /// No end within the time allowed.
    Timeout,
    /// The connection was closed before the answer ended.
    Truncated,
    /// The answer ended well and held no token.
    Empty,
    /// A defect of the client.
    Client,
}

impl ErrorClass {
    /// The word for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::ConnectTimeout => "connect_timeout",
            Self::Reset => "reset",
            Self::Status => "status",
            Self::MalformedHttp => "malformed_http",
            Self::MalformedStream => "malformed_stream",
            Self::ServerError => "server_error",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::Stalled => "stalled",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::Empty => "empty",
            Self::Client => "client",
        }
    }
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub class: ErrorClass,
    /// What was found, in words.
    pub message: String,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a whole answer.
    Completed,
    /// Without one.
    Failed(Failure),
    /// Never sent: no slot was free, and the policy is to drop.
    Dropped,
    /// The run was stopped, or the request given up on purpose, while it was under way.
    Cancelled,
    /// Never sent: the run was stopped, or an earlier turn of its session failed.
    Skipped,
}

/// Tokens as the server counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: Option<u32>,
    /// Tokens of the answer.
    pub output: Option<u32>,
    /// Tokens of the prompt that came out of the server's cache.
    pub cached: Option<u32>,
    /// Tokens of the answer that are reasoning.
    pub reasoning: Option<u32>,
}

/// One request of a run.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its place in the plan.
    pub index: usize,
    /// What the server got as `x-request-id`.
    pub request_id: String,
    /// The session it is of.
    pub session: Option<u32>,
    /// Which turn of its session, from zero.
    pub turn: u32,
    /// When the plan wants it sent. For a turn of a session, no earlier than the end of the turn before it.
    pub intended: Nanos,
    /// When it joined the queue for a slot.
    pub enqueued: Nanos,
    /// When it got its slot.
    pub released: Option<Nanos>,
    /// When a worker took it up. Service time counts from here.
    pub started: Option<Nanos>,
    /// When its last byte had been given to the socket.
    pub sent: Option<Nanos>,
    /// When the head of the answer was complete.
    pub headers: Option<Nanos>,
    /// When the first byte of the body was there.
    pub first_byte: Option<Nanos>,
    /// The first token in any channel: content, reasoning, a call of a tool.
    pub first_token: Option<Nanos>,
    /// The first token of content.
    pub first_content: Option<Nanos>,
    /// The last token in any channel.
    pub last_token: Option<Nanos>,
    /// When the answer, or the failure, was complete.
    pub end: Nanos,
    /// Each event that had tokens.
    pub chunks: Vec<Chunk>,
    /// Tokens of the prompt as the plan has them; zero where unknown.
    pub planned_prompt_tokens: u32,
    /// Tokens that were requested.
    pub requested_output_tokens: u32,
    /// Tokens as the server counts them.
    pub usage: Usage,
    /// Bytes of the answer, with its head.
    pub bytes_received: u64,
    /// Whether the connection had served a request before.
    pub reused_connection: bool,
    /// HTTP status.
    pub status: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// The text of the answer, where it was to be kept or the session needs it.
    pub text: String,
    /// Why the answer ended, in the server's words.
    pub finish_reason: Option<String>,
    /// Headers of the answer that were asked for: name in small letters, value.
    pub response_headers: Vec<(String, String)>,
}

impl Record {
    /// A request that has not been sent.
    pub fn planned(index: usize, intended: Nanos, enqueued: Nanos, outcome: Outcome) -> Self {
        Self {
            index,
            request_id: String::new(),
            session: None,
            turn: 0,
            intended,
            enqueued,
            released: None,
            started: None,
            sent: None,
            headers: None,
            first_byte: None,
            first_token: None,
            first_content: None,
            last_token: None,
            end: enqueued,
            chunks: Vec::new(),
            planned_prompt_tokens: 0,
            requested_output_tokens: 0,
            usage: Usage::default(),
            bytes_received: 0,
            reused_connection: false,
            status: None,
            outcome,
            text: String::new(),
            finish_reason: None,
            response_headers: Vec::new(),
        }
    }

    /// Whether there is a whole answer.
    pub fn completed(&self) -> bool {
        self.outcome == Outcome::Completed
    }

    /// What failed.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.outcome {
            Outcome::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Tokens of the prompt: the server's count, else that of the plan.
    pub fn prompt_tokens(&self) -> u32 {
        self.usage.prompt.unwrap_or(self.planned_prompt_tokens)
    }

    /// Tokens of the answer: the server's count, else the sum of what the events said, else the number of events.
    pub fn output_tokens(&self) -> u32 {
        self.usage.output.unwrap_or_else(|| {
            let said: u32 = self.chunks.iter().map(|chunk| chunk.tokens).sum();
            if said > 0 { said } else { self.chunks.len() as u32 }
        })
    }

    /// From when service time counts.
    pub fn service_start(&self) -> Nanos {
        self.started.unwrap_or(self.enqueued)
    }

    /// What the client itself was late: its timer, and its worker. Waiting for a slot is not in it.
    pub fn schedule_lag(&self) -> Option<Nanos> {
        let worker = self.started?.since(self.released?);
        Some(self.enqueued.since(self.intended).plus(worker))
    }

    /// What it waited for a slot.
    pub fn queue_wait(&self) -> Option<Nanos> {
        Some(self.released?.since(self.enqueued))
    }
}
