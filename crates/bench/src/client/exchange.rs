//! One request and its answer.

use std::time::{Duration, Instant};

use super::api::Api;
use super::connection::{Connection, Deadlines, ReadError, broken};
use super::event::{self, Gathered};
use super::framing::{self, Head};
use super::launch::launched;
use super::sse::Sse;
use super::worker::{Job, Worker};
use crate::clock::Nanos;
use crate::record::{Chunk, ErrorClass, Failure, Outcome, Record, Usage};

/// Largest event of a stream, and largest answer that is no stream.
const EVENT_LIMIT: usize = 16 << 20;
const ANSWER_LIMIT: usize = 256 << 20;
/// How much of the body of an answer with an error status is kept for the message.
const SHOWN_BYTES: usize = 500;

pub(super) fn failed(class: ErrorClass, message: impl Into<String>) -> Failure {
    Failure { class, message: message.into() }
}

/// Carries out one request. `record` is filled as it goes, so that it is right when this is given up in the middle.
pub(super) async fn exchange(worker: &Worker, job: &Job, record: &mut Record) {
    record.started = Some(worker.clock.now());
    let outcome = match &worker.options.api {
        Api::Program(launch) => launched(worker, job, launch, record).await,
        _ => attempts(worker, job, record).await,
    };
    record.end = worker.clock.now();
    record.outcome = match outcome {
        Ok(()) => Outcome::Completed,
        Err(failure) => Outcome::Failed(failure),
    };
}

async fn attempts(worker: &Worker, job: &Job, record: &mut Record) -> Result<(), Failure> {
    let request = request(worker, job, record)?;
    let idle = worker.idle.borrow_mut().pop();
    if let Some(connection) = idle {
        record.reused_connection = true;
        let tried = attempt(worker, connection, &request, record).await;
        // The server may close an idle connection just as it is used. Nothing of the request has an effect then, and
        // every client sends it again on a new one.
        let was_closed = matches!(&tried, Err(failure) if matches!(failure.class, ErrorClass::Reset | ErrorClass::Truncated));
        if !(was_closed && record.bytes_received == 0) {
            return tried;
        }
        record.reused_connection = false;
    }
    let options = &worker.options;
    let addresses = &worker.addresses;
    let timeout = options.timeouts.connect;
    let connection = Connection::open(addresses, &options.address.host, worker.tls.as_ref(), timeout).await?;
    worker.count_connection();
    attempt(worker, connection, &request, record).await
}

/// The bytes of the request.
fn request(worker: &Worker, job: &Job, record: &Record) -> Result<Vec<u8>, Failure> {
    let options = &worker.options;
    // Whether every sample can be asked was checked before the run.
    let body = options.api.body(&worker.ask(job)).map_err(|why| failed(ErrorClass::MalformedHttp, why))?;
    let route = options.route.as_deref().unwrap_or(options.api.route());
    let mut bytes = Vec::with_capacity(body.len() + 512);
    let mut line = |parts: [&str; 3]| {
        parts.into_iter().for_each(|part| bytes.extend_from_slice(part.as_bytes()));
        bytes.extend_from_slice(b"\r\n");
    };
    line(["POST ", &options.address.path(route), " HTTP/1.1"]);
    line(["host: ", &options.address.authority(), ""]);
    line(["user-agent: pie-bench/", env!("CARGO_PKG_VERSION"), ""]);
    line(["content-type: application/json", "", ""]);
    line(["accept: ", if options.stream { "text/event-stream" } else { "application/json" }, ""]);
    line(["content-length: ", &body.len().to_string(), ""]);
    line(["x-request-id: ", &record.request_id, ""]);
    if let Some(key) = &options.api_key {
        line(["authorization: Bearer ", key, ""]);
    }
    if let (Some(name), Some(session)) = (&options.session_header, record.session) {
        line([name, ": ", &format!("{}{session}", options.session_prefix)]);
    }
    if !options.reuse_connections {
        line(["connection: close", "", ""]);
    }
    for (name, value) in &options.headers {
        line([name, ": ", value]);
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

pub(super) fn after(start: Instant, timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| start.checked_add(timeout))
}

async fn attempt(
    worker: &Worker,
    mut connection: Connection,
    request: &[u8],
    record: &mut Record,
) -> Result<(), Failure> {
    let timeouts = worker.options.timeouts;
    connection.write(request).await.map_err(|error| broken(&error, "sending"))?;
    let now = Instant::now();
    record.sent = Some(worker.clock.now());
    let started = worker.clock.instant(record.service_start());
    let deadlines = Deadlines::new(after(started, timeouts.total), after(now, timeouts.first_byte));
    let mut reader = Reader { worker, deadlines, timeouts, record };
    let answer = reader.answer(&mut connection).await?;
    if answer.keep_alive && worker.options.reuse_connections {
        worker.idle.borrow_mut().push(connection);
    }
    answer.verdict
}

/// An answer that came to its end on the wire.
struct Answer {
    /// Whether the connection may be used again.
    keep_alive: bool,
    /// Whether it is a good one.
    verdict: Result<(), Failure>,
}

struct Reader<'a> {
    worker: &'a Worker,
    deadlines: Deadlines,
    timeouts: super::Timeouts,
    record: &'a mut Record,
}

