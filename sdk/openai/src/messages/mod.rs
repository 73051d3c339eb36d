//! `/v1/messages`: the next message of a conversation, as Anthropic's API has it.
//!
//! Sampling parameters of the other routes, such as `seed` and `min_p`, are taken here as well. `cache_control` says
//! nothing, for the server caches what it computes by itself.

mod blocks;
mod conversation;
mod tools;

use inferlet::http::{Method, Request, Response, StatusCode};
use inferlet::{Chat, FinishReason, Value, json};

use crate::completions::random;
use crate::generation::{Served, Settings, open_model};
use crate::prompts::check_length;
use crate::server::{nothing_below, only};
use crate::turn::reader::Delta;
use crate::turn::reasoning;
use crate::turn::tools::Tools;
use crate::turn::{Answered, Cost, Piece, Turn};
use crate::{ApiError, Events, Fields, Result, json as response};
use blocks::Blocks;

/// A request that was read. A program that takes the route over changes the conversation before it answers.
pub struct MessageRequest {
    /// The conversation.
    pub chat: Chat,
    /// How tokens are drawn.
    pub settings: Settings,
    id: String,
    served: Served,
    tools: Tools,
    /// The answer goes on in the last message.
    continues: bool,
    stream: bool,
}

/// The body of an error, as this API has it.
pub fn error_body(error: &ApiError) -> Value {
    let kind = match error.status() {
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": error.message() } })
}

/// Answers a request to the route, or to its `count_tokens`.
///
/// # Errors
/// With the parameter that is wrong, and as for a generation.
pub async fn route(request: Request) -> Result<Response> {
    only(&request, &Method::POST)?;
    match request.uri().path() {
        "/" => MessageRequest::read(Fields::of_body(request).await?).await?.answer().await,
        "/count_tokens" => {
            let mut fields = Fields::of_body(request).await?;
            let mut request = MessageRequest::conversation(&mut fields).await?;
            fields.finish()?;
            Ok(response(&json!({ "input_tokens": request.prepare()? })))
        }
        _ => Err(nothing_below()),
    }
}

impl MessageRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// With the parameter that is wrong or not supported.
    pub async fn read(mut fields: Fields) -> Result<MessageRequest> {
        let mut request = MessageRequest::conversation(&mut fields).await?;
        let most = request.settings.max_tokens.insert(fields.required("max_tokens")?);
        if *most == 0 {
            return Err(ApiError::invalid("max_tokens", "must be 1 at least"));
        }
        request.stream = fields.get("stream")?.unwrap_or(false);
        fields.ignore(&["metadata", "service_tier"]);
        fields.finish()?;
        Ok(request)
    }

    /// Reads what makes the prompt, and how tokens are drawn.
    async fn conversation(fields: &mut Fields) -> Result<MessageRequest> {
        fields.ignore(&["cache_control"]);
        let served = open_model(fields).await?;
        let mut chat = Chat::new(&served.model)?;
        let continues = conversation::read(fields, &mut chat)?;
        let tools = tools::read(fields)?;
        if let Some(offered) = tools.offered() {
            chat.tools(offered);
        }
        let thinking = Thinking::read(fields)?;
        chat.variables(&json!({ "enable_thinking": thinking.is_on }).to_string());
        let mut settings = Settings::read(fields, &served.model, "stop_sequences")?;
        settings.thinking_tokens = thinking.budget;
        Ok(MessageRequest {
            id: format!("msg_{:016x}", random()),
            settings,
            chat,
            served,
            tools,
            continues,
            stream: false,
        })
    }

    /// Brings the conversation to its answer; the tokens of the prompt.
    fn prepare(&mut self) -> Result<usize> {
        let prompt = match self.continues {
            true => self.chat.continuation_prompt(),
            false => self.chat.generation_prompt(),
        };
        prompt.map_err(|error| ApiError::from(error).about("messages"))?;
        if self.tools.must_call() && !self.continues {
            reasoning::open(&mut self.chat)?;
        }
        let context = self.chat.context_mut();
        context.set_adapter(self.served.adapter.clone());
        let tokens = context.tokens().len();
        check_length(tokens, "messages", &self.served.model)?;
        Ok(tokens)
    }

    /// Answers it.
    ///
    /// # Errors
    /// As for a generation.
    pub async fn answer(mut self) -> Result<Response> {
        // What is wrong with the prompt is told before a stream begins.
        let prompt = self.prepare()?;
        if self.stream {
            return Ok(Events::open(async move |events| match self.stream(prompt, events).await {
                Ok(()) => Ok(()),
                Err(error) => events.send_typed(&error_body(&error)).await,
            }));
        }
        let mut blocks = Blocks::default();
        let answered = self
            .turn(async |deltas| {
                deltas.into_iter().for_each(|delta| drop(blocks.take(delta)));
                Ok(())
            })
            .await?;
        drop(blocks.finish());
        let mut message = self.message(blocks.shown(), usage(answered.cost));
        set_stop(&mut message, &answered);
        Ok(response(&message))
    }

    async fn stream(&mut self, prompt: usize, events: &Events) -> Result<()> {
        // What is cached is known at the end.
        let cost = Cost { prompt, ..Cost::default() };
        let message = self.message(json!([]), usage(cost));
        events.send_typed(&json!({ "type": "message_start", "message": message })).await?;
        let mut blocks = Blocks::default();
        let answered = self
            .turn(async |deltas| {
                for event in deltas.into_iter().flat_map(|delta| blocks.take(delta)) {
                    events.send_typed(&event).await?;
                }
                Ok(())
            })
            .await?;
        for event in blocks.finish() {
            events.send_typed(&event).await?;
        }
        let mut delta = json!({});
        set_stop(&mut delta, &answered);
        let usage = usage(answered.cost);
        events.send_typed(&json!({ "type": "message_delta", "delta": delta, "usage": usage })).await?;
        events.send_typed(&json!({ "type": "message_stop" })).await
    }

    async fn turn(&mut self, mut more: impl AsyncFnMut(Vec<Delta>) -> Result<()>) -> Result<Answered> {
        let (settings, tools) = (&self.settings, &self.tools);
        let turn = Turn { model: &self.served.model, settings, tools, format: None };
        let more = async |piece: Piece<'_>| more(piece.deltas).await;
        turn.answer(self.chat.context_mut(), 0, more).await
    }

    fn message(&self, content: Value, usage: Value) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.served.name,
            "content": content,
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage,
        })
    }
}

