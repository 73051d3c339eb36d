//! The table of attacks: what a program takes of which there is only so much, and how it must end.
//!
//! `tests/programs/src/attacks.rs` has the programs. `crates/runtime/tests/hostile.rs` holds each to its row;
//! `crates/cli/examples/hostile.rs` measures what each costs a stream of another user.

/// How an attack ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A call is refused with `limit-exceeded`, and a text with these words.
    Refused(&'static str),
    /// A pass fails with `out-of-pages`.
    OutOfPages,
    /// The program is ended for the memory that it asked for.
    Memory,
    /// The program is ended for its processor time.
    Cpu,
    /// The program is ended for what it moves in one call.
    CallBytes,
    /// It takes nothing that stays: every call may succeed, or be refused for the share of the engine's inbox.
    Nothing,
}

/// One attack.
pub(crate) struct Row {
    /// Name in `tests/programs`.
    pub(crate) name: &'static str,
    /// Which limit it is about.
    pub(crate) about: &'static str,
    /// How it ends.
    pub(crate) end: End,
    /// MiB by which the process may grow while it is made.
    pub(crate) most_mib: u64,
}

const fn row(name: &'static str, about: &'static str, end: End, most_mib: u64) -> Row {
    Row { name, about, end, most_mib }
}

/// All of them. The memory of a program (32 MiB in the tests, but 512 where a row needs it) is in each bound.
pub(crate) const ATTACKS: [Row; 40] = [
    row("pages", "pages of KV memory", End::OutOfPages, 128),
    row("saved-pages", "pages of saved contexts", End::OutOfPages, 128),
    row("snapshots", "names of saved contexts", End::Refused("1024 snapshots"), 128),
    row("snapshots-at-once", "the same, all at once", End::Refused("1024 snapshots"), 128),
    row("append", "length of a context", End::Refused("4096"), 128),
    row("contexts", "contexts", End::Refused("contexts"), 128),
    row("adapters", "adapters", End::Refused("32 adapters"), 128),
    row("row-outputs", "bytes of the arguments of a call", End::CallBytes, 900),
    row("pass-outputs", "outputs and values of a batch", End::Nothing, 400),
    row("long-passes", "rows of batches", End::Nothing, 128),
    row("many-passes", "sequences of batches", End::Nothing, 128),
    row("abandoned-passes", "passes that nobody waits for", End::Nothing, 128),
    row("inbox", "places in the engine's inbox", End::Nothing, 128),
    row("free-calls", "calls that return at once", End::Nothing, 128),
    row("facts", "lists that are copied", End::Nothing, 128),
    row("vocabulary", "the same, a large one", End::Nothing, 128),
    row("memory", "linear memory", End::Memory, 128),
    row("spin", "processor time", End::Cpu, 128),
    row("output", "output", End::Refused("output"), 128),
    row("stderr", "output, through WASI", End::Nothing, 128),
    // So many of them that wait for each other, or so deep.
    row("fork-bomb", "programs that launch programs", End::Refused("inferlets"), 900),
    row("short-launches", "launches one after the other", End::Nothing, 900),
    row("broadcasts", "messages to listeners that do not listen", End::Nothing, 128),
    // The store itself is in memory here.
    row("store-reads", "reads of the store", End::Nothing, 480),
    row("masks", "masks of constraints", End::Nothing, 128),
    row("tokenize-often", "tokenizing short texts", End::Nothing, 128),
    row("launches", "inferlets of one user", End::Refused("inferlets"), 900),
    row("queue-bytes", "bytes in queues", End::Refused("host memory"), 400),
    row("kept-bytes", "bytes kept by topics", End::Refused("host memory"), 400),
    row("subscriptions", "subscriptions", End::Refused("subscriptions"), 128),
    row("store-bytes", "bytes in the store", End::Refused("store"), 1100),
    row("embeddings", "bytes of embeddings", End::Refused("host memory"), 600),
    row("grammars", "constraints", End::Refused("host memory"), 600),
    row("compile-bomb", "compiling", End::Nothing, 600),
    row("deep-grammars", "the stack of a compilation", End::Nothing, 600),
    row("slow-grammars", "the work of a compilation", End::Refused("expressions"), 600),
    row("grown-grammars", "what steps in a grammar make", End::Refused("expressions"), 600),
    row(
        "tool-calls",
        "calls of MCP servers, which hold room for their results",
        End::Refused("host memory"),
        128,
    ),
    row("tokenize", "bytes of a text", End::Refused("the text"), 500),
    row("sleep", "nothing", End::Nothing, 64),
];
