//! Prompt modules that are computed apart, each at positions of its own, saved, and put together in any
//! selection without computing them again. Only the question is new.

use inferlet::anyhow::bail;
use inferlet::futures::future::try_join_all;
use inferlet::{Args, Context, Layout, Model, Result, SamplingParams, json};

/// A name, and a text that can be understood alone.
const MODULES: [(&str, &str); 4] = [
    ("role", "<|im_start|>system\nYou are a travel guide. Answer from the notes.\n"),
    (
        "rome",
        "Rome: founded in 753 BC, on seven hills. The Colosseum holds 50000 people. Day ticket: 7 euros.\n",
    ),
    ("paris", "Paris: on the Seine. The Louvre is closed on Tuesdays. Day ticket: 8 euros.\n"),
    ("berlin", "Berlin: on the Spree. Museum Island has five museums. Day ticket: 10 euros.\n"),
];

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let names = args.option("modules", 'm', "to use, separated by commas", "role,rome,paris".to_string())?;
    let question = args.option("prompt", 'p', "question", "When is the Louvre closed?".to_string())?;
    let max_tokens = args.option("max-tokens", 'n', "tokens to generate at most", 48)?;
    args.finish()?;

    let model = Model::open_default()?;
    let wanted: Vec<&str> = names.split(',').collect();
    if let Some(unknown) = wanted.iter().find(|name| MODULES.iter().all(|(known, _)| known != *name)) {
        bail!("no module is named `{unknown}`");
    }
    // Every module has its place, whether the ones before it are used or not.
    let mut place = 0;
    let mut chosen = Vec::new();
    for (name, text) in MODULES {
        let tokens = model.tokenize_special(text);
        let next = place + tokens.len() as u32;
        if wanted.contains(&name) {
            chosen.push(module(&model, name, tokens, place));
        }
        place = next;
    }
    let mut prompt = Context::new(&model)?;
    let (mut reused, mut saved_tokens) = (Vec::<&str>::new(), 0);
    for (name, context, hit) in try_join_all(chosen).await? {
        prompt.append_context(&context)?;
        saved_tokens += context.tokens().len();
        reused.extend(hit.then_some(name));
    }
    prompt.append_tokens(&model.tokenize_special("<|im_end|>\n<|im_start|>user\n")).append(&question);
    prompt.append_tokens(&model.tokenize_special("<|im_end|>\n<|im_start|>assistant\n"));
    let text = prompt.generate(SamplingParams::greedy()).max_tokens(max_tokens).text().await?;
    let (work, hits) = (model.work().json(), reused.len());
    let report =
        json!({ "text": text, "reused": reused, "hits": hits, "module_tokens": saved_tokens, "work": work });
    Ok(report.to_string())
}

/// A module with its name, from its snapshot or computed and saved; and whether it was there.
async fn module<'a>(
    model: &Model,
    name: &'a str,
    tokens: Vec<u32>,
    place: u32,
) -> Result<(&'a str, Context, bool)> {
    let key = Context::snapshot_name(&format!("module-{name}-{place}"), &tokens);
    if let Some(context) = Context::find(model, &key, &tokens).await? {
        return Ok((name, context, true));
    }
    let positions = Some((place..).take(tokens.len()).collect());
    let mut context = Context::new(model)?;
    context.append_tokens(&tokens).pass_in(Layout { positions, masks: None }, Vec::new()).await?;
    context.save(&key, true).await?;
    Ok((name, context, false))
}
