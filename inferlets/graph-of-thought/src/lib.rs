//! Graph of thought: proposals of different lengths are merged two by two, in the order in which they finish,
//! until one is left. A merge goes on in the conversation of the one that finished later.

use inferlet::futures::StreamExt;
use inferlet::futures::stream::FuturesUnordered;
use inferlet::{Args, Chat, Model, Result, SamplingParams, json, session};

const SYSTEM: &str = "You are a thoughtful adviser who writes briefly.";

/// A conversation whose last message is a thought, and the numbers of the proposals in it, the last to finish
/// first.
struct Thought {
    chat: Chat,
    text: String,
    proposals: Vec<u64>,
}

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let default = "How can a small town attract visitors?".to_string();
    let question = args.option("question", 'q', "what to think about", default)?;
    let lengths = "4,32,16,8,4,16,3,32";
    let lengths: Vec<usize> =
        args.list("proposal-tokens", 'p', "tokens of each proposal at most", lengths)?;
    let merged_tokens = args.option("aggregation-tokens", 'a', "tokens of a merged one at most", 128)?;
    args.finish()?;

    let model = Model::open_default()?;
    let mut base = Chat::new(&model)?;
    base.system(SYSTEM).user(&format!("{question} Propose one idea."));
    let chats = base.branch(lengths.len()).await?;
    let propose = |((mut chat, length), number): ((Chat, usize), u64)| async move {
        let text = chat.answer(SamplingParams::temperature(0.8).seed(number), length).await?;
        Ok(Thought { chat, text, proposals: vec![number] })
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
        session::send(format!("{:?} {}\n", thought.proposals, thought.text.trim())).await?;
        waiting = match waiting {
            None => Some(thought),
            Some(earlier) => {
                merges += 1;
                merging.push(merge(thought, earlier, merged_tokens));
                None
            }
        };
    }
    let (text, proposals) = waiting.map(|last| (last.text, last.proposals)).unwrap_or_default();
    let work = model.work().json();
    Ok(json!({ "answer": text, "proposals": proposals, "merges": merges, "work": work }).to_string())
}

/// Puts an earlier thought into a later one.
async fn merge(later: Thought, earlier: Thought, max_tokens: usize) -> Result<Thought> {
    let mut chat = later.chat;
    chat.user(&format!("Compare this with your idea and join the two into one: {}", earlier.text));
    let text = chat.answer(SamplingParams::greedy(), max_tokens).await?;
    Ok(Thought { chat, text, proposals: [later.proposals, earlier.proposals].concat() })
}
