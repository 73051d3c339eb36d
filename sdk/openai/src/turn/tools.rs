//! The tools of a request, and whether the answer may or must call them.

use inferlet::bindings::pie::inferlet::answer::{self, CallOptions, ReasoningPlace};
use inferlet::{Constraint, Grammar, Model, Trigger, Value, json};

use crate::{ApiError, Fields, Result};

/// What an answer does with the tools.
#[derive(Clone, Debug, PartialEq)]
enum Choice {
    None,
    Auto,
    Required,
    Named(String),
}

/// The tools on offer.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    /// A JSON list; none without tools.
    list: Option<String>,
    choice: Choice,
    parallel: bool,
}

impl Tools {
    pub(super) fn read(fields: &mut Fields) -> Result<Tools> {
        let param = fields.name("tools");
        let tools: Vec<Value> = fields.get("tools")?.unwrap_or_default();
        let mut names = Vec::new();
        for (at, tool) in tools.iter().enumerate() {
            let path = format!("{param}[{at}]");
            let mut tool = Fields::of_value(tool.clone(), &path)?;
            tool.only("type", &[json!("function")])?;
            let mut function = Fields::of_value(tool.required("function")?, &tool.name("function"))?;
            names.push(function.required::<String>("name")?);
            function.ignore(&["description", "parameters", "strict"]);
            function.finish()?;
            tool.finish()?;
        }
        let choice = choice(fields, &names)?;
        let parallel = fields.get("parallel_tool_calls")?.unwrap_or(true);
        let list = (!tools.is_empty()).then(|| Value::Array(tools).to_string());
        Ok(Tools { list, choice, parallel })
    }

    /// The list as the model is shown it: nothing where it may not call.
    pub(super) fn offered(&self) -> Option<&str> {
        self.list.as_deref().filter(|_| self.choice != Choice::None)
    }

    /// The constraint of an answer that must call, from its first token on.
    pub(super) async fn must_call(&self, model: &Model, in_reasoning: bool) -> Result<Option<Constraint>> {
        let name = match &self.choice {
            Choice::None | Choice::Auto => return Ok(None),
            Choice::Required => None,
            Choice::Named(name) => Some(name.clone()),
        };
        let Some(tools) = self.offered() else { return Ok(None) };
        let reasoning = if in_reasoning { ReasoningPlace::Opened } else { ReasoningPlace::None };
        // One that is named is called once, as in the OpenAI API.
        let parallel = self.parallel && name.is_none();
        let options = CallOptions { tools: tools.to_string(), name, parallel, reasoning };
        let grammar = answer::call_grammar(model.handle(), &options)?;
        Ok(Some(self.compile(model, grammar).await?))
    }

    /// What begins a call in an answer that may call, and what holds from there on.
    pub(super) async fn triggers(&self, model: &Model) -> Result<Vec<(Trigger, Constraint)>> {
        let Some(tools) = self.offered().filter(|_| self.choice == Choice::Auto) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for trigger in answer::call_triggers(model.handle(), tools, self.parallel)? {
            // One that counts at the start only, such as `{`, is read as a call by its form.
            if trigger.at_start {
                continue;
            }
            let begins = match trigger.token {
                Some(token) => Trigger::token(token),
                None => Trigger::text(&trigger.text),
            };
            found.push((begins.every_time(), self.compile(model, trigger.grammar).await?));
        }
        Ok(found)
    }

    async fn compile(&self, model: &Model, grammar: String) -> Result<Constraint> {
        let compiled = model.constraint(Grammar::Lark(grammar)).await;
        compiled.map_err(|error| ApiError::from(error).about("tools"))
    }
}

fn choice(fields: &mut Fields, names: &[String]) -> Result<Choice> {
    let param = fields.name("tool_choice");
    let Some(value) = fields.value("tool_choice") else { return Ok(Choice::Auto) };
    let choice = match value {
        Value::String(choice) => match choice.as_str() {
            "none" => Choice::None,
            "auto" => Choice::Auto,
            "required" => Choice::Required,
            other => {
                let message = format!(
                    "`{other}` is none of `none`, `auto`, `required` and an object that names a tool"
                );
                return Err(ApiError::invalid(&param, message));
            }
        },
        value => {
            let mut named = Fields::of_value(value, &param)?;
            named.only("type", &[json!("function")])?;
            let mut function = Fields::of_value(named.required("function")?, &named.name("function"))?;
            let name: String = function.required("name")?;
            function.finish()?;
            named.finish()?;
            if !names.contains(&name) {
                let message = format!("`{name}` is not among the tools: {}", names.join(", "));
                return Err(ApiError::invalid(&param, message));
            }
            Choice::Named(name)
        }
    };
    if names.is_empty() && choice == Choice::Required {
        return Err(ApiError::invalid(&param, "there are no `tools` to call"));
    }
    Ok(choice)
}
