//! Graph of thought: proposals of different lengths are merged two by two, in the order in which they finish.

use std::sync::Mutex;
use std::sync::PoisonError;

use super::{Bars, Workload, assistant, options, system, user};
use crate::commands::paper::api::{Api, Ask};
use crate::commands::paper::markup::Message;

const SYSTEM: &str = "You are a thoughtful adviser who writes briefly.";
const QUESTION: &str = "How can a small town attract visitors?";
const MERGE: &str = "Compare this with your idea and join the two into one: ";
const LENGTHS: [usize; 8] = [4, 32, 16, 8, 4, 16, 3, 32];
const LENGTHS_TEXT: &str = "4,32,16,8,4,16,3,32";
const MERGED_TOKENS: usize = 64;
const TEMPERATURE: f64 = 0.8;

pub(super) const WORKLOAD: Workload = Workload {
    name: "got",
    program: "graph-of-thought",
    source: include_str!("../../../../../../inferlets/graph-of-thought/src/lib.rs"),
    texts: &[SYSTEM, QUESTION, MERGE, LENGTHS_TEXT],
    instances: 128,
    paper: Some(Bars { latency: [0.875, 1.0], throughput: [1.0, 0.542] }),
    arguments: |case| {
        options(&[
            ("question", QUESTION),
            ("proposal-tokens", LENGTHS_TEXT),
            ("aggregation-tokens", &MERGED_TOKENS.to_string()),
            ("drafts", "1"),
            ("seed", &case.number.to_string()),
        ])
    },
    baseline: |api, case| {
        let start = [system(SYSTEM), user(&format!("{QUESTION} Propose one idea."))];
        let (waiting, start, seed) = (&Mutex::new(None), &start, case.number as u64);
        std::thread::scope(|scope| {
            let proposing: Vec<_> = (1..)
                .zip(LENGTHS)
                .map(|(number, length)| {
                    scope.spawn(move || {
                        let proposal = think(api, start.to_vec(), length, seed + number * 1000)?;
                        merge(api, waiting, proposal, seed + number * 1000)
                    })
                })
                .collect();
            for thread in proposing {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            Ok(())
        })
    },
    differs: Some("draws differ, so texts and their lengths do"),
};

fn think(api: &Api, mut messages: Vec<Message>, tokens: usize, seed: u64) -> anyhow::Result<Vec<Message>> {
    let text = api.complete(Ask::new(api.prompt(&messages), tokens).drawn(TEMPERATURE, seed))?;
    messages.push(assistant(&text));
    Ok(messages)
}

/// A thought that is complete waits for another, or is merged with the one that waits, until one is left.
fn merge(
    api: &Api,
    waiting: &Mutex<Option<Vec<Message>>>,
    mut thought: Vec<Message>,
    mut seed: u64,
) -> anyhow::Result<()> {
    loop {
        let mut place = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(earlier) = place.take() else {
            *place = Some(thought);
            return Ok(());
        };
        drop(place);
        let text = earlier.last().map_or("", |(_, text)| text);
        thought.push(user(&format!("{MERGE}{text}")));
        seed += 1;
        thought = think(api, thought, MERGED_TOKENS, seed)?;
    }
}
