//! A fake backend that fails now and then, by a seed, and counts what it holds.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use backend::{
    AdapterId, Backend, BackendError, Batch, FakeBackend, Limits, LoraMatrix, Output, PageCopy, PageId,
};

/// What the tests see of a backend whose engine owns it.
#[derive(Default)]
pub(crate) struct Seen {
    /// Adapters that are loaded.
    pub(crate) adapters: BTreeSet<AdapterId>,
    /// What the engine must never ask for.
    pub(crate) wrong: Vec<String>,
    /// Faults raised.
    pub(crate) faults: u64,
}

/// Fails, or panics, in so many of a thousand calls.
pub(crate) struct FaultyBackend {
    fake: FakeBackend,
    random: fastrand::Rng,
    per_mille: u32,
    seen: Arc<Mutex<Seen>>,
}

/// In every panic that is raised on purpose.
pub(crate) const INJECTED: &str = "fault injected";

impl FaultyBackend {
    pub(crate) fn new(fake: FakeBackend, seed: u64, per_mille: u32) -> (FaultyBackend, Arc<Mutex<Seen>>) {
        let (random, seen) = (fastrand::Rng::with_seed(seed), Arc::default());
        (FaultyBackend { fake, random, per_mille, seen: Arc::clone(&seen) }, seen)
    }

    /// Fails, if it is time for it.
    fn fault(&mut self, what: &str) -> Result<(), BackendError> {
        if self.random.u32(0..1000) >= self.per_mille {
            return Ok(());
        }
        self.seen.lock().unwrap().faults += 1;
        if self.random.bool() {
            panic!("{INJECTED}: {what}");
        }
        Err(BackendError::Failed(format!("{INJECTED}: {what}")))
    }

    fn wrong(&self, text: String) {
        self.seen.lock().unwrap().wrong.push(text);
    }
}

impl Backend for FaultyBackend {
    fn limits(&self) -> Limits {
        self.fake.limits()
    }

    fn run(&mut self, batch: &Batch, output: &mut Output) -> Result<(), BackendError> {
        for adapter in batch.sequences.iter().filter_map(|sequence| sequence.adapter) {
            if !self.seen.lock().unwrap().adapters.contains(&adapter) {
                self.wrong(format!("a batch with {adapter:?}, which is not loaded"));
            }
        }
        // Half of the faults come when everything is written already.
        let late = self.random.bool();
        if !late {
            self.fault("batch")?;
        }
        self.fake.run(batch, output).inspect_err(|error| self.wrong(error.to_string()))?;
        if late { self.fault("batch, late") } else { Ok(()) }
    }

    fn copy_pages(&mut self, copies: &[PageCopy]) -> Result<(), BackendError> {
        self.fault("copy")?;
        self.fake.copy_pages(copies).inspect_err(|error| self.wrong(error.to_string()))
    }

    fn read_page(&mut self, page: PageId, bytes: &mut Vec<u8>) -> Result<(), BackendError> {
        self.fault("read")?;
        self.fake.read_page(page, bytes).inspect_err(|error| self.wrong(error.to_string()))
    }

    fn write_page(&mut self, page: PageId, bytes: &[u8]) -> Result<(), BackendError> {
        self.fault("write")?;
        self.fake.write_page(page, bytes).inspect_err(|error| self.wrong(error.to_string()))
    }

    fn embed(&mut self, tokens: &[u32], rows: &mut Vec<f32>) -> Result<(), BackendError> {
        self.fault("embed")?;
        self.fake.embed(tokens, rows)
    }

    fn load_adapter(&mut self, id: AdapterId, matrices: Vec<LoraMatrix>) -> Result<(), BackendError> {
        self.fault("load")?;
        if !self.seen.lock().unwrap().adapters.insert(id) {
            self.wrong(format!("{id:?} is loaded twice"));
        }
        self.fake.load_adapter(id, matrices)
    }

    fn unload_adapter(&mut self, id: AdapterId) {
        if !self.seen.lock().unwrap().adapters.remove(&id) {
            self.wrong(format!("{id:?} is unloaded and was not loaded"));
        }
        self.fake.unload_adapter(id);
    }
}
