//! `/v1/chat/completions`: the next message of a conversation.

mod end;
mod messages;
mod shown;
mod tools;

use inferlet::futures::future::try_join_all;
use inferlet::http::Response;
use inferlet::serde_json::Map;
use inferlet::{Chat, Model, Value, json};

use crate::completions::{Streaming, now, random};
use crate::generation::{CHOICES, Served, Settings, TOP_LOGPROBS, as_vllm, open_model};
use crate::prompts::check_length;
use crate::turn::reader::{Delta, Message};
use crate::turn::reasoning;
use crate::turn::tools::Tools;
use crate::turn::{Answered, Cost, Piece, Turn, has_form};
use crate::{ApiError, Events, Fields, OutputFormat, Result, json as response, logprobs, usage};
use end::PromptEnd;

/// A request that was read. A program that takes the route over changes the conversation before it answers.
pub struct ChatRequest {
    /// The conversation.
    pub chat: Chat,
    /// How tokens are drawn.
    pub settings: Settings,
    id: String,
    created: u64,
    served: Served,
    end: PromptEnd,
    tools: Tools,
    format: Option<OutputFormat>,
    n: usize,
    logprobs: bool,
    streaming: Streaming,
    include_reasoning: bool,
}

/// One of the answers.
struct Choice {
    message: Message,
    finish_reason: &'static str,
    logprobs: Vec<Value>,
    cost: Cost,
}

