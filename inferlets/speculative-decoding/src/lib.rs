//! Several tokens per pass without a change of the text: the continuation of the same words before is the
//! draft, and one pass verifies the whole draft. `--check` compares with plain decoding, token by token.

use inferlet::{Chat, Model, NgramDrafter, Parameters, Result, SamplingParams, json, random_seed, session};

const PROMPT: &str = "Write the numbers from one to twenty in words, twice. Write nothing else.";

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// What to ask.
    #[parameter(short = 'p', default = PROMPT)]
    prompt: String,
    /// Tokens to generate at most.
    #[parameter(short = 'n', default = 256)]
    max_tokens: usize,
    /// Tokens that are looked up.
    #[parameter(short = 'o', default = 2)]
    order: usize,
    /// Tokens guessed at most.
    #[parameter(short = 'd', default = 4)]
    draft: usize,
    /// Continuations guessed at once.
    #[parameter(short = 'b', default = 1)]
    branches: usize,
    /// 0 is greedy.
    #[parameter(short = 't', default = 0.0)]
    temperature: f32,
    /// Seed of the random draws; a random one without it.
    #[parameter(short = 'r')]
    seed: Option<u64>,
    /// Decode plainly too, and compare.
    #[parameter(short = 'c')]
    check: bool,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt, max_tokens, order, draft: length, branches, temperature, check, seed } = options;
    let seed = seed.unwrap_or_else(random_seed);

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
