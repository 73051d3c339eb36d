//! Models that are on this machine already: copied, so that the store does not depend on what others do to
//! them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use crate::{Delivery, Phase, Progress, ProgressFn, SourceError, manifest};
use model::gguf::Gguf;

/// Endings of files that belong to a model folder; `txt` is for merges.txt.
const ENDINGS: &[&str] = &["safetensors", "json", "jinja", "txt"];

pub(crate) fn deliver(
    path: &Path,
    partial: &Path,
    progress: &mut ProgressFn<'_>,
) -> Result<Delivery, SourceError> {
    let no_model = |reason: String| SourceError::NoModel { path: path.to_owned(), reason };
    let source = path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string();
    if path.is_dir() {
        let io = |source| SourceError::Io { path: path.to_owned(), source };
        // Reads only headers, and says what is wrong before gigabytes are copied.
        model::safetensors::open(path).map_err(|error| no_model(error.to_string()))?;
        let mut files = Vec::new();
        for entry in fs::read_dir(path).map_err(io)? {
            let entry = entry.map_err(io)?.path();
            let is_wanted = entry.is_file()
                && entry.file_name().is_some_and(|name| name != "manifest.json")
                && entry.extension().is_some_and(|end| ENDINGS.iter().any(|wanted| end == *wanted));
            if is_wanted {
                files.push(copy(&entry, partial, progress)?);
            }
        }
        files.sort();
        let files = files.iter().map(|file| manifest::describe(partial, file)).collect::<Result<_, _>>()?;
        return Ok(Delivery { main: None, source, files });
    }
    Gguf::open(path).map_err(|error| no_model(error.to_string()))?;
    let file = copy(path, partial, progress)?;
    let files = vec![manifest::describe(partial, &file)?];
    Ok(Delivery { main: Some(file), source, files })
}

/// Copies a file into the folder and gives its name there.
fn copy(path: &Path, folder: &Path, progress: &mut ProgressFn<'_>) -> Result<String, SourceError> {
    let io = |source| SourceError::Io { path: path.to_owned(), source };
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| SourceError::NoModel {
        path: path.to_owned(),
        reason: "its name is not valid UTF-8".to_owned(),
    })?;
    let mut from = File::open(path).map_err(io)?;
    let total = from.metadata().map_err(io)?.len();
    let to_path = folder.join(name);
    let to_io = |source| SourceError::Io { path: to_path.clone(), source };
    let mut to = File::create(&to_path).map_err(to_io)?;
    let mut buffer = vec![0; 4 << 20];
    let mut bytes_done = 0;
    loop {
        let count = from.read(&mut buffer).map_err(io)?;
        let item = name.to_owned();
        progress(Progress { phase: Phase::Copying, item, bytes_done, bytes_total: Some(total) });
        if count == 0 {
            break;
        }
        to.write_all(&buffer[..count]).map_err(to_io)?;
        bytes_done += count as u64;
    }
    to.sync_all().map_err(to_io)?;
    Ok(name.to_owned())
}
