//! Several tokens per pass without a change of the text: the continuation of the same words before is the
//! draft, and one pass verifies the whole draft. `--check` compares with plain decoding, token by token.

use inferlet::{Args, Chat, Model, NgramDrafter, Result, SamplingParams, json, session};

const PROMPT: &str = "Write the numbers from one to twenty in words, twice. Write nothing else.";

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let prompt = args.option("prompt", 'p', "what to ask", PROMPT.to_string())?;
    let max_tokens = args.option("max-tokens", 'n', "tokens to generate at most", 256)?;
    let order = args.option("order", 'o', "tokens that are looked up", 2)?;
    let length = args.option("draft", 'd', "tokens guessed at most", 4)?;
    let branches = args.option("branches", 'b', "continuations guessed at once", 1)?;
    let temperature = args.option("temperature", 't', "0 is greedy", 0.0)?;
    let seed = args.seed()?;
    let check = args.flag("check", 'c', "decode plainly too, and compare");
    args.finish()?;

    let model = Model::open_default()?;
    let sampling = SamplingParams::temperature(temperature).seed(seed);
    let mut chat = Chat::new(&model)?;
    chat.user(&prompt);
    let mut plain = chat.fork()?;

    let mut drafter = NgramDrafter::new(order, length).branches(branches);
    let generation = chat.generate(sampling.clone())?.max_tokens(max_tokens);
    let mut generation = generation.drafter(&mut drafter);
    while let Some(item) = generation.next().await? {
        session::send(item.text).await?;
    }
    session::send("\n".to_string()).await?;
    let usage = generation.usage();
    let mut report = json!({
        "tokens": generation.tokens().len(),
        "passes": usage.passes,
        "drafted": usage.drafted,
        "accepted": usage.accepted,
        "seed": seed,
    });
    if check {
        let expected = plain.generate(sampling)?.max_tokens(max_tokens).answer().await?;
        report["equal"] = json!(expected.tokens == generation.tokens());
    }
    Ok(report.to_string())
}
