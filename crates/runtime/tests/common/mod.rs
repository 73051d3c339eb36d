//! A runtime over a fake backend and a tiny model, with the test programs loaded.

#![allow(dead_code, reason = "each file of tests uses a part of it")]

pub(crate) mod attacks;
pub(crate) mod faults;
pub(crate) mod memory;
mod tools;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backend::{Backend, FakeBackend, Limits};
use kernels::DType;
use runtime::{
    Held, Inferlet, InferletError, InferletLimits, LaunchOptions, McpServer, McpTransport, Program, Runtime,
    RuntimeConfig, ServedModel,
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
        let config = RuntimeConfig { data, inferlets, ..Bench::config() };
        let backend = move |fake: FakeBackend| Box::new(fake.with_step(step)) as Box<dyn Backend>;
        Bench::of(models, pages, config, &scheduler, backend).await
    }

    /// The settings of the runtime by default here.
    pub(crate) fn config() -> RuntimeConfig {
        // Compiled once for all tests of a checkout. The test is `target/PROFILE/deps/NAME`.
        let test = std::env::current_exe().unwrap();
        let cache = test.ancestors().nth(3).map(|target| target.join("tmp/programs"));
        let limits =
            InferletLimits { memory_bytes: 32 << 20, output_bytes: 4 << 20, ..InferletLimits::default() };
        RuntimeConfig { cache, limits, mcp: Bench::mcp_servers(), ..RuntimeConfig::default() }
    }

    /// The server of `crates/mcp/tests`, and one that nobody answers for.
    pub(crate) fn mcp_servers() -> Vec<McpServer> {
        let nobody = McpTransport::Http { url: "http://127.0.0.1:9/mcp".into(), headers: Vec::new() };
        let nobody = McpServer { name: "nobody".into(), transport: nobody, tools: None, ..tools::server() };
        vec![tools::server(), nobody]
    }

    /// A runtime of these settings, each model computed by what `backend` makes of a fake.
    pub(crate) async fn of(
        models: &[&str],
        pages: u32,
        config: RuntimeConfig,
        scheduler: &SchedulerConfig,
        mut backend: impl FnMut(FakeBackend) -> Box<dyn Backend>,
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
            let backend = backend(FakeBackend::with_limits(limits));
            let engine = Engine::start(backend, scheduler.clone(), EngineConfig::default()).unwrap();
            served.push(ServedModel::new(name, model.clone(), engine.0.clone(), &format!("fake-{name}")));
            engines.push(engine);
        }
        let runtime = Runtime::start(config, served).await.unwrap();
        let file = programs().join("test_programs.wasm");
        let wasm = std::fs::read(&file)
            .unwrap_or_else(|e| panic!("{}: {e}; `cargo xtask guests` builds it", file.display()));
        let program = runtime.load(wasm.clone(), Some("test-programs".into())).await.unwrap();
        Bench { runtime, program, wasm, engines, _folder: folder }
    }

    /// The limits that programs have by default here.
    pub(crate) fn limits(&self) -> InferletLimits {
        Bench::config().limits
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

    /// The engines, one for each model.
    pub(crate) fn engines(&self) -> impl Iterator<Item = &EngineHandle> {
        self.engines.iter().map(|(handle, _)| handle)
    }

    /// Ends the engines.
    ///
    /// # Panics
    /// When the thread of one has panicked.
    pub(crate) fn join(self) {
        for (handle, engine) in self.engines {
            handle.shutdown();
            engine.join().unwrap();
        }
    }

    /// What the first engine counts.
    pub(crate) async fn stats(&self) -> Stats {
        self.engines[0].0.stats().await.unwrap().unwrap()
    }

    /// Nothing runs, and nobody holds a page: all are free or cached.
    pub(crate) async fn assert_clean(&self) {
        self.settled().await;
        for (engine, _) in &self.engines {
            engine.check().await.expect("the invariants of the scheduler hold").unwrap();
            let stats = engine.stats().await.unwrap().unwrap();
            assert_eq!((stats.snapshots, stats.pages_held), (0, 0), "{stats:?}");
        }
    }

    /// Nothing runs, and nothing is held that belonged to an inferlet. Snapshots, which are their user's, may hold pages.
    pub(crate) async fn settled(&self) {
        let mut left = String::new();
        for turn in 0..600 {
            left = self.left().await;
            if left.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(if turn < 100 { 1 } else { 10 })).await;
        }
        panic!("something is still held: {left}");
    }

    /// What is held, in words.
    async fn left(&self) -> String {
        let mut left = Vec::new();
        let held = self.runtime.held();
        if held != Held::default() {
            left.push(format!("{held:?} by {:?}", self.runtime.list()));
        }
        for model in self.runtime.models() {
            // Contexts, embeddings and constraints hold it, and so does work on other threads.
            let holders = Arc::strong_count(model) - 1;
            if holders > 0 {
                left.push(format!("{holders} holders of model {}", model.name()));
            }
        }
        for (handle, _) in &self.engines {
            let stats = handle.stats().await.unwrap().unwrap();
            if stats.contexts + stats.owners + stats.running + stats.waiting > 0 {
                left.push(format!("{stats:?}"));
            }
        }
        left.join("; ")
    }
}

/// Runs a case to its end, its messages taken and dropped.
pub(crate) async fn run(bench: &Bench, words: &[&str]) -> Result<String, InferletError> {
    let mut inferlet = bench.launch(words, None);
    while inferlet.next_event().await.is_some() {}
    inferlet.outcome().await
}

/// All files below a folder, if it is there.
pub(crate) fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// `interface.function` for every function and method in `wit/`, and whether it has parameters.
pub(crate) fn functions() -> Vec<(String, bool)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let mut interface = "";
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with("///")) {
            if let Some(name) = line.strip_prefix("interface ") {
                interface = name.trim_end_matches('{').trim();
            }
            // What a program exports, the server calls.
            let Some((name, rest)) = line.split_once(": ").filter(|_| !line.starts_with("export ")) else {
                continue;
            };
            let rest = rest.strip_prefix("static ").unwrap_or(rest);
            let rest = rest.strip_prefix("async ").unwrap_or(rest);
            if let Some(parameters) = rest.strip_prefix("func(") {
                found.push((format!("{interface}.{name}"), !parameters.starts_with(')')));
            }
        }
    }
    found.sort();
    found
}

/// Where the test programs are built.
fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/programs/target/wasm32-wasip2/release")
}
