//! A request for an answer, read.

use std::collections::BTreeMap;

use inferlet::serde_json::Map;
use inferlet::{Chat, Value, json};

use super::items::{self, Conversation};
use super::mcp::Sources;
use super::record::{Record, check_store, new_id};
use crate::chat::effort;
use crate::completions::now;
use crate::generation::{Served, Settings, open_model};
use crate::turn::tools::{ToolChoice, Tools, function_tool};
use crate::{ApiError, Fields, OutputFormat, Result};

/// Calls of tools that the server makes itself for one answer, unless the request says fewer.
const TOOL_CALLS: usize = 32;
/// The same, if the request says more.
const MOST_TOOL_CALLS: usize = 128;

/// A request that was read. A program that takes the route over changes the conversation before it answers.
pub struct ResponseRequest {
    /// The conversation, with all that was said before.
    pub chat: Chat,
    /// How tokens are drawn.
    pub settings: Settings,
    pub(super) served: Served,
    pub(super) tools: Tools,
    /// Servers whose tools the server calls itself.
    pub(super) sources: Sources,
    pub(super) tool_calls: usize,
    pub(super) format: Option<OutputFormat>,
    /// The answer as it is while it is made.
    pub(super) begun: Record,
    /// The answer that it goes on from.
    pub(super) previous: Option<Record>,
    pub(super) store: bool,
    pub(super) background: bool,
    pub(super) stream: bool,
}

impl ResponseRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// With the parameter that is wrong or not supported.
    pub async fn read(mut fields: Fields) -> Result<ResponseRequest> {
        let served = open_model(&mut fields).await?;
        let mut response = echo(&fields, &served.name);
        let mut chat = Chat::new(&served.model)?;
        if let Some(instructions) = fields.get::<String>("instructions")? {
            chat.system(&instructions);
        }
        let previous = fields.get::<String>("previous_response_id")?;
        let mut before = previous.as_deref().map_or_else(|| Ok(Vec::new()), Record::conversation)?;
        let mut conversation = Conversation::new(&mut chat);
        for record in &before {
            conversation.add(&record.input, "previous_response_id")?;
            for round in record.rounds() {
                conversation.add(round, "previous_response_id")?;
                conversation.end_turn();
            }
        }
        let input = items::read(&mut fields)?;
        conversation.add(&input, "input")?;
        conversation.finish();

        let (tools, sources) = tools(&mut fields).await?;
        let tool_calls = fields.number("max_tool_calls", 1..=MOST_TOOL_CALLS)?.unwrap_or(TOOL_CALLS);
        if let Some(offered) = tools.offered() {
            chat.tools(offered);
        }
        let format = format(&mut fields)?;
        let (variables, thinking_tokens) = variables(&mut fields)?;
        if let Some(variables) = variables {
            chat.variables(&variables);
        }
        let mut settings = Settings::read(&mut fields, &served.model, "stop")?;
        settings.thinking_tokens = thinking_tokens;
        settings.max_tokens = fields.number("max_output_tokens", 1..=usize::MAX)?;
        settings.check()?;
        let store = fields.get("store")?.unwrap_or(true);
        if store {
            // Rather than after the work.
            check_store()?;
        }
        let background = fields.get("background")?.unwrap_or(false);
        let stream = fields.get("stream")?.unwrap_or(false);
        if background && !store {
            return Err(ApiError::invalid(
                "background",
                "such an answer is fetched later, so `store` is needed",
            ));
        }
        let metadata: BTreeMap<String, String> = fields.get("metadata")?.unwrap_or_default();
        response["metadata"] = json!(metadata);
        refuse_others(fields)?;
        Ok(ResponseRequest {
            begun: Record { response, input, rounds: Vec::new() },
            previous: before.pop(),
            chat,
            settings,
            served,
            tools,
            sources,
            tool_calls,
            format,
            store,
            background,
            stream,
        })
    }
}

/// The answer before anything is made of it, with what it was asked by.
fn echo(fields: &Fields, model: &str) -> Value {
    let or = |field: &str, default: Value| match fields.peek(field) {
        Value::Null => default,
        value => value,
    };
    json!({
        "id": new_id(),
        "object": "response",
        "created_at": now(),
        "completed_at": null,
        "status": "in_progress",
        "background": or("background", json!(false)),
        "error": null,
        "incomplete_details": null,
        "instructions": fields.peek("instructions"),
        "max_output_tokens": fields.peek("max_output_tokens"),
        "max_tool_calls": fields.peek("max_tool_calls"),
        "model": model,
        "output": [],
        "parallel_tool_calls": or("parallel_tool_calls", json!(true)),
        "previous_response_id": fields.peek("previous_response_id"),
        "reasoning": or("reasoning", json!({ "effort": null, "summary": null })),
        "service_tier": "default",
        "store": or("store", json!(true)),
        "temperature": or("temperature", json!(1.0)),
        "top_p": or("top_p", json!(1.0)),
        "presence_penalty": or("presence_penalty", json!(0.0)),
        "frequency_penalty": or("frequency_penalty", json!(0.0)),
        "top_logprobs": 0,
        "text": or("text", json!({ "format": { "type": "text" } })),
        "tool_choice": or("tool_choice", json!("auto")),
        "tools": or("tools", json!([])),
        "truncation": "disabled",
        "usage": null,
        "metadata": {},
    })
}

