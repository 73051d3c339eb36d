//! A program that launches others and collects their results. Each child is an inferlet of its own, with its
//! own memory and limits; here they are more of this program.

use inferlet::futures::future::try_join_all;
use inferlet::{Chat, Model, Parameters, Result, SamplingParams, json, runtime};

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// Programs to launch.
    #[parameter(short = 'c', default = 3)]
    children: usize,
    /// Tokens of each child at most.
    #[parameter(short = 'n', default = 16)]
    max_tokens: usize,
    /// Of a child: what it writes about.
    #[parameter(short = 't', default = "")]
    topic: String,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { children, max_tokens, topic } = options;

    if !topic.is_empty() {
        let mut chat = Chat::new(&Model::open_default()?)?;
        chat.user(&format!("Say one thing about {topic}."));
        return Ok(chat.answer(SamplingParams::greedy(), max_tokens).await?.text);
    }
    let topics = ["rivers", "mountains", "deserts", "forests", "islands"].into_iter().cycle().take(children);
    let launched = try_join_all(topics.map(|topic| {
        let arguments = vec![format!("--topic={topic}"), format!("--max-tokens={max_tokens}")];
        runtime::launch("launch-children".to_string(), arguments)
    }));
    let launched = launched.await?;
    let results = try_join_all(launched.iter().map(|child| child.wait())).await?;

    // A child that is no longer needed is cancelled, and `wait` says so.
    let unwanted = vec!["--topic=oceans".to_string(), "--max-tokens=100000".to_string()];
    let unwanted = runtime::launch("launch-children".to_string(), unwanted).await?;
    unwanted.cancel();
    let cancelled = unwanted.wait().await.is_err();
    let ids: Vec<String> = launched.iter().map(|child| child.id()).collect();
    Ok(json!({ "children": ids, "results": results, "cancelled": cancelled }).to_string())
}
