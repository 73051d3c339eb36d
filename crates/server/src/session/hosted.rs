//! An inferlet that a session has launched: its log, and what it is sent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use protocol::{Data, ErrorCode, Event, Failure, Input as Message};
use runtime::{Control, Inferlet, InferletError, Input};

use super::log::Log;

pub(super) struct Hosted {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    pub(super) launched: Instant,
    pub(super) control: Control,
    pub(super) log: Log,
    /// None once no more messages come.
    input: Mutex<Option<Input>>,
    is_detached: AtomicBool,
    /// Processor time in milliseconds, once it has ended.
    cpu_ms: AtomicU64,
}

impl Hosted {
    /// Takes over the inferlet's messages; its events come with [`pump`].
    pub(super) fn new(
        inferlet: &mut Inferlet,
        user: String,
        program: String,
        arguments: Vec<String>,
        is_detached: bool,
        log: Log,
    ) -> Hosted {
        Hosted {
            id: inferlet.id().to_string(),
            user,
            program,
            arguments,
            launched: Instant::now(),
            control: inferlet.control(),
            log,
            input: Mutex::new(inferlet.take_input()),
            is_detached: AtomicBool::new(is_detached),
            cpu_ms: AtomicU64::new(0),
        }
    }

    /// Processor time of its program and of those it launched.
    pub(super) fn cpu(&self) -> Duration {
        let at_its_end = || Duration::from_millis(self.cpu_ms.load(Ordering::Relaxed));
        self.control.cpu().unwrap_or_else(at_its_end)
    }

    fn input(&self) -> Option<Input> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// No more messages come after those that were sent.
    pub(super) fn end_input(&self) {
        self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Sends a message; waits while the inferlet's queue is full.
    pub(super) async fn send(&self, message: Message) -> Result<(), Failure> {
        let ended = |why: &str| Failure::new(ErrorCode::Ended, format!("inferlet {} {why}", self.id));
        let input = self.input().ok_or_else(|| ended("takes no more messages: its input was ended"))?;
        let sent = match message {
            Message::Text { text } => input.send(text).await,
            Message::Blob { data } => input.send_blob(data.0).await,
        };
        if sent { Ok(()) } else { Err(ended("has ended")) }
    }

    /// From here on it goes on without a session.
    pub(super) fn detach(&self) {
        self.is_detached.store(true, Ordering::Release);
    }

    /// Its last session has ended. Whether it goes on: when it is detached, by a client or by itself.
    pub(super) fn outlives_its_sessions(&self) -> bool {
        self.is_detached.load(Ordering::Acquire) || {
            let goes_on = self.control.leave() && !self.log.has_last();
            self.is_detached.fetch_or(goes_on, Ordering::AcqRel);
            goes_on
        }
    }
}

/// Puts the events of an inferlet into its log until the last; waits while that is full, and with it the program.
pub(super) async fn pump(mut inferlet: Inferlet, hosted: Arc<Hosted>) {
    while let Some(event) = inferlet.next_event().await {
        hosted.log.append(event_of(event)).await;
    }
    let last = match inferlet.outcome().await {
        Ok(text) => Event::Result { text },
        Err(error) => Event::Error { error: failure_of(&error) },
    };
    hosted.cpu_ms.store(hosted.cpu().as_millis() as u64, Ordering::Relaxed);
    // Its place among the inferlets of its user is free, however long its events are kept.
    drop(inferlet);
    hosted.log.append(last).await;
}

fn event_of(event: runtime::Event) -> Event {
    match event {
        runtime::Event::Text(text) => Event::Text { text },
        runtime::Event::Blob(bytes) => Event::Blob { data: Data(bytes) },
        runtime::Event::Stdout(bytes) => Event::Stdout { data: Data(bytes) },
        runtime::Event::Stderr(bytes) => Event::Stderr { data: Data(bytes) },
    }
}

fn failure_of(error: &InferletError) -> Failure {
    let code = match error {
        InferletError::Program(_) => ErrorCode::ProgramFailed,
        InferletError::Cpu { .. } => ErrorCode::CpuLimit,
        InferletError::Memory { .. } | InferletError::SharedMemory => ErrorCode::MemoryLimit,
        InferletError::Trap(_) => ErrorCode::Trapped,
        InferletError::Killed => ErrorCode::Killed,
    };
    Failure::new(code, error.to_string())
}
