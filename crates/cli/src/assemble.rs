//! Wiring: from settings to running engines and a runtime over them. With `pie bench`, which measures it, the
//! only place that names the CPU backend.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Result, anyhow};
use backend::Backend;
use backend_cpu::{CpuBackend, CpuOptions};
use model::{Hyperparameters, Model, Weights};
use model_store::ModelStore;
use runtime::{PassObserver, Runtime, RuntimeConfig, ServedModel};
use scheduler::{Engine, EngineConfig, EngineHandle, Observers, SchedulerConfig};
use tokio::task::JoinHandle;
use trace::Recorder;

use crate::bundled;
use crate::config::{McpSettings, ModelSettings, PoolSize, Settings};
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
            let (model, backend) = tokio::task::block_in_place(|| load(&path, model_settings))?;
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
                fingerprint(&model.weights, &model.hyperparameters, model_settings)
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

/// Opens a model and packs its weights.
pub(crate) fn load(path: &Path, settings: &ModelSettings) -> Result<(Model, CpuBackend)> {
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
    let backend = CpuBackend::open(&model.hyperparameters, &model.weights, &options, |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
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

/// Names the weights and what they become, the numbers of the model, and the layout and format of a page. The weights are
/// hashed whole: two fine-tunes of one model differ in nothing else, and in few of them perhaps. Packing reads all of
/// them too, and takes longer.
fn fingerprint(weights: &Weights, hyperparameters: &Hyperparameters, settings: &ModelSettings) -> String {
    let names: Vec<&str> = weights.names().collect();
    let hash = |name: &str| {
        let tensor = weights.get(name).expect("a name of the list");
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{name} {:?} {:?}\n", tensor.dtype, tensor.shape).as_bytes());
        hasher.update(tensor.bytes);
        // Else the whole file would be in memory once more, beside what was packed of it.
        weights.release_tensors(name);
        hasher.finalize()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // The largest first, so that no thread is left with one when the others are done.
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|at| Reverse(weights.get(names[*at]).map_or(0, |tensor| tensor.bytes.len())));
    let next = AtomicUsize::new(0);
    let hash_some = || {
        let one = || order.get(next.fetch_add(1, Relaxed)).map(|at| (*at, hash(names[*at])));
        std::iter::from_fn(one).collect::<Vec<_>>()
    };
    let mut hashes: Vec<(usize, blake3::Hash)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(hash_some)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("hashing does not panic")).collect()
    });
    hashes.sort_unstable_by_key(|(at, _)| *at);
    // A read maps pages around its own as well, those of tensors that were given back among them.
    weights.release();
    let mut all = blake3::Hasher::new();
    let page_tokens = settings.kv_page_size;
    all.update(format!("{} {page_tokens} {:?}\n", CpuBackend::KV_LAYOUT, hyperparameters).as_bytes());
    if let Some(quantize) = settings.quantize() {
        all.update(quantize.name().as_bytes());
    }
    all.update(format!("pages of {}", settings.kv_cache_type().name()).as_bytes());
    for (_, hash) in hashes {
        all.update(hash.as_bytes());
    }
    all.finalize().to_hex()[..32].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use backend_cpu::KvType;

    /// The fingerprint of a file of these bytes.
    fn of(bytes: &[u8], page_tokens: u32) -> String {
        of_model(bytes, &ModelSettings { kv_page_size: page_tokens, ..ModelSettings::new("model") })
    }

    fn of_model(bytes: &[u8], settings: &ModelSettings) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, bytes).unwrap();
        let model = Model::open(&path).unwrap();
        fingerprint(&model.weights, &model.hyperparameters, settings)
    }

    #[test]
    fn a_fingerprint_tells_weights_and_pages_apart() {
        let bytes = |seed| model::test_model::build(kernels::DType::F32, seed).unwrap().to_bytes();
        let model = bytes(1);
        assert_eq!(of(&model, 16), of(&model, 16));
        assert_ne!(of(&model, 16), of(&model, 8));
        assert_ne!(of(&model, 16), of(&bytes(2), 16));
        let of_8_bits = |weights: bool, pages: bool| {
            let quantize = weights.then(|| "q8_0".to_string());
            let kv_cache_type = if pages { KvType::Q8_0 } else { KvType::default() }.name().to_string();
            of_model(&model, &ModelSettings { quantize, kv_cache_type, ..ModelSettings::new("model") })
        };
        let all = [(false, false), (true, false), (false, true), (true, true)];
        let all = all.map(|(weights, pages)| of_8_bits(weights, pages));
        assert_eq!(all[0], of(&model, ModelSettings::default().kv_page_size));
        assert_eq!(std::collections::BTreeSet::from(all).len(), 4, "weights and pages in 8 bits or not");
        // One number, anywhere: all of the second half are weights.
        for at in [model.len() / 2, model.len() * 3 / 4 + 2, model.len() - 3] {
            let mut tuned = model.clone();
            tuned[at] ^= 1;
            assert_ne!(of(&model, 16), of(&tuned, 16), "byte {at}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_was_hashed_does_not_stay_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        model::test_model::write(&path, kernels::DType::F32, 1).unwrap();
        let resident = || model::test_model::resident(&path).unwrap().expect("the file is mapped") as u64;
        let model = Model::open(&path).unwrap();
        let size = std::fs::metadata(&path).unwrap().len();
        let first = |name: &str| u64::from(model.weights.get(name).unwrap().bytes[0]);
        assert!(model.weights.names().map(first).sum::<u64>() > 0, "a byte of each is read");
        assert!(resident() > size / 4, "what was read is there");
        fingerprint(&model.weights, &model.hyperparameters, &ModelSettings::default());
        assert!(resident() < size / 4, "{} of {size} bytes of the file stayed", resident());
    }

    #[test]
    fn fine_tunes_that_share_everything_but_their_weights_are_told_apart() {
        use safetensors::tensor::{Dtype, TensorView, serialize};
        let path = tempfile::tempdir().unwrap();
        let file = path.path().join("tiny.gguf");
        model::test_model::write(&file, kernels::DType::F32, 1).unwrap();
        let hyperparameters = Model::open(&file).unwrap().hyperparameters;
        let of = |value: f32| {
            let folder = tempfile::tempdir().unwrap();
            let bytes = value.to_le_bytes().repeat(8);
            let norm = TensorView::new(Dtype::F32, vec![8], &bytes).unwrap();
            let shard = serialize([("model.norm.weight", norm)], None).unwrap();
            std::fs::write(folder.path().join("model.safetensors"), shard).unwrap();
            std::fs::write(folder.path().join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
            fingerprint(
                &model::safetensors::open(folder.path()).unwrap(),
                &hyperparameters,
                &ModelSettings::default(),
            )
        };
        assert_eq!(of(0.5), of(0.5));
        assert_ne!(of(0.5), of(0.25));
    }

    #[test]
    fn memory_for_spilling_is_a_share_or_what_was_set() {
        let share = host_pages(&ModelSettings::default(), 1, 1 << 20);
        assert_eq!(u64::from(share), (machine_memory() / SPILL_SHARE) >> 20);
        assert_eq!(host_pages(&ModelSettings::default(), 2, 1 << 20), share / 2);
        let set = ModelSettings { spill_memory_mb: Some(3), ..ModelSettings::default() };
        assert_eq!(host_pages(&set, 2, 1 << 19), 6);
    }
}
