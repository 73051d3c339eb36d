//! Tree of thought: ways are proposed and graded, the best two carried out and graded again; two branches of each node.

use super::{Bars, Workload, assistant, options, system, user};
use crate::commands::paper::api::{Api, Ask, Form};
use crate::commands::paper::markup::Message;
use crate::commands::paper::measure::branches;

const SYSTEM: &str = "You solve problems step by step and write as little as possible.";
const QUESTION: &str = "What is the sum of 12345 and 54321?";
const PROPOSE: &str = "Propose one way to solve this, in one sentence: ";
const EXECUTE: &str = "Carry out this way and give the result.";
const REFLECT: &str = "How good is this, from 1 (wrong) to 5 (certainly right)? Answer with the number only.";
const GRADES: [&str; 5] = ["1", "2", "3", "4", "5"];
const BRANCHES: usize = 2;
const KEEP: usize = 2;
const TOKENS: usize = 64;
const TEMPERATURE: f64 = 0.8;

pub(super) const WORKLOAD: Workload = Workload {
    name: "tot",
    program: "tree-of-thought",
    source: include_str!("../../../../../../inferlets/tree-of-thought/src/lib.rs"),
    texts: &[SYSTEM, QUESTION, PROPOSE, EXECUTE, REFLECT],
    instances: 64,
    paper: Some(Bars { latency: [0.687, 1.0], throughput: [1.0, 0.533] }),
    arguments: |case| {
        options(&[
            ("question", QUESTION),
            ("branches", &BRANCHES.to_string()),
            ("keep", &KEEP.to_string()),
            ("max-tokens", &TOKENS.to_string()),
            ("temperature", &TEMPERATURE.to_string()),
            ("seed", &case.number.to_string()),
        ])
    },
    baseline: |api, case| {
        let seed = case.number as u64;
        let ways = think(api, &[system(SYSTEM), user(&format!("{PROPOSE}{QUESTION}"))], seed)?;
        let mut ways = reflect(api, ways, seed)?;
        ways.truncate(KEEP);
        let results = branches(ways.len(), |way| {
            let mut messages = ways[way].clone();
            messages.push(user(EXECUTE));
            think(api, &messages, seed)
        })?;
        reflect(api, results.into_iter().flatten().collect(), seed)?;
        Ok(())
    },
    differs: Some("draws differ, so texts and their lengths do"),
};

/// Answers a conversation in several branches.
fn think(api: &Api, messages: &[Message], seed: u64) -> anyhow::Result<Vec<Vec<Message>>> {
    branches(BRANCHES, |branch| {
        let ask = Ask::new(api.prompt(messages), TOKENS).drawn(TEMPERATURE, seed + branch as u64);
        let thought = api.complete(ask)?;
        Ok([messages, &[assistant(&thought)]].concat())
    })
}

/// Grades every thought several times; the best come first.
fn reflect(api: &Api, thoughts: Vec<Vec<Message>>, seed: u64) -> anyhow::Result<Vec<Vec<Message>>> {
    let grades = branches(thoughts.len() * BRANCHES, |number| {
        let mut messages = thoughts[number / BRANCHES].clone();
        messages.push(user(REFLECT));
        let ask = Ask::new(api.prompt(&messages), 2).form(Form::Choice(&GRADES));
        let grade = api.complete(ask.drawn(TEMPERATURE, seed + (number % BRANCHES) as u64))?;
        Ok(GRADES.iter().position(|one| *one == grade).map_or(0, |index| index + 1))
    })?;
    let sums = grades.chunks(BRANCHES).map(|grades| grades.iter().sum::<usize>());
    let mut graded: Vec<(usize, Vec<Message>)> = sums.zip(thoughts).collect();
    graded.sort_by_key(|(grade, _)| std::cmp::Reverse(*grade));
    Ok(graded.into_iter().map(|(_, thought)| thought).collect())
}
