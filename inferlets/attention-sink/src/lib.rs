//! Text without end in bounded memory (StreamingLLM): the first tokens and a window of the last ones stay,
//! the tokens between leave attention and their pages are freed. So it is for the prompt, however long.

use inferlet::{Chat, Model, Parameters, Result, SamplingParams, Window, json, runtime, session};

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// What to ask.
    #[parameter(short = 'p', default = "Tell me a very long story.")]
    prompt: String,
    /// Tokens to generate.
    #[parameter(short = 'n', default = 512)]
    max_tokens: usize,
    /// Tokens kept at the beginning.
    #[parameter(short = 's', default = 64)]
    sink: usize,
    /// Tokens kept at the end.
    #[parameter(short = 'w', default = 32)]
    window: usize,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt, max_tokens, sink, window: size } = options;

    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    let context = chat.user(&prompt).generation_prompt()?;
    let (window, prompt_tokens) = (Window { sink, size }, context.tokens().len());
    // Stop tokens are passed over: the text goes on to the given length.
    let generation = context.generate(SamplingParams::greedy()).ignore_stop_tokens();
    let mut generation = generation.window(window).max_tokens(max_tokens);
    let mut pages_most = 0;
    while let Some(item) = generation.next().await? {
        pages_most = pages_most.max(runtime::usage().await?.pages_used as usize);
        session::send(item.text).await?;
    }
    session::send("\n".to_string()).await?;
    let page_tokens = model.facts().page_tokens as usize;
    let report = json!({
        "prompt_tokens": prompt_tokens,
        "tokens": generation.tokens().len(),
        "pages_most": pages_most,
        "pages_bound": window.pages(page_tokens),
        "pages_without": (prompt_tokens + max_tokens).div_ceil(page_tokens),
    });
    Ok(report.to_string())
}
