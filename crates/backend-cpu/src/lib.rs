//! A model running on the CPU: [`CpuBackend`] implements [`backend::Backend`].
//!
//! Reading order: `network` (the weights) and `load` (from the description of an architecture) · `pages` (key/value
//! memory) · `prepared_batch` (a batch with its masks and tables) · `state` (the buffers) · `layers` (the
//! forward pass) · `sample` (from logits to answers) · `adapters` (LoRA) · `threads` (the compute threads).
//! Numeric loops and everything `unsafe` are in `kernels`.
//!
//! # Batch invariance
//!
//! A row's numbers depend on its token, position and what it attends to, bit for bit: `kernels` sums every
//! element in one order, attention takes the pages of a sequence one after another, and every other operation
//! is row by row. How rows are grouped, which worker computes what, and how many there are decides only when
//! something is computed. Which physical pages hold a sequence does not matter either. Which slots hold its
//! tokens does, since attention sums span by span of 64 slots: a gap left by removed or masked tokens may change
//! the last bits.

mod options;

mod load;
mod network;

mod adapters;
mod layers;
mod pages;
mod prepared_batch;
mod profile;
mod sample;
mod state;
mod threads;

pub use kernels::attention::KvType;
pub use options::{CpuOptions, LoadProgress, OpenError, Quantize};
pub use profile::{Cost, Operation, Profile};

use backend::{AdapterId, Backend, BackendError, Batch, Limits, LoraMatrix, Output, PageCopy, PageId};
use kernels::Isa;
use layers::Forward;
use model::{Hyperparameters, QkNorm, Weights};
use network::Network;
use pages::Pages;
use prepared_batch::Rotation;
use profile::Watch;
use state::State;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use threads::Team;

/// A loaded model with its page memory and its compute threads.
pub struct CpuBackend {
    model: Arc<LoadedModel>,
    team: Team,
    /// See [`CpuOptions::one_thread`].
    one_thread: u64,
    limits: Limits,
    /// The rotations of the model.
    ropes: Vec<Rotation>,
    /// See [`Hyperparameters::windows`].
    windows: Vec<u32>,
    profile: Option<Arc<Profile>>,
}

/// What the workers share.
struct LoadedModel {
    network: Network,
    /// Written by the caller between batches, read by all workers during one.
    state: RwLock<State>,
}

impl LoadedModel {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CpuBackend {
    /// Packs the weights for this CPU, sets up the page pool and starts the threads. `progress` is called on
    /// this thread while loading. The weights are copied, except for an embedding matrix that is not the
    /// output matrix too: its rows are read from `weights` when they are needed, so the file stays mapped.
    ///
    /// # Errors
    /// An option out of range, a model that this backend cannot run, or no memory or threads for it.
    pub fn open(
        hyper: &Hyperparameters,
        weights: &Weights,
        options: &CpuOptions,
        progress: impl FnMut(LoadProgress),
    ) -> Result<CpuBackend, OpenError> {
        CpuBackend::open_watched(hyper, weights, options, progress, |_| ())
    }

    /// As [`CpuBackend::open`]; calls `packed` when the tensors whose name starts with what it is told were read and packed, and
    /// before the memory of that part of the file is given back, on the thread that did it.
    ///
    /// # Errors
    /// As of [`CpuBackend::open`].
    pub fn open_watched(
        hyper: &Hyperparameters,
        weights: &Weights,
        options: &CpuOptions,
        progress: impl FnMut(LoadProgress),
        packed: impl Fn(&str) + Sync,
    ) -> Result<CpuBackend, OpenError> {
        options.check()?;
        // A norm of a whole row would take in what heads are filled up with.
        let row_norm = hyper.qk_norm == Some(QkNorm::Row) && !hyper.head_dim.is_multiple_of(8);
        if hyper.head_dim > 256 || row_norm {
            return Err(OpenError::HeadDim { found: hyper.head_dim });
        }
        let isa = options.isa.unwrap_or_else(Isa::detect);
        let network = load::network(hyper, weights, isa, options, progress, &packed)?;
        let pages = Pages::new(hyper, options.kv_cache_type, options.pages, options.page_tokens)?;
        let state = RwLock::new(State::new(pages, options.threads));
        let team = Team::new(options.threads, options.pin)?;
        tracing::info!(
            architecture = hyper.architecture.name(),
            isa = isa.name(),
            threads = options.threads,
            weight_bytes = network.bytes().0 + network.bytes().1,
            "model loaded"
        );
        Ok(CpuBackend {
            one_thread: options.one_thread,
            model: Arc::new(LoadedModel { network, state }),
            team,
            limits: limits(hyper, options),
            ropes: hyper.ropes.iter().map(Rotation::new).collect(),
            windows: hyper.windows(),
            profile: None,
        })
    }

    /// From here on every batch is profiled: about 0.1 µs for each operation of each layer.
    pub fn profile(&mut self) -> Arc<Profile> {
        self.profile.get_or_insert_default().clone()
    }

    /// Version of how a page holds keys and values. A change of the layout, or of the arithmetic that fills
    /// it, raises it: pages that were saved before then belong to another backend.
    pub const KV_LAYOUT: u32 = 2;

