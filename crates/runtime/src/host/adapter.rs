//! `adapter`: low-rank adapters.

use std::sync::Arc;

use backend::AdapterId;
use model::Wanted;
use scheduler::ContextOp;
use wasmtime::component::{Accessor, HasSelf, Resource};

use super::bindings::api::adapter;
use super::model::ModelHandle;
use super::{Failure, HostState, call};
use crate::account::Taken;
use crate::adapters::{ADAPTERS, AdapterFile};
use crate::error::{ApiError, engine_gone, invalid};
use crate::inferlet::InferletState;
use crate::served::LoadedAdapter;
use crate::{RuntimeState, ServedModel};

/// A program's handle to a loaded adapter.
pub struct Adapter {
    id: AdapterId,
    model: Arc<ServedModel>,
    rank: u32,
    tensors: Vec<String>,
    /// Its bytes, wherever they are.
    _held: Taken,
    /// That it is loaded, where it is one of the server's.
    _loaded: Option<LoadedAdapter>,
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
    async fn available(&mut self) -> Result<Vec<String>, Failure> {
        let _call = self.call("adapter.available", Vec::new);
        let shared = self.shared.clone();
        self.work(0, move || Ok(shared.adapters.names())).await
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
        let _call = call(accessor, "adapter.load", Vec::new);
        let (shared, model, inferlet) = accessor.with(|mut access| {
            let state = access.get();
            if state.adapters >= ADAPTERS {
                let reason = format!("this inferlet has {ADAPTERS} adapters, the limit");
                return Err(ApiError::LimitExceeded(reason).into());
            }
            let model = state.table.get(&model)?.0.clone();
            state.adapters += 1;
            Ok::<_, Failure>((state.shared.clone(), model, state.inferlet.clone()))
        })?;
        let loaded = load(&shared, model, &inferlet, source).await;
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
    shared: &Arc<RuntimeState>,
    model: Arc<ServedModel>,
    inferlet: &Arc<InferletState>,
    source: adapter::Source,
) -> Result<Adapter, ApiError> {
    let mut of_server = None;
    let (bytes, file) = match source {
        adapter::Source::Name(name) => {
            of_server = Some(name.clone());
            let adapters = shared.clone();
            let find = move || adapters.adapters.find(&name).and_then(|file| Ok((file.bytes()?, file)));
            shared.workers.run(inferlet, 0, find).await?
        }
        adapter::Source::Gguf(bytes) => (bytes.len() as u64, AdapterFile::Gguf(bytes)),
        adapter::Source::Peft((config, tensors)) => {
            ((config.len() + tensors.len()) as u64, AdapterFile::Peft { config, tensors })
        }
    };
    // Half-precision numbers become twice as many bytes; the file goes when they are there.
    let mut held = inferlet.host_memory.take(bytes)?;
    let served = model.clone();
    let read = move |wanted: Wanted<'_>| file.read(served.hyperparameters(), wanted);
    let matrices = shared.workers.run_while(inferlet, bytes as usize, read).await?;
    let in_backend: usize = matrices.iter().map(|m| 4 * (m.a.len() + m.b.len())).sum();
    held.grow((in_backend as u64).saturating_sub(bytes))?;
    let rank = matrices.iter().map(|m| m.rank).max().unwrap_or(0);
    let tensors = matrices.iter().map(|m| m.tensor.clone()).collect();
    let (id, owner) = (shared.next_adapter(), inferlet.owner);
    let loaded =
        model.engine.for_owner(owner).load_adapter(owner, id, matrices).await.map_err(engine_gone)?;
    // What the backend refuses about an adapter is a property of the file.
    loaded.map_err(|error| match error {
        scheduler::CallError::Backend(reason) => invalid(reason),
        other => other.into(),
    })?;
    let loaded = of_server.map(|name| model.adapter_loaded(&name));
    Ok(Adapter { id, model, rank, tensors, _held: held, _loaded: loaded })
}
