//! Tree of thought: ways to solve a problem are proposed and graded, the best are carried out in several
//! ways, and the results are graded; the rest of the tree is pruned. Every level forks the conversations of
//! the level before, so the tokens that branches share are computed once, and all branches of a level are
//! generated in one batch.

use inferlet::futures::future::try_join_all;
use inferlet::{
    Chat, Model, Parameters, Result, SamplingParams, Value, answer_all, choose_all, json, random_seed,
    session, tree_tokens,
};

const SYSTEM: &str = "You solve problems step by step and write as little as possible.";
const PROPOSE: &str = "Propose one way to solve this, in one sentence: ";
const EXECUTE: &str = "Carry out this way and give the result.";
const REFLECT: &str = "How good is this, from 1 (wrong) to 5 (certainly right)? Answer with the number only.";
const GRADES: [&str; 5] = ["1", "2", "3", "4", "5"];

struct Search {
    branches: usize,
    max_tokens: usize,
    sampling: SamplingParams,
}

/// A conversation that ends with a thought, the sum of its grades, and the forks in which it got them.
struct Thought {
    chat: Chat,
    grade: usize,
    leaves: Vec<Chat>,
}

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// Problem to solve.
    #[parameter(short = 'q', default = "What is the sum of 12345 and 54321?")]
    question: String,
    /// Branches of each node.
    #[parameter(short = 'b', default = 3)]
    branches: usize,
    /// Ways that are carried out.
    #[parameter(short = 'k', default = 2)]
    keep: usize,
    /// Tokens of a thought at most.
    #[parameter(short = 't', default = 128)]
    max_tokens: usize,
    /// Of the draws.
    #[parameter(short = 'e', default = 0.8)]
    temperature: f32,
    /// Seed of the random draws; a random one without it.
    #[parameter(short = 'r')]
    seed: Option<u64>,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { question, branches, keep, max_tokens, temperature, seed } = options;
    let seed = seed.unwrap_or_else(random_seed);

    let model = Model::open_default()?;
    let sampling = SamplingParams::temperature(temperature).seed(seed);
    let search = Search { branches, max_tokens, sampling };
    let proposals = search.propose(Chat::new(&model)?, &question).await?;
    let ways = search.reflect(proposals).await?;
    let results = search.execute(&ways[..keep.min(ways.len())]).await?;
    let results = search.reflect(results).await?;
    for thought in ways.iter().chain(&results) {
        session::send(format!("{}: {}\n", thought.grade, thought.chat.last_text().trim())).await?;
    }
    Ok(report(&model, seed, &ways, &results).to_string())
}

impl Search {
    /// Proposes ways to solve the problem.
    async fn propose(&self, mut chat: Chat, question: &str) -> Result<Vec<Chat>> {
        self.think(chat.system(SYSTEM).user(&format!("{PROPOSE}{question}"))).await
    }

    /// Carries out each of the ways kept, in several ways.
    async fn execute(&self, ways: &[Thought]) -> Result<Vec<Chat>> {
        let mut chats = ways.iter().map(|way| way.chat.fork()).collect::<Result<Vec<_>>>()?;
        let results = try_join_all(chats.iter_mut().map(|chat| self.think(chat.user(EXECUTE)))).await?;
        Ok(results.into_iter().flatten().collect())
    }

    /// Grades every thought several times; the best come first, of equals the earlier.
    async fn reflect(&self, thoughts: Vec<Chat>) -> Result<Vec<Thought>> {
        let mut thoughts = try_join_all(thoughts.into_iter().map(|thought| self.grade(thought))).await?;
        thoughts.sort_by_key(|thought| std::cmp::Reverse(thought.grade));
        Ok(thoughts)
    }

    /// Branches a conversation and generates an answer in each branch.
    async fn think(&self, chat: &mut Chat) -> Result<Vec<Chat>> {
        let mut branches = chat.branch(self.branches).await?;
        answer_all(&mut branches, self.sampling.clone(), self.max_tokens).await?;
        Ok(branches)
    }

    async fn grade(&self, chat: Chat) -> Result<Thought> {
        let mut leaves = chat.fork()?.user(REFLECT).branch(self.branches).await?;
        let grades = choose_all(&mut leaves, &GRADES, self.sampling.clone()).await?;
        let grade = grades.into_iter().flatten().map(|index| index + 1).sum();
        Ok(Thought { chat, grade, leaves })
    }
}

/// The best result, and what the search cost.
fn report(model: &Model, seed: u64, ways: &[Thought], results: &[Thought]) -> Value {
    let grades = |thoughts: &[Thought]| thoughts.iter().map(|thought| thought.grade).collect::<Vec<_>>();
    let leaves = || ways.iter().chain(results).flat_map(|thought| &thought.leaves);
    let paths = || leaves().map(|leaf| leaf.context().tokens());
    json!({
        "answer": results.first().map(|best| best.chat.last_text()),
        "ways": grades(ways),
        "results": grades(results),
        "leaves": leaves().count(),
        "tokens_apart": paths().map(<[u32]>::len).sum::<usize>(),
        "tree_tokens": tree_tokens(paths()),
        "seed": seed,
        "work": model.work().json(),
    })
}
