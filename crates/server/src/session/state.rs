//! One session: what it is attached to, and the answers that its client may not have got.
//!
//! A request is done once, however often it is sent: the numbers of requests rise, what is being done is known, and the
//! answers to the last ones are kept. Since a client has no more requests without an answer than that, it can send all of
//! them again after a lost connection.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use protocol::{Answer, ErrorCode, Failure, Limits, ServerMessage, Signal};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::hosted::Hosted;
use super::log::OutOfReach;
use super::outbox::{Attachment, Outbox};
use super::upload::Upload;
use crate::auth::Client;

pub(super) struct Session {
    pub(super) id: String,
    pub(super) user: String,
    /// Whether its client is this process.
    pub(super) is_own: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    client: Option<Arc<Client>>,
    /// The connection; none while it is lost.
    outbox: Option<Arc<Outbox>>,
    /// Since when.
    left: Option<Instant>,
    is_over: bool,
    /// The highest number of a request so far.
    highest: Option<u64>,
    /// Requests that are being done, and their bytes.
    doing: BTreeMap<u64, usize>,
    /// Answers of the last requests, but of those that can be done again.
    answers: VecDeque<Answered>,
    attachments: BTreeMap<String, Arc<Attachment>>,
    uploads: BTreeMap<String, Upload>,
    inputs: BTreeMap<String, InputLane>,
}

struct Answered {
    request: u64,
    message: ServerMessage,
    /// The inferlet whose events begin behind the answer, and the number of the first.
    starts: Option<(String, u64)>,
}

/// Messages of this session to one inferlet, in order.
struct InputLane {
    items: mpsc::UnboundedSender<(u64, InputItem)>,
    task: AbortHandle,
}

/// What goes to an inferlet in the order of the requests.
pub(super) enum InputItem {
    Message(protocol::Input),
    Signal(Signal),
}

/// What is to be done about a request.
pub(super) enum Begin {
    /// It is new: do it.
    Do,
    /// It is done or refused, and answered, or its answer will come.
    Known,
}

