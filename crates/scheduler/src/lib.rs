//! The control layer: who computes what, on which pages, in which batch.
//!
//! [`Scheduler`] is a state machine without thread, channel or clock: contexts and their pages, the prefix cache, the
//! waiting passes and the policy that batches them. [`Engine`] is the one thread that owns a scheduler and a
//! [`backend::Backend`] and drains a bounded inbox; everybody else holds an [`EngineHandle`].
//!
//! There is no prefill phase and no decode phase: a pass has rows to compute, a batch takes as many as fit.
//! A page that more than one holder sees is never written. Nothing is killed for lack of memory: cached pages go
//! first, then passes wait, then the pages of contexts of lower rank move to host memory and come back bit for bit.

mod accounts;
mod check;
mod config;
mod context;
mod engine;
mod memory;
mod observe;
mod ops;
mod pages;
mod pass;
mod policy;
mod prefix;
mod prefix_events;
mod request;
mod state;
mod stats;

pub use config::{EngineConfig, SchedulerConfig};
pub use engine::{Engine, EngineHandle, Observers, Reply};
pub use observe::{BatchObserver, BatchRecord, Planned};
pub use ops::{CallError, ContextInfo, ContextOp, Overloaded};
pub use pages::PageMove;
pub use policy::{POLICIES, PolicyKind, PolicyRow};
pub use prefix_events::{PrefixEvent, PrefixParent, PrefixWatcher};
pub use request::{
    CacheSalt, ContextId, ForwardError, ForwardReply, ForwardRequest, OwnerId, Priority, RowRuns, TenantId,
    Ticket,
};
pub use state::{
    Answered, ContextPages, Holdings, Loaded, NewContext, NextStep, OwnerPages, Saved, Scheduler,
    SnapshotData, SnapshotInfo, SnapshotPage,
};
pub use stats::Stats;
