//! Scores of pairs of a query and a document.
//!
//! The prompt is that of Qwen3-Reranker. Its model card (huggingface.co/Qwen/Qwen3-Reranker-0.6B) and vLLM
//! (`examples/offline_inference/qwen3_reranker.py`) write it in this way, and the score is the probability of `yes`
//! among that of `yes` and `no`, as there:
//!
//! ```text
//! <|im_start|>system↵Judge whether … "yes" or "no".<|im_end|>↵
//! <|im_start|>user↵<Instruct>: …↵<Query>: …↵<Document>: …<|im_end|>↵
//! <|im_start|>assistant↵<think>↵↵</think>↵↵
//! ```
//!
//! The marks around the messages, and the thoughts that are closed, come from the template of the model.
//! `crates/model/tests/chat.rs` holds that of Qwen3 to it.

use inferlet::bindings::pie::inferlet::model::ChatOptions;
use inferlet::futures::stream::{StreamExt, TryStreamExt, iter};
use inferlet::http::StatusCode;
use inferlet::{Context, Message, Model, Value, json};

use super::compare;
use crate::fields::kind;
use crate::generation::Served;
use crate::{ApiError, Fields, Result};

/// Pairs of a request.
const PAIRS: usize = 1024;
/// Documents that hold pages at the same time. A batch has no use for more.
const AT_ONCE: usize = 64;
/// Bytes of a document that is cut: more than any context has, and less than the tokenizer takes.
const CUT_BYTES: usize = 512 << 10;

const SYSTEM: &str = "Judge whether the Document meets the requirements based on the Query and the Instruct provided. \
                      Note that the answer can only be \"yes\" or \"no\".";
const INSTRUCTION: &str = "Given a web search query, retrieve relevant passages that answer the query";

/// A text, and the parameter that it came in.
pub(super) struct Text {
    pub(super) text: String,
    pub(super) param: String,
}

/// How pairs are judged.
pub(super) struct Judge {
    served: Served,
    /// Tokens that a prompt may have: a document is cut to that. Without, one that is too long is refused.
    cut: Option<usize>,
    /// What the model is asked; an encoder's vectors are compared instead.
    question: Option<Question>,
}

struct Question {
    instruction: String,
    /// The first tokens of `yes` and `no`.
    answers: [u32; 2],
}

/// The scores of pairs, and the tokens that were given to the model for them.
pub(super) struct Scores {
    pub(super) scores: Vec<f32>,
    pub(super) tokens: usize,
}

impl Judge {
    /// Reads what both routes take.
    pub(super) fn read(fields: &mut Fields, served: Served) -> Result<Judge> {
        let limit = served.model.facts().context_length;
        let question = match served.model.embedding().encoder {
            true => None,
            false => Some(Question {
                answers: answers(&served.model)?,
                instruction: fields.get("instruction")?.unwrap_or_else(|| INSTRUCTION.to_string()),
            }),
        };
        let cut = fields.number("truncate_prompt_tokens", -1..=i64::from(limit))?;
        if cut == Some(0) {
            return Err(ApiError::invalid(
                "truncate_prompt_tokens",
                "must be 1 at least, or -1 for the context",
            ));
        }
        fields.ignore(&["user"]);
        // -1 is what the model has, as for vLLM.
        let cut = cut.map(|cut| usize::try_from(cut).unwrap_or(limit as usize));
        Ok(Judge { served, cut, question })
    }

    /// The name of the model.
    pub(super) fn model(&self) -> &str {
        &self.served.name
    }

    /// Scores pairs of a query and a document.
    pub(super) async fn scores(&self, pairs: &[(&Text, &Text)]) -> Result<Scores> {
        let Some(question) = &self.question else {
            return compare::scores(&self.served, self.cut, pairs).await;
        };
        let prompts: Vec<Vec<u32>> = pairs
            .iter()
            .map(|(query, document)| self.prompt(question, query, document))
            .collect::<Result<_>>()?;
        let shared = shared(&prompts);
        let mut common = Context::new(&self.served.model)?;
        common.set_adapter(self.served.adapter.clone());
        if let Some(first) = prompts.first() {
            common.append_tokens(&first[..shared]).prefill().await?;
        }
        let scores = iter(prompts.iter().map(|prompt| question.score(&common, &prompt[shared..])));
        let scores = scores.buffered(AT_ONCE).try_collect().await?;
        let tokens = shared + prompts.iter().map(|prompt| prompt.len() - shared).sum::<usize>();
        Ok(Scores { scores, tokens })
    }

