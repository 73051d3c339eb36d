//! Guidance by contrast: the model answers with and without an instruction in one batch, and the difference
//! of the two distributions is made larger. A negative instruction in place of none pushes away from it.

use inferlet::futures::try_join;
use inferlet::{Chat, Context, Model, Parameters, Result, SamplingParams, arg_max, json};

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// What to ask.
    #[parameter(short = 'p', default = "Tell me about the sea.")]
    prompt: String,
    /// Instruction.
    #[parameter(short = 's', default = "Answer like a pirate.")]
    system: String,
    /// Instruction to push away from.
    #[parameter(short = 'u', default = "You are helpful.")]
    negative: String,
    /// 1 is the plain answer.
    #[parameter(short = 'g', default = 1.5)]
    guidance: f32,
    /// Tokens to generate at most.
    #[parameter(short = 'n', default = 64)]
    max_tokens: usize,
    /// Compare guidance 1 with plain decoding.
    #[parameter(short = 'c')]
    check: bool,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt, system: wanted, negative: unwanted, guidance: scale, max_tokens, check } = options;

    let model = Model::open_default()?;
    let (mut with, mut without) = (Chat::new(&model)?, Chat::new(&model)?);
    let with = with.system(&wanted).user(&prompt).generation_prompt()?;
    let without = without.system(&unwanted).user(&prompt).generation_prompt()?;
    let tokens = guided(with.fork()?, without.fork()?, scale, max_tokens).await?;
    let mut report = json!({ "text": model.detokenize(&tokens)?, "tokens": tokens.len() });
    if check {
        let one = guided(with.fork()?, without.fork()?, 1.0, max_tokens).await?;
        let plain = with.generate(SamplingParams::greedy()).max_tokens(max_tokens).answer().await?;
        report["equal"] = json!(one == plain.tokens);
        report["differs"] = json!(one != tokens);
    }
    Ok(report.to_string())
}

/// Greedy decoding of `without + scale (with - without)`.
async fn guided(mut with: Context, mut without: Context, scale: f32, max_tokens: usize) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    while tokens.len() < max_tokens {
        let (a, b) = try_join!(with.logits(), without.logits())?;
        // For 1 this is `with` itself, to the last bit.
        let logits: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + (scale - 1.0) * (a - b)).collect();
        let token = arg_max(&logits);
        if with.model().facts().stop_tokens.contains(&token) {
            break;
        }
        tokens.push(token);
        with.append_tokens(&[token]);
        without.append_tokens(&[token]);
    }
    Ok(tokens)
}
