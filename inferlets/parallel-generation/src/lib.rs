//! Two continuations of one prompt, generated at once: the prompt is computed once, every step is one batch.

use inferlet::futures::try_join;
use inferlet::{Context, Model, Parameters, Result, SamplingParams, json};

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// Text before both.
    #[parameter(short = 'p', default = "The weather in spring is")]
    prompt: String,
    /// How one goes on.
    #[parameter(short = 'a', default = " pleasant, because")]
    first: String,
    /// How the other goes on.
    #[parameter(short = 'b', default = " unpleasant, because")]
    second: String,
    /// Tokens to generate at most, each.
    #[parameter(short = 'n', default = 32)]
    max_tokens: usize,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt, first, second, max_tokens } = options;

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
