//! Persistent snapshots: contexts that are still there after a restart.
//!
//! One file for each, under a folder for each model's fingerprint, so that a file is never read for a model
//! whose keys and values it does not hold. A file is written whole or not at all.
//!
//! The engine has as many of them as host memory has room for, from the start on. The others wait on disk,
//! and take the room of those when a program opens them.
//!
//! ```text
//! "pie-kv-1"  key length, key  page_tokens  next_position  pages  page bytes
//! then for each page:  live (u64)  page_tokens positions (u32)  bytes
//! then the BLAKE3 hash of all before                      integers are little-endian, u32 unless said
//! ```

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scheduler::{CallError, ContextInfo, ContextOp, NewContext, SnapshotData, SnapshotInfo, SnapshotPage};

use crate::error::{ApiError, engine_gone};
use crate::files::{PartFile, remove_parts};
use crate::inferlet::InferletState;
use crate::served::ServedModel;
use crate::users::Users;
use crate::work::Workers;

const MAGIC: &[u8] = b"pie-kv-1";
const HASH_BYTES: usize = 32;
/// Bytes of pages that are read from the engine, and written, at once.
const PART_BYTES: usize = 4 << 20;

/// The folder of snapshot files; without one, a snapshot lives as long as the server.
pub(crate) struct SnapshotFiles {
    folder: Option<PathBuf>,
    /// The files that there are: each is in here from when it has its name until it is gone, both under the lock, whatever
    /// becomes of the call that made it. So a persistent snapshot is there as long as it is in this list, wherever its
    /// pages are.
    files: Arc<Mutex<Files>>,
}

#[derive(Default)]
struct Files {
    /// By the model's fingerprint and the key.
    entries: BTreeMap<(String, String), Entry>,
    changes: u64,
}

/// A file.
struct Entry {
    /// Tokens of the snapshot.
    length: u32,
    /// Whether the engine has none of this key, as far as is known: what the engine does is heard later, and by several
    /// tasks in any order. Where it is wrong, a snapshot counts twice.
    only_on_disk: bool,
    /// Which change of the list was the last of this entry.
    version: Version,
}

/// A state of a file: what was asked of the engine before it tells nothing of what it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u64);

impl Files {
    fn change(&mut self) -> Version {
        self.changes += 1;
        Version(self.changes)
    }

    /// A file is there, and perhaps in place of another.
    fn insert(&mut self, entry: (String, String), length: u32, only_on_disk: bool) -> Version {
        let version = self.change();
        self.entries.insert(entry, Entry { length, only_on_disk, version });
        version
    }

    /// The engine has a snapshot of this key, of which the file was so before it was told. If the file has changed since,
    /// or the engine has forgotten it again, this is late.
    fn is_in_engine(&mut self, entry: &(String, String), version: Version) {
        if let Some(found) = self.entries.get_mut(entry).filter(|found| found.version == version) {
            found.only_on_disk = false;
        }
    }

    /// The engine has forgotten a persistent snapshot. Where its file was removed meanwhile, there is none.
    fn is_forgotten(&mut self, entry: &(String, String)) {
        let version = self.change();
        if let Some(found) = self.entries.get_mut(entry) {
            (found.only_on_disk, found.version) = (true, version);
        }
    }

    /// Whether a file is there and as it was.
    fn is_unchanged(&self, entry: &(String, String), version: Version) -> bool {
        self.entries.get(entry).is_some_and(|found| found.version == version)
    }

    fn version(&self, model: &ServedModel, key: &str) -> Option<Version> {
        self.entries.get(&entry(model, key)).map(|found| found.version)
    }

    /// Those of a model whose key begins so, and that only the disk has.
    fn only_on_disk<'a>(
        &'a self,
        model: &'a ServedModel,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a String, u32)> {
        let all = self.beginning(model, prefix).filter(|(_, entry)| entry.only_on_disk);
        all.map(|(key, entry)| (key, entry.length))
    }

    /// Those of a model whose key begins so.
    fn beginning<'a>(
        &'a self,
        model: &'a ServedModel,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Entry)> {
        let from = (model.fingerprint.clone(), prefix.to_string());
        let from = self.entries.range(from..);
        let matching = from.take_while(move |((fingerprint, key), _)| {
            *fingerprint == model.fingerprint && key.starts_with(prefix)
        });
        matching.map(|((_, key), entry)| (key, entry))
    }
}

fn entry(model: &ServedModel, key: &str) -> (String, String) {
    (model.fingerprint.clone(), key.to_string())
}

