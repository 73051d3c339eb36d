//! Skeleton of thought: first an outline, then every point of it at once, each in a fork of the conversation
//! with the outline in sight.

use inferlet::{Chat, Grammar, Model, Parameters, Result, SamplingParams, answer_all, json, session};

const SYSTEM: &str = "You write clear and factual texts.";

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// What to write about.
    #[parameter(short = 'q', default = "What are the defining characteristics of Rome?")]
    question: String,
    /// Of the outline at most.
    #[parameter(short = 'p', default = 3)]
    points: usize,
    /// Tokens of the outline at most.
    #[parameter(short = 't', default = 80)]
    plan_tokens: usize,
    /// Tokens of each point at most.
    #[parameter(short = 'e', default = 80)]
    elaboration_tokens: usize,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { question, points, plan_tokens, elaboration_tokens: point_tokens } = options;

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
