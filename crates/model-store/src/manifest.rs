//! What the store knows of a model.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::SourceError;

/// A model of the store, as in its `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its name.
    pub name: String,
    /// Where it came from.
    pub source: String,
    /// The file to open, or none when it is the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main: Option<String>,
    /// Bytes of all files.
    pub bytes: u64,
    /// Its files.
    pub files: Vec<ManifestFile>,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its name in the model's folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// Length and sum of a file that is there.
pub(crate) fn describe(folder: &Path, file: &str) -> Result<ManifestFile, SourceError> {
    let (bytes, sha256) = sum(&folder.join(file), &mut |_| {})?;
    Ok(ManifestFile { file: file.to_owned(), bytes, sha256 })
}

/// Length and SHA-256 of a file; `step` is told the bytes read so far.
pub(crate) fn sum(path: &Path, step: &mut dyn FnMut(u64)) -> Result<(u64, String), SourceError> {
    let io = |source| SourceError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer).map_err(io)?;
        if count == 0 {
            let sum = hasher.finalize();
            return Ok((bytes, sum.iter().map(|byte| format!("{byte:02x}")).collect()));
        }
        hasher.update(&buffer[..count]);
        bytes += count as u64;
        step(bytes);
    }
}
