//! `embeds`: embedding rows.

use std::sync::Arc;

use wasmtime::component::{Accessor, HasSelf, Resource};

use super::bindings::api::embeds;
use super::forward::check_tokens;
use super::model::ModelHandle;
use super::{Failure, HostState, call};
use crate::ServedModel;
use crate::account::Taken;
use crate::error::{ApiError, engine_gone, invalid};
use crate::inferlet::InferletState;

/// A program's embedding rows. They are in host memory; the program reads them when it wants.
pub struct Embeddings {
    pub(crate) model: Arc<ServedModel>,
    /// Shared with the passes that have them as input.
    pub(crate) rows: Vec<Arc<[f32]>>,
    _held: Taken,
}

/// Tokens whose rows are read in one call of the engine, between two batches.
const TOKENS_AT_ONCE: usize = 256;

/// Rows of values, with what they take.
fn embeddings(
    inferlet: &InferletState,
    model: Arc<ServedModel>,
    values: usize,
) -> Result<Embeddings, ApiError> {
    let held = inferlet.host_memory.take((values * size_of::<f32>()) as u64)?;
    Ok(Embeddings { model, rows: Vec::new(), _held: held })
}

impl Embeddings {
    fn add(&mut self, values: &[f32]) {
        self.rows.extend(values.chunks_exact(self.model.facts.hidden_size as usize).map(Arc::from));
    }
}

impl embeds::Host for HostState {}

impl embeds::HostEmbeddings for HostState {
    fn from_values(
        &mut self,
        model: Resource<ModelHandle>,
        values: Vec<f32>,
    ) -> Result<Resource<Embeddings>, Failure> {
        let model = self.table.get(&model)?.0.clone();
        let hidden = model.facts.hidden_size as usize;
        if values.is_empty() || !values.len().is_multiple_of(hidden) {
            let found = values.len();
            return Err(invalid(format!("{found} values are given, rows have {hidden} each")).into());
        }
        if let Some(value) = values.iter().find(|v| !v.is_finite()) {
            return Err(invalid(format!("an embedding holds {value}: expected finite numbers")).into());
        }
        let mut embeddings = embeddings(&self.inferlet, model, values.len())?;
        embeddings.add(&values);
        Ok(self.table.push(embeddings)?)
    }

    fn rows(&mut self, embeddings: Resource<Embeddings>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&embeddings)?.rows.len() as u32)
    }

    fn values(&mut self, embeddings: Resource<Embeddings>) -> wasmtime::Result<Vec<f32>> {
        Ok(self.table.get(&embeddings)?.rows.concat())
    }

    fn drop(&mut self, embeddings: Resource<Embeddings>) -> wasmtime::Result<()> {
        self.table.delete(embeddings)?;
        Ok(())
    }
}

impl<T: Send + 'static> embeds::HostEmbeddingsWithStore<T> for HasSelf<HostState> {
    async fn from_tokens(
        accessor: &Accessor<T, Self>,
        model: Resource<ModelHandle>,
        tokens: Vec<u32>,
    ) -> Result<Resource<Embeddings>, Failure> {
        let _call = call(accessor, "embeds.from-tokens", || vec![("tokens", tokens.len().into())]);
        let (model, inferlet) = accessor.with(|mut access| {
            let state = access.get();
            Ok::<_, Failure>((state.table.get(&model)?.0.clone(), state.inferlet.clone()))
        })?;
        check_tokens(&model, &tokens)?;
        let context = model.facts.context_length as usize;
        if tokens.is_empty() || tokens.len() > context {
            return Err(invalid(format!("{} tokens are given: expected 1 to {context}", tokens.len())).into());
        }
        let values = tokens.len() * model.facts.hidden_size as usize;
        let mut embeddings = embeddings(&inferlet, model.clone(), values)?;
        let engine = model.engine.for_owner(inferlet.owner);
        for tokens in tokens.chunks(TOKENS_AT_ONCE) {
            let values = engine.embed(tokens.to_vec()).await.map_err(engine_gone)?.map_err(ApiError::from)?;
            embeddings.add(&values);
        }
        accessor.with(|mut access| Ok(access.get().table.push(embeddings)?))
    }
}
