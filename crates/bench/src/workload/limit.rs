//! How many requests may be under way, and what becomes of one more.

/// What happens to a request that finds no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits. Its response time counts from when it was meant to be sent, so the wait is in it.
    Queue,
    /// It is dropped and counted.
    Drop,
}

/// Bounds on what is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Requests under way; `None` for no bound.
    pub requests: Option<usize>,
    /// Sessions that have begun and not ended; `None` for no bound. One more waits for its first turn.
    pub sessions: Option<usize>,
    /// What happens to a request that finds no slot.
    pub when_full: WhenFull,
}

impl Limit {
    /// No bound.
    pub const NONE: Self = Self { requests: None, sessions: None, when_full: WhenFull::Queue };

    /// At most so many requests; others wait.
    pub fn queue(requests: usize) -> Self {
        Self { requests: Some(requests), ..Self::NONE }
    }
}
