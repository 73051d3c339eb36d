//! Graph of thought: proposals of different lengths are merged two by two, in the order in which they finish,
//! until one is left. A merge goes on in the conversation of the one that finished later; it is drawn several
//! times, each is graded, and the best is kept.

use inferlet::futures::StreamExt;
use inferlet::futures::stream::FuturesUnordered;
use inferlet::{
    Chat, Model, Parameters, Result, SamplingParams, answer_all, choose_all, json, random_seed, session,
};

const SYSTEM: &str = "You are a thoughtful adviser who writes briefly.";
const MERGE: &str = "Compare this with your idea and join the two into one: ";
const GRADE: &str = "How good is this idea, from 1 (bad) to 9 (excellent)? Answer with the number only.";
const GRADES: [&str; 9] = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// A conversation whose last message is a thought, the numbers of the proposals in it, the last to finish
/// first, and the grades of the drafts of which it was the best.
struct Thought {
    chat: Chat,
    proposals: Vec<u64>,
    grades: Vec<Option<usize>>,
}

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// What to think about.
    #[parameter(short = 'q', default = "How can a small town attract visitors?")]
    question: String,
    /// Tokens of each proposal at most.
    #[parameter(short = 'p', default = "4,32,16,8,4,16,3,32")]
    proposal_tokens: Vec<usize>,
    /// Tokens of a merged one at most.
    #[parameter(short = 'a', default = 128)]
    aggregation_tokens: usize,
    /// Of each merged one.
    #[parameter(short = 'd', default = 2)]
    drafts: usize,
    /// Seed of the random draws; a random one without it.
    #[parameter(short = 'r')]
    seed: Option<u64>,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { question, aggregation_tokens: merged_tokens, drafts, proposal_tokens, seed } = options;
    let lengths: Vec<usize> = proposal_tokens;
    let sampling = SamplingParams::temperature(0.8).seed(seed.unwrap_or_else(random_seed));

    let model = Model::open_default()?;
    let mut base = Chat::new(&model)?;
    base.system(SYSTEM).user(&format!("{question} Propose one idea."));
    let chats = base.branch(lengths.len()).await?;
    let propose = |((chat, length), number): ((Chat, usize), u64)| {
        best_of(chat, 1, vec![number], sampling.clone(), length)
    };
    let mut proposing: FuturesUnordered<_> = chats.into_iter().zip(lengths).zip(1..).map(propose).collect();
    let mut merging = FuturesUnordered::new();
    let (mut waiting, mut merges): (Option<Thought>, usize) = (None, 0);
    loop {
        // The next to finish, of either kind.
        let thought: Result<Thought> = inferlet::futures::select! {
            thought = proposing.select_next_some() => thought,
            thought = merging.select_next_some() => thought,
            complete => break,
        };
        let thought = thought?;
        session::send(format!("{:?} {}\n", thought.proposals, thought.chat.last_text().trim())).await?;
        waiting = match waiting {
            None => Some(thought),
            Some(earlier) => {
                merges += 1;
                let (mut chat, proposals) = (thought.chat, [thought.proposals, earlier.proposals].concat());
                chat.user(&format!("{MERGE}{}", earlier.chat.last_text()));
                merging.push(best_of(chat, drafts, proposals, sampling.clone(), merged_tokens));
                None
            }
        };
    }
    let last = waiting.as_ref();
    let grade = |index: &Option<usize>| index.map(|index| GRADES[index]);
    let report = json!({
        "answer": last.map(|last| last.chat.last_text()),
        "proposals": last.map(|last| &last.proposals),
        "grades": last.map(|last| last.grades.iter().map(grade).collect::<Vec<_>>()),
        "merges": merges,
        "work": model.work().json(),
    });
    Ok(report.to_string())
}

/// Draws answers to a conversation and keeps the one of the best grade; of equals, the first.
async fn best_of(
    mut chat: Chat,
    drafts: usize,
    proposals: Vec<u64>,
    sampling: SamplingParams,
    max_tokens: usize,
) -> Result<Thought> {
    let mut chats = chat.branch(drafts.max(1)).await?;
    // Every thought has seeds of its own.
    let sampling = sampling.seed_after(proposals.iter().sum::<u64>() * 1000);
    answer_all(&mut chats, sampling, max_tokens).await?;
    let mut grades = Vec::new();
    if chats.len() > 1 {
        let mut graded = chats.iter().map(Chat::fork).collect::<Result<Vec<_>>>()?;
        graded.iter_mut().for_each(|chat| _ = chat.user(GRADE));
        grades = choose_all(&mut graded, &GRADES, SamplingParams::greedy()).await?;
    }
    let best = (0..grades.len()).rev().max_by_key(|index| grades[*index]).unwrap_or(0);
    Ok(Thought { chat: chats.swap_remove(best), proposals, grades })
}