impl Reader<'_> {
    async fn answer(&mut self, connection: &mut Connection) -> Result<Answer, Failure> {
        let mut wire = Vec::new();
        // 1. The head.
        let mut head = loop {
            if let Some(head) = framing::head(&wire, &self.worker.options.response_headers)? {
                break head;
            }
            let (at, length) = self.read(connection).await?;
            if length == 0 {
                return Err(failed(
                    ErrorClass::Truncated,
                    "closed before the head of the answer was complete",
                ));
            }
            wire.extend_from_slice(&self.worker.scratch.borrow()[..length]);
            self.record.headers = Some(at);
        };
        self.record.status = Some(head.status);
        self.record.response_headers = std::mem::take(&mut head.kept);
        // 1xx and an answer after it are not met with here: no `expect` is sent.
        let good = (200..300).contains(&head.status);
        let mut body = Body::new(self.worker, good && head.is_events);
        let first_at = self.record.headers.unwrap_or_default();
        head.framing.feed(&wire[head.length..], body.input())?;
        self.took(&mut body, first_at)?;
        // 2. The body.
        while !head.framing.is_over() {
            let (at, length) = self.read(connection).await?;
            if length == 0 {
                if head.framing == framing::Framing::UntilClose {
                    break;
                }
                return Err(self.cut_off());
            }
            head.framing.feed(&self.worker.scratch.borrow()[..length], body.input())?;
            self.took(&mut body, at)?;
        }
        let verdict = if good { self.finish(body) } else { Err(status_error(&head, &body)) };
        Ok(Answer { keep_alive: head.keep_alive, verdict })
    }

    fn cut_off(&self) -> Failure {
        let (bytes, events) = (self.record.bytes_received, self.record.chunks.len());
        let message = format!("closed after {bytes} bytes and {events} events with tokens, before the end");
        failed(ErrorClass::Truncated, message)
    }

    /// Waits for bytes: when they were there, and how many are in the worker's scratch.
    async fn read(&mut self, connection: &mut Connection) -> Result<(Nanos, usize), Failure> {
        let read = connection.read(&self.worker.scratch, &mut self.deadlines).await;
        let at = self.worker.clock.now();
        let length = read.map_err(|error| self.read_error(error))?;
        self.record.bytes_received += length as u64;
        if let Some(stall) = self.timeouts.stall {
            self.deadlines.set_next(self.worker.clock.instant(at).checked_add(stall));
        } else if self.record.headers.is_none() {
            self.deadlines.set_next(None);
        }
        Ok((at, length))
    }

    fn read_error(&self, error: ReadError) -> Failure {
        let limit =
            |timeout: Option<Duration>| timeout.map_or(String::new(), |timeout| format!("{timeout:?}"));
        match error {
            ReadError::Io(error) => broken(&error, "reading"),
            ReadError::Late if self.deadlines.is_total_over() => {
                let message = format!("no end within {}", limit(self.timeouts.total));
                failed(ErrorClass::Timeout, message)
            }
            ReadError::Late if self.record.bytes_received == 0 => {
                let message = format!("no byte within {}", limit(self.timeouts.first_byte));
                failed(ErrorClass::FirstByteTimeout, message)
            }
            ReadError::Late => {
                let message = format!(
                    "no byte for {} after {} events with tokens",
                    limit(self.timeouts.stall),
                    self.record.chunks.len()
                );
                failed(ErrorClass::Stalled, message)
            }
        }
    }

    /// Looks at what was read at `at`.
    fn took(&mut self, body: &mut Body, at: Nanos) -> Result<(), Failure> {
        let Body::Events { sse, gathered, done, choices, last_usage } = body else {
            if self.record.first_byte.is_none() && body.length() > 0 {
                self.record.first_byte = Some(at);
            }
            return if body.length() > ANSWER_LIMIT {
                Err(failed(ErrorClass::MalformedHttp, format!("an answer of over {ANSWER_LIMIT} bytes")))
            } else {
                Ok(())
            };
        };
        if self.record.first_byte.is_none() && sse.pending_bytes() > 0 {
            self.record.first_byte = Some(at);
        }
        let lenient = matches!(self.worker.options.api, Api::Template(_));
        while let Some(data) = sse.next_event() {
            if data == b"[DONE]" {
                *done = true;
                continue;
            }
            self.record.one(data, gathered, choices, last_usage, at, lenient)?;
        }
        if sse.strange_lines() > 0 {
            let message = "found lines that are no fields of an event, expected a stream of events";
            return Err(failed(ErrorClass::MalformedStream, message));
        }
        if sse.pending_bytes() > EVENT_LIMIT {
            return Err(failed(ErrorClass::MalformedStream, format!("an event of over {EVENT_LIMIT} bytes")));
        }
        Ok(())
    }

    /// Judges an answer that is complete on the wire.
    fn finish(&mut self, body: Body) -> Result<(), Failure> {
        let at = self.worker.clock.now();
        let lenient = matches!(self.worker.options.api, Api::Template(_));
        match body {
            Body::Events { mut sse, mut gathered, mut done, mut choices, mut last_usage } => {
                if let Some(data) = sse.last_event() {
                    if data == b"[DONE]" {
                        done = true;
                    } else {
                        self.record.one(data, &mut gathered, &mut choices, &mut last_usage, at, lenient)?;
                    }
                }
                self.record.text = gathered.text;
                if !choices {
                    let message = "the stream ended without a choice";
                    return Err(failed(ErrorClass::Empty, message));
                }
                // A stream that says neither how it ended nor that it is done was cut off by somebody in between.
                if !done && self.record.finish_reason.is_none() && !lenient {
                    let message = "the stream ended without [DONE] and without a finish_reason";
                    return Err(failed(ErrorClass::Truncated, message));
                }
                Ok(())
            }
            Body::Whole { bytes, mut gathered } => {
                let (mut choices, mut usage) = (false, Usage::default());
                let first_byte = self.record.first_byte;
                self.record.one(&bytes, &mut gathered, &mut choices, &mut usage, at, lenient)?;
                // An answer in one piece has no first token of its own.
                self.record.first_token = None;
                self.record.first_content = None;
                self.record.chunks.clear();
                self.record.first_byte = first_byte;
                self.record.text = gathered.text;
                match choices || lenient {
                    true => Ok(()),
                    false => Err(failed(ErrorClass::Empty, "the answer has no choice")),
                }
            }
        }
    }
}

