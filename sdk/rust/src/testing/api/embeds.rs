use super::model::Model;
use super::{Error, invalid};
use crate::testing::{HIDDEN, pause};

/// A row of a token has its id as the first value; of any row, the model sees the token that the first value is.
#[derive(Debug)]
pub struct Embeddings {
    values: Vec<f32>,
}

impl Embeddings {
    pub async fn from_tokens(model: &Model, tokens: Vec<u32>) -> Result<Embeddings, Error> {
        pause().await;
        model.check(&tokens)?;
        let row = |token: u32| std::iter::once(token as f32).chain(std::iter::repeat_n(0.0, HIDDEN - 1));
        Ok(Embeddings { values: tokens.into_iter().flat_map(row).collect() })
    }

    pub fn from_values(_model: &Model, values: &[f32]) -> Result<Embeddings, Error> {
        match values.is_empty() || !values.len().is_multiple_of(HIDDEN) {
            true => Err(invalid(format!("{} values are given, rows have {HIDDEN} each", values.len()))),
            false => Ok(Embeddings { values: values.to_vec() }),
        }
    }

    pub fn rows(&self) -> u32 {
        (self.values.len() / HIDDEN) as u32
    }

    pub fn values(&self) -> Vec<f32> {
        self.values.clone()
    }

    pub(crate) fn tokens(&self) -> Vec<u32> {
        self.values.chunks_exact(HIDDEN).map(|row| row[0] as u32).collect()
    }
}
