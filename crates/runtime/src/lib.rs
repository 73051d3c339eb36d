//! Inferlets: compiled, started, metered, and given the interfaces of `wit/`.
//!
//! [`Runtime`] holds the models it serves (each an engine handle with its tokenizer) and the programs it knows. Each
//! launch is one store on one task: a program that spins is interrupted every few milliseconds, so it delays nobody
//! and can always be ended. Ending one, for whatever reason, drops its store and tells the engines that the owner is
//! gone: pages, memory and tickets are given back in one place.

mod account;
mod adapters;
mod apart;
mod background;
mod error;
mod files;
mod grammars;
mod grant;
mod held;
#[allow(unreachable_pub, reason = "bindgen re-exports the handle types, which must be pub for it")]
mod host;
mod inferlet;
mod installed;
mod limits;
mod manifest;
mod messaging;
mod network;
mod output;
mod pages;
mod passes;
mod positions;
mod process;
mod program;
mod queue;
mod record;
mod served;
mod service;
mod snapshot_files;
mod stats;
mod store;
mod tallies;
mod tokens;
mod tools;
mod turns;
mod uploads;
mod usage;
mod users;
mod work;

// The bench of the integration tests, for those tests that see the inside.
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
#[cfg(test)]
extern crate self as runtime;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use backend::AdapterId;
use scheduler::{ContextId, Ticket};
use tokio::sync::Semaphore;
use trace::Recorder;
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

pub use grant::{Grant, GrantOptions, TokenCount};
pub use held::Held;
pub use inferlet::Event;
pub use inferlet_manifest::{ArgumentError, Given, Kind, Manifest, read as read_arguments};
pub use installed::{InstallError, InstalledPrograms};
pub use limits::{InferletLimits, ServerLimits, UserLimits};
pub use manifest::read as manifest_of;
pub use mcp::{Limits as McpLimits, ServerConfig as McpServer, Transport as McpTransport};
pub use network::{AllowedHosts, HostPatternError};
pub use pages::{InferletPages, ModelPages};
pub use passes::{ObservedPass, PassObserver, PassResult};
pub use process::{
    ARGUMENT_BYTES, ARGUMENTS, Control, Inferlet, InferletError, Input, LaunchError, LaunchOptions,
};
pub use program::{API_VERSION, Bundled, CatalogEntry, Needs, Program, ProgramError};
pub use record::batch_observer;
pub use served::{ModelFacts, ServedModel};
pub use service::{Arrival, KeptToTheEnd, RequestError, Service, bytes_of_body};
pub use stats::{METRICS, Reading};
pub use uploads::{Reserved, UploadError};
pub use usage::{Taken, UserUsage};

/// How often a running program is interrupted to see whether it should end or let others run.
const TICK: Duration = Duration::from_millis(2);

/// Settings of the runtime.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Folder of compiled programs; none to compile at every start.
    pub cache: Option<PathBuf>,
    /// Folder of the store and of persistent snapshots; none to keep both in memory only.
    pub data: Option<PathBuf>,
    /// Folders with programs that can be launched by name.
    pub programs: Vec<PathBuf>,
    /// Programs that can be launched by name where no folder has one of that name.
    pub bundled: Bundled,
    /// Folder with adapters that programs can load by name.
    pub adapters: Option<PathBuf>,
    /// Inferlets that run at once; more wait their turn. Default: 1024.
    pub inferlets: u32,
    /// Inferlets that run or wait; a launch beyond is refused. Default: 16384.
    pub inferlets_waiting: u32,
    /// What an inferlet may use unless its launch says otherwise.
    pub limits: InferletLimits,
    /// What all programs of one user may use together.
    pub user_limits: UserLimits,
    /// What all programs may use together.
    pub server_limits: ServerLimits,
    /// Hosts that inferlets may send HTTP requests to. Default: none.
    pub allowed_hosts: Arc<AllowedHosts>,
    /// MCP servers whose tools inferlets may call. Default: none.
    pub mcp: Vec<McpServer>,
    /// Is told of every pass. Default: nobody.
    pub passes: Option<PassObserver>,
    /// Where recordings are made; engines that are to be in them have it too, see [`batch_observer`].
    pub recorder: Arc<Recorder>,
}

