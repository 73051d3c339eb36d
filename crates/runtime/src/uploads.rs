//! Programs that users have uploaded: each kept by its hash, under the names that its user gave it.
//!
//! ```text
//! data/programs/USER/HASH.wasm      a program
//! data/programs/USER/NAME@VERSION   the hash that the name stands for
//! ```
//! The files are the truth, each written whole or not at all; what is here is read from them when a user's programs are
//! first asked for. Without a data folder programs last as long as the server.

mod api;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::files::{remove_parts, write_atomically};
use crate::limits::UserLimits;
use crate::program::{Program, ProgramError, Programs};

pub use api::Reserved;

/// Digits of a hash.
const HASH_DIGITS: usize = 64;
/// Longest name with its version.
const NAME_BYTES: usize = 128;

/// Why a program is not kept, named or taken away.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// It is no program for this server.
    #[error("{0}")]
    Program(#[from] ProgramError),
    /// The bytes are others than was said.
    #[error("the program's hash is {found}, expected {expected}: it changed, or was damaged, on its way")]
    HashMismatch {
        /// Of the bytes that came.
        found: String,
        /// As it was said.
        expected: String,
    },
    /// Not a hash.
    #[error("`{0}` is no hash of a program: expected BLAKE3 as 64 hexadecimal digits in lower case")]
    Hash(String),
    /// Not a name.
    #[error(
        "`{0}` is no name of a program: expected `NAME@VERSION` of letters, digits, `-`, `_` and `.`, each beginning with a \
        letter or digit, of at most 128 bytes"
    )]
    Name(String),
    /// The name stands for another program.
    #[error("`{name}` is another program already, of hash {hash}; raise the version, or remove that first")]
    NameTaken {
        /// The name.
        name: String,
        /// What it stands for.
        hash: String,
    },
    /// The user has no such program.
    #[error("the user has uploaded no program `{0}`")]
    Unknown(String),
    /// The user would have too many programs, or too large ones.
    #[error("{0}")]
    Limit(String),
    /// A file cannot be written or read.
    #[error("cannot keep the program in `{path}`: {reason}", path = path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: std::io::Error,
    },
}

/// The uploaded programs of all users.
pub(crate) struct Uploads {
    folder: Option<PathBuf>,
    limits: UploadLimits,
    users: Mutex<BTreeMap<String, Arc<Mutex<Kept>>>>,
}

/// What one user may keep.
#[derive(Clone, Copy)]
pub(crate) struct UploadLimits {
    pub(crate) programs: u64,
    pub(crate) bytes: u64,
}

/// The programs of one user.
#[derive(Default)]
struct Kept {
    folder: Option<PathBuf>,
    programs: BTreeMap<String, KeptProgram>,
    /// What a name stands for, and since when.
    names: BTreeMap<String, (String, SystemTime)>,
}

struct KeptProgram {
    bytes: u64,
    /// Held here where there is no file of it.
    held: Option<Arc<Program>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a text is a hash as they are written here.
pub(crate) fn is_hash(text: &str) -> bool {
    text.len() == HASH_DIGITS && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn check_hash(text: &str) -> Result<(), UploadError> {
    // Named in an error: not all of what a stranger sent.
    let named = || text.chars().take(HASH_DIGITS).collect();
    if is_hash(text) { Ok(()) } else { Err(UploadError::Hash(named())) }
}

/// Whether a text is a name, `NAME@VERSION`. It is a name of a file too, and must be no other.
pub(crate) fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        part.bytes().all(valid) && part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
    };
    // The ending of a file that is being written.
    let is_free = !text.ends_with(".part");
    let halves = text.split_once('@');
    is_free && text.len() <= NAME_BYTES && halves.is_some_and(|(name, version)| part(name) && part(version))
}

/// The folder of a user, whose name may have any characters.
fn user_folder(user: &str) -> String {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    match !user.is_empty() && user.len() <= 64 && user.bytes().all(plain) {
        true => format!("user-{user}"),
        false => format!("hash-{}", blake3::hash(user.as_bytes()).to_hex()),
    }
}

