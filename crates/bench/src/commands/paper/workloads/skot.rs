//! Skeleton of thought: an outline, then all of its points at once.

use super::{Bars, Workload, assistant, options, system, user};
use crate::commands::paper::api::{Ask, Form};
use crate::commands::paper::measure::branches;

const SYSTEM: &str = "You write clear and factual texts.";
const QUESTION: &str = "What are the defining characteristics of Rome?";
const POINTS: usize = 3;
const TOKENS: usize = 80;
const FORM: &str = "(<point>[^<\n]{3,60}</point>\n?){1,3}";
const GBNF: &str = r#"root ::= ("<point>" [^<\n]{3,60} "</point>" "\n"?){1,3}"#;

pub(super) const WORKLOAD: Workload = Workload {
    name: "skot",
    program: "skeleton-of-thought",
    source: include_str!("../../../../../../inferlets/skeleton-of-thought/src/lib.rs"),
    texts: &[SYSTEM, QUESTION, "(<point>[^<\n]{{3,60}}</point>\n?){{1,{}}}"],
    instances: 128,
    paper: Some(Bars { latency: [0.821, 1.0], throughput: [1.0, 0.598] }),
    arguments: |_| {
        let tokens = TOKENS.to_string();
        let points = POINTS.to_string();
        let limits = [("plan-tokens", &tokens[..]), ("elaboration-tokens", &tokens)];
        options(&[&[("question", QUESTION), ("points", &points)], &limits[..]].concat())
    },
    baseline: |api, _| {
        let question =
            format!("{QUESTION} Outline the answer in up to {POINTS} points: <point>a few words</point>.");
        let mut messages = vec![system(SYSTEM), user(&question)];
        let form = Form::Regex { regex: FORM, gbnf: GBNF };
        let outline = api.complete(Ask::new(api.prompt(&messages), TOKENS).form(form))?;
        let found = outline.split("<point>").filter_map(|part| Some(part.split_once("</point>")?.0.trim()));
        let found: Vec<&str> = found.collect();
        messages.push(assistant(&outline));
        branches(found.len(), |point| {
            let mut messages = messages.clone();
            messages.push(user(&format!(
                "Write two sentences on this point of the outline only: {}",
                found[point]
            )));
            api.complete(Ask::new(api.prompt(&messages), TOKENS))
        })?;
        Ok(())
    },
    differs: None,
};
