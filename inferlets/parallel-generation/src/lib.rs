//! Two continuations of one prompt, generated at once: the prompt is computed once, every step is one batch.

use inferlet::futures::try_join;
use inferlet::{Args, Context, Model, Result, SamplingParams, json};

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let prompt = args.option("prompt", 'p', "text before both", "The weather in spring is".to_string())?;
    let first = args.option("first", 'a', "how one goes on", " pleasant, because".to_string())?;
    let second = args.option("second", 'b', "how the other goes on", " unpleasant, because".to_string())?;
    let max_tokens = args.option("max-tokens", 'n', "tokens to generate at most, each", 32)?;
    args.finish()?;

    let model = Model::open_default()?;
    let mut one = Context::new(&model)?;
    one.append(&prompt).prefill().await?;
    let mut two = one.fork()?;
    let shared = one.tokens().len();
    one.append(&first);
    two.append(&second);
    let before = model.work();
    let answers = try_join!(
        one.generate(SamplingParams::greedy()).max_tokens(max_tokens).answer(),
        two.generate(SamplingParams::greedy()).max_tokens(max_tokens).answer(),
    )?;
    let texts = [format!("{prompt}{first}{}", answers.0.text), format!("{prompt}{second}{}", answers.1.text)];
    let report = json!({
        "texts": texts,
        "shared_tokens": shared,
        "tokens_apart": one.tokens().len() + two.tokens().len(),
        "together": (model.work() - before).passes_per_batch(),
        "work": model.work().json(),
    });
    Ok(report.to_string())
}
