//! A request's JSON object, read field by field.

use std::ops::RangeInclusive;

use inferlet::Value;
use inferlet::bindings::pie::inferlet::context;
use inferlet::http::{Request, StatusCode};
use inferlet::serde_json::{self, Map};
use serde::de::DeserializeOwned;

use crate::{ApiError, Result};

/// Bytes of a request's body: more than the longest context has, many times over.
const BODY_BYTES: usize = 16 << 20;

/// What is left of an object that is being read. Reading a field takes it out, `null` is as if it were not there, and
/// [`Fields::finish`] refuses what nobody has read.
#[derive(Debug, Default)]
pub struct Fields {
    object: Map<String, Value>,
    /// Where the object is in the request, for errors: empty, or with a dot at its end.
    path: String,
}

impl Fields {
    /// The body of a request.
    ///
    /// # Errors
    /// 413 when it is too large; 400 when it is not a JSON object.
    pub async fn of_body(request: Request) -> Result<Fields> {
        let mut body = request.into_body();
        let mut bytes = Vec::new();
        while let Some(more) = body.next().await? {
            if bytes.len() + more.len() > BODY_BYTES {
                let message = format!("the request's body has more than {BODY_BYTES} bytes");
                return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            bytes.extend(more);
        }
        let wrong = |found: String| {
            ApiError::new(StatusCode::BAD_REQUEST, format!("the request's body is no JSON object: {found}"))
        };
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => {
                let mut fields = Fields::of_object(object);
                fields.salt_cache()?;
                Ok(fields)
            }
            Ok(other) => Err(wrong(format!("it is {}", kind(&other)))),
            Err(error) => {
                let about = wrong(described(&error));
                match field_at(&bytes, &error) {
                    Some(field) => Err(about.about(&field)),
                    None => Err(about),
                }
            }
        }
    }

    /// Takes `cache_salt`, a field of vLLM that every route has: requests share cached prefixes with those of the same user
    /// and the same salt only.
    fn salt_cache(&mut self) -> Result<()> {
        const FIELD: &str = "cache_salt";
        let Some(salt) = self.get::<String>(FIELD)? else { return Ok(()) };
        if salt.is_empty() {
            return Err(ApiError::invalid(FIELD, "it is empty: expected a text, or leave it out"));
        }
        context::set_cache_salt(&salt).map_err(|error| ApiError::from(error).about(FIELD))
    }

    /// An object that is not within another one.
    pub(crate) fn of_object(object: Map<String, Value>) -> Fields {
        Fields { object, path: String::new() }
    }