impl Record {
    /// Takes in one event.
    fn one(
        &mut self,
        data: &[u8],
        gathered: &mut Gathered,
        choices: &mut bool,
        last: &mut Usage,
        at: Nanos,
        lenient: bool,
    ) -> Result<(), Failure> {
        let event = match event::read(data, gathered) {
            Ok(event) => event,
            // A server that a template is written for may stream plain text.
            Err(_) if lenient => {
                if gathered.keep {
                    gathered.text.push_str(&String::from_utf8_lossy(data));
                }
                event::Event {
                    has_choice: true,
                    has_content: !data.is_empty(),
                    has_token: !data.is_empty(),
                    ..Default::default()
                }
            }
            Err(why) => return Err(failed(ErrorClass::MalformedStream, why)),
        };
        if let Some(error) = event.error {
            return Err(failed(ErrorClass::ServerError, error));
        }
        *choices |= event.has_choice || lenient;
        let mut tokens = event.tokens;
        if let Some(usage) = event.usage {
            if tokens == 0 && event.has_token {
                tokens = usage.output.unwrap_or(0).saturating_sub(last.output.unwrap_or(0));
            }
            *last = usage;
            self.usage = Usage {
                prompt: usage.prompt.or(self.usage.prompt),
                output: usage.output.or(self.usage.output),
                cached: usage.cached.or(self.usage.cached),
                reasoning: usage.reasoning.or(self.usage.reasoning),
            };
        }
        self.finish_reason = event.finish_reason.or(self.finish_reason.take());
        if event.has_token {
            self.first_token.get_or_insert(at);
            self.last_token = Some(at);
            if event.has_content {
                self.first_content.get_or_insert(at);
            }
            self.chunks.push(Chunk { at, tokens });
        }
        Ok(())
    }
}

/// The body as it is gathered.
enum Body {
    Events { sse: Sse, gathered: Gathered, done: bool, choices: bool, last_usage: Usage },
    Whole { bytes: Vec<u8>, gathered: Gathered },
}

impl Body {
    fn new(worker: &Worker, is_events: bool) -> Self {
        let gathered = Gathered { keep: worker.keeps_text, ..Gathered::default() };
        if is_events {
            let (sse, last_usage) = (Sse::default(), Usage::default());
            return Self::Events { sse, gathered, done: false, choices: false, last_usage };
        }
        Self::Whole { bytes: Vec::new(), gathered }
    }

    fn input(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Events { sse, .. } => sse.input(),
            Self::Whole { bytes, .. } => bytes,
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Events { sse, .. } => sse.pending_bytes(),
            Self::Whole { bytes, .. } => bytes.len(),
        }
    }
}

fn status_error(head: &Head, body: &Body) -> Failure {
    let text = match body {
        Body::Whole { bytes, .. } => {
            String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES)]).into_owned()
        }
        Body::Events { .. } => String::new(),
    };
    failed(ErrorClass::Status, format!("status {}: {}", head.status, text.trim()))
}
