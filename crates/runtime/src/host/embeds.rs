//! `embeds`: embedding rows.

use std::sync::Arc;

use wasmtime::component::{Accessor, HasSelf, Resource};

use super::bindings::api::embeds;
use super::forward::check_tokens;
use super::model::ModelHandle;
use super::{Failure, HostState};
use crate::ServedModel;
use crate::error::{ApiError, engine_gone, invalid};

/// A program's embedding rows. They are in host memory; the program reads them when it wants.
pub struct Embeddings {
    pub(crate) model: Arc<ServedModel>,
    pub(crate) values: Vec<f32>,
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
        Ok(self.table.push(Embeddings { model, values })?)
    }

    fn rows(&mut self, embeddings: Resource<Embeddings>) -> wasmtime::Result<u32> {
        let embeddings = self.table.get(&embeddings)?;
        Ok((embeddings.values.len() / embeddings.model.facts.hidden_size as usize) as u32)
    }

    fn values(&mut self, embeddings: Resource<Embeddings>) -> wasmtime::Result<Vec<f32>> {
        Ok(self.table.get(&embeddings)?.values.clone())
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
        let model = accessor.with(|mut access| access.get().table.get(&model).map(|m| m.0.clone()))?;
        check_tokens(&model, &tokens)?;
        let context = model.facts.context_length as usize;
        if tokens.is_empty() || tokens.len() > context {
            return Err(invalid(format!("{} tokens are given: expected 1 to {context}", tokens.len())).into());
        }
        let values = model.engine.embed(tokens).await.map_err(engine_gone)?.map_err(ApiError::from)?;
        accessor.with(|mut access| Ok(access.get().table.push(Embeddings { model, values })?))
    }
}
