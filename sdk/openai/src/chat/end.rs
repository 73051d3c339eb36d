//! How the prompt of a conversation ends: `add_generation_prompt` and `continue_final_message`, as vLLM has them.

use inferlet::{Chat, Context};

use crate::{ApiError, Fields, Result};

/// How a prompt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PromptEnd {
    /// With the header of an answer.
    Answer,
    /// With the last message.
    Message,
    /// Within the last message, which the answer goes on in.
    Continued,
}

impl PromptEnd {
    /// Reads both parameters. A message that is continued needs no word about the header.
    pub(super) fn read(fields: &mut Fields, chat: &Chat) -> Result<PromptEnd> {
        let continues = fields.get("continue_final_message")?.unwrap_or(false);
        let with_header = fields.get::<bool>("add_generation_prompt")?;
        let wrong = |message| Err(ApiError::invalid(&fields.name("continue_final_message"), message));
        match (continues, with_header) {
            (true, Some(true)) => wrong("this and `add_generation_prompt` are not both possible"),
            (true, _) if chat.messages().last().is_some_and(|last| last.tool_calls.is_some()) => {
                wrong("the last message ends with `tool_calls`, and only a text can go on")
            }
            (true, _) => Ok(PromptEnd::Continued),
            (false, Some(false)) => Ok(PromptEnd::Message),
            (false, _) => Ok(PromptEnd::Answer),
        }
    }

    /// Brings the conversation there.
    pub(super) fn bring(self, chat: &mut Chat) -> Result<&mut Context> {
        let prompt = match self {
            PromptEnd::Answer => chat.generation_prompt(),
            PromptEnd::Message => chat.message_prompt(),
            PromptEnd::Continued => chat.continuation_prompt(),
        };
        prompt.map_err(|error| ApiError::of_prompt(error, "messages"))
    }
}
