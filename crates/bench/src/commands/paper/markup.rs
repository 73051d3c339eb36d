//! The markup of a model's conversations, learned from the server's `/apply-template`.
//!
//! A program keeps its conversation as keys and values; an application sends it again as text, in the same markup, so
//! that both compute the same tokens. The server is asked twice, with words as messages that occur nowhere else; what
//! stands between the words is the markup:
//!
//! ```text
//! <start>system\nS1<end>\n<start>user\nU2<end>\n<start>assistant\nA3<end>\n<start>user\nU4<end>\n<start>assistant\n
//! '-- system ---'  '----- user ------'  '---- assistant ------'  '----- next ------'  '---- generation -----------'
//! ```

use anyhow::{Context, bail};
use serde_json::{Value, json};

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What holds for the whole conversation.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

/// A message.
pub type Message = (Role, String);

/// What stands around messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markup {
    /// In front of a first message of the system.
    system: String,
    /// Between that and the message of the user.
    user: String,
    /// In front of a first message of the user, where the system says nothing: often a default of the model.
    alone: String,
    /// Between a message of the user and that of the model.
    assistant: String,
    /// Between a message of the model and the next of the user.
    next: String,
    /// Behind the last message, so that the model goes on.
    generation: String,
}

const WORDS: [&str; 4] = ["pieBenchS1", "pieBenchU2", "pieBenchA3", "pieBenchU4"];

impl Markup {
    /// Learns the markup. `apply` gives the prompt of a list of messages.
    ///
    /// # Errors
    /// When it fails, or the prompt lacks a message.
    pub fn learn(apply: impl Fn(Value) -> anyhow::Result<String>) -> anyhow::Result<Self> {
        let message = |role: &str, content: &str| json!({ "role": role, "content": content });
        let [s, u, a, v] = WORDS;
        let whole = apply(json!([
            message("system", s),
            message("user", u),
            message("assistant", a),
            message("user", v)
        ]))?;
        let [system, user, assistant, next, generation] = cut(&whole, &WORDS)?[..] else {
            bail!("the template gives `{whole}`, expected the four messages in it");
        };
        let lone = apply(json!([message("user", u)]))?;
        let alone = cut(&lone, &[u])?[0];
        let [system, user, alone, assistant, next, generation] =
            [system, user, alone, assistant, next, generation].map(str::to_string);
        Ok(Self { system, user, alone, assistant, next, generation })
    }

    /// The prompt of a conversation: a message of the system or none, then user and assistant in turn, the user last.
    pub fn prompt(&self, messages: &[Message]) -> String {
        let mut prompt = String::new();
        let mut before = None;
        for (role, content) in messages {
            prompt += match (before, role) {
                (_, Role::System) => &self.system,
                (None, Role::User) => &self.alone,
                (Some(Role::System), Role::User) => &self.user,
                (_, Role::User) => &self.next,
                (_, Role::Assistant) => &self.assistant,
            };
            prompt += content;
            before = Some(*role);
        }
        prompt + &self.generation
    }
}

/// What stands around the words, which come in this order.
fn cut<'a>(text: &'a str, words: &[&str]) -> anyhow::Result<Vec<&'a str>> {
    let (mut rest, mut pieces) = (text, Vec::new());
    for word in words {
        let (before, after) = rest.split_once(word).with_context(|| {
            format!("the template gives `{text}`, expected the message `{word}` in it, and as it is")
        })?;
        pieces.push(before);
        rest = after;
    }
    pieces.push(rest);
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the template of ChatML has it, with a default for the system.
    fn chat_ml(messages: &Value) -> String {
        let messages = messages.as_array().unwrap();
        let mut text = String::new();
        if messages[0]["role"] != "system" {
            text += "<|im_start|>system\nDefault<|im_end|>\n";
        }
        for message in messages {
            let (role, content) = (message["role"].as_str().unwrap(), message["content"].as_str().unwrap());
            text += &format!("<|im_start|>{role}\n{content}<|im_end|>\n");
        }
        text + "<|im_start|>assistant\n"
    }

    #[test]
    fn prompts_are_those_of_the_template() {
        let markup = Markup::learn(|messages| Ok(chat_ml(&messages))).unwrap();
        let name = |role: &Role| match role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        use Role::{Assistant, System, User};
        for roles in [
            &[User][..],
            &[System, User],
            &[User, Assistant, User],
            &[System, User, Assistant, User, Assistant, User],
        ] {
            let messages: Vec<Message> =
                roles.iter().enumerate().map(|(number, role)| (*role, format!("text {number}"))).collect();
            let values: Vec<Value> = messages
                .iter()
                .map(|(role, content)| json!({"role": name(role), "content": content}))
                .collect();
            assert_eq!(markup.prompt(&messages), chat_ml(&json!(values)), "{roles:?}");
        }
    }

    #[test]
    fn a_template_that_loses_a_message_is_refused() {
        let error = Markup::learn(|_| Ok("nothing".into())).unwrap_err();
        assert!(error.to_string().contains("expected the message `pieBenchS1`"), "{error}");
    }
}