impl SnapshotFiles {
    pub(crate) fn new(folder: Option<PathBuf>) -> SnapshotFiles {
        SnapshotFiles { folder, files: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The persistent snapshots of a model whose key begins so: each key with its tokens.
    pub(crate) fn list(&self, model: &ServedModel, prefix: &str) -> Vec<(String, u32)> {
        let files = self.lock();
        files.beginning(model, prefix).map(|(key, entry)| (key.clone(), entry.length)).collect()
    }

    /// The file of a snapshot, if there is one, and how many others of a model whose key begins so only the disk has.
    pub(crate) fn find_beside(
        &self,
        model: &ServedModel,
        key: &str,
        prefix: &str,
    ) -> (Option<Version>, usize) {
        let files = self.lock();
        let others = files.only_on_disk(model, prefix).filter(|(other, _)| *other != key).count();
        (files.version(model, key), others)
    }

    /// The file of a snapshot, if there is one.
    pub(crate) fn find(&self, model: &ServedModel, key: &str) -> Option<Version> {
        self.lock().version(model, key)
    }

    /// Files that are being written now.
    pub(crate) fn writes(&self) -> usize {
        // Each of them holds the list, which it will be in.
        Arc::strong_count(&self.files) - 1
    }

    /// The engine has a snapshot of this key, of which the file was so before it was told.
    pub(crate) fn is_in_engine(&self, model: &ServedModel, key: &str, version: Version) {
        self.lock().is_in_engine(&entry(model, key), version);
    }

    fn path(&self, model: &ServedModel, key: &str) -> Option<PathBuf> {
        let name = blake3::hash(key.as_bytes()).to_hex();
        Some(self.folder.as_ref()?.join(&model.fingerprint).join(format!("{name}.kv")))
    }

    /// Refuses what would have to be on disk when there is no folder.
    pub(crate) fn check_folder(&self) -> Result<(), ApiError> {
        match self.folder {
            Some(_) => Ok(()),
            None => Err(ApiError::Denied(
                "this server keeps nothing on disk: it was started without a data folder".into(),
            )),
        }
    }

    /// Writes a snapshot that the engine has under `in_engine`; it is on disk when this returns, and only there, until
    /// the engine has it under its own key ([`SnapshotFiles::is_in_engine`]). Read and written in parts, so that neither
    /// the engine nor the memory of the host has to do with all of it at once. Dropped, it leaves nothing, or all.
    pub(crate) async fn write(
        &self,
        workers: &Workers,
        inferlet: &Arc<InferletState>,
        model: &ServedModel,
        in_engine: &SnapshotInfo,
        key: &str,
    ) -> Result<Version, ApiError> {
        self.check_folder()?;
        let path = self.path(model, key).expect("there is a folder");
        let limits = model.engine.limits();
        let head = head(key, limits.page_tokens, in_engine.next_position, in_engine.pages, limits.page_bytes);
        let files = self.files.clone();
        let create = move || SnapshotWriter::create(&path, &head, files).map_err(not_written);
        let mut writer = workers.run(inferlet, 0, create).await?;
        let engine = model.engine.for_owner(inferlet.owner);
        let at_once = (PART_BYTES / limits.page_bytes.max(1)).max(1) as u32;
        for first in (0..in_engine.pages).step_by(at_once as usize) {
            let pages = engine.export_pages(in_engine.key.clone(), first..first + at_once);
            let pages = pages.await.map_err(engine_gone)?.map_err(ApiError::from)?;
            let bytes = pages.iter().map(|page| page.bytes.len()).sum();
            let write = move || writer.add(&pages).map(|()| writer).map_err(not_written);
            writer = workers.run(inferlet, bytes, write).await?;
        }
        let (entry, length) = (entry(model, key), in_engine.length);
        let finish = move || {
            let files = writer.files.clone();
            // Nobody removes the file between the moment it is there and the note of it.
            let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
            writer.finish().map_err(not_written)?;
            Ok(files.insert(entry, length, true))
        };
        workers.run(inferlet, 0, finish).await
    }

    /// Opens a snapshot that only the disk has, in place of others in the engine where host memory is full; none where there
    /// is no file, or where the context is no longer wanted. Dropped in the middle, it would lose sight of those others.
    pub(crate) async fn load(
        &self,
        workers: &Workers,
        inferlet: &Arc<InferletState>,
        model: &ServedModel,
        key: &str,
        context: NewContext,
        wanted: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<Option<ContextInfo>, ApiError> {
        let Some(path) = self.path(model, key) else { return Ok(None) };
        let file = self.find(model, key);
        let unusable =
            |reason: String| ApiError::Backend(format!("the snapshot's file cannot be used: {reason}"));
        let read = move || read(&path).map_err(unusable);
        let Some((_, data)) = workers.run(inferlet, 0, read).await? else { return Ok(None) };
        // Not on the inferlet's share: it would be given up with it, and with it what was forgotten.
        let loaded = model.engine.load(key.to_string(), data, context, wanted).await.map_err(engine_gone)?;
        let Some(loaded) = loaded.map_err(ApiError::from)? else { return Ok(None) };
        let mut files = self.lock();
        for info in loaded.forgotten {
            files.is_forgotten(&entry(model, &info.key));
        }
        let opened = loaded.opened.map_err(ApiError::from)?;
        let own = entry(model, key);
        match file {
            Some(version) if files.is_unchanged(&own, version) => files.is_in_engine(&own, version),
            None if !files.entries.contains_key(&own) => {}
            // Deleted, or another one, since it was read: the context is of what there was, and nobody opens that again.
            // Under the lock, as in `remove`. Never refused.
            _ => {
                let _ = model.engine.apply(ContextOp::DropSnapshot { key: key.to_string() });
                files.is_forgotten(&own);
            }
        }
        Ok(Some(opened))
    }

    /// Removes a snapshot, its file and what the engine has, if there is one: both or neither, wherever the program is
    /// ended.
    pub(crate) fn remove(&self, model: &ServedModel, key: &str) -> Result<(), ApiError> {
        let mut files = self.lock();
        self.remove_from(&mut files, model, key)?;
        // Under the lock, and on nobody's share, which may be put off: of whoever writes a file of this key next, the engine
        // hears later. Never refused.
        let _ = model.engine.apply(ContextOp::DropSnapshot { key: key.to_string() });
        Ok(())
    }

    /// Removes a snapshot's file, unless it has changed since.
    pub(crate) fn remove_file(
        &self,
        model: &ServedModel,
        key: &str,
        version: Version,
    ) -> Result<(), ApiError> {
        let mut files = self.lock();
        match files.is_unchanged(&entry(model, key), version) {
            true => self.remove_from(&mut files, model, key),
            false => Ok(()),
        }
    }

    fn remove_from(&self, files: &mut Files, model: &ServedModel, key: &str) -> Result<(), ApiError> {
        let Some(path) = self.path(model, key) else { return Ok(()) };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(ApiError::Backend(format!("cannot remove the snapshot's file: {error}")))
            }
            _ => {
                files.entries.remove(&entry(model, key));
                Ok(())
            }
        }
    }

    /// Gives the engine the snapshots of the model that are on disk, as many as fit host memory. A damaged
    /// file is reported and left alone.
    pub(crate) async fn restore(&self, model: &ServedModel, users: &Users) {
        let Some(folder) = self.folder.as_ref().map(|folder| folder.join(&model.fingerprint)) else { return };
        remove_parts(&folder);
        let Ok(entries) = std::fs::read_dir(&folder) else { return };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == "kv"));
        paths.sort();
        for path in paths {
            if let Err(reason) = self.restore_file(model, &path, users).await {
                tracing::warn!(path = %path.display(), reason, "a saved context was not restored");
            }
        }
    }

    async fn restore_file(&self, model: &ServedModel, path: &Path, users: &Users) -> Result<(), String> {
        let (key, data) = read(path)?.ok_or("the file is gone")?;
        let length = data.pages.iter().map(|page| page.live.count_ones()).sum();
        let tenant = users.of(user_of(&key)).tenant;
        let only_on_disk =
            match model.engine.import(key.clone(), tenant, true, data).await.map_err(|e| e.to_string())? {
                Ok(_) => false,
                // It is read again when a program opens it.
                Err(CallError::OutOfPages { .. }) => true,
                Err(error) => return Err(error.to_string()),
            };
        self.lock().insert(entry(model, &key), length, only_on_disk);
        Ok(())
    }
}

