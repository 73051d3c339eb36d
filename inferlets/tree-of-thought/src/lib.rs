//! Tree of thought: proposals, each carried out in several ways, each result judged in several ways. Every level
//! forks the conversations of the level before, so what branches share is computed once, and all branches of a level
//! are generated in one batch. The best judged result is the answer.

use inferlet::futures::future::try_join_all;
use inferlet::{Args, Chat, Grammar, Model, Result, SamplingParams, json, session, tree_tokens};

const SYSTEM: &str = "You solve problems step by step and write as little as possible.";
const PROPOSE: &str = "Propose one way to solve this, in one sentence: ";
const EXECUTE: &str = "Carry out this way and give the result.";
const REFLECT: &str =
    "How good is this result, from 1 (wrong) to 5 (certainly right)? Answer with the number only.";

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let default = "What is the sum of 12345 and 54321?".to_string();
    let question = args.option("question", 'q', "problem to solve", default)?;
    let branches = args.option("branches", 'b', "branches of each node", 2)?;
    let max_tokens = args.option("max-tokens", 't', "tokens of a thought at most", 128)?;
    let temperature = args.option("temperature", 'e', "of the draws", 0.8)?;
    args.finish()?;

    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    chat.system(SYSTEM).user(&format!("{PROPOSE}{question}"));
    let proposals = think(vec![chat], branches, temperature, max_tokens).await?;
    let results = think(ask(proposals, EXECUTE), branches, temperature, max_tokens).await?;
    let leaves = grow(ask(results, REFLECT), branches).await?;

    let judge = |(mut leaf, seed): (Chat, u64)| async move {
        // The grammar makes any model, however small, answer with a number.
        let sampling = SamplingParams::temperature(temperature).seed(seed);
        let grade = leaf.answer_in(Grammar::Regex("[1-5]".to_string()), sampling, 4).await?;
        let grade = grade.and_then(|grade| grade.parse::<u32>().ok()).unwrap_or(0);
        Ok::<_, inferlet::anyhow::Error>((grade, leaf))
    };
    let leaves = try_join_all(leaves.into_iter().zip(0..).map(judge)).await?;
    let mut results = Vec::new();
    for siblings in leaves.chunks(branches.max(1)) {
        let grade: u32 = siblings.iter().map(|(grade, _)| grade).sum();
        // The last three messages are the result, the question for a grade, and the grade.
        let messages = siblings[0].1.messages();
        let text = messages.iter().rev().filter(|m| m.role == "assistant").nth(1).map(|m| m.content.clone());
        results.push((grade, text.unwrap_or_default()));
        session::send(format!("{grade}: {}\n", results[results.len() - 1].1.trim())).await?;
    }
    // Of equals, the first.
    let best = results.iter().rev().max_by_key(|(grade, _)| *grade);
    let paths = || leaves.iter().map(|(_, leaf)| leaf.context().tokens());
    let report = json!({
        "answer": best.map(|(_, text)| text),
        "grade": best.map(|(grade, _)| grade),
        "leaves": leaves.len(),
        "tokens_apart": paths().map(<[u32]>::len).sum::<usize>(),
        "tree_tokens": tree_tokens(paths()),
        "work": model.work().json(),
    });
    Ok(report.to_string())
}

/// Asks the same of every conversation.
fn ask(mut chats: Vec<Chat>, question: &str) -> Vec<Chat> {
    chats.iter_mut().for_each(|chat| _ = chat.user(question));
    chats
}

/// Branches every conversation; siblings stand together.
async fn grow(mut chats: Vec<Chat>, branches: usize) -> Result<Vec<Chat>> {
    let grown = try_join_all(chats.iter_mut().map(|chat| chat.branch(branches))).await?;
    Ok(grown.into_iter().flatten().collect())
}

/// Branches every conversation and generates an answer in each.
async fn think(chats: Vec<Chat>, branches: usize, temperature: f32, max_tokens: usize) -> Result<Vec<Chat>> {
    let mut grown = grow(chats, branches).await?;
    let answers = grown.iter_mut().zip(0..).map(|(chat, seed)| {
        let sampling = SamplingParams::temperature(temperature).seed(seed);
        chat.answer(sampling, max_tokens)
    });
    try_join_all(answers).await?;
    Ok(grown)
}
