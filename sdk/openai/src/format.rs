//! What form an answer must have: `response_format`, and `structured_outputs` as vLLM names them.

use inferlet::{Constraint, Grammar, Model, Value, json, regex_literal};

use crate::{ApiError, Fields, Result};

/// A form that an answer must have.
#[derive(Clone, Debug)]
pub struct OutputFormat {
    grammar: Grammar,
    /// The parameter that asked for it.
    param: String,
}

impl OutputFormat {
    /// Reads either of the two parameters; none when an answer may have any form.
    ///
    /// # Errors
    /// 400 with the parameter that is wrong.
    pub fn read(fields: &mut Fields) -> Result<Option<OutputFormat>> {
        let asked = response_format(fields)?;
        let structured = structured_outputs(fields)?;
        if asked.is_some() && structured.is_some() {
            let message = "give this or `response_format`, not both";
            return Err(ApiError::invalid("structured_outputs", message));
        }
        Ok(asked.or(structured))
    }

    /// Reads `format` of the responses route, which has the schema beside the type; none when an answer may have any
    /// form.
    ///
    /// # Errors
    /// 400 with the parameter that is wrong.
    pub fn of_text(text: &mut Fields) -> Result<Option<OutputFormat>> {
        named_format(text, "format", |format| Ok(std::mem::take(format)))
    }

    /// A constraint at its beginning.
    ///
    /// # Errors
    /// 400 when the grammar is wrong.
    pub async fn constraint(&self, model: &Model) -> Result<Constraint> {
        let compiled = model.constraint(self.grammar.clone()).await;
        compiled.map_err(|error| ApiError::from(error).about(&self.param))
    }
}

/// An object, and nothing about what is in it.
fn any_object() -> Grammar {
    Grammar::JsonSchema(json!({ "type": "object" }).to_string())
}

fn response_format(fields: &mut Fields) -> Result<Option<OutputFormat>> {
    named_format(fields, "response_format", |format| {
        let name = format.name("json_schema");
        Fields::of_value(format.required("json_schema")?, &name)
    })
}

/// A form by its type. `schema_fields` gives the fields that a JSON schema is described in.
fn named_format(
    fields: &mut Fields,
    field: &str,
    schema_fields: impl FnOnce(&mut Fields) -> Result<Fields>,
) -> Result<Option<OutputFormat>> {
    let Some(value) = fields.value(field) else { return Ok(None) };
    let param = fields.name(field);
    let mut format = Fields::of_value(value, &param)?;
    let kind: String = format.required("type")?;
    let grammar = match kind.as_str() {
        "text" => None,
        "json_object" => Some(any_object()),
        "json_schema" => {
            let mut wanted = schema_fields(&mut format)?;
            wanted.ignore(&["name", "description", "strict"]);
            let schema: Value = wanted.required("schema")?;
            wanted.finish()?;
            Some(Grammar::JsonSchema(schema.to_string()))
        }
        other => {
            let message = format!("`{other}` is none of `text`, `json_object` and `json_schema`");
            return Err(ApiError::invalid(&format.name("type"), message));
        }
    };
    format.finish()?;
    Ok(grammar.map(|grammar| OutputFormat { grammar, param }))
}

fn structured_outputs(fields: &mut Fields) -> Result<Option<OutputFormat>> {
    let Some(value) = fields.value("structured_outputs") else { return Ok(None) };
    let param = fields.name("structured_outputs");
    let mut wanted = Fields::of_value(value, &param)?;
    let mut found = Vec::new();
    if let Some(schema) = wanted.value("json") {
        // The schema itself, or its text.
        found.push(Grammar::JsonSchema(schema.as_str().map_or_else(|| schema.to_string(), str::to_string)));
    }
    found.extend(wanted.get("regex")?.map(Grammar::Regex));
    if let Some(choices) = wanted.get::<Vec<String>>("choice")? {
        if choices.is_empty() {
            return Err(ApiError::invalid(&wanted.name("choice"), "there is no choice"));
        }
        let choices: Vec<String> = choices.iter().map(|choice| regex_literal(choice)).collect();
        found.push(Grammar::Regex(choices.join("|")));
    }
    if let Some(grammar) = wanted.get::<String>("grammar")? {
        // vLLM takes both notations and tells them by what only one of them has.
        found.push(if grammar.contains("::=") { Grammar::Ebnf(grammar) } else { Grammar::Lark(grammar) });
    }
    if wanted.get("json_object")? == Some(true) {
        found.push(any_object());
    }
    wanted.finish()?;
    match <[Grammar; 1]>::try_from(found) {
        Ok([grammar]) => Ok(Some(OutputFormat { grammar, param })),
        Err(found) => Err(ApiError::invalid(
            &param,
            format!(
                "{} forms are given: give one of `json`, `regex`, `choice`, `grammar`, `json_object`",
                found.len()
            ),
        )),
    }
}
