//! What a dataset may be told. A source reads the fields that concern it.

use std::path::PathBuf;

/// Names of the columns of a file of rows.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// Text of the prompt, or an array of messages.
    pub prompt: Option<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<String>,
    /// Tokens to request.
    pub output_tokens: Option<String>,
    /// When it is to be sent.
    pub timestamp: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// The names of the prompt's blocks.
    pub blocks: Option<String>,
}

/// For prompts that begin alike.
#[derive(Clone, Debug)]
pub struct SharedPrefixOptions {
    /// How many different beginnings.
    pub prefixes: usize,
    /// Tokens of a beginning.
    pub prefix_tokens: u32,
    /// Tokens of the rest, which no other prompt has.
    pub suffix_tokens: u32,
    /// How beginnings are chosen: by turns with `None`, else by Zipf's law with this exponent, above 1.
    pub zipf: Option<f64>,
}

/// For made-up conversations.
#[derive(Clone, Debug)]
pub struct MultiTurnOptions {
    /// Turns of a conversation, and their deviation.
    pub turns: (f64, f64),
    /// Tokens of a message of the system that all conversations begin with.
    pub system_tokens: u32,
    /// Mean seconds between an answer and the next message, drawn from an exponential distribution.
    pub think_secs: f64,
}

/// What a dataset may be told.
#[derive(Clone, Debug)]
pub struct DatasetOptions {
    /// Which source; see [`super::TABLE`].
    pub name: String,
    /// The file.
    pub path: Option<PathBuf>,
    /// How many samples; a file that has fewer is begun again unless `oversample` is off.
    pub count: usize,
    /// Where random numbers start.
    pub seed: u64,
    /// Tokens of a made-up prompt.
    pub input_tokens: u32,
    /// Tokens to request; `None` takes what the file says.
    pub output_tokens: Option<u32>,
    /// Lengths are uniform in `[n (1 - r), n (1 + r)]`; zero makes them all alike.
    pub range_ratio: f64,
    /// Tokens that all made-up prompts begin with.
    pub prefix_tokens: u32,
    /// Whether a file with fewer samples than `count` is begun again.
    pub oversample: bool,
    /// Whether the order of a file is shuffled.
    pub shuffle: bool,
    /// For `prefix_repetition`.
    pub shared_prefix: SharedPrefixOptions,
    /// For `multi_turn`.
    pub multi_turn: MultiTurnOptions,
    /// For files of rows.
    pub columns: Columns,
    /// Tokens of a block that a trace names; `None` finds it in the trace.
    pub block_tokens: Option<u32>,
    /// Seconds in one unit of the trace's time; `None` takes the format's own.
    pub time_unit_secs: Option<f64>,
    /// Longest prompt that is kept, in tokens.
    pub max_input_tokens: Option<u32>,
    /// The only category of questions that is kept, for `mt_bench`.
    pub category: Option<String>,
}

impl Default for DatasetOptions {
    fn default() -> Self {
        Self {
            name: "random".into(),
            path: None,
            count: 1000,
            seed: 0,
            input_tokens: 1024,
            output_tokens: None,
            range_ratio: 0.0,
            prefix_tokens: 0,
            oversample: true,
            shuffle: false,
            shared_prefix: SharedPrefixOptions {
                prefixes: 10,
                prefix_tokens: 256,
                suffix_tokens: 256,
                zipf: None,
            },
            multi_turn: MultiTurnOptions { turns: (4.0, 0.0), system_tokens: 0, think_secs: 0.0 },
            columns: Columns::default(),
            block_tokens: None,
            time_unit_secs: None,
            max_input_tokens: None,
            category: None,
        }
    }
}
