//! The programs that the server knows: by name, from folders and from the binary, and by hash.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use wasmtime::Engine;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi_http::p3::bindings::ServicePre;

use super::{API, API_VERSION, CatalogEntry, HANDLER, Needs, PROGRAM_BYTES, Program, ProgramError};
use crate::files::{remove_parts, write_atomically};
use crate::host::HostState;
use crate::host::bindings::InferletPre;
use crate::manifest;

/// Programs that are kept by hash, and as many by name; beyond, those go that were used longest ago. Their
/// machine code stays in the cache folder, and what a file holds is read again.
const KEPT: usize = 1024;

/// Names of programs, with `-`, and their WebAssembly, which come with the binary.
pub type Bundled = &'static [(&'static str, &'static [u8])];

/// All programs that the server knows.
pub(crate) struct Programs {
    wasmtime: Engine,
    linker: Linker<HostState>,
    cache: Option<PathBuf>,
    folders: Vec<PathBuf>,
    /// Known by name where no folder has a file of that name.
    bundled: Bundled,
    by_hash: Mutex<Recent<Arc<Slot>>>,
    by_name: Mutex<Recent<Named>>,
}

/// A program of some bytes, once it is compiled: the load that compiles it holds the lock.
type Slot = Mutex<Option<Arc<Program>>>;

/// A program under a name.
struct Named {
    program: Arc<Program>,
    /// Where it comes from, if it comes from a file.
    file: Option<FileVersion>,
}

/// A file as it was when it was read.
#[derive(Clone, PartialEq, Eq)]
struct FileVersion {
    path: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
}

impl FileVersion {
    fn of(path: &Path) -> std::io::Result<FileVersion> {
        let metadata = std::fs::metadata(path)?;
        let modified = metadata.modified().ok();
        Ok(FileVersion { path: path.to_path_buf(), length: metadata.len(), modified })
    }

    /// Whether the file is another now. One that is gone has not changed: its program can still be launched, unless it was
    /// installed under a version, which is removed so.
    fn has_changed(&self) -> bool {
        match FileVersion::of(&self.path) {
            Ok(now) => now != *self,
            Err(_) => self.is_installed(),
        }
    }

    /// Whether the file's name has a version: `NAME@VERSION.wasm`.
    fn is_installed(&self) -> bool {
        self.path.file_stem().is_some_and(|stem| stem.as_encoded_bytes().contains(&b'@'))
    }
}

/// Values by name, so many of them: a new one takes the place of that which was used longest ago.
struct Recent<V> {
    most: usize,
    /// Counts uses.
    clock: u64,
    values: HashMap<String, (V, u64)>,
}

impl<V> Recent<V> {
    fn new(most: usize) -> Recent<V> {
        Recent { most, clock: 0, values: HashMap::new() }
    }

    fn get(&mut self, name: &str) -> Option<&V> {
        let (value, used) = self.values.get_mut(name)?;
        self.clock += 1;
        *used = self.clock;
        Some(value)
    }

    fn insert(&mut self, name: String, value: V) {
        if self.values.len() >= self.most && !self.values.contains_key(&name) {
            let oldest = self.values.iter().min_by_key(|(_, (_, used))| *used);
            let oldest = oldest.map(|(name, _)| name.clone()).expect("it is full");
            self.values.remove(&oldest);
        }
        self.clock += 1;
        self.values.insert(name, (value, self.clock));
    }

    fn remove(&mut self, name: &str) {
        self.values.remove(name);
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.values.keys()
    }
}

impl Programs {
    pub(crate) fn new(
        wasmtime: Engine,
        linker: Linker<HostState>,
        cache: Option<PathBuf>,
        folders: Vec<PathBuf>,
        bundled: Bundled,
    ) -> Programs {
        if let Some(folder) = &cache {
            remove_parts(folder);
        }
        let (by_hash, by_name) = (Mutex::new(Recent::new(KEPT)), Mutex::new(Recent::new(KEPT)));
        Programs { wasmtime, linker, cache, folders, bundled, by_hash, by_name }
    }

