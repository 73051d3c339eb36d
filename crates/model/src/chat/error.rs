//! What can go wrong with a chat template.

use crate::tokenizer::TokenizerError;

/// Why a conversation cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The template is not valid Jinja.
    #[error("the model's chat template cannot be read: {reason}; the model still answers plain prompts")]
    Syntax {
        /// What, and in which line.
        reason: String,
    },
    /// The template called `raise_exception`: the conversation is not one it can write.
    #[error("the model's chat template refuses this conversation: {message}")]
    Refused {
        /// The template's own words.
        message: String,
    },
    /// The template took too many steps.
    #[error("the model's chat template took more than {limit} steps and was stopped")]
    Fuel {
        /// Steps allowed.
        limit: u64,
    },
    /// The template failed.
    #[error("the model's chat template failed: {reason}")]
    Render {
        /// What, and in which line.
        reason: String,
    },
    /// The last message cannot be continued.
    #[error("the last message cannot be continued: the model's chat template does not write it as it is")]
    Continue,
    /// The rendered text cannot be tokenized.
    #[error(transparent)]
    Encode(Box<TokenizerError>),
}
