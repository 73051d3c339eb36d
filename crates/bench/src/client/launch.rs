//! One request as the launch of a program of pie, over a session: WebSocket at `/v1/session`.
//!
//! A worker has one session for all of its requests, as an application has. What the program sends and writes to stdout are
//! the events of the answer; how many tokens each has only the program knows, so each counts as one. What it writes to stderr
//! is not looked at. Its result alone is an answer in one piece.

use std::future::Future;
use std::time::{Duration, Instant};

use protocol::Event;
use protocol::client::{Client, ClientError, Inferlet, Options};
use tokio::sync::Mutex;
use tokio::time::timeout_at;

use super::ClientOptions;
use super::api::Launch;
use super::exchange::{after, failed};
use super::worker::{Job, Worker};
use crate::clock::Nanos;
use crate::record::{Chunk, ErrorClass, Failure, Record};

/// The session of a worker, opened by the first request that needs it.
#[derive(Default)]
pub(super) struct Session(Mutex<Option<Client>>);

impl Session {
    /// The session, and whether it was there.
    async fn client(&self, worker: &Worker) -> Result<(Client, bool), Failure> {
        let mut session = self.0.lock().await;
        if let Some(client) = &*session {
            return Ok((client.clone(), true));
        }
        let client = Client::connect(session_options(&worker.options)).await.map_err(of_session)?;
        worker.count_connection();
        Ok((session.insert(client).clone(), false))
    }

    /// Ends it, and with it what is left of its programs.
    pub(super) async fn close(&self) {
        let client = self.0.lock().await.take();
        if let Some(client) = client {
            client.close().await;
        }
    }
}

/// How a session is opened.
pub(crate) fn session_options(options: &ClientOptions) -> Options {
    let mut session = Options::new(options.address.to_string());
    session.key.clone_from(&options.api_key);
    session.client = concat!("pie-bench/", env!("CARGO_PKG_VERSION")).into();
    session.connect = options.timeouts.connect;
    // A connection that is lost is a figure here, and not to be mended unseen.
    session.patience = Duration::ZERO;
    session
}

fn of_session(error: ClientError) -> Failure {
    let class = match &error {
        ClientError::Connect { .. } | ClientError::Address(_) => ErrorClass::Connect,
        ClientError::Lost(_) => ErrorClass::Reset,
        ClientError::Key(_) | ClientError::Refused(_) => ErrorClass::Status,
        ClientError::Protocol(_) => ErrorClass::MalformedStream,
        _ => ErrorClass::Client,
    };
    failed(class, error.to_string())
}

/// A program that runs. When the request is given up, the program is ended: the session would let it go on.
struct Running {
    client: Client,
    inferlet: Inferlet,
    is_over: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_over {
            let (client, id) = (self.client.clone(), self.inferlet.id().to_string());
            // When the session is over, so is the program.
            tokio::task::spawn_local(async move { client.terminate(&id).await.is_ok() });
        }
    }
}

/// Launches the program and takes its events until it has ended.
pub(super) async fn launched(
    worker: &Worker,
    job: &Job,
    launch: &Launch,
    record: &mut Record,
) -> Result<(), Failure> {
    let outcome = attempt(worker, job, launch, record).await;
    if matches!(&outcome, Err(failure) if failure.class == ErrorClass::Reset) {
        // The session is over. The next request opens another.
        worker.session.0.lock().await.take();
    }
    outcome
}

async fn attempt(worker: &Worker, job: &Job, launch: &Launch, record: &mut Record) -> Result<(), Failure> {
    let options = &worker.options;
    // Whether every sample can be asked was checked before the run.
    let arguments = launch.arguments(&worker.ask(job)).map_err(|why| failed(ErrorClass::Client, why))?;
    let started = worker.clock.instant(record.service_start());
    let total = after(started, options.timeouts.total);
    let (client, was_there) = worker.session.client(worker).await?;
    record.reused_connection = was_there;
    record.sent = Some(worker.clock.now());
    let first = after(Instant::now(), options.timeouts.first_byte);
    let mut wait = Wait { total, next: first, started, worker };
    let inferlet = wait.within(client.launch(&launch.program, &arguments), record).await?;
    record.headers = Some(worker.clock.now());
    let mut running = Running { client, inferlet, is_over: false };
    let result = loop {
        let Some(next) = wait.within(running.inferlet.next(), record).await? else { break None };
        let at = worker.clock.now();
        wait.next = after(Instant::now(), options.timeouts.stall);
        record.bytes_received += next.event.bytes() as u64;
        record.first_byte.get_or_insert(at);
        match next.event {
            Event::Text { text } => record.piece(at, Some(text.as_bytes()), worker.keeps_text),
            Event::Stdout { data } => record.piece(at, Some(&data.0), worker.keeps_text),
            Event::Blob { .. } => record.piece(at, None, false),
            Event::Stderr { .. } => {}
            Event::Result { text } => break Some(Ok(text)),
            Event::Error { error } => break Some(Err(error)),
        }
    };
    running.is_over = true;
    match result {
        Some(Ok(text)) => {
            if record.chunks.is_empty() && worker.keeps_text {
                record.text = text;
            }
            record.finish_reason = Some("result".into());
            Ok(())
        }
        Some(Err(error)) => Err(failed(ErrorClass::ServerError, error.to_string())),
        None => Err(failed(ErrorClass::Truncated, "the events ended without a last one")),
    }
}

/// How long steps may take.
struct Wait<'a> {
    total: Option<Instant>,
    next: Option<Instant>,
    started: Instant,
    worker: &'a Worker,
}

impl Wait<'_> {
    async fn within<T>(
        &self,
        step: impl Future<Output = Result<T, ClientError>>,
        record: &Record,
    ) -> Result<T, Failure> {
        let ends = self.total.into_iter().chain(self.next).min();
        let Some(end) = ends else { return step.await.map_err(of_session) };
        match timeout_at(end.into(), step).await {
            Ok(done) => done.map_err(of_session),
            Err(_) => Err(self.late(end, record)),
        }
    }

    fn late(&self, end: Instant, record: &Record) -> Failure {
        let waited = end.saturating_duration_since(self.started);
        let timeouts = self.worker.options.timeouts;
        match (self.total == Some(end), record.first_byte) {
            (true, _) => failed(ErrorClass::Timeout, format!("no end within {waited:?}")),
            (false, None) => {
                let limit = timeouts.first_byte.unwrap_or_default();
                failed(ErrorClass::FirstByteTimeout, format!("no event within {limit:?}"))
            }
            (false, Some(_)) => {
                let (limit, events) = (timeouts.stall.unwrap_or_default(), record.chunks.len());
                failed(ErrorClass::Stalled, format!("no event for {limit:?} after {events}"))
            }
        }
    }
}

impl Record {
    /// Takes in a piece of the answer; one without a text is no content.
    fn piece(&mut self, at: Nanos, text: Option<&[u8]>, keeps: bool) {
        self.first_token.get_or_insert(at);
        self.last_token = Some(at);
        self.chunks.push(Chunk { at, tokens: 0 });
        let Some(text) = text else { return };
        self.first_content.get_or_insert(at);
        if keeps {
            self.text.push_str(&String::from_utf8_lossy(text));
        }
    }
}
