//! What everybody but the engine's thread holds: a queue handle, never a lock on the scheduler.

use std::sync::Arc;

use backend::{AdapterId, Limits, LoraMatrix};
use futures_channel::oneshot;

use super::inbox::{Answer, Call, Inbox, Message, Refused};
use crate::ops::{CallError, ContextInfo, ContextOp, Overloaded};
use crate::request::{
    ContextId, ForwardError, ForwardReply, ForwardRequest, OwnerId, Priority, TenantId, Ticket,
};
use crate::state::{SnapshotData, SnapshotInfo};
use crate::stats::Stats;

/// An answer to come. It always comes, unless the engine's thread died; treat that as closed.
pub type Reply<T, E> = oneshot::Receiver<Result<T, E>>;

/// Sends work to the engine. Cheap to clone; usable from any thread, async or not.
///
/// Messages of one thread are handled in the order sent: an operation sent before a pass is in effect for it.
#[derive(Clone)]
pub struct EngineHandle {
    pub(super) inbox: Arc<Inbox>,
    pub(super) limits: Limits,
}

impl EngineHandle {
    /// Starts a pass. Dropping the receiver cancels it, latest before the next operation or pass on its context.
    ///
    /// When the inbox is full the answer is [`ForwardError::Overloaded`], at once.
    pub fn forward(&self, request: ForwardRequest) -> Reply<ForwardReply, ForwardError> {
        let (answer, reply) = oneshot::channel();
        let (message, error) = match self.inbox.push(Message::Forward(request, answer)) {
            Ok(()) => return reply,
            Err(Refused::Full(message)) => (message, ForwardError::Overloaded),
            Err(Refused::Closed(message)) => (message, ForwardError::Closed),
        };
        if let Message::Forward(_, answer) = *message {
            answer.send(Err(error)).ok();
        }
        reply
    }

    /// Cancels a pass; it is answered with [`ForwardError::Cancelled`] unless its answer is already there.
    pub fn cancel(&self, ticket: Ticket) {
        // Refused only once closed, when every pass was answered.
        self.inbox.push(Message::Op(ContextOp::Cancel { ticket })).ok();
    }

    /// Frees everything that an owner holds and cancels its passes.
    pub fn owner_gone(&self, owner: OwnerId) {
        self.inbox.push(Message::Op(ContextOp::OwnerGone { owner })).ok();
    }

    /// Sends an operation without waiting for it, and without waking the engine.
    ///
    /// # Errors
    /// When the inbox is full and the operation is not one that gives back ([`ContextOp::releases`]). After a shutdown
    /// operations are ignored.
    pub fn apply(&self, op: ContextOp) -> Result<(), Overloaded> {
        match self.inbox.push(Message::Op(op)) {
            Err(Refused::Full(_)) => Err(Overloaded),
            Ok(()) | Err(Refused::Closed(_)) => Ok(()),
        }
    }

    /// What a context holds.
    pub fn info(&self, context: ContextId) -> Reply<ContextInfo, CallError> {
        self.call(|answer| Call::Info(context, answer))
    }

    /// Saves a context under `key` (which includes the user's namespace), replacing what was there. Pages are shared,
    /// nothing is copied; the snapshot outlives context and owner. Of a context with a pass in flight, the tokens
    /// before the pass. `persistent` is a mark for whoever writes snapshots to disk, see [`EngineHandle::export`].
    pub fn save(&self, context: ContextId, key: String, persistent: bool) -> Reply<SnapshotInfo, CallError> {
        self.call(|answer| Call::Save { context, key, persistent, answer })
    }

    /// Makes a context from a snapshot.
    pub fn open(
        &self,
        key: String,
        context: ContextId,
        owner: OwnerId,
        priority: Priority,
        tenant: TenantId,
    ) -> Reply<ContextInfo, CallError> {
        self.call(|answer| Call::Open { key, context, owner, priority, tenant, answer })
    }

    /// Deletes a snapshot. Contexts opened from it keep their pages.
    pub fn delete(&self, key: String) -> Reply<(), CallError> {
        self.call(|answer| Call::Delete(key, answer))
    }

    /// Snapshots whose key starts with `prefix`, by key.
    pub fn list(&self, prefix: String) -> Reply<Vec<SnapshotInfo>, CallError> {
        self.call(|answer| Call::List(prefix, answer))
    }

    /// Reads a snapshot out, page bytes included.
    pub fn export(&self, key: String) -> Reply<SnapshotData, CallError> {
        self.call(|answer| Call::Export(key, answer))
    }

    /// Makes a snapshot from what [`EngineHandle::export`] gave, replacing what was there. Its pages wait in host
    /// memory until a pass needs them.
    pub fn import(
        &self,
        key: String,
        persistent: bool,
        data: SnapshotData,
    ) -> Reply<SnapshotInfo, CallError> {
        self.call(|answer| Call::Import { key, persistent, data, answer })
    }

    /// Counts for metrics.
    pub fn stats(&self) -> Reply<Stats, CallError> {
        self.call(Call::Stats)
    }

    /// Distinct pages that an owner holds.
    pub fn usage(&self, owner: OwnerId) -> Reply<u32, CallError> {
        self.call(|answer| Call::Usage(owner, answer))
    }

    /// Makes an adapter usable under `id`, chosen by the caller and never used before.
    pub fn load_adapter(&self, id: AdapterId, matrices: Vec<LoraMatrix>) -> Reply<(), CallError> {
        self.call(|answer| Call::LoadAdapter(id, matrices, answer))
    }

    /// Forgets an adapter; the caller has no pass in flight that uses it.
    pub fn unload_adapter(&self, id: AdapterId) -> Reply<(), CallError> {
        self.call(|answer| Call::UnloadAdapter(id, answer))
    }

    /// Embedding rows of tokens: `tokens.len() * limits.hidden` values.
    pub fn embed(&self, tokens: Vec<u32>) -> Reply<Vec<f32>, CallError> {
        self.call(|answer| Call::Embed(tokens, answer))
    }

    /// The backend's limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Tells the engine to stop: the running batch ends and is answered, every other pass and call is answered as
    /// closed. Returns at once.
    pub fn shutdown(&self) {
        self.inbox.close();
    }

    fn call<T>(&self, make: impl FnOnce(Answer<T, CallError>) -> Call) -> Reply<T, CallError> {
        let (answer, reply) = oneshot::channel();
        let (message, error) = match self.inbox.push(Message::Call(make(answer))) {
            Ok(()) => return reply,
            Err(Refused::Full(message)) => (message, CallError::Overloaded),
            Err(Refused::Closed(message)) => (message, CallError::Closed),
        };
        if let Message::Call(call) = *message {
            call.refuse(&error);
        }
        reply
    }
}

impl Call {
    /// Answers with an error.
    pub(super) fn refuse(self, error: &CallError) {
        fn send<T>(answer: Answer<T, CallError>, error: &CallError) {
            answer.send(Err(error.clone())).ok();
        }
        match self {
            Call::Info(_, answer) | Call::Open { answer, .. } => send(answer, error),
            Call::Save { answer, .. } | Call::Import { answer, .. } => send(answer, error),
            Call::Delete(_, answer) | Call::LoadAdapter(_, _, answer) | Call::UnloadAdapter(_, answer) => {
                send(answer, error);
            }
            Call::List(_, answer) => send(answer, error),
            Call::Export(_, answer) => send(answer, error),
            Call::Stats(answer) => send(answer, error),
            Call::Usage(_, answer) => send(answer, error),
            Call::Embed(_, answer) => send(answer, error),
        }
    }
}
