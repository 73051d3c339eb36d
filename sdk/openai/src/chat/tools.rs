//! `tools`, `tool_choice` and `parallel_tool_calls` of a request.

use inferlet::serde_json::Map;
use inferlet::{Value, json};

use crate::turn::tools::{ToolChoice, Tools};
use crate::{Fields, Result};

pub(super) fn read(fields: &mut Fields) -> Result<Tools> {
    let param = fields.name("tools");
    let tools: Vec<Value> = fields.get("tools")?.unwrap_or_default();
    for (at, tool) in tools.iter().enumerate() {
        let mut tool = Fields::of_value(tool.clone(), &format!("{param}[{at}]"))?;
        tool.only("type", &[json!("function")])?;
        let mut function = Fields::of_value(tool.required("function")?, &tool.name("function"))?;
        function.required::<String>("name")?;
        function.get::<Map<String, Value>>("parameters")?;
        function.ignore(&["description", "strict"]);
        function.finish()?;
        tool.finish()?;
    }
    let param = fields.name("tool_choice");
    let choice = match fields.value("tool_choice") {
        None => ToolChoice::Auto,
        Some(Value::String(choice)) => ToolChoice::of_word(&choice, &param)?,
        Some(value) => {
            let mut named = Fields::of_value(value, &param)?;
            named.only("type", &[json!("function")])?;
            let mut function = Fields::of_value(named.required("function")?, &named.name("function"))?;
            let name = function.required("name")?;
            function.finish()?;
            named.finish()?;
            ToolChoice::Named(name)
        }
    };
    Tools::new(tools, choice, fields.get("parallel_tool_calls")?.unwrap_or(true))
}
