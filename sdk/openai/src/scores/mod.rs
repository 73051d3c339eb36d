//! `/v1/rerank` and `/score`: how well documents answer queries, by any model.
//!
//! ```text
//! system  Judge whether the Document meets the requirements …   │ the same for all
//! user    <Instruct>: …  <Query>: …  <Document>: …               │ what all prompts begin with is computed once
//! assistant  yes? no?                                            │ a fork of it for each document, many in a batch
//! ```
//! The prompt is that of Qwen3-Reranker, in the model's own chat format, and so is the score: the probability of `yes`
//! as a share of those of `yes` and `no`. A model that was trained for this gives better ones.
//!
//! An encoder cannot be asked: its score is the cosine of the vectors of both texts.

mod judge;

mod compare;
mod rerank;
mod score;
#[cfg(test)]
mod tests;

pub use rerank::rerank;
pub use score::score;
