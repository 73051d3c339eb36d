//! Conversations in the model's own chat format.

use futures::future::try_join_all;

use crate::bindings::pie::inferlet::model::ChatOptions;
pub use crate::bindings::pie::inferlet::model::Message;
use crate::{Answer, Context, EMBEDDING, Generation, Grammar, Model, Result, SamplingParams};

/// A conversation over one context. Each turn computes only new tokens.
///
/// The prompt is formatted as a whole each time and the longest prefix that the context already holds is
/// kept, so a template that rewrites earlier turns stays correct and merely costs more.
pub struct Chat {
    context: Context,
    messages: Vec<Message>,
    tools: Option<String>,
    variables: Option<String>,
}

impl Chat {
    /// A conversation without messages.
    ///
    /// # Errors
    /// As for [`Context::new`].
    pub fn new(model: &Model) -> Result<Chat> {
        Ok(Chat { context: Context::new(model)?, messages: Vec::new(), tools: None, variables: None })
    }

    /// Offers tools: a JSON list as in the OpenAI API.
    pub fn tools(&mut self, tools: &str) -> &mut Chat {
        self.tools = Some(tools.to_string());
        self
    }

    /// Sets further variables of the template, such as `enable_thinking`: a JSON object.
    pub fn variables(&mut self, variables: &str) -> &mut Chat {
        self.variables = Some(variables.to_string());
        self
    }

    /// Adds a system message.
    pub fn system(&mut self, content: &str) -> &mut Chat {
        self.push("system", content)
    }

    /// Adds a user message.
    pub fn user(&mut self, content: &str) -> &mut Chat {
        self.push("user", content)
    }

    /// Adds an assistant message.
    pub fn assistant(&mut self, content: &str) -> &mut Chat {
        self.push("assistant", content)
    }

    /// Adds a message of any role.
    pub fn push(&mut self, role: &str, content: &str) -> &mut Chat {
        self.add(Message {
            role: role.to_string(),
            content: content.to_string(),
            tool_calls: None,
            tool_call_id: None,
            name: None,
            reasoning_content: None,
            trusted: false,
        })
    }

    /// Adds a message with all that it may have: tool calls, the call that it answers, reasoning.
    pub fn add(&mut self, message: Message) -> &mut Chat {
        self.messages.push(message);
        self
    }

    /// The messages so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Text of the last message; empty when there is none.
    pub fn last_text(&self) -> &str {
        self.messages.last().map_or("", |message| &message.content)
    }

    /// The context, with the computed tokens of the conversation.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// `count` conversations with the same past, ready for different answers. The shared prompt is prefilled
    /// except its last token, which each branch needs to sample from.
    ///
    /// # Errors
    /// As for [`Chat::generation_prompt`], a pass and [`Chat::fork`].
    pub async fn branch(&mut self, count: usize) -> Result<Vec<Chat>> {
        self.generation_prompt()?.prefill_but_last().await?;
        (0..count).map(|_| self.fork()).collect()
    }

    /// A second conversation with the same past; nothing is recomputed.
    ///
    /// # Errors
    /// As for [`Context::fork`].
    pub fn fork(&self) -> Result<Chat> {
        let (messages, tools) = (self.messages.clone(), self.tools.clone());
        Ok(Chat { context: self.context.fork()?, messages, tools, variables: self.variables.clone() })
    }

