//! Files that are there whole or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{path}`: {error}")]
pub struct WriteError {
    path: PathBuf,
    error: std::io::Error,
}

/// Writes beside the file and renames, so that a reader never meets half of it. Makes the folders above it.
///
/// # Errors
/// [`WriteError`], with the path.
pub fn write(path: &Path, content: &[u8]) -> Result<(), WriteError> {
    let failed = |error| WriteError { path: path.into(), error };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = std::fs::File::create(&beside).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| std::fs::rename(&beside, path));
    renamed.map_err(|error| {
        // What is beside is of no use; that it stays is no second error.
        let _ = std::fs::remove_file(&beside);
        failed(error)
    })
}

/// Appends a line to a file with one write, so that lines of several processes do not mix.
///
/// # Errors
/// [`WriteError`], with the path.
pub fn append_line(path: &Path, line: &str) -> Result<(), WriteError> {
    let failed = |error| WriteError { path: path.into(), error };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())).map_err(failed)
}
