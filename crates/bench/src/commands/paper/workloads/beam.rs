//! Beam search: five beams. The program forks contexts; from outside a client asks for the likeliest next tokens of each
//! beam, step by step, with the text so far.

use super::{Bars, Workload, options, user};
use crate::commands::paper::measure::branches;

const PROMPT: &str = "What is the capital of France?";
const BEAMS: usize = 5;
const TOKENS: usize = 64;

/// A beam of the client: its text, the sum of its log-probabilities, and whether it has ended.
type Beam = (String, f64, bool);

pub(super) const WORKLOAD: Workload = Workload {
    name: "beam",
    program: "beam-search",
    source: include_str!("../../../../../../inferlets/beam-search/src/lib.rs"),
    texts: &[PROMPT],
    instances: 128,
    paper: Some(Bars { latency: [1.0, 0.60], throughput: [1.0, 0.558] }),
    arguments: |_| {
        options(&[("prompt", PROMPT), ("beams", &BEAMS.to_string()), ("max-tokens", &TOKENS.to_string())])
    },
    baseline: |api, _| {
        let prompt = api.prompt(&[user(PROMPT)]);
        let mut beams: Vec<Beam> = vec![(String::new(), 0.0, false)];
        for _ in 0..TOKENS {
            let live: Vec<usize> = (0..beams.len()).filter(|beam| !beams[*beam].2).collect();
            if live.is_empty() {
                break;
            }
            let found = branches(live.len(), |number| {
                api.next_tokens(&format!("{prompt}{}", beams[live[number]].0), BEAMS)
            })?;
            let mut next: Vec<Beam> = beams.iter().filter(|beam| beam.2).cloned().collect();
            for (beam, tokens) in live.iter().zip(found) {
                let (text, score, _) = &beams[*beam];
                // A token that ends the answer has no text, or that of its mark.
                next.extend(tokens.into_iter().map(|(token, logprob)| {
                    let ends = token.is_empty() || token.starts_with("<|");
                    let text = if ends { text.clone() } else { format!("{text}{token}") };
                    (text, score + logprob, ends)
                }));
            }
            next.sort_by(|a, b| b.1.total_cmp(&a.1));
            next.truncate(BEAMS);
            beams = next;
        }
        Ok(())
    },
    differs: Some(
        "a request for each beam and step, and the tokens of all beams are counted; the program draws none",
    ),
};
