//! Wiring: from settings to running engines and a runtime over them. With `pie bench`, which measures it, the
//! only place that names the CPU backend.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use backend_cpu::{CpuBackend, CpuOptions};
use model::Model;
use model_store::ModelStore;
use runtime::{Runtime, RuntimeConfig, ServedModel};
use scheduler::{Engine, EngineConfig, EngineHandle, SchedulerConfig};

use crate::config::{ModelSettings, PoolSize, Settings};
use crate::home::{Home, program_folders, store_settings};
use crate::progress;

/// The runtime, and the engines below it.
pub(crate) struct Assembly {
    pub(crate) runtime: Runtime,
    engines: Vec<(EngineHandle, Engine)>,
}

impl Assembly {
    /// Loads the models and starts an engine for each.
    pub(crate) async fn start(settings: &Settings) -> Result<Assembly> {
        let home = Home::find()?;
        let mut engines = Vec::new();
        let mut served = Vec::new();
        for model_settings in &settings.models {
            let path = model_path(&home, &model_settings.model)?;
            let (model, backend) = tokio::task::block_in_place(|| load(&path, model_settings))?;
            let scheduler = SchedulerConfig {
                policy: settings.server.policy(),
                prefix_cache: model_settings.prefix_cache,
                ..SchedulerConfig::default()
            };
            let (handle, engine) = Engine::start(Box::new(backend), scheduler, EngineConfig::default())?;
            let name = model_settings.name.clone().unwrap_or_else(|| model_name(&model_settings.model));
            let fingerprint = fingerprint(&path, model_settings)?;
            served.push(ServedModel::new(&name, Arc::new(model), handle.clone(), &fingerprint));
            engines.push((handle, engine));
        }
        let config = RuntimeConfig {
            cache: Some(settings.server.cache_dir.clone().unwrap_or_else(|| home.cache())),
            data: Some(home.data()),
            programs: program_folders(&home),
            adapters: Some(home.adapters()),
            inferlets: settings.limits.inferlets,
            limits: settings.limits.of_an_inferlet(),
            allowed_hosts: Arc::new(settings.network.allowed_hosts()),
            ..RuntimeConfig::default()
        };
        let runtime = Runtime::start(config, served).await?;
        Ok(Assembly { runtime, engines })
    }

    /// Stops the engines and waits for their threads.
    pub(crate) fn stop(self) {
        for (handle, _) in &self.engines {
            handle.shutdown();
        }
        for (_, engine) in self.engines {
            engine.join();
        }
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

/// Opens a model and packs its weights.
pub(crate) fn load(path: &Path, settings: &ModelSettings) -> Result<(Model, CpuBackend)> {
    let model = Model::open(path)?;
    let page_bytes = CpuBackend::page_bytes(&model.hyperparameters, settings.kv_page_size) as u64;
    let pages = match settings.pool() {
        PoolSize::Pages(pages) => pages,
        PoolSize::Bytes(bytes) => (bytes / page_bytes).clamp(1, u64::from(u32::MAX)) as u32,
    };
    let defaults = CpuOptions::default();
    let options = CpuOptions {
        threads: settings.threads.unwrap_or(defaults.threads),
        pages,
        page_tokens: settings.kv_page_size,
        batch_tokens: settings.max_batch_tokens,
        ..defaults
    };
    let bar = progress::bytes(&format!("loading {}", model.name), Some(0));
    let backend = CpuBackend::open(&model.hyperparameters, &model.weights, &options, |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    Ok((model, backend?))
}

/// Names weights and page layout: the file's size and first and last megabyte decide, not the whole of it, so
/// that a start does not read gigabytes.
fn fingerprint(path: &Path, settings: &ModelSettings) -> Result<String> {
    const PART: u64 = 1 << 20;
    let file = match path.is_dir() {
        true => path.join("config.json"),
        false => path.to_path_buf(),
    };
    let read = || -> std::io::Result<String> {
        use std::io::{Seek, SeekFrom};
        let mut file = std::fs::File::open(&file)?;
        let length = file.metadata()?.len();
        let mut bytes = length.to_le_bytes().to_vec();
        (&mut file).take(PART).read_to_end(&mut bytes)?;
        file.seek(SeekFrom::Start(length.saturating_sub(PART)))?;
        file.take(PART).read_to_end(&mut bytes)?;
        bytes.extend(settings.kv_page_size.to_le_bytes());
        Ok(blake3::hash(&bytes).to_hex()[..32].to_string())
    };
    read().with_context(|| format!("cannot read the model `{}`", file.display()))
}
