//! Small JSON files of a model folder.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Most bytes of such a file; the largest seen is an index of shards with a few hundred kilobytes.
const BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonError {
    #[error("cannot read `{path}`: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("`{path}` is not a valid JSON file: {reason}")]
    Invalid { path: PathBuf, reason: String },
}

/// The content of `path`, or `null` when there is no such file.
pub(crate) fn read_optional(path: &Path) -> Result<Value, JsonError> {
    match read(path) {
        Err(JsonError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Value::Null),
        result => result,
    }
}

/// The content of `path`.
pub(crate) fn read(path: &Path) -> Result<Value, JsonError> {
    let io = |source| JsonError::Io { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(io)?.len();
    if bytes > BYTES_MAX {
        let reason = format!("it has {bytes} bytes, expected at most {BYTES_MAX}");
        return Err(JsonError::Invalid { path: path.to_owned(), reason });
    }
    let text = std::fs::read(path).map_err(io)?;
    serde_json::from_slice(&text)
        .map_err(|error| JsonError::Invalid { path: path.to_owned(), reason: error.to_string() })
}
