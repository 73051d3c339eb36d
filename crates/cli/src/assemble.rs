//! Wiring: from settings to running engines and a runtime over them. With `pie bench`, which measures it, the
//! only place that names the CPU backend.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow};
use backend::Backend;
use backend_cpu::{CpuBackend, CpuOptions, LoadProgress};
use model::Model;
use model_store::ModelStore;
use runtime::{PassObserver, Runtime, RuntimeConfig, ServedModel};
use scheduler::{Engine, EngineConfig, EngineHandle, Observers, SchedulerConfig};
use tokio::task::JoinHandle;
use trace::Recorder;

use crate::bundled;
use crate::config::{McpSettings, ModelSettings, PoolSize, Settings};
use crate::fingerprint::Hashes;
use crate::home::{Home, program_folders, store_settings};
use crate::kv_events::Publisher;
use crate::progress;

/// Of the machine's memory, all models together may take one part in so many for spilled pages: the weights,
/// the pools and the inferlets need theirs.
const SPILL_SHARE: u64 = 4;

/// The runtime, and the engines below it.
pub(crate) struct Assembly {
    pub(crate) runtime: Runtime,
    engines: Vec<(EngineHandle, Engine)>,
    /// Publishes KV events, where the operator wants it.
    publisher: Option<JoinHandle<()>>,
}

impl Assembly {
    /// Loads the models and starts an engine for each.
    pub(crate) async fn start(settings: &Settings) -> Result<Assembly> {
        Assembly::start_observed(settings, None).await
    }

    /// As [`Assembly::start`], and tells somebody of every pass.
    pub(crate) async fn start_observed(
        settings: &Settings,
        passes: Option<PassObserver>,
    ) -> Result<Assembly> {
        let home = Home::find()?;
        let mut publisher = Publisher::bind(&settings.kv_events).await?;
        let mut engines = Vec::new();
        let mut served = Vec::new();
        let recorder = Arc::new(Recorder::default());
        for model_settings in &settings.models {
            let path = model_path(&home, &model_settings.model)?;
            let hashes = Hashes::default();
            let (model, backend) =
                tokio::task::block_in_place(|| load(&path, model_settings, Some(&hashes)))?;
            let page_bytes = backend.limits().page_bytes;
            let scheduler = SchedulerConfig {
                policy: settings.server.policy(),
                host_pages: host_pages(model_settings, settings.models.len(), page_bytes),
                prefix_cache: model_settings.prefix_cache,
                tenant_pages: settings.limits.user_kv_pages,
                prefill_share: settings.server.prefill_share,
                priority_across_tenants: settings.server.priority_across_users,
                ..SchedulerConfig::default()
            };
            let name = model_settings.name.clone().unwrap_or_else(|| model_name(&model_settings.model));
            let observers = Observers {
                batches: Some(runtime::batch_observer(&recorder, &name)),
                prefixes: publisher.as_ref().map(Publisher::watcher),
            };
            let config = EngineConfig::default();
            let (handle, engine) = Engine::start_observed(Box::new(backend), scheduler, config, observers)?;
            let fingerprint = tokio::task::block_in_place(|| {
                hashes.finish(&model.weights, &model.hyperparameters, model_settings)
            });
            if let Some(publisher) = &mut publisher {
                publisher.add_model(&name, &fingerprint);
            }
            served.push(ServedModel::new(&name, Arc::new(model), handle.clone(), &fingerprint));
            engines.push((handle, engine));
        }
        let config = RuntimeConfig {
            cache: Some(settings.server.cache_dir.clone().unwrap_or_else(|| home.cache())),
            data: Some(home.data()),
            programs: program_folders(&home),
            bundled: bundled::PROGRAMS,
            adapters: Some(home.adapters()),
            inferlets: settings.limits.inferlets,
            limits: settings.limits.of_an_inferlet(),
            user_limits: settings.limits.of_a_user(machine_memory()),
            server_limits: settings.limits.of_the_server(machine_memory()),
            allowed_hosts: Arc::new(settings.network.allowed_hosts()),
            recorder,
            passes,
            mcp: settings.mcp.iter().map(McpSettings::server).collect::<Result<_>>()?,
            ..RuntimeConfig::default()
        };
        let runtime = Runtime::start(config, served).await?;
        Ok(Assembly { runtime, engines, publisher: publisher.map(Publisher::start) })
    }