    /// An object within the request. `path` says where, for errors.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn of_value(value: Value, path: &str) -> Result<Fields> {
        match value {
            Value::Object(object) => Ok(Fields { object, path: format!("{path}.") }),
            other => Err(ApiError::invalid(path, format!("expected an object, found {}", kind(&other)))),
        }
    }

    /// The name of a field as errors give it, with where it is.
    pub fn name(&self, field: &str) -> String {
        format!("{}{field}", self.path)
    }

    /// Whether there is a field, and not `null`.
    pub fn has(&self, field: &str) -> bool {
        self.object.get(field).is_some_and(|value| !value.is_null())
    }

    /// A copy of a field, which stays; `null` when it is not there.
    pub(crate) fn peek(&self, field: &str) -> Value {
        self.object.get(field).cloned().unwrap_or_default()
    }

    /// What a field is where a request does not have it.
    pub(crate) fn set_default(&mut self, field: &str, value: Value) {
        if !self.has(field) {
            self.object.insert(field.to_string(), value);
        }
    }

    /// A field as it is.
    pub fn value(&mut self, field: &str) -> Option<Value> {
        self.object.shift_remove(field).filter(|value| !value.is_null())
    }

    /// A field of a type.
    ///
    /// # Errors
    /// 400 when it is of another.
    pub fn get<T: DeserializeOwned>(&mut self, field: &str) -> Result<Option<T>> {
        let Some(value) = self.value(field) else { return Ok(None) };
        let name = self.name(field);
        serde_json::from_value(value).map(Some).map_err(|error| ApiError::invalid(&name, in_json(&error)))
    }

    /// A field of a type that must be there.
    ///
    /// # Errors
    /// 400 when it is not, or of another type.
    pub fn required<T: DeserializeOwned>(&mut self, field: &str) -> Result<T> {
        let missing =
            || ApiError::invalid(&self.name(field), "is missing").with_code("missing_required_parameter");
        match self.has(field) {
            true => Ok(self.get(field)?.expect("it is there")),
            false => Err(missing()),
        }
    }

    /// A number within limits.
    ///
    /// # Errors
    /// 400 when it is another one, or none.
    pub fn number<T>(&mut self, field: &str, range: RangeInclusive<T>) -> Result<Option<T>>
    where
        T: DeserializeOwned + PartialOrd + std::fmt::Display,
    {
        let Some(number) = self.get::<T>(field)? else { return Ok(None) };
        if range.contains(&number) {
            return Ok(Some(number));
        }
        let (start, end) = range.into_inner();
        Err(ApiError::invalid(&self.name(field), format!("{number} is not from {start} to {end}")))
    }

    /// Reads fields that say nothing about the answer: who asks, what for.
    pub fn ignore(&mut self, fields: &[&str]) {
        fields.iter().for_each(|field| drop(self.value(field)));
    }

    /// Reads a field that may only have the value that is the case anyway.
    ///
    /// # Errors
    /// 400 when it has another one.
    pub fn only(&mut self, field: &str, values: &[Value]) -> Result<()> {
        match self.value(field) {
            Some(value) if !values.contains(&value) => {
                Err(ApiError::unsupported(&self.name(field), format!("{value} is not supported")))
            }
            _ => Ok(()),
        }
    }

    /// All has been read.
    ///
    /// # Errors
    /// 400 when something has not: it is not supported.
    pub fn finish(self) -> Result<()> {
        match self.object.iter().find(|(_, value)| !value.is_null()) {
            Some((field, _)) => Err(ApiError::unsupported(&self.name(field), "is not supported")),
            None => Ok(()),
        }
    }
}

/// What is wrong with the text of a JSON value. Half of a character, as some languages have it in their texts, has no
/// words there.
fn described(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let is_half =
        ["unexpected end of hex escape", "lone leading surrogate"].iter().any(|half| text.starts_with(half));
    match is_half {
        true => format!("a text has half of a character, a lone surrogate such as `\\ud800`: {text}"),
        false => text,
    }
}

/// The field of the object in which an error is, if it is in one.
fn field_at(bytes: &[u8], error: &serde_json::Error) -> Option<String> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.by_ref().take(error.line().checked_sub(1)?).map(<[u8]>::len).sum();
    let before = &bytes[..(before + error.column()).min(bytes.len())];
    // The last key of the outermost object: a text with a colon behind it.
    let (mut depth, mut text, mut key) = (0_usize, None, None);
    let mut at = 0;
    while let Some(byte) = before.get(at) {
        match byte {
            b'"' => {
                let begin = at + 1;
                at = begin;
                while before.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if before[at] == b'\\' { 2 } else { 1 };
                }
                text = before.get(begin..at);
            }
            b':' if depth == 1 => key = text,
            b',' if depth == 1 => key = None,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    let key = std::str::from_utf8(key.filter(|_| depth > 0)?).ok()?;
    Some(key.chars().take(SHOWN).collect())
}

/// Characters of a value that an error repeats.
const SHOWN: usize = 64;

/// What is wrong with a value, in the words of JSON instead of those of Rust's types.
fn in_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let parts = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "));
    let Some((found, expected)) = parts.and_then(|parts| parts.rsplit_once(", expected ")) else {
        return text;
    };
    let up_to = |most: u64| format!("a whole number from 0 to {most}");
    let expected = match expected {
        "u32" => &up_to(u32::MAX.into()),
        "usize" => &up_to(usize::MAX as u64),
        "u8" | "u16" | "u64" => "a whole number from 0 on",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "an array",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other if other.starts_with("tuple ") => "an array",
        other if other.starts_with("enum ") => "one of some texts",
        other => other,
    };
    let literal = ["integer ", "floating point ", "boolean ", "string "]
        .iter()
        .find_map(|kind| found.strip_prefix(kind));
    let found = match (literal, found) {
        (Some(literal), _) => {
            let shown: String = literal.trim_matches('`').chars().take(SHOWN).collect();
            format!("`{shown}`")
        }
        (None, "sequence") => "an array".to_string(),
        (None, "map") => "an object".to_string(),
        (None, other) => other.to_string(),
    };
    format!("expected {expected}, found {found}")
}

