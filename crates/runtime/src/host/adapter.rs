//! `adapter`: low-rank adapters.

use std::sync::Arc;

use backend::AdapterId;
use scheduler::{ContextOp, OwnerId};
use wasmtime::component::{Accessor, HasSelf, Resource};

use super::bindings::api::adapter;
use super::model::ModelHandle;
use super::{Failure, HostState};
use crate::adapters::AdapterFile;
use crate::error::{ApiError, check_length, engine_gone, invalid};
use crate::{RuntimeState, ServedModel};

/// Adapters that one inferlet has loaded at once.
const ADAPTERS: u32 = 32;
/// Bytes of an adapter's matrices, as they are in the backend.
const ADAPTER_BYTES: usize = 1 << 30;

/// A program's handle to a loaded adapter.
pub struct Adapter {
    id: AdapterId,
    model: Arc<ServedModel>,
    rank: u32,
    tensors: Vec<String>,
}

impl HostState {
    /// The adapter's id in the engine, if it belongs to the model.
    pub(crate) fn adapter_id(
        &self,
        adapter: &Resource<Adapter>,
        model: &Arc<ServedModel>,
    ) -> Result<AdapterId, Failure> {
        let adapter = self.table.get(adapter)?;
        match Arc::ptr_eq(&adapter.model, model) {
            true => Ok(adapter.id),
            false => {
                Err(invalid(format!("the adapter was loaded for model `{}`", adapter.model.name)).into())
            }
        }
    }
}

impl adapter::Host for HostState {
    fn available(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.shared.adapters.names())
    }
}

impl adapter::HostAdapter for HostState {
    fn rank(&mut self, adapter: Resource<Adapter>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&adapter)?.rank)
    }

    fn tensors(&mut self, adapter: Resource<Adapter>) -> wasmtime::Result<Vec<String>> {
        Ok(self.table.get(&adapter)?.tensors.clone())
    }

    fn drop(&mut self, adapter: Resource<Adapter>) -> wasmtime::Result<()> {
        let adapter = self.table.delete(adapter)?;
        self.adapters -= 1;
        // Never refused.
        let _ = adapter.model.engine.apply(ContextOp::DropAdapter { adapter: adapter.id });
        Ok(())
    }
}

impl<T: Send + 'static> adapter::HostAdapterWithStore<T> for HasSelf<HostState> {
    async fn load(
        accessor: &Accessor<T, Self>,
        model: Resource<ModelHandle>,
        source: adapter::Source,
    ) -> Result<Resource<Adapter>, Failure> {
        let (shared, model, owner) = accessor.with(|mut access| {
            let state = access.get();
            if state.adapters >= ADAPTERS {
                let reason = format!("this inferlet has {ADAPTERS} adapters, the limit");
                return Err(ApiError::LimitExceeded(reason).into());
            }
            let model = state.table.get(&model)?.0.clone();
            state.adapters += 1;
            Ok::<_, Failure>((state.shared.clone(), model, state.inferlet.owner))
        })?;
        let loaded = load(&shared, model, owner, source).await;
        accessor.with(|mut access| {
            let state = access.get();
            match loaded {
                Ok(adapter) => Ok(state.table.push(adapter)?),
                Err(error) => {
                    state.adapters -= 1;
                    Err(error.into())
                }
            }
        })
    }
}

async fn load(
    shared: &RuntimeState,
    model: Arc<ServedModel>,
    owner: OwnerId,
    source: adapter::Source,
) -> Result<Adapter, ApiError> {
    let file = match source {
        adapter::Source::Name(name) => shared.adapters.find(&name)?,
        adapter::Source::Gguf(bytes) => AdapterFile::Gguf(bytes),
        adapter::Source::Peft((config, tensors)) => AdapterFile::Peft { config, tensors },
    };
    // Reading and converting megabytes of matrices is not for the thread that runs programs.
    let served = model.clone();
    let read = tokio::task::spawn_blocking(move || file.read(served.hyperparameters())).await;
    let matrices = read.map_err(|e| ApiError::Backend(e.to_string()))??;
    let bytes: usize = matrices.iter().map(|m| 4 * (m.a.len() + m.b.len())).sum();
    check_length("the adapter", bytes, ADAPTER_BYTES)?;
    let rank = matrices.iter().map(|m| m.rank).max().unwrap_or(0);
    let tensors = matrices.iter().map(|m| m.tensor.clone()).collect();
    let id = shared.next_adapter();
    let loaded =
        model.engine.for_owner(owner).load_adapter(owner, id, matrices).await.map_err(engine_gone)?;
    // What the backend refuses about an adapter is a property of the file.
    loaded.map_err(|error| match error {
        scheduler::CallError::Backend(reason) => invalid(reason),
        other => other.into(),
    })?;
    Ok(Adapter { id, model, rank, tensors })
}
