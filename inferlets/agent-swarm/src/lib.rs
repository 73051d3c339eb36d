//! Four agents write a story, one section each: every role is a program of its own, and hands its work to the
//! next through a queue, which keeps the message until it is taken. Without a role, all four are launched.

use inferlet::anyhow::{anyhow, bail};
use inferlet::futures::future::try_join_all;
use inferlet::{Args, Chat, Model, Result, SamplingParams, json, messaging, runtime, session};

/// Name, section and instruction of each role.
const ROLES: [(&str, &str, &str); 4] = [
    ("idea_generator", "Concept", "Write the concept of a short story on this theme."),
    ("plot_developer", "Plot Outline", "Write the plot outline of this story in a few sentences."),
    ("character_creator", "Characters", "Describe the two main characters of this story."),
    ("dialogue_writer", "Climax Dialogue", "Write the dialogue at the climax of this story."),
];

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let group = args.option("group", 'g', "prefix of the queues between agents", "0".to_string())?;
    let max_tokens = args.option("tokens", 't', "tokens of a section at most", 96)?;
    let theme = args.option("prompt", 'p', "theme", "A lighthouse at the end of the world".to_string())?;
    let role =
        args.positional("role", "idea_generator, plot_developer, character_creator, dialogue_writer or all");
    args.finish()?;

    match role.as_deref() {
        None | Some("all") => swarm(group, max_tokens, theme).await,
        Some(role) => match ROLES.iter().position(|(name, ..)| *name == role) {
            Some(index) => agent(index, &group, max_tokens, theme).await,
            None => bail!("no role is named `{role}`"),
        },
    }
}

/// Launches all roles, the last one first, and waits for the story.
async fn swarm(group: String, max_tokens: usize, theme: String) -> Result<String> {
    // A group of its own: two swarms of one user at once do not mix.
    let group = format!("{group}-{}", runtime::instance_id());
    let mut children = Vec::new();
    for (role, ..) in ROLES.iter().rev() {
        let tokens = format!("--tokens={max_tokens}");
        let arguments =
            vec![format!("--group={group}"), tokens, format!("--prompt={theme}"), role.to_string()];
        children.push(runtime::launch("agent-swarm".to_string(), arguments).await?);
    }
    let ended = try_join_all(children.iter().map(|child| child.wait())).await;
    // When one fails, the others would wait for it for ever; to end one that has ended does nothing.
    children.iter().for_each(|child| child.cancel());
    // The last role was launched first.
    let story = ended?.into_iter().next().unwrap_or_default();
    session::send(format!("{story}\n")).await?;
    let sections = ROLES.iter().filter(|(_, section, _)| story.contains(&format!("### {section}"))).count();
    Ok(json!({ "agents": ROLES.len(), "sections": sections, "characters": story.chars().count() })
        .to_string())
}

/// One role: takes the story so far, adds a section, passes it on. The result is the story up to there.
async fn agent(index: usize, group: &str, max_tokens: usize, theme: String) -> Result<String> {
    let (role, section, instruction) = ROLES[index];
    let queue = |role: &str| format!("swarm-{group}-{role}");
    let story = if index == 0 { theme } else { messaging::pull(queue(role)).await? };

    let mut chat = Chat::new(&Model::open_default()?)?;
    chat.system("You are one of four authors of a story. Write your part only.");
    chat.user(&format!("{instruction}\n\n{story}"));
    let text = chat.answer(SamplingParams::greedy(), max_tokens).await?;
    let story = format!("{story}\n\n### {section}\n{}", text.trim());
    if let Some((next, ..)) = ROLES.get(index + 1) {
        messaging::push(queue(next), story.clone())
            .await
            .map_err(|e| anyhow!("passing on to {next}: {e}"))?;
    }
    Ok(story)
}