impl Session {
    pub(super) fn new(id: String, user: String, is_own: bool) -> Session {
        Session { id, user, is_own, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who it is of, where there are keys.
    pub(super) fn client(&self) -> Option<Arc<Client>> {
        self.lock().client.clone()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.lock().outbox.is_some()
    }

    /// Since when it has no connection.
    pub(super) fn left_since(&self) -> Option<Instant> {
        self.lock().left
    }

    /// A connection takes over; one that was there ends. Whether the session is still there.
    pub(super) fn connect(&self, client: Option<Arc<Client>>, outbox: &Arc<Outbox>) -> bool {
        let mut state = self.lock();
        if state.is_over {
            return false;
        }
        if let Some(before) = state.outbox.replace(outbox.clone()) {
            let words = "another connection has resumed the session";
            before.close(Failure::new(ErrorCode::TakenOver, words));
        }
        (state.client, state.left) = (client, None);
        state.pause(&self.id);
        true
    }

    /// Its connection is lost, if it is still this one. Whether it was.
    pub(super) fn disconnect(&self, outbox: &Arc<Outbox>) -> bool {
        let mut state = self.lock();
        let is_own = state.outbox.as_ref().is_some_and(|own| Arc::ptr_eq(own, outbox));
        if is_own {
            state.outbox = None;
            state.left = Some(Instant::now());
            state.pause(&self.id);
        }
        is_own
    }

    /// Ends it. Gives what it was attached to.
    pub(super) fn end(&self) -> Vec<Arc<Hosted>> {
        let mut state = self.lock();
        state.is_over = true;
        state.uploads.clear();
        for lane in std::mem::take(&mut state.inputs).into_values() {
            lane.task.abort();
        }
        if let Some(outbox) = state.outbox.take() {
            outbox.close(Failure::new(ErrorCode::Idle, "the session has ended"));
        }
        let attachments = std::mem::take(&mut state.attachments);
        attachments.into_values().inspect(|attachment| attachment.stop()).map(|a| a.hosted.clone()).collect()
    }

    /// Whether it waits for nothing: no answer, and no event of an inferlet.
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.lock();
        state.doing.is_empty()
            && state.attachments.is_empty()
            && state.outbox.as_ref().is_none_or(|outbox| outbox.is_empty())
    }

    /// Takes in a request of so many bytes. `again`: whether to do it twice is as good as once.
    pub(super) fn begin(&self, request: u64, bytes: usize, again: bool, outbox: &Arc<Outbox>) -> Begin {
        let mut state = self.lock();
        if state.doing.contains_key(&request) {
            return Begin::Known;
        }
        if let Some(answered) = state.answers.iter().find(|answered| answered.request == request) {
            let (message, starts) = (answered.message.clone(), answered.starts.clone());
            // A client that did not get this answer has no event behind it.
            let starts = starts.and_then(|(id, first)| {
                let hosted = state.attachments.get(&id)?.hosted.clone();
                attach(&mut state, &self.id, &hosted, Some(first - 1), outbox).ok().map(|(starts, _)| starts)
            });
            outbox.answer(&message, starts);
            return Begin::Known;
        }
        let refuse = |code, words: String| {
            outbox.answer(&ServerMessage::Error { request, error: Failure::new(code, words) }, None);
            Begin::Known
        };
        if let Some(highest) = state.highest.filter(|highest| request <= *highest && !again) {
            let words = format!(
                "request {request} comes after {highest}: expected a higher number, and no answer of {request} is kept"
            );
            return refuse(ErrorCode::StaleRequest, words);
        }
        let waiting = state.doing.len() + outbox.answers();
        if waiting >= Limits::REQUESTS as usize {
            let most = Limits::REQUESTS;
            return refuse(
                ErrorCode::TooManyRequests,
                format!("{waiting} requests have no answer, the limit is {most}"),
            );
        }
        let sum: usize = state.doing.values().sum();
        if sum + bytes > Limits::REQUEST_BYTES as usize && !state.doing.is_empty() {
            let most = Limits::REQUEST_BYTES;
            let words = format!(
                "{bytes} bytes beside {sum} of requests without an answer exceed the limit of {most}"
            );
            return refuse(ErrorCode::MessageTooLarge, words);
        }
        state.highest = state.highest.max(Some(request));
        state.doing.insert(request, bytes);
        Begin::Do
    }

    /// Answers a request that could be done again.
    pub(super) fn answer_again(&self, request: u64, result: Result<Answer, Failure>) {
        self.complete(request, result, None, false);
    }

    /// Answers a request, and keeps the answer.
    pub(super) fn answer(&self, request: u64, result: Result<Answer, Failure>) {
        self.complete(request, result, None, true);
    }

    /// The same; the events of an attachment begin behind it.
    pub(super) fn answer_and_start(&self, request: u64, answer: Answer, starts: Option<Arc<Attachment>>) {
        self.complete(request, Ok(answer), starts, true);
    }

    fn complete(
        &self,
        request: u64,
        result: Result<Answer, Failure>,
        starts: Option<Arc<Attachment>>,
        is_kept: bool,
    ) {
        let begins = match &result {
            Ok(Answer::Launched { inferlet }) => Some((inferlet.clone(), 1)),
            Ok(Answer::Attached { inferlet, next, .. }) => Some((inferlet.clone(), *next)),
            _ => None,
        };
        let message = match result {
            Ok(answer) => ServerMessage::Answer { request, answer },
            Err(error) => ServerMessage::Error { request, error },
        };
        let mut state = self.lock();
        state.doing.remove(&request);
        if let Some(outbox) = &state.outbox {
            outbox.answer(&message, starts);
        }
        if is_kept {
            if state.answers.len() >= Limits::REQUESTS as usize {
                state.answers.pop_front();
            }
            state.answers.push_back(Answered { request, message, starts: begins });
        }
    }

    /// Attaches to an inferlet, or moves to another place in its log. Gives what begins behind the answer, and the answer;
    /// nothing begins where the connection is lost.
    pub(super) fn attach(
        &self,
        hosted: &Arc<Hosted>,
        after: Option<u64>,
    ) -> Result<(Option<Arc<Attachment>>, Answer), Failure> {
        let mut state = self.lock();
        if state.is_over {
            return Err(Failure::new(ErrorCode::NotAttached, "the session has ended"));
        }
        let Some(outbox) = state.outbox.clone() else {
            // Its client comes back and says from where.
            let (next, last) = hosted.log.attach(&self.id, after, Arc::new(|| ())).map_err(out_of_reach)?;
            hosted.log.pause(&self.id);
            state
                .attachments
                .entry(hosted.id.clone())
                .or_insert_with(|| Arc::new(Attachment::new(hosted.clone())));
            return Ok((None, Answer::Attached { inferlet: hosted.id.clone(), next, last }));
        };
        attach(&mut state, &self.id, hosted, after, &outbox).map(|(starts, answer)| (Some(starts), answer))
    }

    /// Takes no more events. Whether it did.
    pub(super) fn detach(&self, id: &str) -> Option<Arc<Hosted>> {
        let attachment = self.lock().attachments.remove(id)?;
        attachment.stop();
        Some(attachment.hosted.clone())
    }

    /// Events were taken. Gives the inferlet when that was its last.
    pub(super) fn acknowledge(&self, id: &str, number: u64) -> Option<Arc<Hosted>> {
        let mut state = self.lock();
        let hosted = state.attachments.get(id)?.hosted.clone();
        if !hosted.log.acknowledge(&self.id, number) {
            return None;
        }
        state.attachments.remove(id);
        // What is still to be sent is answered: it has ended.
        state.inputs.remove(id);
        Some(hosted)
    }

    /// Sends something to an inferlet, behind what this session has sent it before, and answers then.
    pub(super) fn send(self: &Arc<Session>, request: u64, hosted: &Arc<Hosted>, item: InputItem) {
        let mut state = self.lock();
        if state.is_over {
            return;
        }
        let lane = state.inputs.entry(hosted.id.clone()).or_insert_with(|| {
            let (items, received) = mpsc::unbounded_channel();
            let task = tokio::spawn(deliver(self.clone(), hosted.clone(), received)).abort_handle();
            InputLane { items, task }
        });
        if let Err(mpsc::error::SendError((request, _))) = lane.items.send((request, item)) {
            drop(state);
            self.answer(
                request,
                Err(Failure::new(ErrorCode::Ended, format!("inferlet {} has ended", hosted.id))),
            );
        }
    }

    /// Works on the uploads of this session.
    pub(super) fn with_uploads<R>(&self, work: impl FnOnce(&mut BTreeMap<String, Upload>) -> R) -> R {
        work(&mut self.lock().uploads)
    }
}

impl State {
    /// Nothing is sent until the client says from where.
    fn pause(&mut self, id: &str) {
        for attachment in self.attachments.values() {
            attachment.stop();
            attachment.hosted.log.pause(id);
        }
    }
}

fn attach(
    state: &mut State,
    session: &str,
    hosted: &Arc<Hosted>,
    after: Option<u64>,
    outbox: &Arc<Outbox>,
) -> Result<(Arc<Attachment>, Answer), Failure> {
    let attachment = Arc::new(Attachment::new(hosted.clone()));
    // Weak: the log holds the one who wakes, and the attachment the log.
    let (to_wake, outbox) = (Arc::downgrade(&attachment), Arc::downgrade(outbox));
    let wake = Arc::new(move || {
        if let (Some(attachment), Some(outbox)) = (to_wake.upgrade(), outbox.upgrade()) {
            outbox.ready(&attachment);
        }
    });
    let (next, last) = hosted.log.attach(session, after, wake).map_err(out_of_reach)?;
    attachment.next.store(next, Ordering::Release);
    if let Some(before) = state.attachments.insert(hosted.id.clone(), attachment.clone()) {
        before.stop();
    }
    Ok((attachment, Answer::Attached { inferlet: hosted.id.clone(), next, last }))
}

fn out_of_reach(error: OutOfReach) -> Failure {
    match error {
        OutOfReach::Gone(first) => Failure::new(
            ErrorCode::EventsGone,
            format!("events before number {first} were acknowledged and are not kept any more"),
        ),
        OutOfReach::Future(last) => Failure::new(
            ErrorCode::InvalidArgument,
            format!("`after` is beyond the last event, which has number {last}"),
        ),
    }
}

async fn deliver(
    session: Arc<Session>,
    hosted: Arc<Hosted>,
    mut items: mpsc::UnboundedReceiver<(u64, InputItem)>,
) {
    while let Some((request, item)) = items.recv().await {
        let done = match item {
            InputItem::Message(message) => hosted.send(message).await,
            InputItem::Signal(Signal::EndOfInput) => {
                hosted.end_input();
                Ok(())
            }
        };
        session.answer(request, done.map(|()| Answer::Done));
    }
}
