//! A prompt that ends within a word's usual token ("https:" or "The capital of Fra") makes the model stumble.
//! Here its last token is taken back, and the model chooses again among the tokens that begin with, or are a
//! beginning of, the text taken back.

use inferlet::{Args, Context, Grammar, Model, Result, SamplingParams, json, regex_literal};

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let prompt = args.option("prompt", 'p', "text to complete", "The capital city of Fra".to_string())?;
    let max_tokens = args.option("max-tokens", 'n', "tokens to generate at most", 16)?;
    args.finish()?;

    let model = Model::open_default()?;
    let mut context = Context::new(&model)?;
    let mut tokens = model.tokenize(&prompt)?;
    context.append_tokens(&tokens);
    let plain = context.generate(SamplingParams::greedy()).max_tokens(max_tokens).answer().await?.text;

    // The text before must not be empty: a pass needs a token.
    let last = if tokens.len() > 1 { tokens.pop() } else { None };
    let taken_back = model.detokenize(last.as_slice())?;
    let begin = regex_literal(&taken_back);
    let constraint = model.constraint(Grammar::Regex(format!("{begin}(?s:.*)"))).await?;
    context.truncate(tokens.len() - 1)?;
    context.append_tokens(&tokens[tokens.len() - 1..]);
    let healed = context.generate(SamplingParams::greedy()).constrain(&constraint).max_tokens(max_tokens);
    let healed = healed.answer().await?.text;

    let kept = model.detokenize(&tokens)?;
    let (plain, text) = (format!("{prompt}{plain}"), format!("{kept}{healed}"));
    let starts = text.starts_with(&prompt);
    Ok(json!({ "taken_back": taken_back, "plain": plain, "healed": text, "keeps_prompt": starts })
        .to_string())
}
