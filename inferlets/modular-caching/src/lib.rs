//! Prompt modules that are computed apart, each at positions of its own, saved, and put together in any
//! selection without computing them again. Together they are the system message of the model's own template;
//! only the question is new.

use inferlet::anyhow::bail;
use inferlet::futures::future::try_join_all;
use inferlet::{Chat, Context, Layout, Model, Parameters, Result, SamplingParams, json};

/// A name, and a text that can be understood alone.
const MODULES: [(&str, &str); 4] = [
    ("role", "You are a travel guide. Answer from the notes.\n"),
    (
        "rome",
        "Rome: founded in 753 BC, on seven hills. The Colosseum holds 50000 people. Day ticket: 7 euros.\n",
    ),
    ("paris", "Paris: on the Seine. The Louvre is closed on Tuesdays. Day ticket: 8 euros.\n"),
    ("berlin", "Berlin: on the Spree. Museum Island has five museums. Day ticket: 10 euros.\n"),
];

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// To use, separated by commas.
    #[parameter(short = 'm', default = "role,rome,paris")]
    modules: String,
    /// Question.
    #[parameter(short = 'p', default = "When is the Louvre closed?")]
    prompt: String,
    /// Tokens to generate at most.
    #[parameter(short = 'n', default = 48)]
    max_tokens: usize,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let model = Model::open_default()?;
    let wanted: Vec<&str> = options.modules.split(',').collect();
    if let Some(unknown) = wanted.iter().find(|name| MODULES.iter().all(|(known, _)| known != *name)) {
        bail!("no module is named `{unknown}`");
    }
    let (head, tail) = around(&model, &options.prompt)?;
    // Every module has its place, whether the ones before it are used or not. What the template writes before
    // them is one of them.
    let tokenized = MODULES.into_iter().map(|(name, text)| Ok((name, model.tokenize(text)?)));
    let mut place = 0;
    let mut chosen = Vec::new();
    for (name, tokens) in [("head", head)].into_iter().chain(tokenized.collect::<Result<Vec<_>>>()?) {
        let next = place + tokens.len() as u32;
        if name == "head" || wanted.contains(&name) {
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
    prompt.append_tokens(&tail);
    let text = prompt.generate(SamplingParams::greedy()).max_tokens(options.max_tokens).answer().await?.text;
    let work = model.work().json();
    let report = json!({ "text": text, "reused": reused, "module_tokens": saved_tokens, "work": work });
    Ok(report.to_string())
}

/// The tokens of the template before the text of a system message, and those after it, with the question: the
/// tokens that two prompts with different system messages have in common.
fn around(model: &Model, question: &str) -> Result<(Vec<u32>, Vec<u32>)> {
    let prompt = |system: &str| -> Result<Vec<u32>> {
        Ok(Chat::new(model)?.system(system).user(question).generation_prompt()?.tokens().to_vec())
    };
    let (one, two) = (prompt("1")?, prompt("2")?);
    let head = one.iter().zip(&two).take_while(|(a, b)| a == b).count();
    let tail = one.iter().rev().zip(two.iter().rev()).take_while(|(a, b)| a == b).count();
    Ok((one[..head].to_vec(), one[one.len() - tail..].to_vec()))
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
