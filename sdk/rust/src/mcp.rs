//! Tools of the MCP servers (Model Context Protocol) that the operator has configured.
//!
//! ```no_run
//! # async fn program() -> inferlet::Result<()> {
//! use inferlet::{json, mcp};
//!
//! let weather = mcp::Server::open("weather")?;
//! for tool in weather.tools().await? {
//!     println!("{}: {}", tool.name, tool.description.unwrap_or_default());
//! }
//! let outcome = weather.call("forecast", &json!({ "city": "Paris" })).await?;
//! println!("{}", outcome.text());
//! # Ok(())
//! # }
//! ```

pub use crate::bindings::pie::inferlet::mcp::{Content, Media};

use crate::bindings::pie::inferlet::mcp as api;
use crate::{Error, Result, Value, json};

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    name: String,
}

/// A tool of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its name for people.
    pub title: Option<String>,
    /// What it does.
    pub description: Option<String>,
    /// JSON Schema of its arguments.
    pub input_schema: Value,
    /// JSON Schema of its structured result.
    pub output_schema: Option<Value>,
    /// Hints of the server, such as `readOnlyHint`.
    pub annotations: Option<Value>,
}

/// What a tool gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its parts.
    pub content: Vec<Content>,
    /// The same as one JSON value, from tools that have an output schema.
    pub structured: Option<Value>,
    /// Whether it tells of a failure.
    pub is_error: bool,
}

impl Server {
    /// The names of all servers.
    pub fn names() -> Vec<String> {
        api::servers()
    }

    /// The server of a name.
    ///
    /// # Errors
    /// `not-found` when the operator has configured none, with the names there are.
    pub fn open(name: &str) -> Result<Server> {
        let names = Server::names();
        if names.iter().any(|known| known == name) {
            return Ok(Server { name: name.to_string() });
        }
        let known = if names.is_empty() { "none is configured".to_string() } else { names.join(", ") };
        Err(Error::NotFound(format!("no MCP server `{name}`; the operator allows: {known}")).into())
    }

    /// The server with this address.
    ///
    /// # Errors
    /// `not-found` when the operator has configured none.
    pub fn at(url: &str) -> Result<Server> {
        Ok(Server { name: api::find(url)? })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tools that the operator allows.
    ///
    /// # Errors
    /// `closed` when the server cannot be reached.
    pub async fn tools(&self) -> Result<Vec<Tool>> {
        let tools = api::tools(self.name.clone()).await?;
        tools.into_iter().map(Tool::read).collect()
    }

    /// Calls a tool with arguments, a JSON object. Dropping the future cancels the call at the server.
    ///
    /// # Errors
    /// `denied` when the operator does not allow the tool, `invalid-argument` when the server refuses the call, `closed`
    /// when it cannot be reached. A failure that the tool tells of is no error: see [`Outcome::is_error`].
    pub async fn call(&self, tool: &str, arguments: &Value) -> Result<Outcome> {
        let outcome = api::call(self.name.clone(), tool.to_string(), arguments.to_string()).await?;
        let structured = outcome.structured.as_deref().map(parse).transpose()?;
        Ok(Outcome { content: outcome.content, structured, is_error: outcome.is_error })
    }
}

impl Tool {
    fn read(tool: api::Tool) -> Result<Tool> {
        Ok(Tool {
            input_schema: parse(&tool.input_schema)?,
            output_schema: tool.output_schema.as_deref().map(parse).transpose()?,
            annotations: tool.annotations.as_deref().map(parse).transpose()?,
            name: tool.name,
            title: tool.title,
            description: tool.description,
        })
    }

    /// The tool as the OpenAI API has it: an entry of what [`Chat::tools`](crate::Chat::tools) takes. A schema that names
    /// properties and does not say whether there may be others is taken to mean that there are none: within a grammar, a
    /// small model would go on to invent them.
    pub fn function(&self) -> Value {
        let mut function = json!({ "name": self.name, "parameters": self.input_schema });
        let parameters = &mut function["parameters"];
        if parameters["properties"].is_object() && parameters["additionalProperties"].is_null() {
            parameters["additionalProperties"] = json!(false);
        }
        if let Some(description) = &self.description {
            function["description"] = json!(description);
        }
        json!({ "type": "function", "function": function })
    }
}

impl Outcome {
    /// All that can be read, a line for each part: texts, resources as JSON, and the types of images and sounds.
    pub fn text(&self) -> String {
        let part = |part: &Content| match part {
            Content::Text(text) | Content::Resource(text) => text.clone(),
            Content::Image(media) | Content::Audio(media) => format!("[{}]", media.mime_type),
        };
        self.content.iter().map(part).collect::<Vec<_>>().join("\n")
    }
}

fn parse(text: &str) -> Result<Value> {
    Ok(serde_json::from_str(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Host, ScriptedServer};

    fn host() -> Host {
        let schema = json!({ "type": "object", "properties": { "a": { "type": "integer" } } });
        let double = |arguments: &Value| match arguments["a"].as_i64() {
            Some(number) => Ok((2 * number).to_string()),
            None => Err("`a` is no integer".to_string()),
        };
        let server =
            ScriptedServer::new("math").url("http://math/mcp").tool("double", "Twice a", schema, double);
        Host::new().mcp(server)
    }

    #[test]
    fn tools_are_listed_and_called() {
        let host = host();
        host.run(async {
            let server = Server::at("http://math/mcp").unwrap();
            assert_eq!((server.name(), Server::names()), ("math", vec!["math".to_string()]));
            let tools = server.tools().await.unwrap();
            let function = tools[0].function()["function"].clone();
            assert_eq!((&function["name"], &function["description"]), (&json!("double"), &json!("Twice a")));
            assert_eq!(function["parameters"]["additionalProperties"], false);
            assert!(tools[0].input_schema.get("additionalProperties").is_none(), "as the server has it");
            let outcome = server.call("double", &json!({ "a": 21 })).await.unwrap();
            assert_eq!((outcome.text().as_str(), outcome.is_error), ("42", false));
            let outcome = server.call("double", &json!({})).await.unwrap();
            assert_eq!((outcome.text().as_str(), outcome.is_error), ("`a` is no integer", true));
        });
        assert_eq!(host.mcp_calls(), ["math.double {\"a\":21}", "math.double {}"]);
    }

    #[test]
    fn what_is_not_configured_is_not_there() {
        host().run(async {
            let error = Server::open("other").unwrap_err().to_string();
            assert!(error.contains("math"), "{error}");
            assert!(Server::at("http://other/mcp").is_err());
            let server = Server::open("math").unwrap();
            assert!(server.call("triple", &json!({})).await.is_err(), "no such tool");
            assert!(server.call("double", &json!([1])).await.is_err(), "no object");
        });
    }
}
