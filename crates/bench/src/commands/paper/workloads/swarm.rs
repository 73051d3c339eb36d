//! Swarm: four agents write a story, a section each, and the model chooses whose turn is next. In pie each agent is a
//! program of its own and hands the conversation over as keys and values; from outside it is sent again as text.

use super::{Bars, Workload, assistant, options, system, user};
use crate::commands::paper::api::{Ask, Form};

const THEME: &str = "A lighthouse at the end of the world";
const SYSTEM: &str = "You are one of four authors of a story. Write your part only. The theme: ";
const ROLES: [(&str, &str); 4] = [
    ("Concept", "Write the concept of the story in a few sentences."),
    ("Plot Outline", "Write the plot outline of the story in a few sentences."),
    ("Characters", "Describe the two main characters of the story."),
    ("Climax Dialogue", "Write the dialogue at the climax of the story."),
];
const NEXT: &str =
    "Which part of the story is best written next: the plot outline, the characters or the dialogue?";
const TOKENS: usize = 96;

pub(super) const WORKLOAD: Workload = Workload {
    name: "swarm",
    program: "agent-swarm",
    source: include_str!("../../../../../../inferlets/agent-swarm/src/lib.rs"),
    texts: &[
        THEME, SYSTEM, NEXT, ROLES[0].0, ROLES[0].1, ROLES[1].0, ROLES[1].1, ROLES[2].0, ROLES[2].1,
        ROLES[3].0, ROLES[3].1,
    ],
    instances: 32,
    paper: Some(Bars { latency: [0.652, 1.0], throughput: [1.0, 0.791] }),
    arguments: |case| options(&[("group", &case.number.to_string()), ("tokens", &TOKENS.to_string())]),
    baseline: |api, _| {
        let mut messages = vec![system(&format!("{SYSTEM}{THEME}"))];
        let mut left: Vec<(&str, &str)> = ROLES.to_vec();
        let mut next = 0;
        loop {
            messages.push(user(left.remove(next).1));
            let section = api.complete(Ask::new(api.prompt(&messages), TOKENS))?;
            messages.push(assistant(&section));
            let sections: Vec<&str> = left.iter().map(|(section, _)| *section).collect();
            next = match sections.len() {
                0 => return Ok(()),
                1 => 0,
                _ => {
                    let mut question = messages.clone();
                    question.push(user(NEXT));
                    let longest = sections.iter().map(|section| section.len()).max().unwrap_or(0);
                    let ask = Ask::new(api.prompt(&question), longest + 1).form(Form::Choice(&sections));
                    let chosen = api.complete(ask)?;
                    sections.iter().position(|section| *section == chosen).unwrap_or(0)
                }
            };
        }
    },
    differs: None,
};
