//! What a model that reads in both directions does, and refuses.

use inferlet::anyhow::{bail, ensure};
use inferlet::bindings::pie::inferlet::context::Context;
use inferlet::bindings::pie::inferlet::forward::{self, Input, Output, OutputKind, OutputRequest, Pass};
use inferlet::bindings::pie::inferlet::model::Pooling;
use inferlet::{Error, Model, Result, SamplingParams};

/// A pass over some tokens with one output of the first row.
fn pass(tokens: Vec<u32>, kind: OutputKind<'_>) -> Pass<'_> {
    let outputs = vec![OutputRequest { row: 0, kind }];
    Pass { input: Input::Tokens(tokens), positions: None, masks: None, adapter: None, keep: false, outputs }
}

/// The first hidden row of a text.
async fn first_row(context: &Context, tokens: Vec<u32>) -> Result<Vec<f32>> {
    let answer = forward::execute(context, pass(tokens, OutputKind::Hidden)).await?;
    match answer.values.into_iter().next() {
        Some(Output::Hidden(row)) => Ok(row),
        other => bail!("a hidden row was requested, got {other:?}"),
    }
}

/// Wants an encoder whose passes have 512 rows at most.
pub async fn reads() -> Result<String> {
    let model = Model::open_default()?;
    let (facts, embedding) = (model.facts(), model.embedding());
    ensure!(embedding.encoder && embedding.pooling == Pooling::Mean, "{embedding:?}");
    ensure!(facts.traits == ["encoder", "adapter"] && facts.context_length == 512, "{facts:?}");
    let context = Context::create(model.handle())?;
    let text = |last: u32| (0..40).chain([last]).collect::<Vec<u32>>();
    let row = first_row(&context, text(7)).await?;
    ensure!(row == first_row(&context, text(7)).await?, "the same text has the same rows");
    ensure!(row != first_row(&context, text(8)).await?, "the first row sees the last token");
    ensure!(context.length() == 0 && context.next_position() == 0, "nothing is kept");
    let vectors = (model.embed(&text(7)).await?, model.embed(&text(8)).await?);
    ensure!(vectors.0 != vectors.1, "{vectors:?}");

    let sampling = SamplingParams::greedy();
    let wrong = [
        pass(vec![1], OutputKind::Token(sampling.for_token(None, &[]))),
        pass(vec![1], OutputKind::TopK(1)),
        pass(vec![1], OutputKind::LogProbs(vec![1])),
        pass(vec![1], OutputKind::Logits),
        pass(vec![1], OutputKind::Entropy),
        pass(vec![1; 513], OutputKind::Hidden),
        Pass { keep: true, ..pass(vec![1], OutputKind::Hidden) },
        Pass { masks: Some(vec![vec![0]]), ..pass(vec![1], OutputKind::Hidden) },
    ];
    for wrong in wrong {
        let said = format!("{wrong:?}").chars().take(200).collect::<String>();
        match forward::execute(&context, wrong).await {
            Err(Error::InvalidArgument(reason)) if reason.contains("encoder") => {}
            other => bail!("{said}: expected InvalidArgument, got {other:?}"),
        }
    }
    Ok("read".into())
}
