//! Tree of thought: proposals, each carried out in several ways, each result judged in several ways. Every
//! level forks the conversations of the level before, so the tokens that branches share are computed once,
//! and all branches of a level are generated in one batch. The best judged result is the answer.

use inferlet::futures::future::try_join_all;
use inferlet::{
    Args, Chat, Grammar, Model, Result, SamplingParams, Value, answer_all, json, session, tree_tokens,
};

const SYSTEM: &str = "You solve problems step by step and write as little as possible.";
const PROPOSE: &str = "Propose one way to solve this, in one sentence: ";
const EXECUTE: &str = "Carry out this way and give the result.";
const REFLECT: &str =
    "How good is this result, from 1 (wrong) to 5 (certainly right)? Answer with the number only.";

struct Search {
    branches: usize,
    max_tokens: usize,
    temperature: f32,
}

/// A result, the sum of its grades, and the conversations in which it got them.
struct Judged {
    text: String,
    grade: u32,
    leaves: Vec<Chat>,
}

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let default = "What is the sum of 12345 and 54321?".to_string();
    let question = args.option("question", 'q', "problem to solve", default)?;
    let branches = args.option("branches", 'b', "branches of each node", 2)?;
    let max_tokens = args.option("max-tokens", 't', "tokens of a thought at most", 128)?;
    let temperature = args.option("temperature", 'e', "of the draws", 0.8)?;
    args.finish()?;

    let model = Model::open_default()?;
    let search = Search { branches, max_tokens, temperature };
    let proposals = search.propose(Chat::new(&model)?, &question).await?;
    let results = search.execute(proposals).await?;
    let judged = search.reflect(results).await?;
    for result in &judged {
        session::send(format!("{}: {}\n", result.grade, result.text.trim())).await?;
    }
    Ok(report(&model, &judged).to_string())
}

impl Search {
    /// Proposes ways to solve the problem.
    async fn propose(&self, mut chat: Chat, question: &str) -> Result<Vec<Chat>> {
        chat.system(SYSTEM).user(&format!("{PROPOSE}{question}"));
        self.think(vec![chat]).await
    }

    /// Carries out every proposal in several ways.
    async fn execute(&self, mut proposals: Vec<Chat>) -> Result<Vec<Chat>> {
        proposals.iter_mut().for_each(|proposal| _ = proposal.user(EXECUTE));
        self.think(proposals).await
    }

    /// Branches every conversation and generates an answer in each branch; siblings are neighbours.
    async fn think(&self, mut chats: Vec<Chat>) -> Result<Vec<Chat>> {
        let branches = try_join_all(chats.iter_mut().map(|chat| chat.branch(self.branches))).await?;
        let mut thoughts: Vec<Chat> = branches.into_iter().flatten().collect();
        answer_all(&mut thoughts, SamplingParams::temperature(self.temperature), self.max_tokens).await?;
        Ok(thoughts)
    }

    /// Grades every result several times.
    async fn reflect(&self, results: Vec<Chat>) -> Result<Vec<Judged>> {
        let seeds = (0..).step_by(self.branches.max(1));
        try_join_all(results.into_iter().zip(seeds).map(|(result, seed)| self.judge(result, seed))).await
    }

    async fn judge(&self, mut result: Chat, first_seed: u64) -> Result<Judged> {
        let text = result.last_text().to_string();
        let mut leaves = result.user(REFLECT).branch(self.branches).await?;
        let grades = leaves.iter_mut().zip(first_seed..).map(|(leaf, seed)| {
            // The grammar makes any model, however small, answer with a number.
            let sampling = SamplingParams::temperature(self.temperature).seed(seed);
            leaf.answer_in(Grammar::Regex("[1-5]".to_string()), sampling, 4)
        });
        let grades = try_join_all(grades).await?;
        let grade = grades.iter().flatten().filter_map(|grade| grade.parse::<u32>().ok()).sum();
        Ok(Judged { text, grade, leaves })
    }
}

/// The best result, and what the search cost.
fn report(model: &Model, judged: &[Judged]) -> Value {
    // Of equals, the first.
    let best = judged.iter().rev().max_by_key(|result| result.grade);
    let leaves = || judged.iter().flat_map(|result| &result.leaves);
    let paths = || leaves().map(|leaf| leaf.context().tokens());
    json!({
        "answer": best.map(|best| &best.text),
        "grade": best.map(|best| best.grade),
        "leaves": leaves().count(),
        "tokens_apart": paths().map(<[u32]>::len).sum::<usize>(),
        "tree_tokens": tree_tokens(paths()),
        "work": model.work().json(),
    })
}