/// What a value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use inferlet::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::of_value(value, "tool").unwrap()
    }

    #[test]
    fn errors_name_the_field_and_where_it_is() {
        let mut all = fields(json!({ "a": 1, "b": "x", "c": null, "d": 7, "e": [] }));
        assert_eq!(all.get::<u32>("a").unwrap(), Some(1));
        assert_eq!(all.get::<u32>("c").unwrap(), None);
        let error = |error: ApiError| error.body()["error"].clone();
        assert_eq!(error(all.get::<u32>("b").unwrap_err())["param"], "tool.b");
        let wrong = error(all.number("d", 0..=5_u32).unwrap_err());
        assert_eq!(wrong["message"], "`tool.d`: 7 is not from 0 to 5");
        assert_eq!(error(all.required::<u32>("f").unwrap_err())["code"], "missing_required_parameter");
        let left = error(all.finish().unwrap_err());
        assert_eq!((&left["param"], &left["code"]), (&json!("tool.e"), &json!("unsupported_parameter")));
        assert!(fields(json!({ "c": null })).finish().is_ok());
    }

    #[test]
    fn errors_speak_of_json() {
        fn error<T: DeserializeOwned>(value: Value) -> String {
            let error = fields(json!({ "a": value })).get::<T>("a").map(|_| ()).unwrap_err();
            error.message().strip_prefix("`tool.a`: ").unwrap().to_string()
        }
        assert_eq!(error::<u64>(json!("x")), "expected a whole number from 0 on, found `\"x\"`");
        assert_eq!(error::<u32>(json!(-1)), "expected a whole number from 0 to 4294967295, found `-1`");
        assert_eq!(error::<i64>(json!(1.5)), "expected a whole number, found `1.5`");
        assert_eq!(error::<f32>(json!(true)), "expected a number, found `true`");
        assert_eq!(error::<bool>(json!([1])), "expected a boolean, found an array");
        assert_eq!(error::<String>(json!({})), "expected a string, found an object");
        assert_eq!(error::<Vec<u32>>(json!("a, expected b")), "expected an array, found `\"a, expected b\"`");
        assert_eq!(error::<Map<String, Value>>(json!(5)), "expected an object, found `5`");
        assert!(error::<bool>(json!("a".repeat(1 << 20))).len() < 200, "a long value is not repeated");
    }

    #[test]
    fn what_is_the_case_anyway_may_be_asked_for() {
        let mut all = fields(json!({ "a": false, "b": true }));
        assert!(all.only("a", &[json!(false)]).is_ok() && all.only("b", &[json!(false)]).is_err());
        assert!(all.finish().is_ok());
    }

    #[test]
    fn an_error_of_the_text_is_about_its_field() {
        let error = |body: &[u8]| {
            let request = Request::new(body.to_vec().into());
            let error = inferlet::testing::Host::new().run(Fields::of_body(request)).unwrap_err();
            assert_eq!(error.status(), StatusCode::BAD_REQUEST);
            let shown = error.body()["error"].clone();
            (shown["param"].as_str().map(str::to_string), error.message().to_string())
        };
        for (body, param) in [
            (r#"{"model": "a", "messages": [{"content": "\ud800"}], "n": 1}"#, Some("messages")),
            ("{\"model\": \"a\",\n \"prompt\": [1, 2", Some("prompt")),
            (r#"{"temperature": NaN}"#, Some("temperature")),
            (r#"{"a\"b": {"c": 1, "d": nul}}"#, Some("a\\\"b")),
            (r#"{"a": 1, b: 2}"#, None),
            (r#"{"a": 1"#, Some("a")),
            ("", None),
            ("]", None),
            ("[1, 2", None),
            ("{", None),
            (r#"{"a"#, None),
        ] {
            let (found, message) = error(body.as_bytes());
            assert_eq!(found.as_deref(), param, "{body}: {message}");
            assert_eq!(message.contains("lone surrogate"), body.contains("ud800"), "{message}");
        }
        assert_eq!(error(b"{\"prompt\": \"\xff\"}").0.as_deref(), Some("prompt"));
        let deep = format!("{{\"a\": {}", "[".repeat(100_000));
        assert_eq!(error(deep.as_bytes()).0.as_deref(), Some("a"));
    }
}