impl Kept {
    /// Reads what is in a folder. A file that is not as it should be is left where it is, and not used.
    fn read(folder: PathBuf) -> Kept {
        remove_parts(&folder);
        let mut kept = Kept { folder: Some(folder.clone()), ..Kept::default() };
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (Ok(metadata), Ok(name)) = (entry.metadata(), entry.file_name().into_string()) else {
                continue;
            };
            if let Some(hash) = name.strip_suffix(".wasm").filter(|hash| is_hash(hash)) {
                let program = KeptProgram { bytes: metadata.len(), held: None };
                kept.programs.insert(hash.to_string(), program);
            } else if is_name(&name)
                && let Ok(hash) = std::fs::read_to_string(entry.path())
            {
                let since = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                kept.names.insert(name, (hash.trim().to_string(), since));
            }
        }
        kept.names.retain(|_, (hash, _)| kept.programs.contains_key(hash));
        kept
    }

    fn bytes(&self) -> u64 {
        self.programs.values().map(|program| program.bytes).sum()
    }

    /// The whole name that a name stands for, and its hash: without a version, that which was installed last.
    fn name(&self, name: &str) -> Option<(String, String)> {
        if let Some((hash, _)) = self.names.get(name) {
            return Some((name.to_string(), hash.clone()));
        }
        let versions = self.names.iter().filter(|(known, _)| known.split('@').next() == Some(name));
        let last = versions.max_by_key(|(known, (_, since))| (*since, (*known).clone()));
        last.map(|(known, (hash, _))| (known.clone(), hash.clone()))
    }
}

impl Uploads {
    pub(crate) fn new(folder: Option<PathBuf>, limits: &UserLimits) -> Uploads {
        let limits = UploadLimits { programs: limits.programs, bytes: limits.program_bytes };
        Uploads { folder, limits, users: Mutex::default() }
    }

    pub(crate) fn limits(&self) -> UploadLimits {
        self.limits
    }

    /// Reads files the first time.
    fn of(&self, user: &str) -> Arc<Mutex<Kept>> {
        let mut users = lock(&self.users);
        if let Some(kept) = users.get(user) {
            return kept.clone();
        }
        let folder = self.folder.as_ref().map(|folder| folder.join(user_folder(user)));
        let kept = Arc::new(Mutex::new(folder.map_or_else(Kept::default, Kept::read)));
        users.insert(user.to_string(), kept.clone());
        kept
    }

    /// Whether a user has a program of this hash.
    pub(crate) fn has(&self, user: &str, hash: &str) -> bool {
        lock(&self.of(user)).programs.contains_key(hash)
    }

    /// Whether a user has a program of this name, `NAME@VERSION`.
    pub(crate) fn has_name(&self, user: &str, name: &str) -> bool {
        lock(&self.of(user)).names.contains_key(name)
    }

    /// Programs and bytes of a user.
    pub(crate) fn taken(&self, user: &str) -> (u64, u64) {
        let kept = self.of(user);
        let kept = lock(&kept);
        (kept.programs.len() as u64, kept.bytes())
    }

    /// Refuses so many bytes more where the user would have too many.
    pub(crate) fn check_room(&self, user: &str, bytes: u64) -> Result<(), UploadError> {
        let (programs, taken) = self.taken(user);
        let UploadLimits { programs: most, bytes: most_bytes } = self.limits;
        let words = if programs >= most {
            format!("the user has {programs} uploaded programs, and may have {most}")
        } else if taken.saturating_add(bytes) > most_bytes {
            format!(
                "a program of {bytes} bytes beside {taken} of others exceeds what the user may keep, {most_bytes}"
            )
        } else {
            return Ok(());
        };
        Err(UploadError::Limit(format!("{words}; remove some first")))
    }

    /// Checks, compiles and keeps a program. Slow the first time.
    pub(crate) fn keep(
        &self,
        programs: &Programs,
        user: &str,
        hash: &str,
        wasm: &[u8],
    ) -> Result<(), UploadError> {
        check_hash(hash)?;
        let found = blake3::hash(wasm).to_hex().to_string();
        if found != hash {
            return Err(UploadError::HashMismatch { found, expected: hash.to_string() });
        }
        let program = programs.load_uploaded(wasm, None)?;
        let kept = self.of(user);
        // Others of this user wait: what is counted is there.
        let mut kept = lock(&kept);
        if kept.programs.contains_key(hash) {
            return Ok(());
        }
        let (count, bytes) = (kept.programs.len() as u64, kept.bytes());
        let UploadLimits { programs: most, bytes: most_bytes } = self.limits;
        if count >= most || bytes + wasm.len() as u64 > most_bytes {
            return Err(UploadError::Limit(format!(
                "the user has {count} uploaded programs of {bytes} bytes, and may have {most} of {most_bytes}; remove some \
                first"
            )));
        }
        let held = match &kept.folder {
            None => Some(program),
            Some(folder) => {
                write(&folder.join(format!("{hash}.wasm")), wasm)?;
                None
            }
        };
        kept.programs.insert(hash.to_string(), KeptProgram { bytes: wasm.len() as u64, held });
        Ok(())
    }

