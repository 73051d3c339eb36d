//! Eight prompts that share beginnings, as a tree of forks: a shared beginning is computed once, and all
//! answers are generated in one batch.

use inferlet::futures::future::try_join_all;
use inferlet::{Context, Model, Parameters, Result, SamplingParams, json, session};

const ROOT: &str = "You are a teacher of biology who answers in one sentence.\n\n";
/// The branches of each level.
const LEVELS: [[&str; 2]; 3] = [
    ["The topic is photosynthesis, by which plants make sugar from light.\n", "The topic is respiration.\n"],
    ["The pupil is a child of eight.\n", "The pupil studies at a university.\n"],
    ["Question: Where does it happen?\nAnswer:", "Question: Why does it matter?\nAnswer:"],
];

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// Tokens of an answer at most.
    #[parameter(short = 'n', default = 32)]
    max_tokens: usize,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { max_tokens } = options;

    let model = Model::open_default()?;
    let mut root = Context::new(&model)?;
    root.append(ROOT);
    let (mut nodes, mut tree_tokens) = (vec![root], 0);
    for level in LEVELS {
        tree_tokens += nodes.iter().map(|node| node.pending().len()).sum::<usize>();
        try_join_all(nodes.iter_mut().map(Context::prefill)).await?;
        let fork = |node: &Context, text| {
            let mut child = node.fork()?;
            child.append(text);
            Ok(child)
        };
        nodes = nodes.iter().flat_map(|node| level.map(|text| fork(node, text))).collect::<Result<_>>()?;
    }
    // All but the last token of a prompt, which asks for the answer. As one tree, and as prompts of their
    // own:
    tree_tokens += nodes.iter().map(|leaf| leaf.pending().len() - 1).sum::<usize>();
    let prompt_tokens: usize = nodes.iter().map(|leaf| leaf.tokens().len() - 1).sum();
    try_join_all(nodes.iter_mut().map(Context::prefill_but_last)).await?;
    let prompt_work = model.work().json();

    let answers = nodes.iter_mut().map(|leaf| {
        let generation = leaf.generate(SamplingParams::greedy()).max_tokens(max_tokens);
        generation.stop("\n").answer()
    });
    let answers = try_join_all(answers).await?;
    for (leaf, answer) in answers.iter().enumerate() {
        session::send(format!("{leaf}: {}\n", answer.text.trim())).await?;
    }
    let report = json!({
        "leaves": answers.len(), "tree_tokens": tree_tokens, "prompt_tokens": prompt_tokens,
        "prompt_work": prompt_work, "work": model.work().json(),
    });
    Ok(report.to_string())
}
