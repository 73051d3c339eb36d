//! Conversations in the model's own chat format.

use futures::future::try_join_all;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Map;

use crate::bindings::pie::inferlet::model::ChatOptions;
pub use crate::bindings::pie::inferlet::model::Message;
use crate::{
    Answer, Context, EMBEDDING, Error, Generation, Grammar, Model, Result, SamplingParams, Value, json,
};

/// How a prompt ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// With the last message.
    Nothing,
    /// With the header of an answer.
    Answer,
    /// Within the last message.
    Continue,
}

impl Message {
    /// A message with a text.
    pub fn new(role: &str, content: &str) -> Message {
        Message {
            role: role.to_string(),
            content: content.to_string(),
            tool_calls: None,
            tool_call_id: None,
            name: None,
            reasoning_content: None,
            trusted: false,
        }
    }

    /// A message as in the OpenAI API: content as a text or as a list of text parts, which lines separate; tool calls,
    /// the id of the call that is answered, name and reasoning.
    ///
    /// # Errors
    /// `invalid-argument` when it has no role, or content of another kind.
    pub fn from_openai(message: &Value) -> Result<Message, Error> {
        let invalid = |what: &str| Error::InvalidArgument(format!("a message {what}: {message}"));
        let text = |key: &str| message[key].as_str().map(str::to_string);
        let part = |part: &Value| match part["type"].as_str() {
            Some("text") => part["text"].as_str().map(str::to_string),
            _ => None,
        };
        let content = match &message["content"] {
            Value::Null => Some(String::new()),
            Value::String(text) => Some(text.clone()),
            Value::Array(parts) => {
                let parts: Option<Vec<String>> = parts.iter().map(part).collect();
                parts.map(|parts| parts.join("\n"))
            }
            _ => None,
        };
        Ok(Message {
            role: text("role").ok_or_else(|| invalid("has no role"))?,
            content: content.ok_or_else(|| invalid("has content that is neither text nor text parts"))?,
            tool_calls: message.get("tool_calls").filter(|calls| calls.is_array()).map(Value::to_string),
            tool_call_id: text("tool_call_id"),
            name: text("name"),
            reasoning_content: text("reasoning_content"),
            trusted: false,
        })
    }
}

/// An answer that is not the whole value asked for.
#[derive(Debug)]
pub struct IncompleteJson {
    /// What was generated.
    pub answer: Answer,
    reason: String,
}

impl std::fmt::Display for IncompleteJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the answer is no whole JSON value, {}: {}", self.reason, self.answer.text)
    }
}

impl std::error::Error for IncompleteJson {}