    /// Ends the sessions with MCP servers, stops the engines and waits for their threads.
    ///
    /// # Errors
    /// When one had died.
    pub(crate) async fn stop(self) -> Result<()> {
        self.runtime.close_mcp().await;
        for (handle, _) in &self.engines {
            handle.shutdown();
        }
        if let Some(publisher) = self.publisher {
            publisher.abort();
        }
        let ends: Vec<_> = self.engines.into_iter().map(|(_, engine)| engine.join()).collect();
        ends.into_iter().collect::<Result<(), String>>().map_err(|words| {
            anyhow!("an engine died, and its contexts are lost; saved ones are on disk: {words}")
        })
    }
}

/// Name that programs see: the store's name, or the file's.
fn model_name(model: &str) -> String {
    let path = Path::new(model);
    match path.exists() {
        true => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        false => model.to_string(),
    }
}

/// A model by path, or by its name in the store.
pub(crate) fn model_path(home: &Home, model: &str) -> Result<PathBuf> {
    let path = Path::new(model);
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    let store = ModelStore::open(&home.models(), store_settings())?;
    Ok(store.resolve(model)?)
}

/// Opens a model and packs its weights; `hashes` takes in what was packed, while it is in the caches.
pub(crate) fn load(
    path: &Path,
    settings: &ModelSettings,
    hashes: Option<&Hashes>,
) -> Result<(Model, CpuBackend)> {
    let model = Model::open(path)?;
    let (kv_cache_type, page_tokens) = (settings.kv_cache_type(), settings.kv_page_size);
    let page_bytes = CpuBackend::page_bytes(&model.hyperparameters, kv_cache_type, page_tokens);
    let pages = match settings.pool() {
        PoolSize::Pages(pages) => pages,
        PoolSize::Bytes(bytes) => (bytes / page_bytes as u64).clamp(1, u64::from(u32::MAX)) as u32,
    };
    let defaults = CpuOptions::default();
    let options = CpuOptions {
        threads: settings.threads.unwrap_or(defaults.threads),
        pages,
        page_tokens,
        batch_tokens: settings.max_batch_tokens,
        quantize: settings.quantize(),
        kv_cache_type,
        ..defaults
    };
    let bar = progress::bytes(&format!("loading {}", model.name), Some(0));
    let progress = |progress: LoadProgress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    };
    let packed = |prefix: &str| {
        if let Some(hashes) = hashes {
            hashes.add(&model.weights, prefix);
        }
    };
    let backend =
        CpuBackend::open_watched(&model.hyperparameters, &model.weights, &options, progress, packed);
    bar.finish_and_clear();
    Ok((model, backend?))
}

/// Pages of host memory for what does not fit the pool.
fn host_pages(settings: &ModelSettings, models: usize, page_bytes: usize) -> u32 {
    let share = || machine_memory() / SPILL_SHARE / models as u64;
    let bytes = settings.spill_memory_mb.map_or_else(share, |mib| mib << 20);
    (bytes / page_bytes as u64).min(u64::from(u32::MAX)) as u32
}

/// Bytes of memory that this process may have: the machine's, or less where a container bounds it.
fn machine_memory() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let bound = system.cgroup_limits().map(|limits| limits.total_memory).filter(|bytes| *bytes > 0);
    bound.map_or(system.total_memory(), |bound| bound.min(system.total_memory()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_for_spilling_is_a_share_or_what_was_set() {
        let share = host_pages(&ModelSettings::default(), 1, 1 << 20);
        assert_eq!(u64::from(share), (machine_memory() / SPILL_SHARE) >> 20);
        assert_eq!(host_pages(&ModelSettings::default(), 2, 1 << 20), share / 2);
        let set = ModelSettings { spill_memory_mb: Some(3), ..ModelSettings::default() };
        assert_eq!(host_pages(&set, 2, 1 << 19), 6);
    }
}
