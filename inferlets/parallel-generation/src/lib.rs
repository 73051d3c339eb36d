//! Two continuations of one prompt, generated at once: the prompt is computed once, every step is one batch.

use inferlet::futures::try_join;
use inferlet::{Args, Context, Model, Result, Sampler, json};

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let prompt = args.option("prompt", 'p', "text before both", "The weather in spring is".to_string())?;
    let first = args.option("first", 'a', "how one goes on", " pleasant, because".to_string())?;
    let second = args.option("second", 'b', "how the other goes on", " unpleasant, because".to_string())?;
    let max_tokens = args.option("max-tokens", 'n', "tokens to generate at most, each", 32)?;
    args.finish()?;

    let model = Model::open_default()?;
    let mut one = Context::new(&model)?;
    one.fill(&prompt).flush().await?;
    let mut two = one.fork()?;
    let (one, two) = (one.fill(&first), two.fill(&second));
    let (one, two) = try_join!(
        one.generate(Sampler::greedy()).max_tokens(max_tokens).text(),
        two.generate(Sampler::greedy()).max_tokens(max_tokens).text(),
    )?;
    let texts = [format!("{prompt}{first}{one}"), format!("{prompt}{second}{two}")];
    Ok(json!({ "texts": texts, "work": model.work().json() }).to_string())
}
