//! Text without end in bounded memory: only a window of the last tokens stays, and the pages of all others
//! are freed.

use inferlet::{Args, Chat, Model, Result, SamplingParams, Window, json, runtime, session};

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let prompt = args.option("prompt", 'p', "what to ask", "Tell me a very long story.".to_string())?;
    let max_tokens: usize = args.option("max-tokens", 'n', "tokens to generate", 512)?;
    let sink = 0;
    let size = args.option("window", 'w', "tokens kept at the end", 32)?;
    args.finish()?;

    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    let context = chat.user(&prompt).generation_prompt()?;
    let window = Window { sink, size };
    let prompt_tokens = context.tokens().len();
    context.prefill_but_last().await?;
    window.slide(context)?;

    let (mut most, mut text) = (0, Vec::new());
    for step in 1..=max_tokens {
        // Stop tokens are passed over: the text goes on to the given length.
        text.push(context.step(&SamplingParams::greedy(), None).await?.token);
        window.slide(context)?;
        if step % 16 == 0 || step == max_tokens {
            most = most.max(runtime::usage().await?.pages_used as usize);
            session::send(model.detokenize(&std::mem::take(&mut text))?).await?;
        }
    }
    session::send("\n".to_string()).await?;
    let page_tokens = model.facts().page_tokens as usize;
    let bound = window.pages(page_tokens);
    let report = json!({
        "tokens": max_tokens,
        "pages_most": most,
        "pages_bound": bound,
        "pages_without": (prompt_tokens + max_tokens).div_ceil(page_tokens),
        "flat": most <= bound,
    });
    Ok(report.to_string())
}