impl ChatRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// With the parameter that is wrong or not supported.
    pub async fn read(mut fields: Fields) -> Result<ChatRequest> {
        let served = open_model(&mut fields).await?;
        let mut chat = Chat::new(&served.model)?;
        messages::read(&mut fields, &mut chat)?;
        let end = PromptEnd::read(&mut fields, &chat)?;
        let tools = tools::read(&mut fields)?;
        if let Some(offered) = tools.offered() {
            chat.tools(offered);
        }
        let format = OutputFormat::read(&mut fields)?;
        let (variables, thinking_tokens) = variables(&mut fields)?;
        if let Some(variables) = variables {
            chat.variables(&variables);
        }
        let mut settings = Settings::read(&mut fields, &served.model, "stop")?;
        let old = fields.get("max_tokens")?;
        settings.max_tokens = fields.get("max_completion_tokens")?.or(old);
        settings.check()?;
        settings.thinking_tokens = thinking_budget(&mut fields)?.unwrap_or(thinking_tokens);
        let logprobs = fields.get("logprobs")?.unwrap_or(false);
        let top = fields.number("top_logprobs", 0..=TOP_LOGPROBS)?;
        if top.is_some() && !logprobs {
            return Err(ApiError::invalid("top_logprobs", "`logprobs` must be true to have these"));
        }
        settings.top_logprobs = logprobs.then_some(top.unwrap_or(0));
        let streaming = Streaming::read(&mut fields)?;
        let request = ChatRequest {
            id: format!("chatcmpl-{:016x}", random()),
            created: now(),
            n: fields.number("n", CHOICES)?.unwrap_or(1),
            include_reasoning: fields.get("include_reasoning")?.unwrap_or(true),
            chat,
            settings,
            served,
            end,
            tools,
            format,
            logprobs,
            streaming,
        };
        fields.only("modalities", &[json!(["text"])])?;
        fields.only("store", &[json!(false)])?;
        fields.only("echo", &[json!(false)])?;
        fields.only("add_special_tokens", &[json!(false)])?;
        as_vllm(&mut fields)?;
        fields.ignore(&["user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key"]);
        fields.finish()?;
        Ok(request)
    }

    /// Answers it.
    ///
    /// # Errors
    /// As for a generation.
    pub async fn answer(mut self) -> Result<Response> {
        // What is wrong with the prompt is told before a stream begins.
        self.end.bring(&mut self.chat)?;
        if has_form(&self.tools, self.format.as_ref()) && self.end == PromptEnd::Answer {
            reasoning::open(&mut self.chat)?;
        }
        let context = self.chat.context_mut();
        check_length(context.tokens().len(), "messages", &self.served.model)?;
        context.set_adapter(self.served.adapter.clone());
        if self.n > 1 {
            context.prefill_but_last().await?;
        }
        let chats = (0..self.n).map(|_| self.chat.fork()).collect::<inferlet::Result<Vec<_>>>()?;
        if self.streaming.is_on {
            return Ok(Events::response(async move |events| self.stream(chats, events).await));
        }
        let choices =
            try_join_all(chats.into_iter().enumerate().map(|(at, chat)| self.choice(chat, at, None)));
        let choices = choices.await?;
        let shown = choices.iter().enumerate().map(|(at, choice)| {
            let logprobs = self.logprobs.then(|| json!({ "content": choice.logprobs, "refusal": null }));
            json!({
                "index": at,
                "message": shown::message(&choice.message, self.include_reasoning),
                "logprobs": logprobs,
                "finish_reason": choice.finish_reason,
            })
        });
        let mut answer = self.answer_with("chat.completion", shown.collect());
        answer["usage"] = self.usage(&choices);
        Ok(response(&answer))
    }

    async fn stream(&self, chats: Vec<Chat>, events: &Events) -> Result<()> {
        let choices =
            try_join_all(chats.into_iter().enumerate().map(|(at, chat)| self.choice(chat, at, Some(events))))
                .await?;
        if self.streaming.ends_with_usage {
            let mut last = self.answer_with("chat.completion.chunk", json!([]));
            last["usage"] = self.usage(&choices);
            events.send(&last).await?;
        }
        Ok(())
    }

    fn usage(&self, choices: &[Choice]) -> Value {
        let sum = |of: fn(&Cost) -> usize| choices.iter().map(|choice| of(&choice.cost)).sum();
        let first = choices.first().map(|choice| choice.cost).unwrap_or_default();
        let cached = match choices.len() {
            1 => first.cached,
            // The prompt of several was computed before them, once.
            _ => self.chat.context().work().cached() as usize,
        };
        usage(first.prompt, cached, sum(|cost| cost.generated), sum(|cost| cost.reasoning))
    }

    fn answer_with(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.served.name,
            "choices": choices,
        })
    }

    async fn choice(&self, mut chat: Chat, at: usize, events: Option<&Events>) -> Result<Choice> {
        let (model, format) = (&self.served.model, self.format.as_ref());
        let begin = Cost { prompt: chat.context().tokens().len(), ..Cost::default() };
        self.send(events, at, json!({ "role": "assistant", "content": "" }), None, Value::Null, begin)
            .await?;
        let mut entries = Vec::new();
        let turn = Turn { model, settings: &self.settings, tools: &self.tools, format };
        let more = async |piece: Piece<'_>| {
            let mut new = Vec::new();
            for logprob in piece.logprobs.iter().filter(|_| self.logprobs) {
                new.push(logprobs::of_chat(model, logprob)?);
            }
            self.send_deltas(events, at, piece.deltas, &new, piece.cost).await?;
            entries.extend(new);
            Ok(())
        };
        let Answered { message, finish_reason, cost } = turn.answer(chat.context_mut(), at, more).await?;
        let finish_reason = match finish_reason.openai() {
            "stop" if !message.calls.is_empty() => "tool_calls",
            reason => reason,
        };
        self.send(events, at, json!({}), Some(finish_reason), Value::Null, cost).await?;
        Ok(Choice { message, finish_reason, logprobs: entries, cost })
    }

    async fn send_deltas(
        &self,
        events: Option<&Events>,
        at: usize,
        deltas: Vec<Delta>,
        logprobs: &[Value],
        cost: Cost,
    ) -> Result<()> {
        let shown = deltas.into_iter().filter_map(|delta| shown::delta(delta, self.include_reasoning));
        let mut shown: Vec<Value> = shown.collect();
        if shown.is_empty() && !logprobs.is_empty() {
            // Its text is held back.
            shown.push(json!({ "content": "" }));
        }
        for (delta_at, delta) in shown.into_iter().enumerate() {
            let has_logprobs = self.logprobs && delta_at == 0 && !logprobs.is_empty();
            let logprobs =
                if has_logprobs { json!({ "content": logprobs, "refusal": null }) } else { Value::Null };
            self.send(events, at, delta, None, logprobs, cost).await?;
        }
        Ok(())
    }

    async fn send(
        &self,
        events: Option<&Events>,
        at: usize,
        delta: Value,
        finish_reason: Option<&str>,
        logprobs: Value,
        cost: Cost,
    ) -> Result<()> {
        let Some(events) = events else { return Ok(()) };
        let choice =
            json!({ "index": at, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason });
        let mut piece = self.answer_with("chat.completion.chunk", json!([choice]));
        if self.streaming.has_usage_in_each {
            piece["usage"] = usage(cost.prompt, cost.cached, cost.generated, cost.reasoning);
        }
        events.send(&piece).await
    }
}

