//! A document as a tree, computed in one pass in which a node sees itself and the nodes above it, not its
//! siblings; the question sees everything. As a check, one leaf is replaced: no row outside it may change, to
//! the last bit.

use inferlet::forward::{OutputKind, OutputRequest};
use inferlet::{Context, Layout, Model, Parameters, Result, SamplingParams, json, mask};

/// Text of each node, and the node above it.
const NODES: [(&str, usize); 5] = [
    ("<library>", 0),
    ("<shelf>Travel: ", 0),
    ("<book>Rome in three days, 12 euros.</book>", 1),
    ("<book>The rivers of France, 20 euros.</book>", 1),
    ("<shelf>Cooking: <book>Bread, 15 euros.</book>", 0),
];

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// Question.
    #[parameter(short = 'p', default = "</library> The book about Rome costs")]
    prompt: String,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt: question } = options;

    let model = Model::open_default()?;
    let mut rows = Vec::new();
    for (node, (text, _)) in NODES.iter().enumerate() {
        rows.extend(model.tokenize(text)?.into_iter().map(|token| (token, node)));
    }
    let mut document = Context::new(&model)?;
    let values = compute(&mut document, &rows).await?;
    let text =
        document.append(&question).generate(SamplingParams::greedy()).max_tokens(16).answer().await?.text;

    rows.iter_mut().filter(|(_, node)| *node == 2).for_each(|(token, _)| *token += 1);
    let again = compute(&mut Context::new(&model)?, &rows).await?;
    let changed: Vec<_> =
        (0..rows.len()).filter(|row| values[*row] != again[*row]).map(|row| rows[row].1).collect();
    let independent = !changed.is_empty() && changed.iter().all(|node| *node == 2);
    Ok(json!({ "text": text, "rows": rows.len(), "changed": changed.len(), "independent": independent })
        .to_string())
}

/// Whether a node is another one or above it.
fn above(node: usize, other: usize) -> bool {
    node == other || (node != 0 && above(NODES[node].1, other))
}

/// Computes tokens of nodes, each in sight of its node and those above; the entropy after each, as text.
async fn compute(context: &mut Context, rows: &[(u32, usize)]) -> Result<Vec<String>> {
    let sees = |at: usize| mask(rows[..=at].iter().map(|(_, other)| above(rows[at].1, *other)));
    let layout = Layout { masks: Some((0..rows.len()).map(sees).collect()), positions: None };
    context.append_tokens(&rows.iter().map(|(token, _)| *token).collect::<Vec<_>>());
    let wanted = (0..rows.len() as u32).map(|row| OutputRequest { row, kind: OutputKind::Entropy });
    let values = context.pass_in(layout, wanted.collect()).await?;
    Ok(values.iter().map(|value| format!("{value:?}")).collect())
}
