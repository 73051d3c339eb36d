//! Jacobi decoding: a window of guesses is refined by every pass, which computes all of them at once, and the
//! guesses that equal the model's own tokens are the text. `--check` compares with plain decoding, token by
//! token.

use inferlet::{Args, Chat, Draft, Drafter, Model, Result, SamplingParams, json, session};

/// Guesses the tokens that the last pass drew after the first wrong guess.
struct Jacobi {
    window: usize,
    guesses: Vec<u32>,
}

impl Drafter for Jacobi {
    async fn draft(&mut self, tokens: &[u32]) -> Result<Draft> {
        // Places that no pass has looked at yet begin with the text's own last token.
        self.guesses.resize(self.window, tokens.last().copied().unwrap_or(0));
        Ok(std::mem::take(&mut self.guesses).into())
    }

    fn rejected(&mut self, drawn: &[u32]) {
        self.guesses = drawn.to_vec();
    }
}

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let prompt = args.option("prompt", 'p', "what to ask", "Count from 1 to 50.".to_string())?;
    let max_tokens = args.option("max-tokens", 'n', "tokens to generate at most", 256)?;
    let window = args.option("window", 'w', "guesses of one pass", 5)?;
    let check = args.flag("check", 'c', "decode plainly too, and compare");
    args.finish()?;

    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    chat.user(&prompt);
    let mut plain = chat.fork()?;

    let mut jacobi = Jacobi { window, guesses: Vec::new() };
    let generation = chat.generate(SamplingParams::greedy())?.max_tokens(max_tokens);
    let mut generation = generation.drafter(&mut jacobi);
    while let Some(item) = generation.next().await? {
        session::send(item.text).await?;
    }
    session::send("\n".to_string()).await?;
    let (tokens, usage) = (generation.tokens().len(), generation.usage());
    let mut report = json!({ "tokens": tokens, "passes": usage.passes, "accepted": usage.accepted });
    if check {
        let expected = plain.generate(SamplingParams::greedy())?.max_tokens(max_tokens).answer().await?;
        report["equal"] = json!(expected.tokens == generation.tokens());
    }
    Ok(report.to_string())
}
