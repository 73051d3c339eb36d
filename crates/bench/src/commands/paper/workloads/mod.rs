//! The workloads of the paper: the program that does one inside the server, and the same as an application outside would
//! do it, over the OpenAI API: its loop on the client, the state sent again as text.
//!
//! One file each. What a program has in its own source is repeated here, and a test finds it there; what it takes as
//! arguments is given to both.

mod beam;
mod cache;
mod codeact;
mod ebnf;
mod got;
mod prefix_tree;
pub mod react;
mod rot;
mod sink;
mod skot;
mod spec;
mod swarm;
pub mod text;
mod tot;

use super::api::Api;
use super::markup::{Message, Role};

/// One instance of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Which of those that run at once.
    pub number: usize,
    /// Whether the bounds are those of the paper; else they are smaller where the work grows with them exponentially.
    pub full: bool,
}

/// What the paper measured, as bars of its figures: pie's and vLLM's, normalised.
#[derive(Clone, Copy, Debug)]
pub struct Bars {
    /// Latency of pie and of vLLM.
    pub latency: [f64; 2],
    /// Throughput of pie and of vLLM.
    pub throughput: [f64; 2],
}

/// A workload.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Its name on the command line.
    pub name: &'static str,
    /// The program, as pie knows it.
    pub program: &'static str,
    /// The file of the inferlet whose texts are repeated here.
    pub source: &'static str,
    /// Texts of that file.
    pub texts: &'static [&'static str],
    /// Instances at once in the paper.
    pub instances: usize,
    /// The paper's bars, where it has a baseline.
    pub paper: Option<Bars>,
    /// Arguments of the program.
    pub arguments: fn(Case) -> Vec<String>,
    /// The same work from outside.
    pub baseline: fn(&Api, Case) -> anyhow::Result<()>,
    /// How the baseline's work differs, for the report.
    pub differs: Option<&'static str>,
}

/// The agents of figure 6.
pub const AGENTS: [Workload; 3] = [react::WORKLOAD, codeact::WORKLOAD, swarm::WORKLOAD];

/// The tasks of figure 8.
pub const TASKS: [Workload; 11] = [
    text::WORKLOAD,
    prefix_tree::WORKLOAD,
    tot::WORKLOAD,
    rot::WORKLOAD,
    got::WORKLOAD,
    skot::WORKLOAD,
    cache::WORKLOAD,
    ebnf::WORKLOAD,
    spec::WORKLOAD,
    beam::WORKLOAD,
    sink::WORKLOAD,
];

fn system(text: &str) -> Message {
    (Role::System, text.to_string())
}

fn user(text: &str) -> Message {
    (Role::User, text.to_string())
}

fn assistant(text: &str) -> Message {
    (Role::Assistant, text.to_string())
}

/// Arguments from names and values.
fn options(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of a source: continued lines joined, escapes undone.
    fn unescaped(source: &str) -> String {
        let mut lines = String::new();
        let mut continued = false;
        for line in source.lines() {
            lines += if continued { line.trim_start() } else { line };
            continued = line.ends_with('\\');
            if continued {
                lines.pop();
            } else {
                lines.push('\n');
            }
        }
        lines.replace("\\n", "\n").replace("\\\"", "\"")
    }

    #[test]
    fn the_texts_are_those_of_the_programs() {
        for workload in AGENTS.iter().chain(&TASKS) {
            let source = unescaped(workload.source);
            for text in workload.texts {
                assert!(source.contains(text), "{}: the program does not have {text:?}", workload.program);
            }
        }
    }

    #[test]
    fn names_are_unique_and_the_arguments_say_their_option() {
        let mut names: Vec<_> = AGENTS.iter().chain(&TASKS).map(|workload| workload.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), AGENTS.len() + TASKS.len());
        for workload in AGENTS.iter().chain(&TASKS) {
            let program = workload.program;
            let parameters = workload.source.split_once("#[derive(Parameters)]");
            let parameters = parameters.and_then(|(_, rest)| rest.split_once("\n}"));
            let (parameters, _) = parameters.unwrap_or_else(|| panic!("{program}: no parameters"));
            for argument in (workload.arguments)(Case { number: 0, full: false }) {
                let name = argument.split('=').next().unwrap_or_default().trim_start_matches("--");
                let declared = format!("    {}: ", name.replace('-', "_"));
                assert!(parameters.contains(&declared), "{program}: no option `{name}`");
            }
        }
    }
}
