//! Jacobi decoding: a window of guesses is refined by every pass, which computes all of them at once, and the
//! guesses that equal the model's own tokens are the text. `--check` compares with plain decoding, token by
//! token.

use inferlet::{Args, Chat, Drafter, Model, Result, SamplingParams, Speculation, json, session};

/// Guesses the tokens that the last pass drew after the first wrong guess.
struct Jacobi {
    window: usize,
    guesses: Vec<u32>,
}

impl Drafter for Jacobi {
    fn draft(&mut self, tokens: &[u32]) -> Vec<u32> {
        // Places that no pass has looked at yet begin with the text's own last token.
        self.guesses.resize(self.window, tokens.last().copied().unwrap_or(0));
        std::mem::take(&mut self.guesses)
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

    let jacobi = Jacobi { window, guesses: Vec::new() };
    let mut generation =
        Speculation::new(chat.generation_prompt()?, SamplingParams::greedy(), jacobi).max_tokens(max_tokens);
    while let Some(tokens) = generation.next().await? {
        session::send(model.detokenize(&tokens)?).await?;
    }
    session::send("\n".to_string()).await?;
    let mut report = json!({
        "tokens": generation.tokens().len(),
        "passes": generation.passes,
        "accepted": generation.accepted,
    });
    if check {
        let mut expected = plain.generate(SamplingParams::greedy())?.max_tokens(max_tokens);
        expected.rest().await?;
        report["equal"] = json!(expected.tokens() == generation.tokens());
    }
    Ok(report.to_string())
}
