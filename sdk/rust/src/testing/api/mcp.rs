use super::{Error, invalid};
use crate::Value;
use crate::testing::{ScriptedServer, host, pause};
use std::rc::Rc;

#[derive(Clone, Debug)]
pub struct Tool {
    pub name: String,
    pub title: Option<String>,
    pub description: Option<String>,
    pub input_schema: String,
    pub output_schema: Option<String>,
    pub annotations: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    pub mime_type: String,
    pub data: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Text(String),
    Image(Media),
    Audio(Media),
    Resource(String),
}

#[derive(Clone, Debug)]
pub struct Outcome {
    pub content: Vec<Content>,
    pub structured: Option<String>,
    pub is_error: bool,
}

pub fn servers() -> Vec<String> {
    host().servers.iter().map(|server| server.name.clone()).collect()
}

pub fn find(url: &str) -> Result<String, Error> {
    let host = host();
    let found = host.servers.iter().find(|server| server.url.as_deref() == Some(url));
    found
        .map(|server| server.name.clone())
        .ok_or_else(|| Error::NotFound(format!("the test has no MCP server at `{url}`")))
}

fn named(name: &str) -> Result<Rc<ScriptedServer>, Error> {
    let host = host();
    let found = host.servers.iter().find(|server| server.name == name);
    found.cloned().ok_or_else(|| Error::NotFound(format!("the test has no MCP server `{name}`")))
}

pub async fn tools(server: String) -> Result<Vec<Tool>, Error> {
    pause().await;
    let server = named(&server)?;
    let tool = |tool: &crate::testing::ScriptedTool| Tool {
        name: tool.name.clone(),
        title: None,
        description: Some(tool.description.clone()),
        input_schema: tool.input_schema.to_string(),
        output_schema: None,
        annotations: None,
    };
    Ok(server.tools.iter().map(tool).collect())
}

pub async fn call(server: String, tool: String, arguments: String) -> Result<Outcome, Error> {
    pause().await;
    let scripted = named(&server)?;
    let found = scripted.tools.iter().find(|known| known.name == tool);
    let found = found.ok_or_else(|| invalid(format!("MCP server `{server}` refuses: no tool `{tool}`")))?;
    let value: Value = serde_json::from_str(&arguments).map_err(|error| invalid(error.to_string()))?;
    if !value.is_object() {
        return Err(invalid("the arguments are no JSON object, but another JSON value"));
    }
    host().mcp_calls.borrow_mut().push(format!("{server}.{tool} {arguments}"));
    let answer = (found.answer)(&value);
    let is_error = answer.is_err();
    let (Ok(text) | Err(text)) = answer;
    Ok(Outcome { content: vec![Content::Text(text)], structured: None, is_error })
}