    /// Gives a program a name.
    pub(crate) fn install(&self, user: &str, hash: &str, name: &str) -> Result<(), UploadError> {
        check_hash(hash)?;
        if !is_name(name) {
            return Err(UploadError::Name(name.chars().take(NAME_BYTES).collect()));
        }
        let kept = self.of(user);
        let mut kept = lock(&kept);
        if !kept.programs.contains_key(hash) {
            return Err(UploadError::Unknown(hash.to_string()));
        }
        match kept.names.get(name) {
            Some((known, _)) if known == hash => return Ok(()),
            Some((known, _)) => {
                return Err(UploadError::NameTaken { name: name.to_string(), hash: known.clone() });
            }
            None => {}
        }
        // A name costs a file: there are not more of them than a few for each program.
        let most = self.limits.programs.saturating_mul(NAMES_PER_PROGRAM);
        if kept.names.len() as u64 >= most {
            return Err(UploadError::Limit(format!(
                "the user has {most} names of programs; remove some first"
            )));
        }
        if let Some(folder) = &kept.folder {
            write(&folder.join(name), hash.as_bytes())?;
        }
        kept.names.insert(name.to_string(), (hash.to_string(), SystemTime::now()));
        Ok(())
    }

    /// Takes away a name, or a program with all its names.
    pub(crate) fn remove(&self, user: &str, program: &str) -> Result<(), UploadError> {
        let kept = self.of(user);
        let mut kept = lock(&kept);
        let unknown = || UploadError::Unknown(program.chars().take(NAME_BYTES).collect());
        let names: Vec<String> = match kept.programs.contains_key(program) {
            true => {
                let of_it = kept.names.iter().filter(|(_, (hash, _))| hash == program);
                of_it.map(|(name, _)| name.clone()).collect()
            }
            false if kept.names.contains_key(program) => vec![program.to_string()],
            false => return Err(unknown()),
        };
        // Names first: none is left that stands for nothing.
        for name in names {
            if let Some(folder) = &kept.folder {
                remove(&folder.join(&name))?;
            }
            kept.names.remove(&name);
        }
        if kept.programs.contains_key(program) {
            if let Some(folder) = &kept.folder {
                remove(&folder.join(format!("{program}.wasm")))?;
            }
            kept.programs.remove(program);
        }
        Ok(())
    }

    /// Names with their hashes, and the hashes of all programs with none before.
    pub(crate) fn list(&self, user: &str) -> Vec<(Option<String>, String)> {
        let kept = self.of(user);
        let kept = lock(&kept);
        let hashes = kept.programs.keys().map(|hash| (None, hash.clone()));
        hashes.chain(kept.names.iter().map(|(name, (hash, _))| (Some(name.clone()), hash.clone()))).collect()
    }

    /// A program of a user by hash or by name, if it is one that needs no file to be read.
    fn loaded(&self, programs: &Programs, user: &str, name: &str) -> Option<Arc<Program>> {
        let kept = self.of(user);
        let kept = lock(&kept);
        let (label, hash) = if is_hash(name) { (None, name.to_string()) } else { named(kept.name(name)?) };
        let program = kept.programs.get(&hash)?;
        match &program.held {
            Some(held) => Some(held.called(label.as_deref())),
            None => programs.loaded_by_hash(&hash).map(|program| program.called(label.as_deref())),
        }
    }

    /// The same, with its file read where it must be.
    fn find(
        &self,
        programs: &Programs,
        user: &str,
        name: &str,
    ) -> Option<Result<Arc<Program>, ProgramError>> {
        if let Some(program) = self.loaded(programs, user, name) {
            return Some(Ok(program));
        }
        let kept = self.of(user);
        let (path, label) = {
            let kept = lock(&kept);
            let (label, hash) =
                if is_hash(name) { (None, name.to_string()) } else { named(kept.name(name)?) };
            kept.programs.get(&hash)?;
            (kept.folder.as_ref()?.join(format!("{hash}.wasm")), label)
        };
        let wasm = std::fs::read(&path).map_err(|reason| ProgramError::Read { path, reason });
        Some(wasm.and_then(|wasm| programs.load_uploaded(&wasm, label.as_deref())))
    }
}

/// Names that a program may have, on the average.
const NAMES_PER_PROGRAM: u64 = 16;

fn named((name, hash): (String, String)) -> (Option<String>, String) {
    (Some(name), hash)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), UploadError> {
    write_atomically(path, bytes).map_err(|reason| UploadError::Storage { path: path.to_path_buf(), reason })
}

/// Removes a file; one that is gone is as it should be.
fn remove(path: &Path) -> Result<(), UploadError> {
    match std::fs::remove_file(path) {
        Err(reason) if reason.kind() != std::io::ErrorKind::NotFound => {
            Err(UploadError::Storage { path: path.to_path_buf(), reason })
        }
        _ => Ok(()),
    }
}
