//! Tools of the type `mcp`: those of servers that the operator has configured, which the server calls itself while it
//! makes an answer.

use std::collections::BTreeMap;

use inferlet::http::StatusCode;
use inferlet::mcp::{Server, Tool};
use inferlet::{Error, Value, anyhow, json, serde_json};

use super::items::new_id;
use crate::fields::kind;
use crate::{ApiError, Fields, Result};

/// Servers of one request.
const SERVERS: usize = 16;

/// A server that a request names, with those of its tools that it allows.
struct Source {
    /// What the request calls it.
    label: String,
    server: Server,
    tools: Vec<Tool>,
}

/// The servers of a request.
#[derive(Default)]
pub(super) struct Sources(Vec<Source>);

impl Sources {
    /// Reads a tool of a request, all but its type, and asks the server for its tools. `param` says where it is.
    ///
    /// # Errors
    /// With the field that is wrong; 424 when the server does not say what tools it has.
    pub(super) async fn add(&mut self, mut tool: Fields, param: &str) -> Result<()> {
        if self.0.len() == SERVERS {
            return Err(ApiError::invalid(param, format!("more than {SERVERS} servers of the type `mcp`")));
        }
        let label: String = tool.required("server_label")?;
        if self.0.iter().any(|source| source.label == label) {
            let message = format!("`{label}` is there twice");
            return Err(ApiError::invalid(&tool.name("server_label"), message));
        }
        let server = match tool.get::<String>("server_url")? {
            Some(url) => Server::at(&url).map_err(|error| named(error, &tool.name("server_url")))?,
            None => Server::open(&label).map_err(|error| named(error, &tool.name("server_label")))?,
        };
        let approval = tool.value("require_approval");
        if approval != Some(json!("never")) {
            let found = approval.map_or("is missing, which means `always`".to_string(), |value| {
                format!("{value} is not supported")
            });
            let message = format!("{found}: only \"never\" is supported");
            return Err(ApiError::unsupported(&tool.name("require_approval"), message));
        }
        for field in ["authorization", "headers", "connector_id"] {
            if tool.has(field) {
                let message = "is not supported: the operator configures how a server is reached";
                return Err(ApiError::unsupported(&tool.name(field), message));
            }
        }
        tool.only("defer_loading", &[json!(false)])?;
        tool.ignore(&["server_description"]);
        let allowed = allowed(&mut tool)?;
        let allowed_param = tool.name("allowed_tools");
        tool.finish()?;

        let mut tools = server.tools().await.map_err(|error| {
            let message = format!("the tools of MCP server `{label}` cannot be listed: {}", said(&error));
            ApiError::new(StatusCode::FAILED_DEPENDENCY, message).about(param).with_code("http_error")
        })?;
        if let Some(names) = &allowed.names {
            if let Some(missing) = names.iter().find(|name| tools.iter().all(|tool| tool.name != **name)) {
                let known: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
                let message =
                    format!("`{missing}` is not among the tools of the server: {}", known.join(", "));
                return Err(ApiError::invalid(&allowed_param, message));
            }
            tools.retain(|tool| names.contains(&tool.name));
        }
        if allowed.read_only {
            let only_reads =
                |tool: &Tool| tool.annotations.as_ref().is_some_and(|a| a["readOnlyHint"] == true);
            tools.retain(only_reads);
        }
        self.0.push(Source { label, server, tools });
        Ok(())
    }

    /// The tools as the chat route has them.
    pub(super) fn functions(&self) -> impl Iterator<Item = Value> {
        self.0.iter().flat_map(|source| source.tools.iter().map(Tool::function))
    }

    /// Whether a server of this label has such a tool.
    pub(super) fn has(&self, label: &str, name: &str) -> bool {
        let mut of_label = self.0.iter().filter(|source| source.label == label);
        of_label.any(|source| source.tools.iter().any(|tool| tool.name == name))
    }

    /// The label of each tool's server.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let of = |source: &Source| {
            let label = source.label.clone();
            let pairs: Vec<_> = source.tools.iter().map(|tool| (tool.name.clone(), label.clone())).collect();
            pairs
        };
        self.0.iter().flat_map(of).collect()
    }

    /// An item for each server, with its tools.
    pub(super) fn lists(&self) -> Vec<Value> {
        let tool = |tool: &Tool| {
            json!({
                "name": tool.name,
                "description": tool.description,
                "input_schema": tool.input_schema,
                "annotations": tool.annotations,
            })
        };
        let list = |source: &Source| {
            json!({
                "type": "mcp_list_tools",
                "id": new_id("mcpl"),
                "server_label": source.label,
                "tools": source.tools.iter().map(tool).collect::<Vec<_>>(),
                "error": null,
            })
        };
        self.0.iter().map(list).collect()
    }

    /// Calls a tool with the text of a JSON object: what it gave, or how it failed.
    pub(super) async fn call(&self, name: &str, arguments: &str) -> std::result::Result<String, String> {
        let source = self.0.iter().find(|source| source.tools.iter().any(|tool| tool.name == name));
        let source = source.ok_or_else(|| format!("there is no tool `{name}`"))?;
        let arguments: Value =
            serde_json::from_str(arguments).map_err(|error| format!("the arguments are no JSON: {error}"))?;
        let outcome = source.server.call(name, &arguments).await.map_err(|error| said(&error))?;
        if outcome.is_error { Err(outcome.text()) } else { Ok(outcome.text()) }
    }
}

/// Which tools of a server a request allows.
#[derive(Default)]
struct Allowed {
    names: Option<Vec<String>>,
    read_only: bool,
}

fn allowed(tool: &mut Fields) -> Result<Allowed> {
    let param = tool.name("allowed_tools");
    match tool.value("allowed_tools") {
        None => Ok(Allowed::default()),
        Some(names @ Value::Array(_)) => {
            let names = serde_json::from_value(names);
            let names = names.map_err(|error| ApiError::invalid(&param, error.to_string()))?;
            Ok(Allowed { names: Some(names), read_only: false })
        }
        Some(filter @ Value::Object(_)) => {
            let mut filter = Fields::of_value(filter, &param)?;
            let names = filter.get("tool_names")?;
            let read_only = filter.get("read_only")?.unwrap_or(false);
            filter.finish()?;
            Ok(Allowed { names, read_only })
        }
        Some(other) => {
            let message = format!("expected names of tools, or an object, found {}", kind(&other));
            Err(ApiError::invalid(&param, message))
        }
    }
}

/// A server that is not there is the mistake of the request.
fn named(error: anyhow::Error, param: &str) -> ApiError {
    ApiError::invalid(param, said(&error))
}

/// An error in words.
fn said(error: &anyhow::Error) -> String {
    match error.downcast_ref::<Error>() {
        Some(
            Error::InvalidArgument(text)
            | Error::NotFound(text)
            | Error::Denied(text)
            | Error::LimitExceeded(text)
            | Error::Closed(text)
            | Error::Backend(text),
        ) => text.clone(),
        _ => format!("{error:#}"),
    }
}
