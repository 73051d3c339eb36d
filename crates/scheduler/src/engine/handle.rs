//! What everybody but the engine's thread holds: a queue handle, never a lock on the scheduler.

use std::ops::Range;
use std::sync::Arc;

use backend::{AdapterId, Backend, Limits, LoraMatrix};
use futures_channel::oneshot;

use super::driver::guard;
use super::inbox::{Call, Inbox, Message, Refused};
use crate::ops::{CallError, ContextInfo, ContextOp, Overloaded};
use crate::request::{ContextId, ForwardError, ForwardReply, ForwardRequest, OwnerId, TenantId, Ticket};
use crate::state::{
    Holdings, Loaded, NewContext, Saved, Scheduler, SnapshotData, SnapshotInfo, SnapshotPage,
};
use crate::stats::Stats;

/// An answer to come. It always comes, unless the engine's thread died; treat that as closed.
pub type Reply<T, E> = oneshot::Receiver<Result<T, E>>;

/// Sends work to the engine. Cheap to clone; usable from any thread, async or not.
///
/// Messages of one owner are handled in the order sent: an operation sent before a pass is in effect for it. Those of
/// handles without an owner are, too, and before those of owners that are sent later. An owner that sends more than the
/// engine handles in [`super::driver::SHARE`] between two batches waits for its own messages, and nobody else does.
#[derive(Clone)]
pub struct EngineHandle {
    pub(super) shared: Arc<Shared>,
    /// On whose share of the inbox its messages count.
    pub(super) owner: Option<OwnerId>,
}

/// What all handles share.
pub(super) struct Shared {
    pub(super) inbox: Arc<Inbox>,
    pub(super) limits: Limits,
}

impl EngineHandle {
    /// A handle whose messages count against the owner's share of the inbox.
    #[must_use]
    pub fn for_owner(&self, owner: OwnerId) -> EngineHandle {
        EngineHandle { owner: Some(owner), ..self.clone() }
    }

