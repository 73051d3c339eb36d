//! `tools` and `tool_choice` of a request.

use inferlet::{Value, json};

use crate::turn::tools::{ToolChoice, Tools, function_tool};
use crate::{ApiError, Fields, Result};

pub(super) fn read(fields: &mut Fields) -> Result<Tools> {
    let param = fields.name("tools");
    let mut tools = Vec::new();
    for (at, tool) in fields.get::<Vec<Value>>("tools")?.unwrap_or_default().into_iter().enumerate() {
        let mut tool = Fields::of_value(tool, &format!("{param}[{at}]"))?;
        tool.only("type", &[json!("custom")])?;
        let name: String = tool.required("name")?;
        let schema = tool.required("input_schema")?;
        tools.push(function_tool(&name, tool.get("description")?, Some(schema)));
        tool.ignore(&["cache_control", "strict"]);
        tool.finish()?;
    }
    let param = fields.name("tool_choice");
    let Some(value) = fields.value("tool_choice") else { return Tools::new(tools, ToolChoice::Auto, true) };
    let mut asked = Fields::of_value(value, &param)?;
    let kind: String = asked.required("type")?;
    let choice = match kind.as_str() {
        "none" => ToolChoice::None,
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "tool" => ToolChoice::Named(asked.required("name")?),
        other => {
            let message = format!("`{other}` is none of `auto`, `any`, `tool` and `none`");
            return Err(ApiError::invalid(&asked.name("type"), message));
        }
    };
    let one_by_one = asked.get("disable_parallel_tool_use")?.unwrap_or(false);
    asked.finish()?;
    Tools::new(tools, choice, !one_by_one)
}
