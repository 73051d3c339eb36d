//! Recursion of thought: a problem is answered, or split in two that are solved at once and put together.

use super::{Bars, Case, Workload, options, system, user};
use crate::commands::paper::api::{Api, Ask, Form};
use crate::commands::paper::measure::branches;

const SYSTEM: &str = "You solve a problem by splitting it into smaller ones.";
const QUESTION: &str = "What is the product of 123456789 and 987654321?";
const DIVIDE: &str = "Write two smaller problems that help to solve this one, as \
    <branch>problem</branch><branch>problem</branch>. Only if you know the answer, write <leaf>answer</leaf>. ";
const FORM: &str = "<leaf>[^<\n]{1,80}</leaf>|<branch>[^<\n]{1,80}</branch><branch>[^<\n]{1,80}</branch>";
const GBNF: &str = r#"root ::= "<leaf>" text "</leaf>" | "<branch>" text "</branch><branch>" text "</branch>"
text ::= [^<\n]{1,80}"#;

pub(super) const WORKLOAD: Workload = Workload {
    name: "rot",
    program: "recursion-of-thought",
    source: include_str!("../../../../../../inferlets/recursion-of-thought/src/lib.rs"),
    texts: &[SYSTEM, DIVIDE, FORM],
    instances: 32,
    paper: Some(Bars { latency: [0.80, 1.0], throughput: [1.0, 0.552] }),
    arguments: |case| {
        let (depth, tokens) = bounds(case);
        options(&[("question", QUESTION), ("depth", &depth.to_string()), ("max-tokens", &tokens.to_string())])
    },
    baseline: |api, case| solve(api, QUESTION, bounds(case), 0).map(drop),
    differs: None,
};

/// Depth and tokens. A small model splits every problem, so the work doubles with each level.
fn bounds(case: Case) -> (usize, usize) {
    if case.full { (5, 256) } else { (2, 64) }
}

fn solve(api: &Api, problem: &str, bounds: (usize, usize), depth: usize) -> anyhow::Result<String> {
    let (max_depth, tokens) = bounds;
    let ask = |question: &str| Ask::new(api.prompt(&[system(SYSTEM), user(question)]), tokens);
    if depth >= max_depth {
        return api.complete(ask(&format!("Answer briefly: {problem}")));
    }
    let form = Form::Regex { regex: FORM, gbnf: GBNF };
    let split = api.complete(ask(&format!("{DIVIDE}{problem}")).form(form))?;
    if let Some(answer) = within(&split, "leaf").pop() {
        return Ok(answer);
    }
    let [first, second] = &within(&split, "branch")[..] else {
        return api.complete(ask(&format!("Answer briefly: {problem}")));
    };
    let halves = [first, second];
    let solved = branches(2, |half| solve(api, halves[half], bounds, depth + 1))?;
    let known = format!("{first}: {}\n{second}: {}\nPut together, briefly: {problem}", solved[0], solved[1]);
    api.complete(ask(&known))
}

/// The texts between `<tag>` and `</tag>`.
fn within(text: &str, tag: &str) -> Vec<String> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    text.split(&open).skip(1).filter_map(|part| Some(part.split_once(&close)?.0.trim().to_string())).collect()
}
