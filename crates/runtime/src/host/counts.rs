//! `forward.token-counts`: what the penalties look at, kept here so that only changes of it cross over.
//!
//! A pass gets the counts as they are when it begins: they are shared with it, and copied when they change before it is
//! done.

use std::sync::Arc;

use backend::TokenOrigin;
use wasmtime::component::Resource;

use super::bindings::api::forward;
use super::forward::check_tokens;
use super::model::ModelHandle;
use super::{Failure, HostState};
use crate::ServedModel;
use crate::error::{ApiError, invalid};

/// Token counts of one inferlet: one for each context that it may hold.
const HANDLES: u32 = 4096;
/// Distinct tokens of all of them together: some 50 MB. A long text has a few thousand.
const DISTINCT: usize = 1 << 20;

/// How often each token came, for one model.
pub struct TokenCounts {
    model: Arc<ServedModel>,
    counts: Arc<backend::TokenCounts>,
}

/// What an inferlet holds of them.
#[derive(Default)]
pub(crate) struct Held {
    handles: u32,
    /// Distinct tokens, summed over handles.
    distinct: usize,
}

impl TokenCounts {
    /// The counts of this moment, for a pass on this model.
    pub(crate) fn of(&self, model: &ServedModel) -> Result<Arc<backend::TokenCounts>, ApiError> {
        match self.model.name == model.name {
            true => Ok(self.counts.clone()),
            false => Err(invalid(format!("the token counts are those of model `{}`", self.model.name))),
        }
    }
}

impl Held {
    fn check(&self, handles: u32, distinct: usize) -> Result<(), ApiError> {
        if self.handles + handles > HANDLES {
            return Err(ApiError::LimitExceeded(format!(
                "this inferlet holds {HANDLES} token counts, the limit"
            )));
        }
        let distinct = self.distinct + distinct;
        match distinct > DISTINCT {
            true => Err(ApiError::LimitExceeded(format!(
                "the token counts of this inferlet would have {distinct} distinct tokens, the limit is {DISTINCT}"
            ))),
            false => Ok(()),
        }
    }
}

fn origin(origin: forward::TokenOrigin) -> TokenOrigin {
    match origin {
        forward::TokenOrigin::Prompt => TokenOrigin::Prompt,
        forward::TokenOrigin::Generated => TokenOrigin::Generated,
    }
}

impl HostState {
    fn push_counts(&mut self, counts: TokenCounts) -> Result<Resource<TokenCounts>, Failure> {
        let distinct = counts.counts.distinct();
        self.counts.check(1, distinct)?;
        let handle = self.table.push(counts)?;
        (self.counts.handles, self.counts.distinct) =
            (self.counts.handles + 1, self.counts.distinct + distinct);
        Ok(handle)
    }
}

impl forward::HostTokenCounts for HostState {
    fn create(&mut self, model: Resource<ModelHandle>) -> Result<Resource<TokenCounts>, Failure> {
        let model = self.table.get(&model)?.0.clone();
        self.push_counts(TokenCounts { model, counts: Arc::default() })
    }

    fn add(
        &mut self,
        counts: Resource<TokenCounts>,
        tokens: Vec<u32>,
        from: forward::TokenOrigin,
    ) -> Result<(), Failure> {
        let counts = self.table.get_mut(&counts)?;
        check_tokens(&counts.model, &tokens)?;
        let new = counts.counts.distinct_new(&tokens);
        self.counts.check(0, new)?;
        Arc::make_mut(&mut counts.counts).add(&tokens, origin(from));
        self.counts.distinct += new;
        Ok(())
    }

    fn remove(
        &mut self,
        counts: Resource<TokenCounts>,
        tokens: Vec<u32>,
        from: forward::TokenOrigin,
    ) -> Result<(), Failure> {
        let counts = self.table.get_mut(&counts)?;
        let before = counts.counts.distinct();
        let removed = Arc::make_mut(&mut counts.counts).remove(&tokens, origin(from));
        removed.map_err(|token| {
            invalid(format!("token {token} is to be taken back more often than it was added from there"))
        })?;
        self.counts.distinct -= before - counts.counts.distinct();
        Ok(())
    }

    fn fork(&mut self, counts: Resource<TokenCounts>) -> Result<Resource<TokenCounts>, Failure> {
        let TokenCounts { model, counts } = self.table.get(&counts)?;
        let fork = TokenCounts { model: model.clone(), counts: counts.clone() };
        self.push_counts(fork)
    }

    fn drop(&mut self, counts: Resource<TokenCounts>) -> wasmtime::Result<()> {
        let counts = self.table.delete(counts)?;
        self.counts.handles -= 1;
        self.counts.distinct -= counts.counts.distinct();
        Ok(())
    }
}