/// Formats of strings that grammars know; see docs/api.md.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// The schema of a type as grammars take it. White space is fixed: a model that is lost would write nothing else.
fn json_schema<T: JsonSchema>() -> Value {
    fn drop_formats(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                let is_unknown =
                    |format: &Value| format.as_str().is_some_and(|name| !FORMATS.contains(&name));
                if fields.get("format").is_some_and(is_unknown) {
                    fields.remove("format");
                }
                fields.values_mut().for_each(drop_formats);
            }
            Value::Array(values) => values.iter_mut().for_each(drop_formats),
            _ => {}
        }
    }
    let mut schema = schemars::schema_for!(T).to_value();
    drop_formats(&mut schema);
    schema["x-guidance"] =
        json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
    schema
}

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
        self.add(Message::new(role, content))
    }

    /// Adds a message with all that it may have: tool calls, the call that it answers, reasoning.
    pub fn add(&mut self, message: Message) -> &mut Chat {
        self.messages.push(message);
        self
    }

    /// Adds to the text of the last message, such as what [`Chat::continue_last`] gave.
    pub fn extend_last(&mut self, content: &str) -> &mut Chat {
        if let Some(last) = self.messages.last_mut() {
            last.content.push_str(content);
        }
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

    /// The same, to change it: tokens that are [removed](Context::remove) stay away, and the next turn computes what is
    /// new.
    pub fn context_mut(&mut self) -> &mut Context {
        &mut self.context
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

    /// Brings the context to the end of the last message, which stays open, and generates what comes next in it. Add it
    /// with [`Chat::extend_last`].
    ///
    /// # Errors
    /// When the template refuses the messages, or there is none.
    pub fn continue_last(&mut self, sampling: SamplingParams) -> Result<Generation<'_>> {
        Ok(self.format(End::Continue)?.generate(sampling))
    }

    /// The context, with the prompt up to the header of the assistant's turn: for programs that drive the
    /// passes themselves.
    ///
    /// # Errors
    /// When the template refuses the messages.
    pub fn generation_prompt(&mut self) -> Result<&mut Context> {
        self.format(End::Answer)
    }

    /// The context, with the prompt up to the end of the last message, which stays open: for programs that drive the
    /// passes of [`Chat::continue_last`] themselves.
    ///
    /// # Errors
    /// When the template refuses the messages, or there is none.
    pub fn continuation_prompt(&mut self) -> Result<&mut Context> {
        self.format(End::Continue)
    }

    /// The context, with the prompt up to the end of the last message, without the header of an answer: the model
    /// writes whatever it thinks comes next.
    ///
    /// # Errors
    /// When the template refuses the messages.
    pub fn message_prompt(&mut self) -> Result<&mut Context> {
        self.format(End::Nothing)
    }

    /// Tokens of the messages so far, without the header of an answer: those that [`Chat::prefill`] computes.
    ///
    /// # Errors
    /// When the template refuses the messages.
    pub fn message_tokens(&self) -> Result<Vec<u32>> {
        self.formatted(End::Nothing)
    }

    /// Goes on over a context that holds a beginning of the conversation, such as an opened snapshot.
    pub fn resume(&mut self, context: Context) -> &mut Chat {
        self.context = context;
        self
    }

    /// Whether the model is to think before it answers, by a template that can do without: it writes another prompt
    /// where the variable `enable_thinking` is false.
    ///
    /// # Errors
    /// When the template refuses the messages.
    pub fn thinks(&self) -> Result<bool> {
        let mut variables: Map<String, Value> = match &self.variables {
            Some(variables) => serde_json::from_str(variables)?,
            None => Map::new(),
        };
        variables.insert("enable_thinking".to_string(), json!(false));
        let without = self.formatted_with(End::Answer, Some(Value::Object(variables).to_string()))?;
        Ok(self.formatted(End::Answer)? != without)
    }

    fn formatted(&self, end: End) -> Result<Vec<u32>> {
        self.formatted_with(end, self.variables.clone())
    }

    fn formatted_with(&self, end: End, variables: Option<String>) -> Result<Vec<u32>> {
        let options = ChatOptions {
            add_generation_prompt: end == End::Answer,
            continue_final_message: end == End::Continue,
            tools: self.tools.clone(),
            variables,
        };
        Ok(self.context.model().handle().encode_chat(&self.messages, &options)?)
    }

    fn format(&mut self, end: End) -> Result<&mut Context> {
        let tokens = self.formatted(end)?;
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
        self.format(End::Nothing)?.prefill().await
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

    /// Generates a value in JSON, by the schema of its type, and adds it. Formats that the server does not know, such as
    /// those of Rust's integers, are left to their bounds.
    ///
    /// # Errors
    /// [`IncompleteJson`], which has the text, when the value is not complete after `max_tokens` or does not
    /// parse; and as for [`Chat::answer_in`].
    pub async fn answer_json<T: JsonSchema + DeserializeOwned>(
        &mut self,
        sampling: SamplingParams,
        max_tokens: usize,
    ) -> Result<T> {
        let schema = json_schema::<T>().to_string();
        let answer = self.answer_in(Grammar::JsonSchema(schema), sampling, max_tokens).await?;
        let value = match answer.complete {
            true => serde_json::from_str(&answer.text).map_err(|error| error.to_string()),
            false => Err(format!("it ended with {:?}", answer.finish_reason)),
        };
        value.map_err(|reason| IncompleteJson { answer, reason }.into())
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
    /// gives [`Chat::message_tokens`], and goes on with [`Chat::resume`]. So it holds just these tokens: what was
    /// removed, or written by the model in other tokens, is computed again.
    ///
    /// # Errors
    /// As for [`Chat::prefill`] and [`Context::save`].
    pub async fn save(&mut self, name: &str, persistent: bool) -> Result<()> {
        let tokens = self.message_tokens()?;
        let same = self.context.tokens().iter().zip(&tokens).take_while(|(a, b)| a == b).count();
        self.context.truncate_with_removed(same)?;
        self.context.append_tokens(&tokens[same..]).save(name, persistent).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Host, ScriptedModel};
    use crate::{Window, mask};

    fn chat() -> Chat {
        Chat::new(&Model::open_default().unwrap()).unwrap()
    }

    #[test]
    fn a_turn_computes_what_is_new_and_brings_nothing_back() {
        // The model writes `ab` letter by letter: other tokens than the tokenizer's.
        let letters = |tokens: &[u32]| {
            let mut logits = vec![0.0; 259];
            let next = match tokens.last() {
                Some(97) => 98,
                Some(98) => 257,
                _ => 97,
            };
            logits[next] = 9.0;
            logits
        };
        let host = Host::new().model(ScriptedModel::logits(letters).words(&["ab"]));
        host.run(async {
            let mut chat = chat();
            chat.system("a long instruction").user("hello");
            let answer = chat.answer(SamplingParams::greedy(), 8).await.unwrap();
            assert_eq!((answer.text.as_str(), answer.tokens.len()), ("ab", 2));
            let before = chat.context().tokens().len();
            chat.context_mut().prefill().await.unwrap();
            chat.context_mut().remove(3, 20).unwrap();
            let rows = host.rows();
            let prompt = chat.user("more").generation_prompt().unwrap();
            // The end of the answer, the message, the header.
            let new = 1 + "<user\nmore>".len() + "<assistant\n".len();
            assert_eq!((prompt.tokens().len(), prompt.pending().len()), (before - 17 + new, new));
            chat.answer(SamplingParams::greedy(), 8).await.unwrap();
            assert_eq!(host.rows() - rows, new + 2, "the prompt, and two letters");
            assert!(chat.generation_prompt().unwrap().tokens().len() < before + 2 * new);
        });
    }

    #[test]
    fn a_saved_chat_holds_the_tokens_of_its_messages() {
        Host::new().model(ScriptedModel::new().says("hello", "abc").words(&["abc", "bc"])).run(async {
            let model = Model::open_default().unwrap();
            let mut chat = chat();
            // The model writes `a` and `bc`, the tokenizer `abc`.
            let bias = SamplingParams::greedy().logit_bias(vec![(97, 30.0), (258, f32::NEG_INFINITY)]);
            let answer = chat.user("hello").answer(bias, 1).await.unwrap();
            let rest = chat.continue_last(SamplingParams::greedy()).unwrap().answer().await.unwrap();
            chat.extend_last(&rest.text);
            assert_eq!((answer.text.as_str(), chat.last_text()), ("a", "abc"));
            chat.context_mut().prefill().await.unwrap();
            chat.context_mut().remove(2, 4).unwrap();
            chat.save("it", false).await.unwrap();
            let tokens = chat.message_tokens().unwrap();
            assert_eq!(chat.context().tokens(), tokens);
            assert!(Context::open(&model, "it", tokens).await.is_ok());
        });
    }

    #[test]
    fn a_window_under_a_chat_stays_a_window() {
        Host::new().model(ScriptedModel::noise(3)).run(async {
            let mut chat = chat();
            let window = Window { sink: 2, size: 12 };
            for turn in 0..4 {
                chat.user(&format!("turn {turn}"));
                let generation = chat.generate(SamplingParams::temperature(1.0).seed(turn)).unwrap();
                let allowed = generation.window(window).max_tokens(30).answer().await.unwrap();
                // Bytes that are no character would not be the same text again.
                let text: String = allowed.text.chars().filter(char::is_ascii).collect();
                chat.assistant(&text);
                assert!(chat.context().tokens().len() <= 2 + 12 + 1, "{turn}");
            }
            assert_eq!(mask([true]), [0, 1]);
        });
    }

    #[test]
    fn the_last_message_goes_on() {
        let host = Host::new().model(ScriptedModel::new().says("count", "one two three"));
        let text = host.run(async {
            let mut chat = chat();
            chat.user("count").assistant("one ");
            let rest = chat.continue_last(SamplingParams::greedy()).unwrap().answer().await.unwrap();
            chat.extend_last(&rest.text);
            chat.last_text().to_string()
        });
        assert_eq!(text, "one two three");
    }

    #[derive(Debug, PartialEq, serde::Deserialize, JsonSchema)]
    struct Person {
        name: String,
        age: u8,
    }

    #[test]
    fn a_typed_answer_is_a_value_or_keeps_its_text() {
        let text = r#"{"name": "Ann", "age": 30}"#;
        Host::new().model(ScriptedModel::new().says("who", text)).run(async {
            let mut chat = chat();
            let person: Person = chat.user("who").answer_json(SamplingParams::greedy(), 64).await.unwrap();
            assert_eq!(person, Person { name: "Ann".to_string(), age: 30 });
            assert_eq!(chat.last_text(), text);
            let mut chat = super::tests::chat();
            let cut = chat.user("who").answer_json::<Person>(SamplingParams::greedy(), 12).await.unwrap_err();
            let cut = cut.downcast_ref::<IncompleteJson>().unwrap();
            assert_eq!(cut.answer.text, text[..12]);
        });
    }

    #[test]
    fn messages_of_the_openai_api_have_parts_calls_and_reasoning() {
        let message = Message::from_openai(&json!({
            "role": "assistant", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }],
            "tool_calls": [{ "id": "1" }], "reasoning_content": "c",
        }));
        let message = message.unwrap();
        assert_eq!((message.content.as_str(), message.reasoning_content.as_deref()), ("a\nb", Some("c")));
        assert_eq!(message.tool_calls.as_deref(), Some(r#"[{"id":"1"}]"#));
        for wrong in [json!({}), json!({ "role": "user", "content": [{ "type": "image_url" }] })] {
            assert!(matches!(Message::from_openai(&wrong), Err(Error::InvalidArgument(_))), "{wrong}");
        }
    }
}
