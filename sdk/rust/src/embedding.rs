//! Vectors of texts, pooled from hidden rows.

use crate::bindings::pie::inferlet::context::Context;
use crate::bindings::pie::inferlet::forward::{self, Input, Output, OutputKind, OutputRequest, Pass};
use crate::bindings::pie::inferlet::model::{EmbeddingFacts, Pooling};
use crate::{Model, Result, Work};
use anyhow::bail;

/// Rows of a pass whose mean is taken, where a text may be computed in parts: of 8192 values, half of what a pass may give
/// back.
const ROWS: usize = 1024;

impl Model {
    /// How it makes vectors of texts.
    pub fn embedding(&self) -> EmbeddingFacts {
        self.handle().embedding()
    }

    /// The tokens of a whole text as the model wants them to make a vector: between `bos` and
    /// [`EmbeddingFacts::eos`], where it wants them and they are not there.
    pub fn whole_text(&self, mut tokens: Vec<u32>) -> Vec<u32> {
        if let Some(bos) = self.facts().bos.filter(|bos| tokens.first() != Some(bos)) {
            tokens.insert(0, bos);
        }
        tokens.extend(self.embedding().eos.filter(|eos| tokens.last() != Some(eos)));
        tokens
    }

    /// The vector of a text, of `hidden-size` values: its rows pooled as [`EmbeddingFacts::pooling`] says. Its length is
    /// not 1.
    ///
    /// # Errors
    /// When there are no tokens, or more than the context of the model, and as for a pass.
    pub async fn embed(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        if tokens.is_empty() {
            bail!("a text without tokens has no vector");
        }
        let EmbeddingFacts { pooling, encoder, .. } = self.embedding();
        let context = Context::create(self.handle())?;
        let last = tokens.len() - 1;
        let asked = match pooling {
            Pooling::Mean => 0..tokens.len(),
            Pooling::First => 0..1,
            Pooling::Last => last..last + 1,
        };
        // A text of an encoder is one pass, and nothing of it is kept. That of another model goes on from part to part.
        let part = if encoder || pooling != Pooling::Mean { tokens.len() } else { ROWS };
        let mut sum = vec![0.0; self.facts().hidden_size as usize];
        for (index, part_tokens) in tokens.chunks(part).enumerate() {
            let start = index * part;
            let rows = asked.start.max(start)..asked.end.min(start + part_tokens.len());
            let outputs =
                rows.map(|row| OutputRequest { row: (row - start) as u32, kind: OutputKind::Hidden });
            let pass = Pass {
                input: Input::Tokens(part_tokens.to_vec()),
                positions: None,
                masks: None,
                adapter: None,
                keep: !encoder,
                outputs: outputs.collect(),
            };
            let answer = forward::execute(&context, pass).await?;
            self.count(Work::of_pass(part_tokens.len(), &answer));
            for value in answer.values {
                let Output::Hidden(row) = value else { bail!("a hidden row was requested, got {value:?}") };
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        }
        let rows = asked.len() as f32;
        sum.iter_mut().for_each(|value| *value /= rows);
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Host, ScriptedModel};

    /// A model whose row `i` is `[token, i, rows, 1]`.
    fn encoder(pooling: Pooling) -> ScriptedModel {
        ScriptedModel::encoder(pooling, |tokens, row| {
            vec![tokens[row] as f32, row as f32, tokens.len() as f32, 1.0]
        })
    }

    fn embed(model: ScriptedModel, tokens: &[u32]) -> (Vec<f32>, usize) {
        let host = Host::new().model(model);
        let vector = host.run(async { Model::open_default().unwrap().embed(tokens).await.unwrap() });
        (vector, host.passes())
    }

    #[test]
    fn rows_are_pooled_as_the_model_says() {
        let tokens = [10, 20, 60];
        assert_eq!(embed(encoder(Pooling::Mean), &tokens), (vec![30.0, 1.0, 3.0, 1.0], 1));
        assert_eq!(embed(encoder(Pooling::First), &tokens), (vec![10.0, 0.0, 3.0, 1.0], 1));
        assert_eq!(embed(encoder(Pooling::Last), &tokens), (vec![60.0, 2.0, 3.0, 1.0], 1));
    }

    #[test]
    fn a_mean_over_parts_is_that_over_all_rows() {
        let tokens: Vec<u32> = (0..ROWS as u32 * 2 + 7).map(|token| token % 256).collect();
        let rows = |part: &[u32]| {
            let host = Host::new().model(ScriptedModel::noise(1));
            host.run(async {
                let model = Model::open_default().unwrap();
                let mut context = crate::Context::new(&model).unwrap();
                context.append_tokens(part);
                let asked = (0..part.len() as u32).map(|row| OutputRequest { row, kind: OutputKind::Hidden });
                context.pass(asked.collect()).await.unwrap()
            })
        };
        let mut sum = [0.0; 4];
        for output in rows(&tokens) {
            let Output::Hidden(row) = output else { panic!("{output:?}") };
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        let (found, passes) = embed(ScriptedModel::noise(1).pooling(Pooling::Mean), &tokens);
        let mean: Vec<f32> = sum.iter().map(|value| value / tokens.len() as f32).collect();
        assert_eq!((found, passes), (mean, 3));
    }

    #[test]
    fn a_model_that_generates_gives_its_last_row() {
        let (vector, passes) = embed(ScriptedModel::noise(1), &[1, 2, 3]);
        assert_eq!((vector.len(), passes), (4, 1));
        assert_ne!(vector, embed(ScriptedModel::noise(1), &[1, 2, 4]).0);
    }

    #[test]
    fn a_text_without_tokens_has_no_vector() {
        let host = Host::new().model(encoder(Pooling::Mean));
        let error = host.run(async { Model::open_default().unwrap().embed(&[]).await.unwrap_err() });
        assert!(error.to_string().contains("without tokens"), "{error}");
    }
}