/// The name of a snapshot in the engine: users cannot see each other's.
pub(crate) fn snapshot_key(user: &str, name: &str) -> String {
    // No user name holds a zero byte, so that no two pairs make the same key.
    format!("{user}\0{name}")
}

/// The user of a snapshot's key.
fn user_of(key: &str) -> &str {
    key.split('\0').next().unwrap_or(key)
}

/// The key and the content of a file; none when there is no file.
fn read(path: &Path) -> Result<Option<(String, SnapshotData)>, String> {
    let bytes = match std::fs::read(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        bytes => bytes.map_err(|error| error.to_string())?,
    };
    let decoded = decode(&bytes).ok_or("the file is damaged or of another format")?;
    Ok(Some(decoded))
}

/// The beginning of a file, up to its pages.
fn head(key: &str, page_tokens: u32, next_position: u32, pages: u32, page_bytes: usize) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend((key.len() as u32).to_le_bytes());
    out.extend(key.as_bytes());
    for value in [page_tokens, next_position, pages, page_bytes as u32] {
        out.extend(value.to_le_bytes());
    }
    out
}

fn not_written(error: std::io::Error) -> ApiError {
    ApiError::Backend(format!("cannot write the snapshot: {error}"))
}

/// A snapshot's file on its way. Dropped before it is finished, nothing of it stays.
struct SnapshotWriter {
    file: PartFile,
    hasher: blake3::Hasher,
    /// The list that it will be in. Dropped last: until then the file may be there, see [`SnapshotFiles::writes`].
    files: Arc<Mutex<Files>>,
}

