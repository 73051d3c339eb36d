//! `adapter`: low-rank adapters.

use std::sync::Arc;

use backend::AdapterId;
use wasmtime::component::{Accessor, HasSelf, Resource};

use super::bindings::api::adapter;
use super::model::ModelHandle;
use super::{Failure, HostState};
use crate::ServedModel;
use crate::adapters::AdapterFile;
use crate::error::{ApiError, engine_gone, invalid};

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
        // The answer says only that it is done; nobody waits for it.
        drop(adapter.model.engine.unload_adapter(adapter.id));
        Ok(())
    }
}

impl<T: Send + 'static> adapter::HostAdapterWithStore<T> for HasSelf<HostState> {
    async fn load(
        accessor: &Accessor<T, Self>,
        model: Resource<ModelHandle>,
        source: adapter::Source,
    ) -> Result<Resource<Adapter>, Failure> {
        let (shared, model) = accessor.with(|mut access| {
            let state = access.get();
            Ok::<_, Failure>((state.shared.clone(), state.table.get(&model)?.0.clone()))
        })?;
        let file = match source {
            adapter::Source::Name(name) => shared.adapters.find(&name)?,
            adapter::Source::Gguf(bytes) => AdapterFile::Gguf(bytes),
            adapter::Source::Peft((config, tensors)) => AdapterFile::Peft { config, tensors },
        };
        // Reading and converting megabytes of matrices is not for the thread that runs programs.
        let served = model.clone();
        let read = tokio::task::spawn_blocking(move || file.read(served.hyperparameters())).await;
        let matrices = read.map_err(|e| ApiError::Backend(e.to_string()))??;
        let rank = matrices.iter().map(|m| m.rank).max().unwrap_or(0);
        let tensors = matrices.iter().map(|m| m.tensor.clone()).collect();
        let id = shared.next_adapter();
        let loaded = model.engine.load_adapter(id, matrices).await.map_err(engine_gone)?;
        // What the backend refuses about an adapter is a property of the file.
        loaded.map_err(|error| match error {
            scheduler::CallError::Backend(reason) => invalid(reason),
            other => other.into(),
        })?;
        accessor.with(|mut access| Ok(access.get().table.push(Adapter { id, model, rank, tensors })?))
    }
}
