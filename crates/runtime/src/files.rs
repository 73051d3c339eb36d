//! Files that are written whole or not at all.

use std::fs::File;
use std::io::{Result, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Ending of files that are being written.
const PART: &str = "part";
/// No write takes so long: a file that is older was left by a process that ended at it.
const PART_AGE: Duration = Duration::from_secs(3600);

/// A file being written, under a name of its own beside the one it will have. Dropped before [`PartFile::finish`], it
/// is removed.
pub(crate) struct PartFile {
    file: File,
    part: PathBuf,
    path: PathBuf,
    is_finished: bool,
}

impl PartFile {
    /// Begins a file that will be at `path`, whose folder is made where there is none.
    pub(crate) fn create(path: &Path) -> Result<PartFile> {
        std::fs::create_dir_all(folder_of(path))?;
        let part = path.with_extension(format!("{}.{PART}", uuid::Uuid::new_v4()));
        let file = File::create(&part)?;
        Ok(PartFile { file, part, path: path.to_path_buf(), is_finished: false })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes)
    }

    /// Gives the file its name. It is on disk when this returns.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.part, &self.path)?;
        self.is_finished = true;
        sync_folder(folder_of(&self.path))
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Writes a whole file or nothing. It is on disk when this returns.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = PartFile::create(path)?;
    file.write(bytes)?;
    file.finish()
}

/// The name of a file is in its folder, and is on disk when the folder is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)?.sync_all()
}

/// Other systems have no such call; a rename is on disk when it returns, or soon after.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<()> {
    Ok(())
}

/// Removes what processes left in a folder that ended while they wrote. Another may be writing there now: its
/// files are young.
pub(crate) fn remove_parts(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let is_part = entry.path().extension().is_some_and(|ending| ending == PART);
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > PART_AGE));
        if is_part
            && is_old
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "cannot remove a file that was left unfinished");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn files_left_unfinished_are_removed_and_young_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, age) in
            [("old.part", 2 * PART_AGE), ("young.part", Duration::ZERO), ("old.kv", 2 * PART_AGE)]
        {
            let file = std::fs::File::create(path(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        write_atomically(&path("new.kv"), b"all").unwrap();
        remove_parts(folder.path());
        let left = ["old.part", "young.part", "old.kv", "new.kv"].map(|name| path(name).exists());
        assert_eq!(left, [false, true, true, true]);
    }
}
