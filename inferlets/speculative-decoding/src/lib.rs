//! Several tokens per pass without a change of the text: the continuation of the same words before is the
//! draft, and one pass verifies the whole draft. `--check` compares with plain decoding, token by token.

use inferlet::{Args, Chat, Model, NgramDrafter, Result, SamplingParams, Speculation, json, session};

const PROMPT: &str = "Write the numbers from one to twenty in words, twice. Write nothing else.";

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let prompt = args.option("prompt", 'p', "what to ask", PROMPT.to_string())?;
    let max_tokens = args.option("max-tokens", 'n', "tokens to generate at most", 256)?;
    let order = args.option("order", 'o', "tokens that are looked up", 2)?;
    let length = args.option("draft", 'd', "tokens guessed at most", 4)?;
    let temperature = args.option("temperature", 't', "0 is greedy", 0.0)?;
    let seed = args.seed()?;
    let check = args.flag("check", 'c', "decode plainly too, and compare");
    args.finish()?;

    let model = Model::open_default()?;
    let sampling = SamplingParams::temperature(temperature).seed(seed);
    let mut chat = Chat::new(&model)?;
    chat.user(&prompt);
    let mut plain = chat.fork()?;

    let drafter = NgramDrafter::new(order, length);
    let mut generation =
        Speculation::new(chat.generation_prompt()?, sampling.clone(), drafter).max_tokens(max_tokens);
    while let Some(tokens) = generation.next().await? {
        session::send(model.detokenize(&tokens)?).await?;
    }
    session::send("\n".to_string()).await?;
    let mut report = json!({
        "tokens": generation.tokens().len(),
        "passes": generation.passes,
        "drafted": generation.drafted,
        "accepted": generation.accepted,
        "seed": seed,
    });
    if check {
        let mut expected = plain.generate(sampling)?.max_tokens(max_tokens);
        expected.rest().await?;
        report["equal"] = json!(expected.tokens() == generation.tokens());
    }
    Ok(report.to_string())
}
