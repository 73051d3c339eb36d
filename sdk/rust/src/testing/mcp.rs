//! MCP servers that do what a test says.

use std::fmt;

use crate::Value;

/// What a tool makes of its arguments: a text, or a failure that it tells of.
type Answer = Box<dyn Fn(&Value) -> Result<String, String>>;

/// An MCP server whose tools are functions.
#[derive(Debug)]
pub struct ScriptedServer {
    pub(crate) name: String,
    pub(crate) url: Option<String>,
    pub(crate) tools: Vec<ScriptedTool>,
}

pub(crate) struct ScriptedTool {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) input_schema: Value,
    pub(crate) answer: Answer,
}

impl fmt::Debug for ScriptedTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedTool").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ScriptedServer {
    /// A server without tools.
    pub fn new(name: &str) -> ScriptedServer {
        ScriptedServer { name: name.to_string(), url: None, tools: Vec::new() }
    }

    /// The same at an address.
    pub fn url(self, url: &str) -> ScriptedServer {
        ScriptedServer { url: Some(url.to_string()), ..self }
    }

    /// Adds a tool: its name, what it does, the JSON Schema of its arguments, and what it makes of them.
    pub fn tool(
        mut self,
        name: &str,
        description: &str,
        input_schema: Value,
        answer: impl Fn(&Value) -> Result<String, String> + 'static,
    ) -> ScriptedServer {
        let (name, description) = (name.to_string(), description.to_string());
        self.tools.push(ScriptedTool { name, description, input_schema, answer: Box::new(answer) });
        self
    }
}
