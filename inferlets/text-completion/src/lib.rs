//! Answers a prompt and streams the text to the client: the smallest complete inferlet.

use std::time::Instant;

use inferlet::{Args, Chat, Model, Result, SamplingParams, session};

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let prompt =
        args.option("prompt", 'p', "what to ask", "Explain the LLM decoding process ELI5.".to_string())?;
    let max_tokens = args.option("max-tokens", 'n', "tokens to generate at most", 256)?;
    let system = args.option("system", 's', "system prompt", "You are a helpful assistant.".to_string())?;
    let temperature = args.option("temperature", 't', "0 is greedy", 0.0)?;
    let seed = args.seed()?;
    let output = args.flag("output", 'o', "return the text as the program's result too");
    args.finish()?;

    let mut chat = Chat::new(&Model::open_default()?)?;
    chat.system(&system).user(&prompt);

    let start = Instant::now();
    let mut generation =
        chat.generate(SamplingParams::temperature(temperature).seed(seed))?.max_tokens(max_tokens);
    while let Some(item) = generation.next().await? {
        session::send(item.text).await?;
    }
    let (tokens, seed) = (generation.tokens().len(), generation.seed());

    let elapsed = start.elapsed();
    session::send(format!("\n({tokens} tokens, total elapsed: {elapsed:.1?}, seed {seed})\n")).await?;
    session::send(format!("Per token latency: {:.3?}\n", elapsed / tokens.max(1) as u32)).await?;
    Ok(if output { generation.text().to_string() } else { String::new() })
}

#[cfg(test)]
mod tests {
    use inferlet::testing::{Host, ScriptedModel};

    use super::*;

    #[test]
    fn the_answer_is_streamed_and_returned() {
        let host = Host::new().model(ScriptedModel::new().says("Hello?", "Hi!"));
        let arguments = ["--prompt", "Hello?", "--output"].map(str::to_string).to_vec();
        assert_eq!(host.run(main(Args::new(arguments))).unwrap(), "Hi!");
        assert_eq!(host.sent()[..3], ["H", "i", "!"]);
    }
}
