//! A long system prompt is computed once, saved, and opened by every later run, also after a restart of the
//! server.

use inferlet::{Args, Chat, Context, Model, Result, SamplingParams, json};

const SYSTEM: &str = include_str!("system.txt");

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let prompt = args.option("prompt", 'p', "what to ask", "How do I say `good morning`?".to_string())?;
    let max_tokens = args.option("max-tokens", 'n', "tokens to generate at most", 128)?;
    let invalidate = args.flag("invalidate", 'i', "delete the saved prompt first");
    args.finish()?;

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
