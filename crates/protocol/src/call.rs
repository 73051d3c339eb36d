//! What a client can ask for, and the answers.

use inferlet_manifest::Manifest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Data;

/// What to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Call {
    /// Whether the server has a program that this user may launch by its hash. Answered with [`Answer::Found`].
    Find {
        /// BLAKE3 of the WebAssembly, 64 digits in lower case.
        hash: String,
    },
    /// A part of a program. The first begins at 0; each other begins where the one before ended. The last is answered when
    /// the program is compiled and kept. Answered with [`Answer::Received`].
    Upload {
        /// BLAKE3 of the whole program, as in `find`.
        hash: String,
        /// Bytes of the whole program.
        bytes: u64,
        /// Where this part begins.
        offset: u64,
        /// The part.
        data: Data,
    },
    /// Gives an uploaded program a name, `NAME@VERSION`. Answered with [`Answer::Done`].
    Install {
        /// Its hash.
        hash: String,
        /// The name.
        name: String,
    },
    /// Takes away an installed name, or by hash a program with all its names. Answered with [`Answer::Done`].
    Remove {
        /// A name `NAME@VERSION`, or a hash.
        program: String,
    },
    /// The programs that the user can launch. Answered with [`Answer::Programs`].
    Programs,
    /// What a program says of itself: what it does, and what it can be given. Answered with [`Answer::Described`].
    Describe {
        /// As in `launch`.
        program: String,
    },
    /// Starts a program. The session is attached from the first event on, unless it is detached. Answered with
    /// [`Answer::Launched`].
    Launch {
        /// A name of the server, `NAME@VERSION` or `NAME` (then the version installed last) of the user, or a hash.
        program: String,
        /// Arguments of the program.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        arguments: Vec<String>,
        /// Whether it goes on when the session ends, and nobody is attached to it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        detached: bool,
    },
    /// Takes the events of an inferlet from here on, those first that are kept. Answered with [`Answer::Attached`], after
    /// which the events come.
    Attach {
        /// Its id, or a beginning that no other has.
        inferlet: String,
        /// The number of the last event that the client has; without it, from the first that is kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
    },
    /// Takes no more events; the inferlet goes on. Answered with [`Answer::Done`].
    Detach {
        /// Its id.
        inferlet: String,
    },
    /// Sends a message. Answered with [`Answer::Done`] when it is in the queue of the inferlet: while that is full, the
    /// answer waits, and with it those of later messages of this session to the inferlet.
    Send {
        /// Its id.
        inferlet: String,
        /// The message.
        message: Input,
    },
    /// Tells an inferlet something that is no message. Answered with [`Answer::Done`].
    Signal {
        /// Its id.
        inferlet: String,
        /// What.
        signal: Signal,
    },
    /// Ends an inferlet of the user, whatever it does. Answered with [`Answer::Done`], before its last event.
    Terminate {
        /// Its id, or a beginning that no other has.
        inferlet: String,
    },
    /// The inferlets of the user. Answered with [`Answer::Inferlets`].
    List,
    /// Pages of the pool that the user's inferlets hold, and the contexts of one of them. Answered with [`Answer::Pages`].
    Pages {
        /// The inferlet whose contexts are wanted: its whole id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inferlet: Option<String>,
    },
    /// The metrics of the server, for keys that may see them. Answered with [`Answer::Stats`].
    Stats,
    /// What the user has taken. Answered with [`Answer::Usage`].
    Usage,
}

impl Call {
    /// Whether doing it twice is as good as once: then its answer is not kept.
    pub fn is_idempotent(&self) -> bool {
        matches!(
            self,
            Call::Find { .. }
                | Call::Programs
                | Call::Describe { .. }
                | Call::List
                | Call::Pages { .. }
                | Call::Stats
                | Call::Usage
        )
    }
}

/// A message to an inferlet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Input {
    /// For `session.receive`.
    Text {
        /// The text.
        text: String,
    },
    /// For `session.receive-blob`.
    Blob {
        /// The bytes.
        data: Data,
    },
}

