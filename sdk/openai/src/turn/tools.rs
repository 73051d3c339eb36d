//! The tools of a request, and whether the answer may or must call them.

use inferlet::bindings::pie::inferlet::answer::{self, CallOptions, ReasoningPlace};
use inferlet::{Constraint, Grammar, Model, Trigger, Value, json};

use crate::{ApiError, Result};

/// What an answer does with the tools.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ToolChoice {
    None,
    Auto,
    Required,
    Named(String),
}

impl ToolChoice {
    /// Of the word that both OpenAI routes have for it.
    pub(crate) fn of_word(word: &str, param: &str) -> Result<ToolChoice> {
        match word {
            "none" => Ok(ToolChoice::None),
            "auto" => Ok(ToolChoice::Auto),
            "required" => Ok(ToolChoice::Required),
            other => {
                let message = format!(
                    "`{other}` is none of `none`, `auto`, `required` and an object that names a tool"
                );
                Err(ApiError::invalid(param, message))
            }
        }
    }
}

/// Where the calls of an answer that must call begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallPlace {
    /// With the first token.
    Start,
    /// Behind the mark that closes thoughts: the constraint begins there.
    BehindThoughts,
    /// Somewhere behind thoughts, whose end nobody but the grammar knows: it begins with them.
    InThoughts,
}

/// The tools on offer.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// A JSON list as in the chat route; none without tools.
    list: Option<String>,
    choice: ToolChoice,
    parallel: bool,
}

/// A tool as the chat route has it, which is how templates and grammars know it.
pub(crate) fn function_tool(name: &str, description: Option<String>, parameters: Option<Value>) -> Value {
    let mut function = json!({ "name": name });
    if let Some(description) = description {
        function["description"] = json!(description);
    }
    if let Some(parameters) = parameters {
        function["parameters"] = parameters;
    }
    json!({ "type": "function", "function": function })
}

impl Tools {
    /// Tools as the chat route has them.
    ///
    /// # Errors
    /// 400 about `tool_choice` when it asks for a tool that is not there.
    pub(crate) fn new(tools: Vec<Value>, choice: ToolChoice, parallel: bool) -> Result<Tools> {
        let names: Vec<&str> = tools.iter().filter_map(|tool| tool["function"]["name"].as_str()).collect();
        match &choice {
            ToolChoice::Named(name) if !names.contains(&name.as_str()) => {
                let message = format!("`{name}` is not among the tools: {}", names.join(", "));
                return Err(ApiError::invalid("tool_choice", message));
            }
            ToolChoice::Required if names.is_empty() => {
                return Err(ApiError::invalid("tool_choice", "there are no `tools` to call"));
            }
            _ => {}
        }
        let list = (!tools.is_empty()).then(|| Value::Array(tools).to_string());
        Ok(Tools { list, choice, parallel })
    }

    /// The same tools in an answer that may call them and need not.
    pub(crate) fn free(&self) -> Tools {
        Tools { choice: ToolChoice::Auto, ..self.clone() }
    }

    /// The same tools in an answer that must not call them.
    pub(crate) fn silent(&self) -> Tools {
        Tools { choice: ToolChoice::None, ..self.clone() }
    }

    /// The list as the model is shown it: nothing where it may not call.
    pub(crate) fn offered(&self) -> Option<&str> {
        self.list.as_deref().filter(|_| self.choice != ToolChoice::None)
    }

    /// Whether an answer must call one of them.
    pub(crate) fn must_call(&self) -> bool {
        matches!(self.choice, ToolChoice::Required | ToolChoice::Named(_))
    }

    /// The constraint of an answer that must call, where its calls begin.
    pub(super) async fn calls(&self, model: &Model, place: CallPlace) -> Result<Option<Constraint>> {
        let Some(tools) = self.offered().filter(|_| self.must_call()) else { return Ok(None) };
        let name = match &self.choice {
            ToolChoice::Named(name) => Some(name.clone()),
            _ => None,
        };
        let reasoning = match place {
            CallPlace::Start | CallPlace::BehindThoughts => ReasoningPlace::None,
            CallPlace::InThoughts => ReasoningPlace::Opened,
        };
        // One that is named is called once, as in the OpenAI API.
        let parallel = self.parallel && name.is_none();
        let options = CallOptions { tools: tools.to_string(), name, parallel, reasoning };
        let mut grammar = answer::call_grammar(model.handle(), &options)?;
        if place == CallPlace::BehindThoughts {
            // Templates write empty lines behind the mark that closes thoughts.
            grammar = grammar.replacen("start: ", "start: BEHIND_THOUGHTS? ", 1);
            grammar.push_str("\nBEHIND_THOUGHTS: /[ \\n]+/\n");
        }
        Ok(Some(self.compile(model, grammar).await?))
    }

    /// What begins a call in an answer that may call, and what holds from there on.
    pub(super) async fn triggers(&self, model: &Model) -> Result<Vec<(Trigger, Constraint)>> {
        let Some(tools) = self.offered().filter(|_| self.choice == ToolChoice::Auto) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for trigger in answer::call_triggers(model.handle(), tools, self.parallel)? {
            let begins = match trigger.token {
                Some(token) => Trigger::token(token),
                None => Trigger::text(&trigger.text),
            };
            let begins = if trigger.at_start { begins.at_start() } else { begins.every_time() };
            found.push((begins, self.compile(model, trigger.grammar).await?));
        }
        Ok(found)
    }

    async fn compile(&self, model: &Model, grammar: String) -> Result<Constraint> {
        let compiled = model.constraint(Grammar::Lark(grammar)).await;
        compiled.map_err(|error| ApiError::from(error).about("tools"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_among_the_tools() {
        let tools = || vec![function_tool("a", None, None), function_tool("b", None, None)];
        let named = |name: &str| ToolChoice::Named(name.to_string());
        assert!(Tools::new(tools(), named("b"), true).is_ok());
        let error = Tools::new(tools(), named("c"), true).unwrap_err();
        assert_eq!(error.body()["error"]["message"], "`tool_choice`: `c` is not among the tools: a, b");
        assert!(Tools::new(Vec::new(), ToolChoice::Required, true).is_err());
        assert!(Tools::new(tools(), ToolChoice::None, true).unwrap().offered().is_none());
        assert!(Tools::new(Vec::new(), ToolChoice::Auto, true).unwrap().offered().is_none());
    }
}