async fn tools(fields: &mut Fields) -> Result<(Tools, Sources)> {
    let param = fields.name("tools");
    let (mut tools, mut sources) = (Vec::new(), Sources::default());
    for (at, tool) in fields.get::<Vec<Value>>("tools")?.unwrap_or_default().into_iter().enumerate() {
        let at = format!("{param}[{at}]");
        let mut tool = Fields::of_value(tool, &at)?;
        if tool.peek("type") == "mcp" {
            tool.ignore(&["type"]);
            sources.add(tool, &at).await?;
            continue;
        }
        tool.only("type", &[json!("function")])?;
        let name: String = tool.required("name")?;
        tools.push(function_tool(&name, tool.get("description")?, tool.value("parameters")));
        tool.ignore(&["strict"]);
        tool.finish()?;
    }
    let has_servers = sources.functions().next().is_some();
    tools.extend(sources.functions());
    let mut names: Vec<&str> = tools.iter().filter_map(|tool| tool["function"]["name"].as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| has_servers && pair[0] == pair[1]) {
        let message = format!("two tools have the name `{}`; `allowed_tools` can leave one out", twice[0]);
        return Err(ApiError::invalid(&param, message));
    }
    let param = fields.name("tool_choice");
    let choice = match fields.value("tool_choice") {
        None => ToolChoice::Auto,
        Some(Value::String(word)) => ToolChoice::of_word(&word, &param)?,
        Some(value) => {
            let mut named = Fields::of_value(value, &param)?;
            let is_of_server = named.peek("type") == "mcp";
            named.only("type", &[json!("function"), json!("mcp")])?;
            let name: String = named.required("name")?;
            if is_of_server {
                let label: String = named.required("server_label")?;
                if !sources.has(&label, &name) {
                    let message = format!("no tool `{name}` of a server `{label}` is among the tools");
                    return Err(ApiError::invalid(&param, message));
                }
            }
            named.finish()?;
            ToolChoice::Named(name)
        }
    };
    let tools = Tools::new(tools, choice, fields.get("parallel_tool_calls")?.unwrap_or(true))?;
    Ok((tools, sources))
}

/// `text`: the form of what is said.
fn format(fields: &mut Fields) -> Result<Option<OutputFormat>> {
    let Some(value) = fields.value("text") else { return Ok(None) };
    let mut text = Fields::of_value(value, &fields.name("text"))?;
    let format = OutputFormat::of_text(&mut text)?;
    text.only("verbosity", &[json!("medium")])?;
    text.finish()?;
    Ok(format)
}

/// `reasoning`, in the variables of the template; and how many tokens of thoughts that is at most.
fn variables(fields: &mut Fields) -> Result<(Option<String>, Option<usize>)> {
    let mut most = None;
    let mut variables = Map::new();
    if let Some(value) = fields.value("reasoning") {
        let mut reasoning = Fields::of_value(value, &fields.name("reasoning"))?;
        most = effort(&mut reasoning, "effort", &mut variables)?;
        // What the model thinks is given in full.
        reasoning.only("summary", &[json!("auto")])?;
        reasoning.finish()?;
    }
    Ok(((!variables.is_empty()).then(|| Value::Object(variables).to_string()), most))
}

/// What must be as it is anyway, and what nobody has read.
fn refuse_others(mut fields: Fields) -> Result<()> {
    if let Some(value) = fields.value("stream_options") {
        let mut options = Fields::of_value(value, &fields.name("stream_options"))?;
        options.only("include_obfuscation", &[json!(false)])?;
        options.finish()?;
    }
    for (at, wanted) in fields.get::<Vec<String>>("include")?.unwrap_or_default().iter().enumerate() {
        // Reasoning is not hidden, so there is no need to encrypt it.
        if wanted != "reasoning.encrypted_content" {
            return Err(ApiError::unsupported(
                &format!("include[{at}]"),
                format!("`{wanted}` is not supported"),
            ));
        }
    }
    fields.only("truncation", &[json!("disabled")])?;
    fields.only("top_logprobs", &[json!(0)])?;
    fields.ignore(&[
        "user",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    ]);
    fields.finish()
}