    /// The prompt of a pair, with a document that is cut where that was asked for.
    fn prompt(&self, question: &Question, query: &Text, document: &Text) -> Result<Vec<u32>> {
        let model = &self.served.model;
        let limit = self.served.model.facts().context_length as usize;
        let most = self.cut.unwrap_or(limit);
        if self.cut.is_none() {
            let prompt = question.encode(model, &query.text, &document.text);
            let prompt = prompt.map_err(|error| ApiError::of_prompt(error, &document.param))?;
            if prompt.len() <= limit {
                return Ok(prompt);
            }
            let message = format!(
                "its prompt has {} tokens, and the model's context {limit}; `truncate_prompt_tokens` cuts it",
                prompt.len()
            );
            return Err(ApiError::invalid(&document.param, message).with_code("context_length_exceeded"));
        }
        // The tokens of a part may be others than those of the whole, so what is left is looked at again.
        let mut text = &document.text[..document.text.floor_char_boundary(CUT_BYTES)];
        loop {
            let prompt = question.encode(model, &query.text, text);
            let prompt = prompt.map_err(|error| ApiError::of_prompt(error, &query.param))?;
            let Some(beyond) = prompt.len().checked_sub(most).filter(|beyond| *beyond > 0) else {
                return Ok(prompt);
            };
            if text.is_empty() {
                let message = format!(
                    "its prompt has {} tokens without any document, and may have {most}",
                    prompt.len()
                );
                return Err(ApiError::invalid(&query.param, message).with_code("context_length_exceeded"));
            }
            let tokens = self.served.model.tokenize(text)?;
            let kept = &tokens[..tokens.len().saturating_sub(beyond)];
            let kept = self.served.model.handle().detokenize(kept)?.len();
            text = &text[..text.floor_char_boundary(kept.min(text.len() - 1))];
        }
    }
}

impl Question {
    /// The score of what follows the common beginning.
    async fn score(&self, common: &Context, rest: &[u32]) -> Result<f32> {
        let mut context = common.fork()?;
        let logprobs = context.append_tokens(rest).next_logprobs(&self.answers).await?;
        match logprobs[..] {
            // P(yes) / (P(yes) + P(no)), without dividing two numbers that may both be next to nothing.
            [yes, no] => Ok(1.0 / (1.0 + (no - yes).exp())),
            _ => Err(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("two log-probabilities were requested, got {}", logprobs.len()),
            )),
        }
    }

    fn encode(&self, model: &Model, query: &str, document: &str) -> inferlet::Result<Vec<u32>> {
        let Question { instruction, .. } = self;
        let asked = format!("<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}");
        let messages = [Message::new("system", SYSTEM), Message::new("user", &asked)];
        let options = ChatOptions {
            add_generation_prompt: true,
            continue_final_message: false,
            tools: None,
            // The answer is one word, at once.
            variables: Some(json!({ "enable_thinking": false }).to_string()),
        };
        Ok(model.handle().encode_chat(&messages, &options)?)
    }
}

/// The first tokens of both answers.
fn answers(model: &Model) -> Result<[u32; 2]> {
    let first = |word: &str| Ok::<_, ApiError>(model.tokenize(word)?.first().copied());
    match (first("yes")?, first("no")?) {
        (Some(yes), Some(no)) if yes != no => Ok([yes, no]),
        _ => {
            let name = &model.facts().name;
            let message = format!("`{name}` cannot be asked: `yes` and `no` begin with one token");
            Err(ApiError::invalid("model", message))
        }
    }
}

/// How many tokens all prompts begin with. One is left of each, to ask what follows it.
fn shared(prompts: &[Vec<u32>]) -> usize {
    let Some((first, others)) = prompts.split_first() else { return 0 };
    let common = |other: &Vec<u32>| first.iter().zip(other).take_while(|(a, b)| a == b).count();
    let all = others.iter().map(common).min().unwrap_or(first.len());
    all.min(prompts.iter().map(Vec::len).min().unwrap_or(0).saturating_sub(1))
}

/// The text of a value: itself, or `text` of an object.
pub(super) fn text_of(value: Value, param: String) -> Result<Text> {
    match value {
        Value::String(text) => Ok(Text { text, param }),
        Value::Object(_) => {
            let mut fields = Fields::of_value(value, &param)?;
            let text = fields.required("text")?;
            fields.finish()?;
            Ok(Text { text, param })
        }
        other => {
            let message = format!("expected a text or an object with `text`, found {}", kind(&other));
            Err(ApiError::invalid(&param, message))
        }
    }
}

/// A list of texts.
pub(super) fn texts_of(values: Vec<Value>, param: &str) -> Result<Vec<Text>> {
    if values.is_empty() || values.len() > PAIRS {
        let message = format!("{} are given, expected 1 to {PAIRS}", values.len());
        return Err(ApiError::invalid(param, message));
    }
    values.into_iter().enumerate().map(|(at, value)| text_of(value, format!("{param}[{at}]"))).collect()
}
