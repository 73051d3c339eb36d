//! A runtime over a fake backend and a tiny model, with the test programs loaded.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backend::{Backend, FakeBackend, Limits};
use kernels::DType;
use runtime::{
    Inferlet, InferletError, InferletLimits, LaunchOptions, Program, Runtime, RuntimeConfig, ServedModel,
};
use scheduler::{Engine, EngineConfig, EngineHandle, SchedulerConfig, Stats};

/// Everything that a test runs programs in.
pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    pub(crate) program: Arc<Program>,
    pub(crate) wasm: Vec<u8>,
    /// One for each model.
    engines: Vec<(EngineHandle, Engine)>,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// A pool of so many pages.
    pub(crate) async fn new(pages: u32) -> Bench {
        Bench::start(&["tiny"], pages, Duration::ZERO, None, 1024).await
    }

    /// So many inferlets run at once.
    pub(crate) async fn with_places(pages: u32, inferlets: u32) -> Bench {
        Bench::start(&["tiny"], pages, Duration::ZERO, None, inferlets).await
    }

    /// Two models, each with an engine and a pool of its own.
    pub(crate) async fn with_two_models(pages: u32) -> Bench {
        Bench::start(&["tiny", "other"], pages, Duration::ZERO, None, 1024).await
    }

    /// Every batch takes this long.
    pub(crate) async fn slow(pages: u32, step: Duration) -> Bench {
        Bench::start(&["tiny"], pages, step, None, 1024).await
    }

    /// Keeps its files in a folder.
    pub(crate) async fn with_data(pages: u32, data: &Path) -> Bench {
        Bench::start(&["tiny"], pages, Duration::ZERO, Some(data.to_path_buf()), 1024).await
    }

    /// Keeps its files in a folder, and has so many pages of host memory.
    pub(crate) async fn with_host_pages(host_pages: u32, data: &Path) -> Bench {
        let scheduler = SchedulerConfig { host_pages, ..SchedulerConfig::default() };
        let data = Some(data.to_path_buf());
        Bench::start_with(&["tiny"], 64, Duration::ZERO, data, 1024, scheduler).await
    }

    async fn start(
        models: &[&str],
        pages: u32,
        step: Duration,
        data: Option<PathBuf>,
        inferlets: u32,
    ) -> Bench {
        Bench::start_with(models, pages, step, data, inferlets, SchedulerConfig::default()).await
    }

    async fn start_with(
        models: &[&str],
        pages: u32,
        step: Duration,
        data: Option<PathBuf>,
        inferlets: u32,
        scheduler: SchedulerConfig,
    ) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        model::test_model::write(&path, DType::F32, 1).unwrap();
        let model = Arc::new(model::Model::open(&path).unwrap());
        let mut engines = Vec::new();
        let mut served = Vec::new();
        for name in models {
            // A context that a test can fill, and that fits the pools of most.
            let fake = FakeBackend::new(pages, model.hyperparameters.vocab as u32);
            let limits = Limits { context_tokens: 4096, ..fake.limits() };
            let backend = FakeBackend::with_limits(limits).with_step(step);
            let scheduler = scheduler.clone();
            let engine = Engine::start(Box::new(backend), scheduler, EngineConfig::default()).unwrap();
            served.push(ServedModel::new(name, model.clone(), engine.0.clone(), "fake"));
            engines.push(engine);
        }
        let limits =
            InferletLimits { memory_bytes: 32 << 20, output_bytes: 4 << 20, ..InferletLimits::default() };
        // Compiled once for all tests of a checkout.
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
        let config =
            RuntimeConfig { cache: Some(cache), data, limits, inferlets, ..RuntimeConfig::default() };
        let runtime = Runtime::start(config, served).await.unwrap();
        let file = programs().join("test_programs.wasm");
        let wasm = std::fs::read(&file)
            .unwrap_or_else(|e| panic!("{}: {e}; `cargo xtask guests` builds it", file.display()));
        let program = runtime.load(wasm.clone(), Some("test-programs".into())).await.unwrap();
        Bench { runtime, program, wasm, engines, _folder: folder }
    }

    /// The limits that programs have by default here.
    pub(crate) fn limits(&self) -> InferletLimits {
        InferletLimits { memory_bytes: 32 << 20, output_bytes: 4 << 20, ..InferletLimits::default() }
    }

    /// Starts a case.
    pub(crate) fn launch(&self, words: &[&str], limits: Option<InferletLimits>) -> Inferlet {
        let arguments = words.iter().map(|w| w.to_string()).collect();
        self.runtime.launch(&self.program, LaunchOptions { arguments, user: "test".into(), limits }).unwrap()
    }

    /// Ends the engine of the first model.
    pub(crate) fn end_engine(&self) {
        self.engines[0].0.shutdown();
    }

    /// What the first engine counts.
    pub(crate) async fn stats(&self) -> Stats {
        self.engines[0].0.stats().await.unwrap().unwrap()
    }

    /// Nothing runs, and nobody holds a page: all are free or cached.
    pub(crate) async fn assert_clean(&self) {
        let mut all = Vec::new();
        for _ in 0..200 {
            all.clear();
            for (handle, _) in &self.engines {
                all.push(handle.stats().await.unwrap().unwrap());
            }
            let clean = |s: &Stats| {
                s.pages_free + s.pages_cached == s.pages_total && s.contexts == 0 && s.running == 0
            };
            if all.iter().all(clean) && self.runtime.list().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("something is still held: {all:?}, {:?}", self.runtime.list());
    }
}

/// Runs a case to its end, its messages taken and dropped.
pub(crate) async fn run(bench: &Bench, words: &[&str]) -> Result<String, InferletError> {
    let mut inferlet = bench.launch(words, None);
    while inferlet.next_event().await.is_some() {}
    inferlet.outcome().await
}

/// Where the test programs are built.
fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/programs/target/wasm32-wasip2/release")
}
