//! What can be wrong with a tokenizer.

use std::path::PathBuf;

use crate::gguf::GgufError;

/// Why a tokenizer cannot be built or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A metadata value of another type.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// A metadata key that a tokenizer needs.
    #[error(
        "the file has no `{key}`, which the tokenizer needs; use a file that was converted with its vocabulary"
    )]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A tokenizer kind that is none of ours.
    #[error(
        "the file's tokenizer is of kind `{found}`, which is not supported; supported are gpt2 (byte-level BPE), llama (SentencePiece), gemma4 and bert (WordPiece)"
    )]
    Kind {
        /// `tokenizer.ggml.model`.
        found: String,
    },
    /// A way to split text into words that is not in the table.
    #[error("the tokenizer splits text by the rule `{found}`, which is not known; known are {known}")]
    PreTokenizer {
        /// `tokenizer.ggml.pre`.
        found: String,
        /// All known names, with commas.
        known: String,
    },
    /// Arrays that must have one entry per token.
    #[error("`{key}` has {found} entries, expected one for each of the {expected} tokens")]
    Length {
        /// The array.
        key: &'static str,
        /// Its length.
        found: usize,
        /// Tokens of the vocabulary.
        expected: usize,
    },
    /// A merge that is not two tokens giving a third.
    #[error("merge {index}, `{merge}`, does not join two tokens of the vocabulary to a third")]
    Merge {
        /// Its place in the list.
        index: usize,
        /// The merge.
        merge: String,
    },
    /// A token id outside of the vocabulary.
    #[error("`{key}` is {found}, expected an id below {expected}")]
    Id {
        /// The key.
        key: String,
        /// Its value.
        found: u32,
        /// Tokens of the vocabulary.
        expected: usize,
    },
    /// A file that cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file that is not the JSON it should be.
    #[error("`{path}` is not a valid {what}: {reason}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// The library refused to build the tokenizer.
    #[error("the tokenizer cannot be built: {0}")]
    Build(#[source] tokenizers::Error),
    /// Whoever wanted the tokens does not want them any more.
    #[error("the tokens are not wanted any more")]
    Stopped,
    /// The library refused a text.
    #[error("the text cannot be tokenized: {0}")]
    Encode(#[source] tokenizers::Error),
}
