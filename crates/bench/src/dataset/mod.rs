//! What is asked: samples, made from a seed or read from a file.
//!
//! Each source is a file of this folder and a row of [`TABLE`]. Files come from strangers: what does not parse is an
//! error with its line, and a file that ends early yields what is whole, with the number of what is not.

pub mod azure;
pub mod burstgpt;
pub mod custom;
pub mod mooncake;
pub mod mt_bench;
pub mod multi_turn;
mod options;
pub mod random;
pub mod rows;
mod sample;
pub mod shared_prefix;
pub mod sharegpt;
pub mod sonnet;
pub mod text;
pub mod tokens;

pub use options::{Columns, DatasetOptions, MultiTurnOptions, SharedPrefixOptions};
pub use sample::{Message, Prompt, Sample};

use std::path::PathBuf;

use tokens::Tokens;

/// Samples and what is to be said of them.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    /// The samples, in order.
    pub samples: Vec<Sample>,
    /// What a reader of the report should know: lines left out, a file that ends early.
    pub notes: Vec<String>,
}

/// Why there is no dataset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// No such source.
    #[error("`{0}` is no dataset; there are {names}", names = names().join(", "))]
    Unknown(String),
    /// The source reads a file and none was given.
    #[error("dataset `{0}` reads a file: name it with --dataset-path")]
    NoPath(&'static str),
    /// The file cannot be read.
    #[error("cannot read `{path}`: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("`{path}`, {place}: found {found}, expected {expected}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// Nothing in the file can be used.
    #[error("`{path}` has no usable sample: {why}")]
    NoSample {
        /// The file.
        path: PathBuf,
        /// What was left out, and why.
        why: String,
    },
    /// A tokenizer that cannot be read or does not do what it should.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// An option out of its range.
    #[error("{name}: found {found}, expected {expected}")]
    Option {
        /// The flag.
        name: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
}

/// A source of samples.
pub struct Spec {
    /// Its name, as in `--dataset-name`.
    pub name: &'static str,
    /// What it is, for the help.
    pub about: &'static str,
    /// Whether it reads `--dataset-path`.
    pub reads_file: bool,
    /// Makes the samples.
    pub load: fn(&DatasetOptions, &Tokens) -> Result<Dataset, DatasetError>,
}

/// Every source.
pub const TABLE: [Spec; 11] = [
    random::SPEC,
    random::IDS,
    shared_prefix::SPEC,
    multi_turn::SPEC,
    sharegpt::SPEC,
    custom::SPEC,
    azure::SPEC,
    mooncake::SPEC,
    burstgpt::SPEC,
    mt_bench::SPEC,
    sonnet::SPEC,
];

/// Other tools' names of the same sources.
const ALIASES: [(&str, &str); 8] = [
    ("shared-prefix", "prefix_repetition"),
    ("generated-shared-prefix", "prefix_repetition"),
    ("multi-turn", "multi_turn"),
    ("jsonl", "custom"),
    ("csv", "custom"),
    ("timed_trace", "mooncake"),
    ("mt-bench", "mt_bench"),
    ("spec_bench", "mt_bench"),
];

/// The names of all sources.
pub fn names() -> Vec<&'static str> {
    TABLE.iter().map(|spec| spec.name).collect()
}

/// The source of this name.
///
/// # Errors
/// [`DatasetError::Unknown`].
pub fn find(name: &str) -> Result<&'static Spec, DatasetError> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    TABLE.iter().find(|spec| spec.name == name).ok_or_else(|| DatasetError::Unknown(name.to_string()))
}

/// Makes the samples that `options` describe.
///
/// # Errors
/// See [`DatasetError`].
pub fn load(options: &DatasetOptions, tokens: &Tokens) -> Result<Dataset, DatasetError> {
    let spec = find(&options.name)?;
    if spec.reads_file && options.path.is_none() {
        return Err(DatasetError::NoPath(spec.name));
    }
    (spec.load)(options, tokens)
}

/// The last step of a source that reads a file: leaves out what is too long, shuffles, and brings the number to what
/// was requested. Sessions and traces keep their order.
///
/// # Errors
/// What `empty` makes, when nothing is left.
pub fn finish(
    mut samples: Vec<Sample>,
    options: &DatasetOptions,
    empty: impl FnOnce() -> DatasetError,
) -> Result<Dataset, DatasetError> {
    let mut notes = Vec::new();
    if let Some(limit) = options.max_input_tokens {
        let before = samples.len();
        samples.retain(|sample| sample.prompt_tokens <= limit);
        if samples.len() < before {
            notes.push(format!(
                "{} of {before} samples have prompts above {limit} tokens",
                before - samples.len()
            ));
        }
    }
    if samples.is_empty() {
        return Err(empty());
    }
    let ordered = samples.iter().any(|sample| sample.session.is_some() || sample.at.is_some());
    if options.shuffle && !ordered {
        fastrand::Rng::with_seed(options.seed).shuffle(&mut samples);
    }
    if samples.len() < options.count && options.oversample && !ordered {
        notes.push(format!("{} samples, used again to make {}", samples.len(), options.count));
        let found = samples.len();
        for index in found..options.count {
            samples.push(samples[index % found].clone());
        }
    }
    samples.truncate(options.count);
    Ok(Dataset { samples, notes })
}
