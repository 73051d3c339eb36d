//! Guidance by contrast: the model answers with and without an instruction in one batch, and the difference
//! of the two distributions is made larger. A negative instruction in place of none pushes away from it.

use inferlet::futures::try_join;
use inferlet::{Args, Chat, Context, Model, Result, SamplingParams, arg_max, json};

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let prompt = args.option("prompt", 'p', "what to ask", "Tell me about the sea.".to_string())?;
    let wanted = args.option("system", 's', "instruction", "Answer like a pirate.".to_string())?;
    let unwanted =
        args.option("negative", 'u', "instruction to push away from", "You are helpful.".to_string())?;
    let scale: f32 = args.option("guidance", 'g', "1 is the plain answer", 1.5)?;
    let max_tokens = args.option("max-tokens", 'n', "tokens to generate at most", 64)?;
    let check = args.flag("check", 'c', "compare guidance 1 with plain decoding");
    args.finish()?;

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
