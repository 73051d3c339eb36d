//! Skeleton of thought: first an outline, then every point of it at once, each in a fork of the conversation
//! with the outline in sight.

use inferlet::{Args, Chat, Grammar, Model, Result, SamplingParams, answer_all, json, session};

const SYSTEM: &str = "You write clear and factual texts.";

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let default = "What are the defining characteristics of Rome?".to_string();
    let question = args.option("question", 'q', "what to write about", default)?;
    let points: usize = args.option("points", 'p', "of the outline at most", 3)?;
    let plan_tokens = args.option("plan-tokens", 't', "tokens of the outline at most", 80)?;
    let point_tokens = args.option("elaboration-tokens", 'e', "tokens of each point at most", 80)?;
    args.finish()?;

    let model = Model::open_default()?;
    let mut plan = Chat::new(&model)?;
    plan.system(SYSTEM).user(&format!(
        "{question} Outline the answer in up to {points} points: <point>a few words</point>."
    ));
    // The form is the grammar's concern; a last point cut off by the limit is not among those found.
    let form = format!("(<point>[^<\n]{{3,60}}</point>\n?){{1,{}}}", points.max(1));
    let constraint = model.constraint(Grammar::Regex(form)).await?;
    let outline = plan.generate(SamplingParams::greedy())?.constrain(&constraint).max_tokens(plan_tokens);
    let outline = outline.answer().await?.text;
    let found = outline.split("<point>").filter_map(|part| Some(part.split_once("</point>")?.0.trim()));
    let found: Vec<&str> = found.collect();

    plan.assistant(&outline).prefill().await?;
    let mut forks = found.iter().map(|_| plan.fork()).collect::<Result<Vec<_>>>()?;
    for (fork, point) in forks.iter_mut().zip(&found) {
        fork.user(&format!("Write two sentences on this point of the outline only: {point}"));
    }
    let before = model.work();
    let answers = answer_all(&mut forks, SamplingParams::greedy(), point_tokens).await?;
    let texts: Vec<&str> = answers.iter().map(|answer| &answer.text[..]).collect();
    let together = (model.work() - before).passes_per_batch();
    for (point, text) in found.iter().zip(&texts) {
        session::send(format!("## {point}\n{}\n\n", text.trim())).await?;
    }
    Ok(json!({ "points": found, "texts": texts, "together": together, "work": model.work().json() })
        .to_string())
}