    /// Compiles, or takes from the cache. Slow the first time: call it off the async threads.
    pub(crate) fn load(&self, wasm: &[u8], name: Option<&str>) -> Result<Arc<Program>, ProgramError> {
        self.load_from(wasm, name, None)
    }

    /// The same for a program of a user, whose name is no name of the server's.
    pub(crate) fn load_uploaded(
        &self,
        wasm: &[u8],
        name: Option<&str>,
    ) -> Result<Arc<Program>, ProgramError> {
        Ok(self.load_from(wasm, None, None)?.called(name))
    }

    fn load_from(
        &self,
        wasm: &[u8],
        name: Option<&str>,
        file: Option<FileVersion>,
    ) -> Result<Arc<Program>, ProgramError> {
        let hash = blake3::hash(wasm).to_hex().to_string();
        let slot = {
            let mut by_hash = lock(&self.by_hash);
            let known = by_hash.get(&hash).cloned();
            known.unwrap_or_else(|| {
                let slot = Arc::<Slot>::default();
                by_hash.insert(hash.clone(), slot.clone());
                slot
            })
        };
        // Another load of the same bytes waits here until the first has compiled them.
        let mut compiled = lock(&slot);
        let program = match &*compiled {
            Some(program) => program.clone(),
            None => {
                let program = self.compile(wasm, &hash, name);
                let program = program.inspect_err(|_| lock(&self.by_hash).remove(&hash))?;
                compiled.insert(program).clone()
            }
        };
        drop(compiled);
        let is_called_so = name.is_none() || program.name.as_deref() == name;
        let program = if is_called_so { program } else { program.with_name(name, false) };
        if let Some(name) = name {
            lock(&self.by_name).insert(name.to_string(), Named { program: program.clone(), file });
        }
        Ok(program)
    }

    fn compile(&self, wasm: &[u8], hash: &str, name: Option<&str>) -> Result<Arc<Program>, ProgramError> {
        let component = self.component(wasm, hash)?;
        let (run, handler) = self.link(&component)?;
        let manifest = manifest::read(wasm).map_err(ProgramError::Manifest)?.map(Arc::new);
        let (hash, name) = (hash.to_string(), name.map(str::to_string));
        let needs = Needs::of(&component);
        Ok(Arc::new(Program { hash, name, is_uploaded: false, run, handler, needs, manifest }))
    }