/// The tokens of the prompt of a conversation, for a request that only wants these.
///
/// # Errors
/// With the parameter that is wrong.
pub fn prompt(fields: &mut Fields, model: &Model) -> Result<Vec<u32>> {
    let mut chat = Chat::new(model)?;
    messages::read(fields, &mut chat)?;
    if let Some(offered) = tools::read(fields)?.offered() {
        chat.tools(offered);
    }
    if let (Some(variables), _) = variables(fields)? {
        chat.variables(&variables);
    }
    let end = PromptEnd::read(fields, &chat)?;
    Ok(end.bring(&mut chat)?.tokens().to_vec())
}

/// The prompt of a conversation as a text, to show it.
///
/// # Errors
/// With the parameter that is wrong.
pub fn prompt_text(fields: &mut Fields, model: &Model) -> Result<String> {
    Ok(model.detokenize(&prompt(fields, model)?)?)
}

/// `thinking_token_budget`, as vLLM has it; -1 is no limit.
fn thinking_budget(fields: &mut Fields) -> Result<Option<Option<usize>>> {
    let budget = fields.number("thinking_token_budget", -1..=i64::from(u32::MAX))?;
    Ok(budget.map(|budget| usize::try_from(budget).ok()))
}

/// Variables of the template, `chat_template_kwargs` and `reasoning_effort`; and how many tokens of thoughts that effort is
/// at most.
fn variables(fields: &mut Fields) -> Result<(Option<String>, Option<usize>)> {
    let mut variables = fields.get::<Map<String, Value>>("chat_template_kwargs")?.unwrap_or_default();
    let most = effort(fields, "reasoning_effort", &mut variables)?;
    Ok(((!variables.is_empty()).then(|| Value::Object(variables).to_string()), most))
}

/// How much to think: in the variables that templates know it by, and as a number of tokens at most. Few templates know
/// more of it than whether.
pub(crate) fn effort(
    fields: &mut Fields,
    field: &str,
    variables: &mut Map<String, Value>,
) -> Result<Option<usize>> {
    let Some(effort) = fields.get::<String>(field)? else { return Ok(None) };
    let most = match effort.as_str() {
        "none" => {
            variables.entry("enable_thinking").or_insert(json!(false));
            None
        }
        "minimal" => Some(512),
        "low" => Some(2048),
        "medium" => Some(8192),
        "high" | "xhigh" => None,
        other => {
            let message = format!("`{other}` is none of none, minimal, low, medium, high, xhigh");
            return Err(ApiError::invalid(&fields.name(field), message));
        }
    };
    variables.insert("reasoning_effort".to_string(), json!(effort));
    Ok(most)
}

#[cfg(test)]
mod tests;