impl SnapshotWriter {
    fn create(path: &Path, head: &[u8], files: Arc<Mutex<Files>>) -> std::io::Result<SnapshotWriter> {
        let (file, hasher) = (PartFile::create(path)?, blake3::Hasher::new());
        let mut writer = SnapshotWriter { file, hasher, files };
        writer.write(head)?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.file.write(bytes)
    }

    fn add(&mut self, pages: &[SnapshotPage]) -> std::io::Result<()> {
        for page in pages {
            let positions = page.positions.iter().flat_map(|position| position.to_le_bytes());
            let before: Vec<u8> = page.live.to_le_bytes().into_iter().chain(positions).collect();
            self.write(&before)?;
            self.write(&page.bytes)?;
        }
        Ok(())
    }

    fn finish(mut self) -> std::io::Result<()> {
        self.file.write(self.hasher.finalize().as_bytes())?;
        self.file.finish()
    }
}

/// None when the bytes are not exactly what [`SnapshotWriter`] makes.
fn decode(bytes: &[u8]) -> Option<(String, SnapshotData)> {
    let (mut rest, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH_BYTES)?)?;
    if blake3::hash(rest).as_bytes() != hash || !rest.starts_with(MAGIC) {
        return None;
    }
    rest = &rest[MAGIC.len()..];
    let key_length = take_u32(&mut rest)? as usize;
    let key = String::from_utf8(take(&mut rest, key_length)?.to_vec()).ok()?;
    let (page_tokens, next_position) = (take_u32(&mut rest)?, take_u32(&mut rest)?);
    let (pages, page_bytes) = (take_u32(&mut rest)?, take_u32(&mut rest)? as usize);
    let page = |rest: &mut &[u8]| {
        let live = u64::from_le_bytes(take(rest, 8)?.try_into().ok()?);
        let positions = (0..page_tokens).map(|_| take_u32(rest)).collect::<Option<Vec<u32>>>()?;
        Some(SnapshotPage { live, positions, bytes: take(rest, page_bytes)?.to_vec() })
    };
    let pages = (0..pages).map(|_| page(&mut rest)).collect::<Option<Vec<_>>>()?;
    rest.is_empty().then_some((key, SnapshotData { page_tokens, next_position, pages }))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two programs of a user save, open and delete one name at once, and what they hear of the engine comes in any order: a
    /// file was lost sight of, and stayed when its user had deleted everything.
    #[test]
    fn what_is_heard_late_does_not_hide_a_file() {
        let one = ("model".to_string(), "ann\0one".to_string());
        let mut files = Files::default();
        let only_on_disk = |files: &Files| files.entries.get(&one).map(|found| found.only_on_disk);
        let first = files.insert(one.clone(), 3, true);
        files.is_in_engine(&one, first);
        assert_eq!(only_on_disk(&files), Some(false));
        files.is_forgotten(&one);
        files.is_in_engine(&one, first);
        assert_eq!(
            only_on_disk(&files),
            Some(true),
            "forgotten after it was there, though that is heard later"
        );
        let second = files.insert(one.clone(), 4, true);
        files.is_in_engine(&one, first);
        assert_eq!(only_on_disk(&files), Some(true), "the engine has what was before");
        assert!(files.is_unchanged(&one, second) && !files.is_unchanged(&one, first));
        files.entries.remove(&one);
        files.is_forgotten(&one);
        files.is_in_engine(&one, second);
        assert_eq!(only_on_disk(&files), None, "without a file there is none");
    }

    #[test]
    fn a_snapshot_survives_its_file_and_damage_does_not() {
        let page = |live| SnapshotPage { live, positions: vec![3; 16], bytes: vec![live as u8; 40] };
        let data = SnapshotData { page_tokens: 16, next_position: 40, pages: vec![page(0xffff), page(0x7)] };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.kv");
        let create = || {
            SnapshotWriter::create(
                &path,
                &head("ann/prefix", 16, 40, data.pages.len() as u32, 40),
                Arc::default(),
            )
            .unwrap()
        };
        let mut writer = create();
        data.pages.chunks(1).for_each(|page| writer.add(page).unwrap());
        drop(create());
        assert!(!path.exists(), "it has its name only when it is whole");
        writer.finish().unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "what was not finished is gone");
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(decode(&bytes), Some(("ann/prefix".into(), data)));
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), None);
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None);
        }
    }
}
