//! What waits to be sent over one connection: answers, and inferlets that have events for it.
//!
//! Events themselves do not wait here but in the logs of their inferlets, so a client that takes nothing fills no memory.
//! Answers are bounded by who reads the requests: it stops while there are too many bytes of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::{Failure, Frame, Framing, ServerMessage, encode};
use tokio::sync::Notify;

use super::hosted::Hosted;

/// Bytes of answers beyond which no more requests are read.
const ANSWER_BYTES: usize = 1 << 20;
/// Events of one inferlet that are sent before those of the next.
pub(super) const TURN: usize = 32;

/// One connection's way through the log of an inferlet.
pub(super) struct Attachment {
    pub(super) hosted: Arc<Hosted>,
    /// The number of the event to be sent next.
    pub(super) next: AtomicU64,
    /// Whether its answer is out: nothing is sent before that.
    is_started: AtomicBool,
    /// Another has taken its place, or the session is detached.
    is_stopped: AtomicBool,
    is_queued: AtomicBool,
}

impl Attachment {
    pub(super) fn new(hosted: Arc<Hosted>) -> Attachment {
        let no = || AtomicBool::new(false);
        Attachment { hosted, next: AtomicU64::new(0), is_started: no(), is_stopped: no(), is_queued: no() }
    }

    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }
}

/// What to do next.
pub(super) enum Next {
    Frame(Frame),
    Events(Arc<Attachment>),
    Ping,
    /// Say why, and close.
    Close(Failure),
    Nothing,
}

pub(super) struct Outbox {
    framing: Framing,
    queue: Mutex<Queue>,
    wake: Notify,
    room: Notify,
}

#[derive(Default)]
struct Queue {
    answers: VecDeque<(Frame, Option<Arc<Attachment>>)>,
    answer_bytes: usize,
    ready: VecDeque<Arc<Attachment>>,
    ping: bool,
    close: Option<Failure>,
}

impl Outbox {
    pub(super) fn new(framing: Framing) -> Outbox {
        Outbox { framing, queue: Mutex::default(), wake: Notify::new(), room: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn encode(&self, message: &ServerMessage) -> Frame {
        encode(message, self.framing)
    }

    /// Sends an answer; the events of an attachment begin behind it.
    pub(super) fn answer(&self, message: &ServerMessage, starts: Option<Arc<Attachment>>) {
        let frame = self.encode(message);
        let mut queue = self.lock();
        queue.answer_bytes += frame.bytes();
        queue.answers.push_back((frame, starts));
        drop(queue);
        self.wake.notify_one();
    }

    /// There is another event.
    pub(super) fn ready(&self, attachment: &Arc<Attachment>) {
        let goes = attachment.is_started.load(Ordering::Acquire) && !attachment.is_stopped();
        if goes && !attachment.is_queued.swap(true, Ordering::AcqRel) {
            self.lock().ready.push_back(attachment.clone());
            self.wake.notify_one();
        }
    }

    /// Asks whether the client is there.
    pub(super) fn ping(&self) {
        self.lock().ping = true;
        self.wake.notify_one();
    }

    /// Ends the connection when what waits is out.
    pub(super) fn close(&self, failure: Failure) {
        self.lock().close.get_or_insert(failure);
        self.wake.notify_one();
    }

    /// Answers that wait.
    pub(super) fn answers(&self) -> usize {
        self.lock().answers.len()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        let queue = self.lock();
        queue.answers.is_empty() && queue.ready.is_empty()
    }

    /// Waits until there is room for more answers.
    pub(super) async fn has_room(&self) {
        while self.lock().answer_bytes > ANSWER_BYTES {
            self.room.notified().await;
        }
    }

    /// What is sent next: answers before events.
    pub(super) fn next(&self) -> Next {
        let mut queue = self.lock();
        if let Some((frame, starts)) = queue.answers.pop_front() {
            queue.answer_bytes -= frame.bytes();
            drop(queue);
            self.room.notify_one();
            if let Some(attachment) = starts {
                attachment.is_started.store(true, Ordering::Release);
                self.ready(&attachment);
            }
            return Next::Frame(frame);
        }
        if let Some(failure) = queue.close.take() {
            return Next::Close(failure);
        }
        if std::mem::take(&mut queue.ping) {
            return Next::Ping;
        }
        match queue.ready.pop_front() {
            Some(attachment) => {
                // Whoever wakes it from here on puts it into the queue again.
                attachment.is_queued.store(false, Ordering::Release);
                Next::Events(attachment)
            }
            None => Next::Nothing,
        }
    }

    /// Returns when there is something next.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}
