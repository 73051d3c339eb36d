//! Saved contexts: named, independent of their owner, exported to bytes and imported again.

/// A saved context, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Name, with the user's namespace, as the saver gave it.
    pub key: String,
    /// Live tokens.
    pub length: u32,
    /// Position that a pass after opening continues at.
    pub next_position: u32,
    /// Pages.
    pub pages: u32,
    /// Whether the saver wants it to survive a restart.
    pub persistent: bool,
}

/// Everything needed to make a context again, also in another process with the same model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotData {
    /// Slots of a page.
    pub page_tokens: u32,
    /// Position that a pass after opening continues at.
    pub next_position: u32,
    /// Pages in order.
    pub pages: Vec<SnapshotPage>,
}

/// One page of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPage {
    /// Bit `i`: slot `i` is live.
    pub live: u64,
    /// Position of each slot; `page_tokens` entries, meaningless where not live.
    pub positions: Vec<u32>,
    /// Content, as the backend gives it.
    pub bytes: Vec<u8>,
}
