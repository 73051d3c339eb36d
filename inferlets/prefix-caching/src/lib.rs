//! A long system prompt is computed once, saved, and opened by every later run, also after a restart of the
//! server.

use inferlet::{Chat, Context, Model, Parameters, Result, SamplingParams, json};

const SYSTEM: &str = include_str!("system.txt");

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// What to ask.
    #[parameter(short = 'p', default = "How do I say `good morning`?")]
    prompt: String,
    /// Tokens to generate at most.
    #[parameter(short = 'n', default = 128)]
    max_tokens: usize,
    /// Delete the saved prompt first.
    #[parameter(short = 'i')]
    invalidate: bool,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt, max_tokens, invalidate } = options;

    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    let tokens = chat.system(SYSTEM).message_tokens()?;
    if invalidate {
        Context::delete(&model, &Context::snapshot_name("prefix-caching", &tokens)).await?;
    }
    let (context, hit) = Context::open_or_prefill(&model, "prefix-caching", &tokens, true).await?;
    let saved = context.tokens().len();
    chat.resume(context);

    let text = chat.user(&prompt).answer(SamplingParams::greedy(), max_tokens).await?.text;
    Ok(json!({ "text": text, "hit": hit, "saved_tokens": saved, "work": model.work().json() }).to_string())
}