    /// Starts a pass. Dropping the receiver cancels it, latest before the next operation or pass on its context.
    ///
    /// When the inbox is full the answer is [`ForwardError::Overloaded`], at once.
    pub fn forward(&self, request: ForwardRequest) -> Reply<ForwardReply, ForwardError> {
        let (answer, reply) = oneshot::channel();
        let (message, error) =
            match self.shared.inbox.push(self.owner, Message::Forward(Box::new(request), answer)) {
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
        self.shared.inbox.push(self.owner, Message::Op(ContextOp::Cancel { ticket })).ok();
    }

    /// Frees everything that an owner holds and cancels its passes. Of what it sent before, only what gives back snapshots
    /// still happens.
    pub fn owner_gone(&self, owner: OwnerId) {
        self.shared.inbox.push(Some(owner), Message::Op(ContextOp::OwnerGone { owner })).ok();
    }

    /// Sends an operation without waiting for it, and without waking the engine.
    ///
    /// # Errors
    /// When the inbox is full and the operation does not end something ([`ContextOp::ends`]). After a shutdown
    /// operations are ignored.
    pub fn apply(&self, op: ContextOp) -> Result<(), Overloaded> {
        match self.shared.inbox.push(self.owner, Message::Op(op)) {
            Err(Refused::Full(_)) => Err(Overloaded),
            Ok(()) | Err(Refused::Closed(_)) => Ok(()),
        }
    }

    /// What a context holds.
    pub fn info(&self, context: ContextId) -> Reply<ContextInfo, CallError> {
        self.call(move |scheduler, _| scheduler.info(context))
    }

    /// Saves a context under `key` (which includes the user's namespace), replacing what was there. Pages are shared,
    /// nothing is copied; the snapshot outlives context and owner. Of a context with a pass in flight, the tokens
    /// before the pass. `persistent` is a mark for the writer of snapshot files, see [`EngineHandle::export_pages`].
    pub fn save(&self, context: ContextId, key: String, persistent: bool) -> Reply<SnapshotInfo, CallError> {
        self.call(move |scheduler, _| scheduler.save(context, key, persistent))
    }

    /// As [`EngineHandle::save`], unless it would make more than `most` snapshots whose key starts with `prefix`: then
    /// nothing is saved, and the answer is `None`.
    pub fn save_within(
        &self,
        context: ContextId,
        key: String,
        persistent: bool,
        prefix: String,
        most: usize,
    ) -> Reply<Option<SnapshotInfo>, CallError> {
        self.call(move |scheduler, _| {
            let saved = scheduler.saved(&prefix, &key);
            match saved.persistent.is_none() && saved.count >= most {
                true => Ok(None),
                false => scheduler.save(context, key, persistent).map(Some),
            }
        })
    }

    /// Makes a context from a snapshot.
    pub fn open(&self, key: String, context: NewContext) -> Reply<ContextInfo, CallError> {
        self.call(move |scheduler, _| scheduler.open(&key, context))
    }

    /// Makes a persistent snapshot from what [`EngineHandle::export_pages`] gave, unless it is there by now, in place of other
    /// persistent ones where host memory has no room, and a context from it. Where the context is no longer wanted when the
    /// engine comes to it, nothing is done, and the answer is `None`.
    pub fn load(
        &self,
        key: String,
        data: SnapshotData,
        context: NewContext,
        wanted: impl FnOnce() -> bool + Send + 'static,
    ) -> Reply<Option<Loaded>, CallError> {
        self.call(move |scheduler, _| Ok(wanted().then(|| scheduler.load(key, data, context))))
    }

    /// Whether there is a snapshot, which [`ContextOp::DropSnapshot`] deletes.
    pub fn has(&self, key: String) -> Reply<bool, CallError> {
        self.call(move |scheduler, _| Ok(scheduler.has(&key)))
    }

    /// How many snapshots have a key that starts with `prefix`, and what that of `key` is.
    pub fn saved(&self, prefix: String, key: String) -> Reply<Saved, CallError> {
        self.call(move |scheduler, _| Ok(scheduler.saved(&prefix, &key)))
    }

    /// Snapshots whose key starts with `prefix`, by key.
    pub fn list(&self, prefix: String) -> Reply<Vec<SnapshotInfo>, CallError> {
        self.call(move |scheduler, _| Ok(scheduler.list(&prefix)))
    }

    /// Reads some pages of a snapshot out. Batches wait meanwhile: a long snapshot is read in parts.
    pub fn export_pages(&self, key: String, pages: Range<u32>) -> Reply<Vec<SnapshotPage>, CallError> {
        self.call(move |scheduler, backend| {
            guard(|| Ok(scheduler.export_pages(&key, pages, backend))).flatten()
        })
    }

    /// Makes a snapshot from what [`EngineHandle::export_pages`] gave, replacing what was there. Its pages are in host memory
    /// until a pass needs them.
    pub fn import(
        &self,
        key: String,
        tenant: TenantId,
        persistent: bool,
        data: SnapshotData,
    ) -> Reply<SnapshotInfo, CallError> {
        self.call(move |scheduler, _| scheduler.import(key, tenant, persistent, data))
    }

    /// Counts for metrics.
    pub fn stats(&self) -> Reply<Stats, CallError> {
        self.call(|scheduler, _| Ok(scheduler.stats()))
    }

    /// Checks every invariant of the scheduler's state, between two batches. A broken one ends the engine's thread, so the
    /// reply never comes: for tests.
    pub fn check(&self) -> Reply<(), CallError> {
        self.call(|scheduler, _| {
            scheduler.check();
            Ok(())
        })
    }

    /// Distinct pages that an owner holds.
    pub fn usage(&self, owner: OwnerId) -> Reply<u32, CallError> {
        self.call(move |scheduler, _| Ok(scheduler.usage(owner)))
    }

    /// What the owners of a tenant hold, and the contexts of one of them. Batches wait while it is found.
    pub fn holdings(&self, tenant: TenantId, owner: Option<OwnerId>) -> Reply<Holdings, CallError> {
        self.call(move |scheduler, _| Ok(scheduler.holdings(tenant, owner)))
    }

    /// Makes an adapter usable under `id`, chosen by the caller and never used before. It is unloaded when
    /// [`ContextOp::DropAdapter`] says so, and when its owner is gone.
    pub fn load_adapter(
        &self,
        owner: OwnerId,
        id: AdapterId,
        matrices: Vec<LoraMatrix>,
    ) -> Reply<(), CallError> {
        self.call(move |scheduler, backend| {
            guard(|| backend.load_adapter(id, matrices))?;
            scheduler.adopt_adapter(owner, id);
            Ok(())
        })
    }

    /// Embedding rows of tokens: `tokens.len() * limits.hidden` values.
    pub fn embed(&self, tokens: Vec<u32>) -> Reply<Vec<f32>, CallError> {
        self.call(move |_, backend| {
            let mut rows = Vec::new();
            guard(|| backend.embed(&tokens, &mut rows)).map(|()| rows)
        })
    }

    /// The backend's limits.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Whether the engine takes work: it does until it is shut down or its thread ends.
    pub fn alive(&self) -> bool {
        self.shared.inbox.is_open()
    }

    /// Tells the engine to stop: the running batch ends and is answered, every other pass and call is answered as
    /// closed. Returns at once.
    pub fn shutdown(&self) {
        self.shared.inbox.close();
    }

    /// Lets the engine's thread do something between two batches. Backends may panic: calls into one go through
    /// [`guard`].
    pub(super) fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Scheduler, &mut dyn Backend) -> Result<T, CallError> + Send + 'static,
    ) -> Reply<T, CallError> {
        let (answer, reply) = oneshot::channel();
        let call: Call = Box::new(move |engine| {
            let result = engine.and_then(|(scheduler, backend)| work(scheduler, backend));
            // The receiver may be gone.
            answer.send(result).ok();
        });
        let (message, error) = match self.shared.inbox.push(self.owner, Message::Call(call)) {
            Ok(()) => return reply,
            Err(Refused::Full(message)) => (message, CallError::Overloaded),
            Err(Refused::Closed(message)) => (message, CallError::Closed),
        };
        if let Message::Call(call) = *message {
            call(Err(error));
        }
        reply
    }
}
