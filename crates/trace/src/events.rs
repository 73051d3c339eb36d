//! What is recorded.

use std::time::Instant;

/// Bytes of a text that are kept: names of programs, hosts and tools fit, and no stranger fills a recording with one.
const TEXT_BYTES: usize = 96;

/// The value of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Count(u64),
    /// A text, cut to what is kept of one.
    Text(Box<str>),
}

impl From<u32> for Value {
    fn from(count: u32) -> Value {
        Value::Count(count.into())
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Value {
        Value::Count(count)
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Value {
        Value::Count(count as u64)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        let mut end = text.len().min(TEXT_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Value::Text(text[..end].into())
    }
}

/// An argument with its name.
pub(crate) type Argument = (&'static str, Value);

pub(crate) fn argument_bytes(arguments: &[Argument]) -> usize {
    let text = |(_, value): &Argument| match value {
        Value::Count(_) => 0,
        Value::Text(text) => text.len(),
    };
    arguments.iter().map(|argument| size_of::<Argument>() + text(argument)).sum()
}

/// An inferlet that begins, or that ran when the recording began.
#[derive(Clone, Copy, Debug)]
pub struct Life<'a> {
    /// Its number, which no other has.
    pub owner: u64,
    /// Its id as `ps` and the log show it.
    pub id: &'a str,
    /// Its program.
    pub program: &'a str,
    /// Who launched it.
    pub user: &'a str,
    /// The inferlet that launched it.
    pub parent: Option<u64>,
    /// When it was launched.
    pub began: Instant,
}

/// A batch that an engine has run.
#[derive(Clone, Debug)]
pub struct Batch {
    /// When it was planned.
    pub began: Instant,
    /// When the page moves before it were done.
    pub moved: Instant,
    /// When its results were taken in.
    pub ended: Instant,
    /// Its passes by their tickets, and the rows that each has in it.
    pub passes: Vec<(u64, u32)>,
    /// Rows that its passes took from the prefix cache when it was planned.
    pub cached: u64,
    /// Outputs computed.
    pub outputs: u64,
    /// Pages copied before it.
    pub copies: u64,
    /// Pages moved to host memory before it.
    pub spills: u64,
    /// Pages brought back before it.
    pub restores: u64,
    /// Whether it failed.
    pub failed: bool,
}

/// What an engine has at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Pages of the pool that hold nothing.
    pub pages_free: u64,
    /// Pages of the pool that are kept for later prefixes only.
    pub pages_cached: u64,
    /// Pages of the pool that somebody holds.
    pub pages_held: u64,
    /// Pages in host memory.
    pub pages_spilled: u64,
    /// Passes in the batch that runs.
    pub passes_running: u64,
    /// Passes that wait for a batch.
    pub passes_waiting: u64,
}

impl Counters {
    /// The counters with the names of their tracks.
    pub(crate) fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("pages free", self.pages_free),
            ("pages cached", self.pages_cached),
            ("pages held", self.pages_held),
            ("pages spilled", self.pages_spilled),
            ("passes running", self.passes_running),
            ("passes waiting", self.passes_waiting),
        ]
    }
}

/// The names of the counters, in the order of [`Counters::named`].
pub(crate) fn counter_names() -> [&'static str; 6] {
    let none = Counters {
        pages_free: 0,
        pages_cached: 0,
        pages_held: 0,
        pages_spilled: 0,
        passes_running: 0,
        passes_waiting: 0,
    };
    none.named().map(|(name, _)| name)
}

/// An inferlet of a recording.
#[derive(Debug)]
pub(crate) struct Inferlet {
    pub(crate) owner: u64,
    pub(crate) id: Box<str>,
    pub(crate) program: Box<str>,
    pub(crate) user: Box<str>,
    pub(crate) parent: Option<u64>,
    pub(crate) began: Instant,
    /// `None` for one that outlives the recording.
    pub(crate) ended: Option<Instant>,
}

/// A call of the host.
#[derive(Debug)]
pub(crate) struct CallEvent {
    /// Index of its inferlet.
    pub(crate) inferlet: u32,
    pub(crate) name: &'static str,
    pub(crate) began: Instant,
    /// `None` for one that outlives the recording.
    pub(crate) ended: Option<Instant>,
    /// The forward pass that it asked for.
    pub(crate) ticket: Option<u64>,
    /// Whether that pass was answered with its outputs.
    pub(crate) answered: bool,
    pub(crate) arguments: Vec<Argument>,
}

/// A batch, of an engine by its index.
#[derive(Debug)]
pub(crate) struct BatchEvent {
    pub(crate) engine: u16,
    pub(crate) batch: Batch,
}

/// Counters of an engine by its index.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) engine: u16,
    pub(crate) at: Instant,
    pub(crate) counters: Counters,
}