impl Default for RuntimeConfig {
    fn default() -> RuntimeConfig {
        RuntimeConfig {
            cache: None,
            data: None,
            programs: Vec::new(),
            bundled: &[],
            adapters: None,
            inferlets: 1024,
            inferlets_waiting: 16384,
            limits: InferletLimits::default(),
            user_limits: UserLimits::default(),
            server_limits: ServerLimits::default(),
            allowed_hosts: Arc::default(),
            mcp: Vec::new(),
            passes: None,
            recorder: Arc::default(),
        }
    }
}

impl RuntimeConfig {
    /// Inferlets of one user that run at once.
    pub(crate) fn user_places(&self) -> u32 {
        let most = self.inferlets - self.inferlets / 8;
        self.user_limits.inferlets.map_or(most, |places| places.min(self.inferlets)).max(1)
    }
}

/// Why a runtime cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// wasmtime refused its settings.
    #[error("wasmtime does not start: {0}")]
    Wasmtime(String),
    /// The folder of the store and the snapshots.
    #[error("cannot make the data folder `{path}`: {reason}", path = path.display())]
    Data {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        reason: std::io::Error,
    },
}

/// The runtime. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Runtime(pub(crate) Arc<RuntimeState>);

/// What all inferlets share.
pub(crate) struct RuntimeState {
    pub(crate) config: RuntimeConfig,
    pub(crate) wasmtime: Engine,
    pub(crate) models: Vec<Arc<ServedModel>>,
    pub(crate) programs: program::Programs,
    pub(crate) uploads: uploads::Uploads,
    pub(crate) store: store::Store,
    pub(crate) snapshots: snapshot_files::SnapshotFiles,
    pub(crate) adapters: adapters::Adapters,
    pub(crate) mcp: mcp::Servers,
    pub(crate) running: Mutex<BTreeMap<String, Arc<inferlet::InferletState>>>,
    pub(crate) tallies: tallies::Tallies,
    /// Places of inferlets that run.
    pub(crate) places: Arc<Semaphore>,
    /// Places of inferlets that wait for one they launched, and gave their own back.
    pub(crate) waiting_places: Arc<Semaphore>,
    contexts: AtomicU64,
    tickets: AtomicU64,
    owners: AtomicU64,
    adapter_ids: AtomicU32,
    allowed_hosts: RwLock<Arc<AllowedHosts>>,
    pub(crate) users: users::Users,
    pub(crate) workers: work::Workers,
    pub(crate) recorder: Arc<Recorder>,
}