    /// Bytes that one page of a model takes, by which a budget of memory becomes a number of pages.
    pub fn page_bytes(hyper: &Hyperparameters, kv_cache_type: KvType, page_tokens: u32) -> usize {
        options::page_bytes(hyper, kv_cache_type, page_tokens)
    }

    /// Bytes of weights that a batch reads, in memory: those of all layers, and those of the output matrix,
    /// which is read when a row asks for an output.
    pub fn weight_bytes(&self) -> (usize, usize) {
        self.model.network.bytes()
    }

    /// Multiplications of all layers' matrices for one row, and those of the output matrix for one that asks.
    pub fn multiplications(&self) -> (usize, usize) {
        self.model.network.multiplications()
    }

    /// What an operation costs, of all layers together; nothing where it is no product of dense matrices.
    pub fn cost(&self, operation: Operation) -> Cost {
        self.model.network.cost(operation)
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.model.network.isa
    }

    /// Compute threads, the caller of [`Backend::run`] among them.
    pub fn threads(&self) -> usize {
        self.team.size()
    }
}

fn limits(hyper: &Hyperparameters, options: &CpuOptions) -> Limits {
    Limits {
        pages: options.pages,
        page_tokens: options.page_tokens,
        batch_tokens: options.batch_tokens,
        batch_sequences: options.batch_sequences,
        // Drawing takes some 50 µs of a row of 49,000 logits: a batch of outputs alone takes a tenth of a second.
        row_outputs: 256,
        batch_outputs: 4096,
        // 128 MiB; the outputs of one row fit a vocabulary of 130,000, and of a larger one its own.
        batch_output_values: (1 << 25).max(256 * hyper.vocab as u64),
        vocabulary: hyper.vocab as u32,
        hidden: hyper.hidden as u32,
        context_tokens: hyper.context_length as u32,
        encoder: hyper.encoder,
        page_bytes: options::page_bytes(hyper, options.kv_cache_type, options.page_tokens),
    }
}

impl Backend for CpuBackend {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn own_thread(&mut self) {
        // A model that one thread computes alone gains nothing by that, and the programs it wakes may need the core.
        if self.multiplications().0 as u64 > self.one_thread {
            self.team.own_caller();
        }
    }

    fn run(&mut self, batch: &Batch, output: &mut Output) -> Result<(), BackendError> {
        output.values.clear();
        let alone = {
            let mut state = self.model.write();
            let state = &mut *state;
            state.prepared.prepare(batch, &self.limits, &self.ropes, &self.windows, &mut state.pages)?;
            let unknown = |id: &AdapterId| !state.adapters.contains(*id);
            if let Some(id) = batch.sequences.iter().filter_map(|s| s.adapter).find(unknown) {
                return Err(BackendError::Adapter(format!("adapter {} is not loaded", id.0)));
            }
            let work = state.prepared.multiplications(&self.model.network, self.limits.page_tokens);
            let alone = work <= self.one_thread;
            state.reshape(&self.model.network, if alone { 1 } else { self.team.size() });
            alone
        };
        let (model, profile) = (Arc::clone(&self.model), self.profile.clone());
        let job = move |worker: &threads::Worker| {
            let watch = Watch::new(profile.as_deref());
            Forward { network: &model.network, state: &model.read(), worker, watch }.run();
        };
        let result = if alone { self.team.run_alone(job) } else { self.team.run(job) };
        result.map_err(BackendError::Failed)?;
        let state = self.model.read();
        let mut answers = state.answers.lock().unwrap_or_else(PoisonError::into_inner);
        output.values.extend(answers.drain(..).map(|value| value.expect("every request was answered")));
        Ok(())
    }

    fn copy_pages(&mut self, copies: &[PageCopy]) -> Result<(), BackendError> {
        self.model.write().pages.copy(copies)
    }

    fn read_page(&mut self, page: PageId, bytes: &mut Vec<u8>) -> Result<(), BackendError> {
        self.model.write().pages.read_bytes(page, bytes)
    }

    fn write_page(&mut self, page: PageId, bytes: &[u8]) -> Result<(), BackendError> {
        self.model.write().pages.write_bytes(page, bytes)
    }

    fn embed(&mut self, tokens: &[u32], rows: &mut Vec<f32>) -> Result<(), BackendError> {
        let network = &self.model.network;
        if let Some(token) = tokens.iter().find(|t| **t >= self.limits.vocabulary) {
            let message = format!("token {token} is outside the vocabulary of {}", self.limits.vocabulary);
            return Err(BackendError::InvalidBatch(message));
        }
        for &token in tokens {
            let start = rows.len();
            rows.resize(start + network.hyper.hidden, 0.0);
            network.embed(token, &mut rows[start..]);
        }
        Ok(())
    }

    fn load_adapter(&mut self, id: AdapterId, matrices: Vec<LoraMatrix>) -> Result<(), BackendError> {
        self.model.write().adapters.load(&self.model.network, id, matrices)
    }

    fn unload_adapter(&mut self, id: AdapterId) {
        self.model.write().adapters.unload(id);
    }
}
