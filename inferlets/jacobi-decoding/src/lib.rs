//! Jacobi decoding: a window of guesses is refined by every pass, which computes all of them at once, and the
//! guesses that equal the model's own tokens are the text. `--check` compares with plain decoding, token by
//! token.

use inferlet::{Chat, Draft, Drafter, Model, Parameters, Result, SamplingParams, json, session};

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

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// What to ask.
    #[parameter(short = 'p', default = "Count from 1 to 50.")]
    prompt: String,
    /// Tokens to generate at most.
    #[parameter(short = 'n', default = 256)]
    max_tokens: usize,
    /// Guesses of one pass.
    #[parameter(short = 'w', default = 5)]
    window: usize,
    /// Decode plainly too, and compare.
    #[parameter(short = 'c')]
    check: bool,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt, max_tokens, window, check } = options;

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