/// What an inferlet can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signal {
    /// No more messages come, after those sent before: the program's `receive` then says closed.
    EndOfInput,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Answer {
    /// It is done.
    Done,
    /// Of `find`.
    Found {
        /// Whether it is there.
        known: bool,
    },
    /// Of `upload`.
    Received {
        /// Bytes that are there, from the beginning.
        bytes: u64,
        /// Whether that is all, and the program can be launched by its hash.
        complete: bool,
    },
    /// Of `programs`.
    Programs {
        /// Sorted by name, then by hash.
        programs: Vec<ListedProgram>,
    },
    /// Of `describe`.
    Described(DescribedProgram),
    /// Of `launch`.
    Launched {
        /// The id of the inferlet.
        inferlet: String,
    },
    /// Of `attach`.
    Attached {
        /// The id of the inferlet, whole.
        inferlet: String,
        /// The number of the first event that comes.
        next: u64,
        /// The number of the last event that is there; before `next` where none is.
        last: u64,
    },
    /// Of `list`.
    Inferlets {
        /// By id.
        inferlets: Vec<ListedInferlet>,
    },
    /// Of `pages`.
    Pages {
        /// One for each model.
        models: Vec<ModelPages>,
    },
    /// Of `stats`.
    Stats {
        /// As `/stats` answers over HTTP.
        stats: Value,
    },
    /// Of `usage`.
    Usage(Usage),
}

/// A program in a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListedProgram {
    /// Its name; an uploaded program has one for each `install`, and none before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its hash, where it is known: the server reads a program of its own when it is first launched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Whose it is.
    pub source: ProgramSource,
}

/// What is known of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribedProgram {
    /// Its hash.
    pub hash: String,
    /// Whether it can be launched; one that cannot answers HTTP requests.
    pub runs: bool,
    /// What it says of itself; none where it says nothing, and takes any arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
}

/// Whose a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramSource {
    /// The server's, for all users.
    Server,
    /// Uploaded by the user.
    User,
}

/// An inferlet in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedInferlet {
    /// Its id.
    pub id: String,
    /// Name of its program, or the beginning of its hash.
    pub program: String,
    /// Its arguments; those that 1024 bytes do not hold are left out.
    pub arguments: Vec<String>,
    /// What it does.
    pub state: State,
    /// Whether it can be attached to.
    pub attachable: bool,
    /// Sessions that are attached.
    pub clients: u32,
    /// Milliseconds since its launch.
    pub age_ms: u64,
    /// Milliseconds of processor time that its program took.
    pub cpu_ms: u64,
}

/// What the inferlets of a user hold of one model's pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelPages {
    /// The model.
    pub model: String,
    /// Pages of its pool.
    pub pool: u32,
    /// Tokens of a page.
    pub page_tokens: u32,
    /// The inferlets that have contexts there, by id.
    pub inferlets: Vec<InferletPages>,
    /// The contexts of the inferlet that was asked for, older ones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contexts: Vec<ContextPages>,
    /// Contexts that are not counted or not listed, since there are too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Pages of an inferlet's contexts, each counted once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InferletPages {
    /// Its id.
    pub inferlet: String,
    /// Its contexts.
    pub contexts: u32,
    /// Pages of the pool that one context holds.
    pub private: u32,
    /// Pages of the pool that several contexts or saved ones hold.
    pub shared: u32,
    /// Pages in host memory.
    pub spilled: u32,
}

/// A context of an inferlet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextPages {
    /// A number that no other context of the server has.
    pub context: u64,
    /// That which it was forked from, while that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u64>,
    /// Tokens.
    pub length: u32,
    /// Pages.
    pub pages: u32,
    /// Of these, those at its beginning that are the parent's too.
    pub shared: u32,
    /// Of its pages, those in host memory.
    pub spilled: u32,
}

/// What an inferlet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It runs, or waits for its place.
    Running,
    /// It has ended, and its last events have not been taken.
    Ended,
}

/// What a user has taken, and may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The user.
    pub user: String,
    /// Inferlets that run or wait.
    pub inferlets: Used,
    /// Bytes of linear memory.
    pub memory_bytes: Used,
    /// Bytes that the server holds for programs.
    pub host_memory_bytes: Used,
    /// Bytes of uploaded programs.
    pub program_bytes: Used,
    /// Uploaded programs.
    pub programs: Used,
    /// Bytes of events that nobody has acknowledged.
    pub event_bytes: Used,
    /// Tokens computed for the key of this session since the server began, those of prompts among them.
    pub tokens: u64,
}

/// So much of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Taken now.
    pub used: u64,
    /// The most that may be taken.
    pub limit: u64,
}
