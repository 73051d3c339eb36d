//! A server in this process over a fake backend, a client that speaks by hand, and a proxy that cuts.

#![allow(dead_code, reason = "each file of tests uses a part of it")]

pub(crate) mod proxy;
pub(crate) mod raw;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backend::{Backend, FakeBackend, Limits};
use protocol::client::{Client, Options};
use runtime::{Runtime, RuntimeConfig, ServedModel};
use scheduler::{Engine, EngineConfig, EngineHandle, SchedulerConfig};
use server::{Front, FrontOptions, SessionCounts, SessionOptions};

/// Everything that a test needs of a server.
pub(crate) struct World {
    pub(crate) front: Front,
    pub(crate) runtime: Runtime,
    pub(crate) address: SocketAddr,
    pub(crate) wasm: Vec<u8>,
    engine: (EngineHandle, Engine),
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> World {
        World::with(SessionOptions::default(), FrontOptions::default(), None).await
    }

    pub(crate) async fn with_sessions(options: SessionOptions) -> World {
        World::with(options, FrontOptions::default(), None).await
    }

    pub(crate) async fn with(options: SessionOptions, front: FrontOptions, data: Option<&Path>) -> World {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        model::test_model::write(&path, kernels::DType::F32, 1).unwrap();
        let model = Arc::new(model::Model::open(&path).unwrap());
        let fake = FakeBackend::new(256, model.hyperparameters.vocab as u32);
        let backend = FakeBackend::with_limits(Limits { context_tokens: 4096, ..fake.limits() });
        let started = Engine::start(Box::new(backend), SchedulerConfig::default(), EngineConfig::default());
        let engine = started.unwrap();
        // Compiled once for all tests of a checkout. The test is `target/PROFILE/deps/NAME`.
        let test = std::env::current_exe().unwrap();
        let cache = test.ancestors().nth(3).map(|target| target.join("tmp/programs"));
        let config = RuntimeConfig { cache, data: data.map(Path::to_path_buf), ..RuntimeConfig::default() };
        let served = ServedModel::new("tiny", model, engine.0.clone(), "fake");
        let runtime = Runtime::start(config, vec![served]).await.unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/programs/target/wasm32-wasip2/release/test_programs.wasm");
        let wasm = std::fs::read(file).expect("`cargo xtask guests` builds it");
        runtime.load(wasm.clone(), Some("test-programs".into())).await.unwrap();
        let front = Front::new(front).unwrap();
        let address = front.listen("127.0.0.1", 0).await.unwrap();
        front.offer_sessions(options, &runtime);
        front.set_ready(Vec::new);
        World { front, runtime, address, wasm, engine, _folder: folder }
    }

    pub(crate) fn options(&self) -> Options {
        Options::new(format!("http://{}", self.address))
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.options()).await.unwrap()
    }

    /// The test programs, with other bytes for another mark.
    pub(crate) fn marked(&self, mark: u8) -> Vec<u8> {
        let mut wasm = self.wasm.clone();
        // A custom section: its id, its length, the length of its name, and the name.
        wasm.extend([0, 2, 1, mark]);
        wasm
    }

    /// Waits until nothing of any client is left: no session, no inferlet, no context, no event.
    pub(crate) async fn assert_clean(&self) {
        let mut left = String::new();
        for _ in 0..3000 {
            let (counts, running) = (self.front.session_counts(), self.runtime.list());
            let stats = self.engine.0.stats().await.unwrap().unwrap();
            let engine = (stats.contexts, stats.owners, stats.pages_held);
            if counts == SessionCounts::default() && running.is_empty() && engine == (0, 0, 0) {
                return;
            }
            left = format!("{counts:?}, {running:?}, {stats:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("something is left: {left}");
    }

    /// Waits until something is so; gives up after a minute.
    pub(crate) async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        for _ in 0..6000 {
            if is_so().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: {:?}, {:?}", self.front.session_counts(), self.runtime.list());
    }
}

/// Arguments of a launch.
pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}
