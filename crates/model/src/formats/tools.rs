//! The tools on offer, and which JSON values a text stands for under their schemas.
//!
//! Markups like XML and GLM's write a string as it is and everything else as JSON, so only the schema tells
//! the string `5` from the number.

use serde_json::Value;

/// The tools of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Tools(Vec<Tool>);

/// A tool.
#[derive(Clone, Debug)]
pub(super) struct Tool {
    /// Its name.
    pub(super) name: String,
    /// The JSON Schema of its arguments; an object's.
    pub(super) schema: Value,
}

impl Tools {
    /// Reads descriptions as in the OpenAI API, with or without the `function` around them. What has no name
    /// is not offered.
    pub(super) fn new(tools: &[Value]) -> Tools {
        let tool = |tool: &Value| {
            let function = tool.get("function").unwrap_or(tool);
            let schema = function.get("parameters").filter(|schema| schema.is_object());
            let schema = schema.cloned().unwrap_or_else(|| serde_json::json!({"type": "object"}));
            Some(Tool { name: function.get("name")?.as_str()?.to_owned(), schema })
        };
        Tools(tools.iter().filter_map(tool).collect())
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Tool> {
        self.0.iter()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tool of that name.
    pub(super) fn get(&self, name: &str) -> Option<&Tool> {
        self.0.iter().find(|tool| tool.name == name)
    }

    /// The schema of a parameter, if it is known.
    pub(super) fn parameter(&self, tool: &str, parameter: &str) -> Option<&Value> {
        self.get(tool)?.schema.get("properties")?.get(parameter)
    }
}

impl Tool {
    /// The parameters in order, each with its schema and whether it must be given.
    pub(super) fn parameters(&self) -> Vec<Parameter<'_>> {
        let required = self.schema.get("required").and_then(Value::as_array);
        let is_required = |name: &str| {
            required.is_some_and(|required| required.iter().any(|other| other.as_str() == Some(name)))
        };
        let properties = self.schema.get("properties").and_then(Value::as_object);
        let parameter = |(name, schema): (&'_ String, _)| (name.clone(), schema);
        let parameters = properties.into_iter().flatten().map(parameter);
        parameters
            .map(|(name, schema)| Parameter { is_required: is_required(&name), name, schema, tool: self })
            .collect()
    }
}

/// A parameter of a tool.
pub(super) struct Parameter<'a> {
    /// Its name.
    pub(super) name: String,
    /// Its schema.
    pub(super) schema: &'a Value,
    /// Whether it must be given.
    pub(super) is_required: bool,
    tool: &'a Tool,
}

impl Parameter<'_> {
    /// The schema with the definitions that the tool's has for all.
    pub(super) fn schema_with_definitions(&self) -> Value {
        let mut schema = self.schema.clone();
        for key in ["$defs", "definitions"] {
            if let (Some(schema), Some(definitions)) = (schema.as_object_mut(), self.tool.schema.get(key)) {
                schema.insert(key.to_owned(), definitions.clone());
            }
        }
        schema
    }
}

/// The kinds of values that a schema allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kinds {
    /// Strings only.
    Strings,
    /// No strings.
    Others,
    /// Both, or it does not say.
    All,
}

/// Which kinds of values `schema` allows.
pub(super) fn kinds(schema: Option<&Value>) -> Kinds {
    let Some(schema) = schema else { return Kinds::All };
    let join = |kinds: &mut dyn Iterator<Item = Kinds>| {
        kinds.reduce(|one, other| if one == other { one } else { Kinds::All }).unwrap_or(Kinds::All)
    };
    let of_name = |name: &Value| if name == "string" { Kinds::Strings } else { Kinds::Others };
    let of_value = |value: &Value| if value.is_string() { Kinds::Strings } else { Kinds::Others };
    match schema.get("type") {
        Some(Value::Array(names)) => return join(&mut names.iter().map(of_name)),
        Some(name) => return of_name(name),
        None => {}
    }
    if let Some(value) = schema.get("const") {
        return of_value(value);
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return join(&mut values.iter().map(of_value));
    }
    let options = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)?.as_array());
    options.map_or(Kinds::All, |options| join(&mut options.iter().map(|option| kinds(Some(option)))))
}

/// The value that `text` stands for. Where strings are not allowed, and where they are but not alone, text
/// that is JSON, or `True`, `False` or `None`, is that value; everything else is a string.
pub(super) fn value(schema: Option<&Value>, text: &str) -> Value {
    if kinds(schema) == Kinds::Strings {
        return Value::String(text.to_owned());
    }
    let value = match text.trim() {
        "True" => Some(Value::Bool(true)),
        "False" => Some(Value::Bool(false)),
        "None" => Some(Value::Null),
        text => serde_json::from_str(text).ok(),
    };
    match value {
        // A string in quotes, where one need not have any.
        Some(Value::String(_)) if kinds(schema) == Kinds::All => Value::String(text.to_owned()),
        Some(value) => value,
        None => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_schema_says_what_a_text_stands_for() {
        let check = |schema: Value, text: &str, expected: Value| {
            assert_eq!(value(Some(&schema), text), expected, "{text} under {schema}");
        };
        check(json!({"type": "string"}), "5", json!("5"));
        check(json!({"type": "string"}), " null\n", json!(" null\n"));
        check(json!({"enum": ["1", "2"]}), "1", json!("1"));
        check(json!({"type": "integer"}), "5", json!(5));
        check(json!({"type": "integer"}), "five", json!("five"));
        check(json!({"type": "boolean"}), "True", json!(true));
        check(json!({"type": "object"}), "{\"a\": [1]}", json!({"a": [1]}));
        check(json!({"type": ["string", "null"]}), "null", json!(null));
        check(json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}), "\"5\"", json!("\"5\""));
        check(json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}), "5", json!(5));
        check(json!({}), "a b", json!("a b"));
        assert_eq!(value(None, "[1, 2]"), json!([1, 2]));
    }

    #[test]
    fn tools_come_with_and_without_the_function_around_them() {
        let tools = Tools::new(&[
            json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object",
                "properties": {"a": {"type": "string"}, "b": {}}, "required": ["b"]}}}),
            json!({"name": "g"}),
            json!({"description": "nameless"}),
        ]);
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["f", "g"]);
        assert_eq!(tools.parameter("f", "a"), Some(&json!({"type": "string"})));
        let parameters = tools.get("f").unwrap().parameters();
        let required: Vec<bool> = parameters.iter().map(|parameter| parameter.is_required).collect();
        assert_eq!(required, [false, true]);
        assert_eq!(tools.get("g").unwrap().schema, json!({"type": "object"}));
    }
}
