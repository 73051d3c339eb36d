//! Bookkeeping of contexts: operations that cost no computation.

use std::ops::Range;

use backend::AdapterId;

use crate::request::{CacheSalt, ContextId, OwnerId, Priority, TenantId, Ticket};

/// An operation without a reply, applied in order of arrival.
///
/// The caller validates against lengths it tracks itself. An operation that is wrong all the same (an unknown context,
/// a range out of bounds, a context with a pass in flight where that matters) changes nothing and is counted in
/// [`crate::Stats::ops_refused`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextOp {
    /// Makes an empty context. The first one of an owner also registers it, see `Register`.
    Create {
        /// New id.
        context: ContextId,
        /// Who holds it.
        owner: OwnerId,
        /// Its priority.
        priority: Priority,
        /// Who may share its cached prefixes.
        tenant: TenantId,
    },
    /// Parts a context's prefixes from those of its tenant with another salt. What it shares by its pages stays shared.
    SetCacheSalt {
        /// Context changed; without a pass in flight.
        context: ContextId,
        /// The salt.
        salt: CacheSalt,
    },
    /// Makes `to`, with all tokens of `from`; pages are shared until written. Of a context with a pass in flight, the
    /// tokens before the pass.
    Fork {
        /// Context read.
        from: ContextId,
        /// New id; same owner, priority, tenant and salt.
        to: ContextId,
    },
    /// Keeps the first `length` live tokens. The next position becomes that of the first token dropped; nothing
    /// changes when there are not more than `length`.
    Truncate {
        /// Context changed; without a pass in flight.
        context: ContextId,
        /// Live tokens kept.
        length: u32,
    },
    /// Takes live tokens out of attention. Positions of the rest, and the next position, stay.
    Remove {
        /// Context changed; without a pass in flight.
        context: ContextId,
        /// Indexes among the live tokens.
        range: Range<u32>,
    },
    /// Makes `to`, with a range of the live tokens of `from`. Positions stay; the next one follows the last token
    /// (0 when there is none).
    Slice {
        /// Context read.
        from: ContextId,
        /// New id; same owner, priority, tenant and salt.
        to: ContextId,
        /// Indexes among the live tokens.
        range: Range<u32>,
    },
    /// Puts all tokens of `from` after those of `to`, at the positions they have; pages are shared. The next position
    /// becomes the greater of both.
    Append {
        /// Context extended; without a pass in flight.
        to: ContextId,
        /// Context read; may belong to another owner.
        from: ContextId,
    },
    /// Frees a context; a pass in flight is cancelled.
    Drop {
        /// Context freed.
        context: ContextId,
    },
    /// Changes the priority, also of a pass in flight.
    SetPriority {
        /// Context changed.
        context: ContextId,
        /// New priority.
        priority: Priority,
    },
    /// Registers an owner: older owners rank before newer ones. Does nothing when it is registered.
    Register {
        /// The owner.
        owner: OwnerId,
        /// The owner that launched it and on whose share it draws, if one did.
        parent: Option<OwnerId>,
        /// The user, on whose share all of its owners draw.
        tenant: TenantId,
        /// Distinct pages that it and those it launches may hold; `None` for no bound of its own.
        pages: Option<u32>,
    },
    /// Cancels a pass; unknown or answered tickets are ignored.
    Cancel {
        /// The pass.
        ticket: Ticket,
    },
    /// Cancels a pass, or takes back what it added if it was answered the moment before: the context is as it was.
    Abandon {
        /// The pass.
        ticket: Ticket,
        /// Its context.
        context: ContextId,
        /// Live tokens before the pass.
        length: u32,
        /// Next position before the pass.
        next_position: u32,
    },
    /// Forgets an adapter; unknown ids are ignored.
    DropAdapter {
        /// The adapter.
        adapter: AdapterId,
    },
    /// Deletes a snapshot; one that does not exist is ignored. Contexts opened from it keep their pages.
    DropSnapshot {
        /// Its key.
        key: String,
    },
    /// Frees everything an owner holds and cancels its passes. Saved snapshots stay.
    OwnerGone {
        /// The owner.
        owner: OwnerId,
    },
}

impl ContextOp {
    /// Whether the operation ends something, and so is accepted even when the inbox is full: it comes once for each
    /// thing that was begun, so the bound on what is begun is a bound on these too.
    pub fn ends(&self) -> bool {
        matches!(
            self,
            ContextOp::Drop { .. }
                | ContextOp::DropAdapter { .. }
                | ContextOp::DropSnapshot { .. }
                | ContextOp::Cancel { .. }
                | ContextOp::Abandon { .. }
                | ContextOp::Register { .. }
                | ContextOp::OwnerGone { .. }
        )
    }
}

/// The inbox is full: the operation was not queued and will not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine's inbox is full")]
pub struct Overloaded;

/// A context, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextInfo {
    /// Live tokens.
    pub length: u32,
    /// Position that the next pass continues at by default.
    pub next_position: u32,
    /// Pages, shared ones included.
    pub pages: u32,
    /// Positions of the live tokens, as runs of consecutive ones: the first and how many.
    pub positions: Vec<(u32, u32)>,
}

/// Why an operation with a reply was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The context does not exist.
    #[error("unknown context {}", .0.0)]
    UnknownContext(ContextId),
    /// The new context id is in use.
    #[error("context {} exists already", .0.0)]
    ContextExists(ContextId),
    /// A pass is in flight on the context.
    #[error("a pass is in flight on the context")]
    Busy,
    /// A range or length lies outside the context's live tokens.
    #[error("{index} is outside the {length} live tokens of the context")]
    OutOfRange {
        /// The index.
        index: u32,
        /// Live tokens.
        length: u32,
    },
    /// The context would be longer than the model's.
    #[error("the context would have {length} tokens, the model's limit is {limit}")]
    TooLong {
        /// Live tokens it would have.
        length: u64,
        /// The most there may be.
        limit: u32,
    },
    /// No snapshot has this name.
    #[error("no snapshot is named `{0}`")]
    NotFound(String),
    /// Host memory or the owner's quota has no room for the pages.
    #[error("{needed} pages are needed, {available} can be had")]
    OutOfPages {
        /// Pages needed.
        needed: u32,
        /// Pages to be had.
        available: u32,
    },
    /// The imported data was written for another model or page size, or is damaged.
    #[error("the snapshot does not fit this model: {0}")]
    Mismatch(String),
    /// The backend refused.
    #[error("backend: {0}")]
    Backend(String),
    /// The engine has shut down.
    #[error("the engine has shut down")]
    Closed,
    /// The engine's inbox is full; nothing was queued, try again later.
    #[error("the engine's inbox is full")]
    Overloaded,
}
