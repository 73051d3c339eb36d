//! A body that the user writes: `{prompt}`, `{max_tokens}` and `{model}` are replaced, and nothing else is touched.
//!
//! In a template that is JSON the replacement happens within its strings, so a prompt may hold any character. A string
//! that is `{max_tokens}` alone becomes a number. Other text is sent as it is.

use serde_json::{Map, Value, json};

use super::{Ask, as_text};

/// What replaces the placeholders of a text.
pub(super) fn replacement<'a>(ask: &'a Ask<'_>) -> Result<impl Fn(&str) -> String + 'a, String> {
    let prompt = as_text(ask).ok_or("token ids cannot be put into a template")?;
    Ok(move |text: &str| {
        // One pass, so that a prompt that holds `{model}` stays as it is.
        let mut out = String::with_capacity(text.len() + prompt.len());
        let mut rest = text;
        while let Some(brace) = rest.find('{') {
            out.push_str(&rest[..brace]);
            rest = &rest[brace..];
            let known = [
                ("{prompt}", prompt.clone()),
                ("{max_tokens}", ask.output_tokens.to_string()),
                ("{model}", ask.model.unwrap_or_default().to_string()),
            ];
            match known.into_iter().find(|(name, _)| rest.starts_with(name)) {
                Some((name, value)) => {
                    out.push_str(&value);
                    rest = &rest[name.len()..];
                }
                None => {
                    out.push('{');
                    rest = &rest[1..];
                }
            }
        }
        out + rest
    })
}

/// A template with its replacements.
pub(super) enum Filled {
    /// A JSON object.
    Object(Map<String, Value>),
    /// Anything else.
    Raw(Vec<u8>),
}

pub(super) fn fill(template: &str, ask: &Ask<'_>) -> Result<Filled, String> {
    let replace = replacement(ask)?;
    match serde_json::from_str::<Value>(template) {
        Ok(mut value) => {
            visit(&mut value, &|text| match text {
                "{max_tokens}" => json!(ask.output_tokens),
                "{messages}" => json!(
                    ask.history
                        .iter()
                        .cloned()
                        .chain(ask.prompt.messages().unwrap_or_default())
                        .collect::<Vec<_>>()
                ),
                other => Value::String(replace(other)),
            });
            Ok(match value {
                Value::Object(object) => Filled::Object(object),
                other => Filled::Raw(other.to_string().into_bytes()),
            })
        }
        Err(_) => Ok(Filled::Raw(replace(template).into_bytes())),
    }
}

fn visit(value: &mut Value, replace: &impl Fn(&str) -> Value) {
    match value {
        Value::String(text) => *value = replace(text),
        Value::Array(items) => items.iter_mut().for_each(|item| visit(item, replace)),
        Value::Object(members) => members.values_mut().for_each(|member| visit(member, replace)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Prompt;

    fn filled(template: &str, prompt: &str) -> Vec<u8> {
        let (prompt, none) = (Prompt::Text(prompt.into()), Map::new());
        let ask = Ask {
            model: Some("m"),
            prompt: &prompt,
            history: &[],
            output_tokens: 7,
            stream: true,
            extra: [&none, &none],
        };
        match fill(template, &ask).unwrap() {
            Filled::Object(object) => serde_json::to_vec(&object).unwrap(),
            Filled::Raw(bytes) => bytes,
        }
    }

    #[test]
    fn braces_quotes_and_placeholders_in_a_prompt_do_no_harm() {
        let body = filled(
            r#"{"prompt": "{prompt}", "n": "{max_tokens}", "x": {"y": ["{model}!"]}}"#,
            "a \"{model}\" {",
        );
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body, json!({"prompt": "a \"{model}\" {", "n": 7, "x": {"y": ["m!"]}}));
        assert_eq!(filled("ask={prompt}&{x}", "p"), b"ask=p&{x}");
    }
}