/// `thinking`: whether the model is asked to, and how many tokens of it there may be.
struct Thinking {
    is_on: bool,
    budget: Option<usize>,
}

impl Thinking {
    fn read(fields: &mut Fields) -> Result<Thinking> {
        let off = Thinking { is_on: false, budget: None };
        let Some(value) = fields.value("thinking") else { return Ok(off) };
        let mut thinking = Fields::of_value(value, &fields.name("thinking"))?;
        let kind: String = thinking.required("type")?;
        let read = match kind.as_str() {
            "enabled" => {
                let budget = thinking.number("budget_tokens", 1..=u32::MAX)?;
                Thinking { is_on: true, budget: budget.map(|budget| budget as usize) }
            }
            // The model decides how much.
            "adaptive" => Thinking { is_on: true, budget: None },
            "disabled" => off,
            other => {
                let message = format!("`{other}` is none of `enabled`, `adaptive` and `disabled`");
                return Err(ApiError::invalid(&thinking.name("type"), message));
            }
        };
        thinking.finish()?;
        Ok(read)
    }
}

/// Why it ended.
fn set_stop(message: &mut Value, answered: &Answered) {
    let (reason, stop) = match &answered.finish_reason {
        FinishReason::MaxTokens | FinishReason::ContextLength => ("max_tokens", None),
        FinishReason::StopText(text) => ("stop_sequence", Some(text)),
        _ if !answered.message.calls.is_empty() => ("tool_use", None),
        FinishReason::StopToken(_) | FinishReason::Constraint => ("end_turn", None),
    };
    message["stop_reason"] = json!(reason);
    message["stop_sequence"] = json!(stop);
}

/// `usage`: `input_tokens` are those that were computed.
fn usage(cost: Cost) -> Value {
    json!({
        "input_tokens": cost.prompt - cost.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cost.cached,
        "output_tokens": cost.generated,
    })
}