impl RuntimeState {
    pub(crate) fn allowed_hosts(&self) -> Arc<AllowedHosts> {
        self.allowed_hosts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn next_context(&self) -> ContextId {
        ContextId(self.contexts.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn next_ticket(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn next_owner(&self) -> scheduler::OwnerId {
        scheduler::OwnerId(self.owners.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn next_adapter(&self) -> AdapterId {
        AdapterId(self.adapter_ids.fetch_add(1, Ordering::Relaxed))
    }
}

/// A running inferlet, as `ps` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferletInfo {
    /// Its id.
    pub id: String,
    /// Name or hash of its program.
    pub program: String,
    /// Who launched it.
    pub user: String,
    /// The id of the key it was launched with; empty without one.
    pub key: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Time since its launch.
    pub running: Duration,
    /// Processor time of the program itself.
    pub cpu: Duration,
}

impl Runtime {
    /// Starts a runtime that serves these models, the first one by default.
    ///
    /// # Errors
    /// When wasmtime refuses the settings or the data folder cannot be made.
    pub async fn start(config: RuntimeConfig, models: Vec<ServedModel>) -> Result<Runtime, RuntimeError> {
        let failed = |error: wasmtime::Error| RuntimeError::Wasmtime(format!("{error:#}"));
        let wasmtime = Engine::new(&wasmtime_config(&config)).map_err(failed)?;
        let mut linker = Linker::new(&wasmtime);
        host::add_to_linker(&mut linker).map_err(failed)?;
        tick(&wasmtime);

        let store_file = config.data.as_ref().map(|folder| folder.join("store.redb"));
        if let Some(folder) = &config.data {
            let failed = |reason| RuntimeError::Data { path: folder.clone(), reason };
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let store = store::Store::new(store_file, &config.user_limits);
        let snapshots =
            snapshot_files::SnapshotFiles::new(config.data.as_ref().map(|folder| folder.join("snapshots")));
        let models: Vec<_> = models.into_iter().map(Arc::new).collect();
        let workers = work::Workers::new();
        let threads = tokio::runtime::Handle::current().metrics().num_workers();
        let threads = Arc::new(turns::Threads::new(threads));
        let users = users::Users::new(&config, &workers, &threads);
        for model in &models {
            snapshots.restore(model, &users).await;
        }
        let (cache, folders) = (config.cache.clone(), config.programs.clone());
        let programs = program::Programs::new(wasmtime.clone(), linker, cache, folders, config.bundled);
        let uploads = uploads::Uploads::new(
            config.data.as_ref().map(|folder| folder.join("programs")),
            &config.user_limits,
        );
        let shared = RuntimeState {
            places: Arc::new(Semaphore::new(config.inferlets as usize)),
            waiting_places: Arc::new(Semaphore::new(waiting_places(&config) as usize)),
            adapters: adapters::Adapters::new(config.adapters.clone()),
            mcp: mcp::Servers::new(config.mcp.clone()),
            allowed_hosts: RwLock::new(config.allowed_hosts.clone()),
            recorder: config.recorder.clone(),
            config,
            wasmtime,
            models,
            programs,
            uploads,
            store,
            snapshots,
            running: Mutex::default(),
            tallies: tallies::Tallies::default(),
            contexts: AtomicU64::new(1),
            tickets: AtomicU64::new(1),
            owners: AtomicU64::new(1),
            adapter_ids: AtomicU32::new(1),
            users,
            workers,
        };
        Ok(Runtime(Arc::new(shared)))
    }

    /// The models served, the default one first.
    pub fn models(&self) -> &[Arc<ServedModel>] {
        &self.0.models
    }

    /// Names of the models whose engine is dead: their passes fail.
    pub fn dead_models(&self) -> Vec<String> {
        let dead = self.0.models.iter().filter(|model| !model.engine.alive());
        dead.map(|model| model.name.clone()).collect()
    }

    /// Makes a program of WebAssembly bytes. The first time it is compiled, later it is only looked up.
    ///
    /// # Errors
    /// When the bytes are not a component made for this API.
    pub async fn load(&self, wasm: Vec<u8>, name: Option<String>) -> Result<Arc<Program>, ProgramError> {
        self.blocking(move |programs| programs.load(&wasm, name.as_deref())).await
    }

    /// Makes a program of a file.
    ///
    /// # Errors
    /// As [`Runtime::load`], and when the file cannot be read.
    pub async fn load_file(&self, path: &Path) -> Result<Arc<Program>, ProgramError> {
        let path = path.to_path_buf();
        let name = path.file_stem().map(|stem| stem.to_string_lossy().replace('_', "-"));
        self.blocking(move |programs| programs.load_file(&path, name.as_deref())).await
    }

    /// A program by name or hash.
    ///
    /// # Errors
    /// When there is none; the error lists the names there are.
    pub async fn find(&self, name: &str) -> Result<Arc<Program>, ProgramError> {
        // Only a program that is not loaded needs a file, and a thread that may wait for it.
        if let Some(program) = self.0.programs.loaded(name) {
            return Ok(program);
        }
        let name = name.to_string();
        self.blocking(move |programs| programs.find(&name)).await
    }

    /// What each program says of itself that [`Runtime::find`] knows and that was not loaded from elsewhere, by name. None is
    /// compiled for it, but all are read: call it off the async threads.
    pub fn catalog(&self) -> Vec<CatalogEntry> {
        self.0.programs.catalog()
    }

    /// Names of programs that [`Runtime::find`] knows.
    pub fn programs(&self) -> Vec<String> {
        self.0.programs.names()
    }

    pub(crate) async fn blocking(
        &self,
        work: impl FnOnce(&program::Programs) -> Result<Arc<Program>, ProgramError> + Send + 'static,
    ) -> Result<Arc<Program>, ProgramError> {
        let shared = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&shared.programs)).await;
        done.unwrap_or_else(|error| Err(ProgramError::Compile(error.to_string())))
    }

    /// Starts a program. It runs on its own task until it ends or is killed, whatever becomes of the handle.
    ///
    /// # Errors
    /// When too many inferlets run or wait already, and when the program only serves HTTP.
    pub fn launch(&self, program: &Arc<Program>, options: LaunchOptions) -> Result<Inferlet, LaunchError> {
        process::launch(&self.0, program, options, None, None)
    }

    /// The same under a grant, whose user it is then, whatever the options say.
    ///
    /// # Errors
    /// As [`Runtime::launch`], and when the grant does not allow the program or has ended.
    pub fn launch_under(
        &self,
        program: &Arc<Program>,
        options: LaunchOptions,
        grant: &Arc<Grant>,
    ) -> Result<Inferlet, LaunchError> {
        process::launch(&self.0, program, options, Some(grant), None)
    }

    /// Makes a program answer HTTP requests, each in an inferlet of its own with these options.
    ///
    /// # Errors
    /// When the program exports no WASI HTTP handler.
    pub fn serve(&self, program: &Arc<Program>, options: LaunchOptions) -> Result<Service, LaunchError> {
        Service::new(self.0.clone(), program.clone(), options)
    }

    /// Lets inferlets that begin from now on send HTTP requests to these hosts, and to no others.
    pub fn set_allowed_hosts(&self, hosts: AllowedHosts) {
        *self.0.allowed_hosts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(hosts);
    }

    /// Ends the sessions with MCP servers, and their processes. A call after it connects anew.
    pub async fn close_mcp(&self) {
        self.0.mcp.close().await;
    }

    /// Running and waiting inferlets, by id.
    pub fn list(&self) -> Vec<InferletInfo> {
        self.list_among(|_| true)
    }

    /// Those of a user.
    pub fn list_of(&self, user: &str) -> Vec<InferletInfo> {
        self.list_among(|inferlet| inferlet.user.name == user)
    }

    fn list_among(&self, is_one: impl Fn(&inferlet::InferletState) -> bool) -> Vec<InferletInfo> {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        let info = |inferlet: &Arc<inferlet::InferletState>| InferletInfo {
            id: inferlet.id.clone(),
            program: inferlet.program.clone(),
            user: inferlet.user.name.clone(),
            key: inferlet.grant.name().to_string(),
            arguments: inferlet.arguments.clone(),
            running: inferlet.started().elapsed(),
            cpu: inferlet.cpu.spent(),
        };
        running.values().filter(|inferlet| is_one(inferlet)).map(info).collect()
    }

    /// Ends the inferlet whose id begins with `id`; whether there was exactly one.
    pub fn kill(&self, id: &str) -> bool {
        self.kill_among(id, |_| true)
    }

    /// The same among the inferlets of a user.
    pub fn kill_of(&self, user: &str, id: &str) -> bool {
        self.kill_among(id, |inferlet| inferlet.user.name == user)
    }

    fn kill_among(&self, id: &str, is_one: impl Fn(&inferlet::InferletState) -> bool) -> bool {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        let matching = running.values().filter(|inferlet| is_one(inferlet));
        let mut matching = matching.filter(|inferlet| inferlet.id.starts_with(id));
        match (matching.next(), matching.next()) {
            (Some(inferlet), None) => {
                inferlet.kill();
                true
            }
            _ => false,
        }
    }
}

fn wasmtime_config(config: &RuntimeConfig) -> Config {
    // A program is one component of a few core instances: itself and the adapters the component model makes. Programs
    // that wait for others keep their slot and hold no place, see `places`.
    let slots = config.inferlets + waiting_places(config) + 16;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots * 4)
        .total_memories(slots)
        .total_tables(slots * 2)
        .total_stacks(slots)
        .max_memories_per_component(limits::MEMORIES)
        .max_tables_per_component(limits::TABLES)
        .max_core_instances_per_component(limits::CORE_INSTANCES)
        .max_memory_size(config.limits.memory_bytes.max(16 << 20))
        // Pages a program touched in its last run are reset in place instead of given back to the kernel: a launch then
        // costs no page faults. Which ones they are, Linux tells from 6.7 on; otherwise it is only known of the first.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(64 << 10)
        .async_stack_keep_resident(64 << 10)
        .max_unused_warm_slots(slots);
    let mut wasmtime = Config::new();
    wasmtime
        .wasm_component_model_async(true)
        .epoch_interruption(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    wasmtime
}

/// Programs that may wait for others beyond as many as run.
const WAITING_EXTRA: u32 = 64;

/// Programs that may wait for others, each of them without a place of its own.
fn waiting_places(config: &RuntimeConfig) -> u32 {
    config.inferlets + WAITING_EXTRA
}

/// Counts the epoch up as long as wasmtime is in use.
fn tick(wasmtime: &Engine) {
    let wasmtime = wasmtime.weak();
    let tick = move || {
        while let Some(running) = wasmtime.upgrade() {
            running.increment_epoch();
            drop(running);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new().name("pie-epoch".into()).spawn(tick).expect("a thread can be started");
}
