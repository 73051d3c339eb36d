//! Prefix tree: eight prompts with common beginnings. The program forks; from outside they are eight requests at once.

use super::{Bars, Workload, options};
use crate::commands::paper::api::Ask;
use crate::commands::paper::measure::branches;

const ROOT: &str = "You are a teacher of biology who answers in one sentence.\n\n";
const LEVELS: [[&str; 2]; 3] = [
    ["The topic is photosynthesis, by which plants make sugar from light.\n", "The topic is respiration.\n"],
    ["The pupil is a child of eight.\n", "The pupil studies at a university.\n"],
    ["Question: Where does it happen?\nAnswer:", "Question: Why does it matter?\nAnswer:"],
];
const TOKENS: usize = 32;

pub(super) const WORKLOAD: Workload = Workload {
    name: "prefix-tree",
    program: "prefix-tree",
    source: include_str!("../../../../../../inferlets/prefix-tree/src/lib.rs"),
    texts: &[ROOT, LEVELS[0][0], LEVELS[0][1], LEVELS[1][0], LEVELS[1][1], LEVELS[2][0], LEVELS[2][1]],
    instances: 64,
    paper: Some(Bars { latency: [0.307, 1.0], throughput: [1.0, 0.572] }),
    arguments: |_| options(&[("max-tokens", &TOKENS.to_string())]),
    baseline: |api, _| {
        branches(8, |leaf| {
            let [topic, pupil, question] =
                [LEVELS[0][leaf >> 2 & 1], LEVELS[1][leaf >> 1 & 1], LEVELS[2][leaf & 1]];
            api.complete(Ask::new(format!("{ROOT}{topic}{pupil}{question}"), TOKENS).stop("\n"))
        })?;
        Ok(())
    },
    differs: None,
};