    /// A program by path, name or hash. A name is looked for among the programs loaded before, whose file is
    /// read again when it has changed, then as a file `NAME.wasm` in the folders of programs, then as the version that was
    /// installed last, `NAME@VERSION.wasm` there, then among those of the binary; `-` and `_` are the same.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Program>, ProgramError> {
        if let Some(program) = self.loaded(name) {
            return Ok(program);
        }
        let changed = lock(&self.by_name).get(name).and_then(|named| named.file.clone());
        let changed = changed.filter(|file| !file.is_installed()).map(|file| file.path);
        if let Some(path) = changed.or_else(|| self.file(name)) {
            return self.load_file(&path, Some(name));
        }
        // What was loaded of a version that is removed is known no more.
        lock(&self.by_name).remove(name);
        match self.bundled.iter().find(|(known, _)| *known == name.replace('_', "-")) {
            Some((_, wasm)) => self.load(wasm, Some(name)),
            None => Err(ProgramError::Unknown { name: name.to_string(), known: self.names().join(", ") }),
        }
    }

    /// A program by name or hash, if it was loaded before and its file is as it was.
    pub(crate) fn loaded(&self, name: &str) -> Option<Arc<Program>> {
        if lock(&self.by_name).get(name).is_some() {
            return self.loaded_name(name);
        }
        self.loaded_by_hash(name)
    }

    /// A program by name, if it was loaded before and its file is as it was.
    pub(crate) fn loaded_name(&self, name: &str) -> Option<Arc<Program>> {
        let (program, file) = {
            let mut by_name = lock(&self.by_name);
            let Named { program, file } = by_name.get(name)?;
            (program.clone(), file.clone())
        };
        let Some(file) = file else { return Some(program) };
        // Of a name without a version, another one may have been installed meanwhile.
        let is_last =
            !file.is_installed() || name.contains('@') || self.file(name).as_ref() == Some(&file.path);
        (is_last && !file.has_changed()).then_some(program)
    }

    /// A program by hash, whosever it is, if it was loaded before.
    pub(crate) fn loaded_by_hash(&self, hash: &str) -> Option<Arc<Program>> {
        let slot = lock(&self.by_hash).get(hash).cloned()?;
        // One that is being compiled is not loaded yet.
        slot.try_lock().ok()?.clone()
    }

    /// A program of the server's by hash, if it was loaded before.
    pub(crate) fn loaded_server_hash(&self, hash: &str) -> Option<Arc<Program>> {
        let by_name = lock(&self.by_name);
        let of_server = by_name.values.values().map(|(named, _)| &named.program);
        of_server.into_iter().find(|program| program.hash == hash).cloned()
    }

    /// Whether `find` knows a program of the server's by this name.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        let is_bundled = || self.bundled.iter().any(|(known, _)| *known == name.replace('_', "-"));
        lock(&self.by_name).values.contains_key(name) || self.file(name).is_some() || is_bundled()
    }

    pub(crate) fn load_file(&self, path: &Path, name: Option<&str>) -> Result<Arc<Program>, ProgramError> {
        let failed = |reason| ProgramError::Read { path: path.into(), reason };
        // Its version first: a file that changes meanwhile is then read again.
        let file = FileVersion::of(path).map_err(failed)?;
        let wasm = std::fs::read(path).map_err(failed)?;
        self.load_from(&wasm, name, Some(file))
    }

    /// Names that `find` knows, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.files().into_iter().map(|(name, _)| name).collect();
        names.extend(self.bundled.iter().map(|(name, _)| name.to_string()));
        names.extend(lock(&self.by_name).names().map(|name| name.replace('_', "-")));
        names.sort();
        names.dedup();
        names
    }

    /// The programs of the folders and of the binary, by name.
    pub(crate) fn catalog(&self) -> Vec<CatalogEntry> {
        let manifest_of = |wasm: &[u8]| manifest::read(wasm).ok().flatten();
        let mut entries: Vec<CatalogEntry> = Vec::new();
        for (name, path) in self.files() {
            // Of two files of a name the first is found.
            if entries.last().is_none_or(|before| before.name != name) {
                let manifest = std::fs::read(&path).ok().and_then(|wasm| manifest_of(&wasm));
                entries.push(CatalogEntry { name, path: Some(path), manifest });
            }
        }
        for (name, wasm) in self.bundled {
            if entries.iter().all(|entry| entry.name != *name) {
                entries.push(CatalogEntry {
                    name: name.to_string(),
                    path: None,
                    manifest: manifest_of(wasm),
                });
            }
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        entries
    }

    /// The file of a name: that of exactly this name, else that of its version that was installed last.
    fn file(&self, name: &str) -> Option<PathBuf> {
        let (name, files) = (name.replace('_', "-"), self.files());
        if let Some((_, path)) = files.iter().find(|(known, _)| *known == name) {
            return Some(path.clone());
        }
        let versions = files
            .into_iter()
            .filter(|(known, _)| known.split_once('@').is_some_and(|(known, _)| known == name));
        let since = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        versions.max_by_key(|(known, path)| (since(path), known.clone())).map(|(_, path)| path)
    }

    fn files(&self) -> Vec<(String, PathBuf)> {
        let entries =
            self.folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        let paths = entries.map(|entry| entry.path()).filter(|p| p.extension().is_some_and(|e| e == "wasm"));
        let named = paths.filter_map(|path| {
            let name = path.file_stem()?.to_str()?.replace('_', "-");
            Some((name, path))
        });
        let mut files: Vec<_> = named.collect();
        files.sort();
        files
    }

    fn component(&self, wasm: &[u8], hash: &str) -> Result<Component, ProgramError> {
        if wasm.len() > PROGRAM_BYTES {
            return Err(ProgramError::TooLarge { found: wasm.len() });
        }
        match wasm.get(..8) {
            Some([0, b'a', b's', b'm', _, _, 1, 0]) => {}
            Some([0, b'a', b's', b'm', ..]) => return Err(ProgramError::NotComponent),
            _ => {
                let found = format!("{:02x?}", &wasm[..wasm.len().min(8)]);
                return Err(ProgramError::NotWasm { found });
            }
        }
        let cached = self.cache.as_ref().map(|folder| folder.join(format!("{}.cwasm", self.cache_key(hash))));
        if let Some(path) = cached.as_ref().filter(|path| path.exists())
            && let Some(component) = self.map(path)
        {
            return Ok(component);
        }
        let failed = |error: wasmtime::Error| ProgramError::Compile(format!("{error:#}"));
        let code = self.wasmtime.precompile_component(wasm).map_err(failed)?;
        if let Some(path) = &cached {
            match write_atomically(path, &code) {
                Ok(()) => {
                    if let Some(component) = self.map(path) {
                        return Ok(component);
                    }
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot cache a compiled program")
                }
            }
        }
        Component::from_binary(&self.wasmtime, wasm).map_err(failed)
    }

    fn cache_key(&self, hash: &str) -> String {
        use std::hash::{Hash, Hasher};
        let mut hasher = std::hash::DefaultHasher::new();
        self.wasmtime.precompile_compatibility_hash().hash(&mut hasher);
        format!("{hash}-{:016x}", hasher.finish())
    }

    /// Maps a compiled program of the cache; none when it does not fit this build or is damaged.
    #[expect(unsafe_code, reason = "machine code is mapped from the cache folder")]
    fn map(&self, path: &Path) -> Option<Component> {
        // SAFETY: only this function's caller writes files of this name, under a name that carries the hash
        // of its origin and of this build, and never in place. The cache folder belongs to the operator, as
        // this binary does.
        let component = unsafe { Component::deserialize_file(&self.wasmtime, path) };
        component
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "stale cached program"))
            .ok()
    }

    fn link(&self, component: &Component) -> Result<Entries, ProgramError> {
        for (import, _) in component.component_type().imports(&self.wasmtime) {
            let version = import.strip_prefix(API).and_then(|rest| rest.split_once('@')).map(|(_, v)| v);
            if version.is_some_and(|version| version != API_VERSION) {
                return Err(ProgramError::ApiVersion { found: import.to_string() });
            }
        }
        let link = |error: wasmtime::Error| ProgramError::Link(format!("{error:#}"));
        let pre = self.linker.instantiate_pre(component).map_err(link)?;
        let exports = |wanted: fn(&str) -> bool| {
            component.component_type().exports(&self.wasmtime).any(|(name, _)| wanted(name))
        };
        let run = exports(|name| name == "run").then(|| InferletPre::new(pre.clone())).transpose();
        let handler = exports(|name| name.starts_with(HANDLER)).then(|| ServicePre::new(pre)).transpose();
        match (run.map_err(link)?, handler.map_err(link)?) {
            (None, None) => Err(ProgramError::NoEntry),
            entries => Ok(entries),
        }
    }
}

