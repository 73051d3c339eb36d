//! Four agents write a story, one section each: every role is a program of its own. An agent adds its
//! section, the model chooses whose turn is next, and the story is handed over as the saved keys and values
//! of the conversation: the next agent computes only its own part. Without a role, all four are launched.

use inferlet::anyhow::{Context as _, bail};
use inferlet::futures::future::try_join_all;
use inferlet::{Chat, Context, Model, Parameters, Result, SamplingParams, json, serde_json};
use inferlet::{messaging, runtime, session};
use serde::{Deserialize, Serialize};

/// Name, section and instruction of each role.
const ROLES: [(&str, &str, &str); 4] = [
    ("idea_generator", "Concept", "Write the concept of the story in a few sentences."),
    ("plot_developer", "Plot Outline", "Write the plot outline of the story in a few sentences."),
    ("character_creator", "Characters", "Describe the two main characters of the story."),
    ("dialogue_writer", "Climax Dialogue", "Write the dialogue at the climax of the story."),
];

/// Parts that are not written yet are the possible answers.
const NEXT: &str =
    "Which part of the story is best written next: the plot outline, the characters or the dialogue?";

/// What an agent hands over: the conversation and the name under which it is saved, and what it took so far.
#[derive(Default, Serialize, Deserialize)]
struct Story {
    text: String,
    messages: Vec<(String, String)>,
    snapshot: Option<String>,
    done: Vec<usize>,
    tokens: usize,
    computed: u64,
    reused: usize,
}

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// Prefix of the queues between agents.
    #[parameter(short = 'g', default = "0")]
    group: String,
    /// Tokens of a section at most.
    #[parameter(short = 't', default = 96)]
    tokens: usize,
    /// Theme.
    #[parameter(short = 'p', default = "A lighthouse at the end of the world")]
    prompt: String,
    /// Of one agent; all four are launched without it.
    #[parameter(positional, choices = ["idea_generator", "plot_developer", "character_creator", "dialogue_writer", "all"])]
    role: Option<String>,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { group, tokens: max_tokens, prompt: theme, role } = options;
    let names = ROLES.map(|(name, ..)| name);

    match role.as_deref() {
        None | Some("all") => swarm(group, max_tokens, theme).await,
        Some(role) => match names.iter().position(|name| *name == role) {
            Some(role) => agent(role, &group, max_tokens).await,
            None => bail!("no role is named `{role}`"),
        },
    }
}

fn queue(group: &str, role: usize) -> String {
    format!("swarm-{group}-{role}")
}

/// Launches all roles, gives the theme to the first, and waits for the story.
async fn swarm(group: String, max_tokens: usize, theme: String) -> Result<String> {
    // A group of its own: two swarms of one user at once do not mix.
    let group = format!("{group}-{}", runtime::instance_id());
    let system = format!("You are one of four authors of a story. Write your part only. The theme: {theme}");
    let story = Story { text: theme, messages: vec![("system".to_string(), system)], ..Story::default() };
    messaging::push(queue(&group, 0), serde_json::to_string(&story)?).await?;
    let children = try_join_all(ROLES.map(|(role, ..)| {
        let arguments = [format!("--group={group}"), format!("--tokens={max_tokens}"), role.to_string()];
        runtime::launch("agent-swarm".to_string(), arguments.to_vec())
    }));
    let children = children.await?;
    let ended = try_join_all(children.iter().map(|child| child.wait())).await;
    // When one fails, the others would wait for it for ever; to end one that has ended does nothing.
    children.iter().for_each(|child| child.cancel());
    let last = ended?.into_iter().find(|result| !result.is_empty()).context("nobody ended the story")?;
    let Story { text, done, tokens, computed, reused, .. } = serde_json::from_str(&last)?;
    session::send(format!("{text}\n")).await?;
    let order: Vec<&str> = done.iter().map(|role| ROLES[*role].1).collect();
    Ok(json!({ "order": order, "tokens": tokens, "computed": computed, "reused": reused }).to_string())
}

/// One role: takes the story so far, adds a section, hands it on. The result of the last one is the story.
async fn agent(role: usize, group: &str, max_tokens: usize) -> Result<String> {
    let mut story: Story = serde_json::from_str(&messaging::pull(queue(group, role)).await?)?;
    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    story.messages.iter().for_each(|(role, content)| _ = chat.push(role, content));
    if let Some(name) = story.snapshot.take() {
        let context = Context::open(&model, &name, chat.message_tokens()?).await?;
        story.reused += context.tokens().len();
        chat.resume(context);
        Context::delete(&model, &name).await?;
    }
    let (_, section, instruction) = ROLES[role];
    let text = chat.user(instruction).answer(SamplingParams::greedy(), max_tokens).await?.text;
    story.text += &format!("\n\n### {section}\n{}", text.trim());
    story.done.push(role);
    let left: Vec<usize> = (0..ROLES.len()).filter(|role| !story.done.contains(role)).collect();
    let sections: Vec<&str> = left.iter().map(|role| ROLES[*role].1).collect();
    let next = match sections.len() {
        0 | 1 => 0,
        // Asked in a fork: the question is no part of the story.
        _ => chat.fork()?.user(NEXT).choose(&sections, SamplingParams::greedy()).await?.unwrap_or(0),
    };
    (story.tokens, story.computed) = (chat.message_tokens()?.len(), story.computed + model.work().computed);
    let Some(next) = left.get(next) else {
        return Ok(serde_json::to_string(&story)?);
    };
    let name = format!("swarm-{group}-{role}");
    chat.save(&name, false).await?;
    story.snapshot = Some(name);
    story.messages = chat.messages().iter().map(|m| (m.role.clone(), m.content.clone())).collect();
    messaging::push(queue(group, *next), serde_json::to_string(&story)?).await?;
    Ok(String::new())
}
