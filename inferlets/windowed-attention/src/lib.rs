//! Text without end in bounded memory: only a window of the last tokens stays, and the pages of all others
//! are freed. So it is for the prompt, however long.

use inferlet::{Args, Chat, Model, Result, SamplingParams, Window, json, runtime, session};

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let prompt = args.option("prompt", 'p', "what to ask", "Tell me a very long story.".to_string())?;
    let max_tokens: usize = args.option("max-tokens", 'n', "tokens to generate", 512)?;
    let size = args.option("window", 'w', "tokens kept at the end", 32)?;
    args.finish()?;

    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    let context = chat.user(&prompt).generation_prompt()?;
    let (window, prompt_tokens) = (Window { sink: 0, size }, context.tokens().len());
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
