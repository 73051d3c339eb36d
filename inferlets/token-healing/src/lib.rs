//! A prompt that ends within a word's usual token ("https:" or "The capital of Fra") makes the model stumble.
//! Here its last token is taken back, and the model chooses again among the tokens that begin with, or are a
//! beginning of, the text taken back.

use inferlet::{Context, Grammar, Model, Parameters, Result, SamplingParams, json, regex_literal};

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// Text to complete.
    #[parameter(short = 'p', default = "The capital city of Fra")]
    prompt: String,
    /// Tokens to generate at most.
    #[parameter(short = 'n', default = 16)]
    max_tokens: usize,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt, max_tokens } = options;

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