/// The entries of a component: `run`, and the HTTP handler.
type Entries = (Option<InferletPre<HostState>>, Option<ServicePre<HostState>>);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;

    fn programs(folders: Vec<PathBuf>) -> Programs {
        let mut config = wasmtime::Config::new();
        config.wasm_component_model_async(true);
        let wasmtime = Engine::new(&config).unwrap();
        let mut linker = Linker::new(&wasmtime);
        host::add_to_linker(&mut linker).unwrap();
        Programs::new(wasmtime, linker, None, folders, &[])
    }

    /// A component that exports `run` and does nothing; `mark` makes its bytes others.
    fn component(mark: &str) -> Vec<u8> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/programs/target/wasm32-wasip2/release/test_programs.wasm");
        let mut wasm = std::fs::read(path).expect("`cargo xtask guests` builds it");
        // A custom section: its id, length, and the name, which is all that it has.
        wasm.extend([0, mark.len() as u8 + 1, mark.len() as u8]);
        wasm.extend(mark.as_bytes());
        wasm
    }

    #[test]
    fn two_loads_of_the_same_bytes_at_once_compile_once() {
        let programs = programs(Vec::new());
        let wasm = component("twice");
        let start = std::sync::Barrier::new(2);
        let load = || {
            start.wait();
            programs.load(&wasm, None).unwrap()
        };
        let (one, two) = std::thread::scope(|scope| {
            let other = scope.spawn(load);
            (load(), other.join().unwrap())
        });
        assert!(Arc::ptr_eq(&one, &two), "each load compiled the program");
    }

    #[test]
    fn a_program_found_by_name_is_read_again_when_its_file_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my_program.wasm");
        std::fs::write(&file, component("old")).unwrap();
        let programs = programs(vec![folder.path().to_path_buf()]);
        let old = programs.find("my-program").unwrap();
        assert!(Arc::ptr_eq(&old, &programs.loaded("my-program").unwrap()));
        std::fs::write(&file, component("newer")).unwrap();
        let new = programs.find("my-program").unwrap();
        assert_ne!(old.hash(), new.hash());
        assert!(Arc::ptr_eq(&new, &programs.find("my-program").unwrap()), "as long as it is the same");
        std::fs::remove_file(&file).unwrap();
        assert!(Arc::ptr_eq(&new, &programs.find("my-program").unwrap()), "what was loaded stays");
    }

    #[test]
    fn a_name_is_its_version_that_was_installed_last_until_that_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let install = |name: &str, seconds| {
            std::fs::write(file(name), component(name)).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            std::fs::File::options().append(true).open(file(name)).unwrap().set_modified(at).unwrap();
        };
        install("drafts@0.2.0.wasm", 1);
        let programs = programs(vec![folder.path().to_path_buf()]);
        let first = programs.find("drafts").unwrap();
        install("drafts@0.1.0.wasm", 2);
        let last = programs.find("drafts").unwrap();
        assert_ne!(first.hash(), last.hash(), "a running server sees it");
        assert_eq!(programs.find("drafts@0.2.0").unwrap().hash(), first.hash());
        assert!(programs.has_name("drafts") && !programs.has_name("draft"));
        std::fs::remove_file(file("drafts@0.1.0.wasm")).unwrap();
        assert_eq!(programs.find("drafts").unwrap().hash(), first.hash());
        std::fs::remove_file(file("drafts@0.2.0.wasm")).unwrap();
        for gone in ["drafts", "drafts@0.2.0", "drafts@0.1.0"] {
            assert!(matches!(programs.find(gone), Err(ProgramError::Unknown { .. })), "{gone}");
        }
        assert!(programs.names().is_empty(), "{:?}", programs.names());
    }

    #[test]
    fn what_was_used_longest_ago_gives_its_place() {
        let mut recent = Recent::new(2);
        recent.insert("a".into(), 1);
        recent.insert("b".into(), 2);
        assert_eq!(recent.get("a"), Some(&1));
        recent.insert("c".into(), 3);
        assert_eq!(["a", "b", "c"].map(|name| recent.get(name).copied()), [Some(1), None, Some(3)]);
        recent.insert("c".into(), 4);
        assert_eq!(["a", "c"].map(|name| recent.get(name).copied()), [Some(1), Some(4)]);
    }
}