    /// Brings the context to the assistant's turn and begins to generate. Add the answer with
    /// [`Chat::assistant`], or use [`Chat::answer`], which does.
    ///
    /// # Errors
    /// When the template refuses the messages.
    pub fn generate(&mut self, sampling: SamplingParams) -> Result<Generation<'_>> {
        self.generation_prompt()?;
        Ok(self.context.generate(sampling))
    }

    /// The context, with the prompt up to the header of the assistant's turn: for programs that drive the
    /// passes themselves.
    ///
    /// # Errors
    /// When the template refuses the messages.
    pub fn generation_prompt(&mut self) -> Result<&mut Context> {
        self.format(true)
    }

    /// Tokens of the messages so far, without the header of an answer: those that [`Chat::prefill`] computes.
    ///
    /// # Errors
    /// When the template refuses the messages.
    pub fn message_tokens(&self) -> Result<Vec<u32>> {
        self.formatted(false)
    }

    /// Goes on over a context that holds a beginning of the conversation, such as an opened snapshot.
    pub fn resume(&mut self, context: Context) -> &mut Chat {
        self.context = context;
        self
    }

    fn formatted(&self, add_generation_prompt: bool) -> Result<Vec<u32>> {
        let options = ChatOptions {
            add_generation_prompt,
            continue_final_message: false,
            tools: self.tools.clone(),
            variables: self.variables.clone(),
        };
        Ok(self.context.model().handle().encode_chat(&self.messages, &options)?)
    }

    fn format(&mut self, add_generation_prompt: bool) -> Result<&mut Context> {
        let tokens = self.formatted(add_generation_prompt)?;
        let (kept, new) = self.common(&tokens)?;
        self.context.truncate_with_removed(kept)?;
        self.context.append_tokens(&tokens[new..]);
        Ok(&mut self.context)
    }

    /// How much of the context, with what was removed from it, is the beginning of a prompt: tokens of the one and
    /// of the other. At least one token of the prompt is new, for one must be computed to ask for what follows.
    ///
    /// The model may have written a text in other tokens than the tokenizer gives. They stay, or a text that was
    /// removed would come back:
    ///
    /// ```text
    /// context   … | un | happ | y | <|im_end|>
    /// prompt    … | unhappy       | <|im_end|> | …      as long as the bytes are the same
    /// ```
    fn common(&self, prompt: &[u32]) -> Result<(usize, usize)> {
        let (held, prompt) = (self.context.with_removed(), &prompt[..prompt.len().saturating_sub(1)]);
        let bytes = |token: u32| match token {
            EMBEDDING => Ok(Vec::new()),
            token => self.context.model().handle().detokenize(&[token]),
        };
        let (mut kept, mut new) = (0, 0);
        // Behind `kept` and `new`: tokens looked at, and how many bytes more the first has than the second.
        let (mut i, mut j, mut text, mut other) = (0, 0, Vec::new(), Vec::new());
        while i < held.len() && j < prompt.len() {
            if text.is_empty() && other.is_empty() && held[i] == prompt[j] {
                (i, j) = (i + 1, j + 1);
            } else if text.len() <= other.len() {
                text.extend(bytes(held[i])?);
                i += 1;
            } else {
                other.extend(bytes(prompt[j])?);
                j += 1;
            }
            let both = text.len().min(other.len());
            if text[..both] != other[..both] {
                break;
            }
            text.drain(..both);
            other.drain(..both);
            if text.is_empty() && other.is_empty() {
                (kept, new) = (i, j);
            }
        }
        Ok((kept, new))
    }

    /// Prefills the messages so far, without the header of an answer: forks made now share all of them.
    ///
    /// # Errors
    /// As for [`Chat::generation_prompt`] and a pass.
    pub async fn prefill(&mut self) -> Result<()> {
        self.format(false)?.prefill().await
    }

    /// Generates the assistant's next message within a grammar, and adds it if it is complete after `max_tokens`.
    ///
    /// # Errors
    /// When the grammar is wrong, and as for [`Context::step`].
    pub async fn answer_in(
        &mut self,
        grammar: Grammar,
        sampling: SamplingParams,
        max_tokens: usize,
    ) -> Result<Answer> {
        let constraint = self.context.model().constraint(grammar).await?;
        let answer = self.generate(sampling)?.constrain(&constraint).max_tokens(max_tokens).answer().await?;
        if answer.complete {
            self.assistant(&answer.text);
        }
        Ok(answer)
    }

    /// Lets the model choose one of some answers, and adds it; the index of the choice. None, and no message,
    /// when the context length ended it.
    ///
    /// # Errors
    /// `invalid-argument` when there are no choices, and as for [`Context::step`].
    pub async fn choose(&mut self, choices: &[&str], sampling: SamplingParams) -> Result<Option<usize>> {
        let grammar = choices.iter().map(|choice| regex_literal(choice)).collect::<Vec<_>>().join("|");
        let longest = choices.iter().map(|choice| choice.len()).max().unwrap_or(0);
        // A token has a byte at least, and the stop token comes after them.
        let answer = self.answer_in(Grammar::Regex(grammar), sampling, longest + 1).await?;
        Ok(choices.iter().position(|choice| answer.complete && *choice == answer.text))
    }

    /// Prefills the messages so far and saves the context under a name: see [`Context::save`]. Who opens it
    /// gives [`Chat::message_tokens`], and goes on with [`Chat::resume`].
    ///
    /// # Errors
    /// As for [`Chat::prefill`] and [`Context::save`].
    pub async fn save(&mut self, name: &str, persistent: bool) -> Result<()> {
        self.format(false)?.save(name, persistent).await
    }

    /// Generates the assistant's next message and adds it.
    ///
    /// # Errors
    /// As for [`Context::step`].
    pub async fn answer(&mut self, sampling: SamplingParams, max_tokens: usize) -> Result<Answer> {
        let answer = self.generate(sampling)?.max_tokens(max_tokens).answer().await?;
        self.assistant(&answer.text);
        Ok(answer)
    }
}

/// Answers every conversation, all at once: a step of all is one batch. Each has a seed of its own, the first
/// that of `sampling`, the next the one after it.
///
/// # Errors
/// As for [`Chat::answer`].
pub async fn answer_all(
    chats: &mut [Chat],
    sampling: SamplingParams,
    max_tokens: usize,
) -> Result<Vec<Answer>> {
    let answers = chats.iter_mut().zip(0..);
    try_join_all(answers.map(|(chat, index)| chat.answer(sampling.seed_after(index), max_tokens))).await
}

/// Lets the model choose one of some answers in every conversation, all at once, with seeds as for
/// [`answer_all`].
///
/// # Errors
/// As for [`Chat::choose`].
pub async fn choose_all(
    chats: &mut [Chat],
    choices: &[&str],
    sampling: SamplingParams,
) -> Result<Vec<Option<usize>>> {
    let answers = chats.iter_mut().zip(0..);
    try_join_all(answers.map(|(chat, index)| chat.choose(choices, sampling.seed_after(index)))).await
}

/// A regular expression that matches this text only: for [`Grammar::Regex`].
pub fn regex_literal(text: &str) -> String {
    text.chars().map(|c| format!("\\x{{{:x}}}", c as u32)).collect()
}
