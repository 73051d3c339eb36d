//! Monte Carlo tree search over lines of reasoning: the tree's nodes are conversations that fork one another,
//! a step is a sentence, a rollout finishes the answer and is graded from 0 to 100 by the model itself.

use inferlet::futures::future::try_join_all;
use inferlet::{
    Chat, Context, FinishReason, Grammar, Model, Parameters, Result, SamplingParams, json, random_seed,
    session,
};

/// A step of reasoning after those of its parent.
struct Node {
    parent: Option<usize>,
    children: Vec<usize>,
    context: Context,
    text: String,
    /// The model ended its answer here.
    ended: bool,
    depth: usize,
    visits: f64,
    reward: f64,
}

impl Node {
    fn new(parent: Option<usize>, context: Context, text: String, ended: bool, depth: usize) -> Node {
        Node { parent, children: Vec::new(), context, text, ended, depth, visits: 0.0, reward: 0.0 }
    }

    /// Upper confidence bound: the mean reward, and more for what was seldom tried. A node never tried comes
    /// first.
    fn bound(&self, parent_visits: f64, exploration: f64) -> f64 {
        match self.visits {
            0.0 => f64::INFINITY,
            visits => self.reward / visits + exploration * (parent_visits.ln() / visits).sqrt(),
        }
    }
}

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// Problem to solve.
    #[parameter(short = 'q', default = "A train goes 60 km in 40 minutes. How fast is it in km/h?")]
    question: String,
    /// Rollouts.
    #[parameter(short = 'i', default = 16)]
    iterations: usize,
    /// Steps before a rollout at most.
    #[parameter(short = 'd', default = 4)]
    depth: usize,
    /// Branches of a node.
    #[parameter(short = 'b', default = 3)]
    branches: usize,
    /// Tokens of a step at most.
    #[parameter(short = 's', default = 32)]
    step_tokens: usize,
    /// Tokens of a rollout at most.
    #[parameter(short = 'l', default = 128)]
    rollout_tokens: usize,
    /// Weight of what was seldom tried.
    #[parameter(short = 'c', default = 1.4142135623730951)]
    exploration: f64,
    /// Seed of the random draws; a random one without it.
    #[parameter(short = 'r')]
    seed: Option<u64>,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { question, iterations, depth, branches, step_tokens, rollout_tokens, exploration, seed } =
        options;
    let seed = seed.unwrap_or_else(random_seed);

    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    let root = chat.user(&format!("{question} Think step by step.")).generation_prompt()?;
    root.prefill_but_last().await?;
    let mut tree = vec![Node::new(None, root.fork()?, String::new(), false, 0)];
    let (mut best, mut best_reward) = (String::new(), -1.0);
    for iteration in 0..iterations as u64 {
        // Down to a leaf, along the highest bounds.
        let mut at = 0;
        while !tree[at].children.is_empty() {
            let bound = |child: &usize| tree[*child].bound(tree[at].visits, exploration);
            let children = tree[at].children.iter().copied();
            at = children.reduce(|a, b| if bound(&b) > bound(&a) { b } else { a }).unwrap_or(at);
        }
        // A leaf that was tried before and is no end grows; all its children are generated in one batch.
        if tree[at].visits > 0.0 && tree[at].depth < depth && !tree[at].ended {
            let forks = (0..branches).map(|_| tree[at].context.fork()).collect::<Result<Vec<_>>>()?;
            let seeds = seed.wrapping_add(iteration * 1000)..;
            let steps = forks.into_iter().zip(seeds).map(|(fork, seed)| step(fork, seed, step_tokens));
            for (context, text, ended) in try_join_all(steps).await? {
                let (text, child) = (format!("{}{text}\n", tree[at].text), tree.len());
                tree[at].children.push(child);
                let depth = tree[at].depth + 1;
                tree.push(Node::new(Some(at), context, text, ended, depth));
            }
            at = tree[at].children.first().copied().unwrap_or(at);
        }
        let mut rest = String::new();
        if !tree[at].ended {
            let sampling = SamplingParams::temperature(0.8).seed(seed.wrapping_add(iteration));
            let mut rollout = tree[at].context.fork()?;
            rest = rollout.generate(sampling).max_tokens(rollout_tokens).answer().await?.text;
        }
        let answer = format!("{}{rest}", tree[at].text);
        let reward = grade(&model, &question, &answer).await?;
        session::send(format!("{iteration}: node {at}, depth {}, {reward}\n", tree[at].depth)).await?;
        if reward > best_reward {
            (best, best_reward) = (answer, reward);
        }
        let mut up = Some(at);
        while let Some(node) = up {
            tree[node].visits += 1.0;
            tree[node].reward += reward / 100.0;
            up = tree[node].parent;
        }
    }
    let report = json!({
        "answer": best, "grade": best_reward, "nodes": tree.len(), "visits": tree[0].visits,
        "ended": tree.iter().filter(|node| node.ended).count(), "seed": seed,
        "work": model.work().json(),
    });
    Ok(report.to_string())
}

/// One step from a node: its context, its text, and whether the model ended its answer with it.
async fn step(mut context: Context, seed: u64, max_tokens: usize) -> Result<(Context, String, bool)> {
    let sampling = SamplingParams::temperature(0.8).seed(seed);
    let step = context.generate(sampling).max_tokens(max_tokens).stop("\n").answer().await?;
    let ended = matches!(step.finish_reason, FinishReason::StopToken(_));
    if !ended {
        context.append("\n");
        context.prefill_but_last().await?;
    }
    Ok((context, step.text, ended))
}

/// The model's opinion of an answer, 0 to 100.
async fn grade(model: &Model, question: &str, answer: &str) -> Result<f64> {
    let mut judge = Chat::new(model)?;
    judge.user(&format!(
        "Question: {question}\nAnswer: {answer}\nGrade the answer from 0 (wrong) to 100 (right). Write the \
         number only."
    ));
    let grade =
        judge.answer_in(Grammar::Regex("100|[1-9]?[0-9]".to_string()), SamplingParams::greedy(), 6).await?;
    Ok(grade.text.parse().unwrap_or(0.0))
}
