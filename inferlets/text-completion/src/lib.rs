//! Answers a prompt and streams the text to the client: the smallest complete inferlet.

use std::time::Instant;

use inferlet::{Chat, Model, Parameters, Result, SamplingParams, random_seed, session};

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// What to ask.
    #[parameter(short = 'p', default = "Explain the LLM decoding process ELI5.")]
    prompt: String,
    /// Tokens to generate at most.
    #[parameter(short = 'n', default = 256)]
    max_tokens: usize,
    /// System prompt.
    #[parameter(short = 's', default = "You are a helpful assistant.")]
    system: String,
    /// 0 is greedy.
    #[parameter(short = 't', default = 0.0)]
    temperature: f32,
    /// Seed of the random draws; a random one without it.
    #[parameter(short = 'r')]
    seed: Option<u64>,
    /// Return the text as the program's result too.
    #[parameter(short = 'o')]
    output: bool,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt, max_tokens, system, temperature, output, seed } = options;
    let seed = seed.unwrap_or_else(random_seed);

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
        assert_eq!(host.run(main(Options::from_arguments(&arguments).unwrap())).unwrap(), "Hi!");
        assert_eq!(host.sent()[..3], ["H", "i", "!"]);
    }
}
