//! JSON as Python writes it, because that is what models were trained on.

use serde_json::Value;

use super::guard::{CUT, MARK};

/// The options of `json.dumps` that templates use.
#[derive(Default)]
pub(super) struct Style {
    /// Spaces per level; `None` is one line.
    pub(super) indent: Option<usize>,
    /// Between items; `None` is `", "`, or `","` when indented.
    pub(super) item: Option<String>,
    /// Between key and value; `None` is `": "`.
    pub(super) key: Option<String>,
    /// Whether other characters than ASCII are escaped.
    pub(super) is_ascii: bool,
    /// Whether keys are sorted.
    pub(super) is_sorted: bool,
}

pub(super) fn write(value: &Value, style: &Style) -> String {
    let mut out = String::new();
    put(&mut out, value, style, 0);
    out
}

fn put(out: &mut String, value: &Value, style: &Style, level: usize) {
    match value {
        Value::Array(items) => {
            let items = items.iter().map(|item| (None, item)).collect::<Vec<_>>();
            put_all(out, ('[', ']'), &items, style, level);
        }
        Value::Object(fields) => {
            let mut items = fields.iter().map(|(key, value)| (Some(key.as_str()), value)).collect::<Vec<_>>();
            if style.is_sorted {
                items.sort_by_key(|(key, _)| *key);
            }
            put_all(out, ('{', '}'), &items, style, level);
        }
        Value::String(text) => put_string(out, text, style),
        Value::Number(number) if number.is_f64() => {
            out.push_str(&number.as_f64().map_or_else(|| number.to_string(), float));
        }
        other => out.push_str(&other.to_string()),
    }
}

/// A number as Python writes it, with a point or an exponent.
pub(super) fn float(number: f64) -> String {
    let text = format!("{number:e}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return format!("{number:?}").to_lowercase();
    };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{number:?}"),
    }
}

fn put_all(
    out: &mut String,
    brackets: (char, char),
    items: &[(Option<&str>, &Value)],
    style: &Style,
    level: usize,
) {
    out.push(brackets.0);
    let separator = match (&style.item, style.indent) {
        (Some(separator), _) => separator,
        (None, Some(_)) => ",",
        (None, None) => ", ",
    };
    let new_line = |out: &mut String, level: usize| {
        if let Some(indent) = style.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * level));
        }
    };
    for (index, (key, value)) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        new_line(out, level + 1);
        if let Some(key) = key {
            put_string(out, key, style);
            out.push_str(style.key.as_deref().unwrap_or(": "));
        }
        put(out, value, style, level + 1);
    }
    if !items.is_empty() {
        new_line(out, level);
    }
    out.push(brackets.1);
}

fn put_string(out: &mut String, text: &str, style: &Style) {
    let quoted = Value::from(text).to_string();
    if !style.is_ascii {
        return out.push_str(&quoted);
    }
    for c in quoted.chars() {
        // The guard's characters go through as they are, or they would stay in the prompt.
        if c.is_ascii() || c == MARK || c == CUT {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_pythons() {
        let cases = [
            (1.0, "1.0"),
            (-0.5, "-0.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (1e-5, "1e-05"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::INFINITY, "inf"),
            (0.0, "0.0"),
        ];
        for (number, expected) in cases {
            assert_eq!(float(number), expected);
        }
    }

    #[test]
    fn json_is_spaced_like_pythons() {
        let value = serde_json::json!({"b": [1, 2.0, null], "a": {"x": "<é\n>"}, "e": {}, "f": []});
        let check = |style: Style, expected: &str| assert_eq!(write(&value, &style), expected);
        check(Style::default(), r#"{"b": [1, 2.0, null], "a": {"x": "<é\n>"}, "e": {}, "f": []}"#);
        check(
            Style { is_ascii: true, is_sorted: true, ..Style::default() },
            r#"{"a": {"x": "<\u00e9\n>"}, "b": [1, 2.0, null], "e": {}, "f": []}"#,
        );
        check(
            Style { item: Some(",".into()), key: Some(":".into()), ..Style::default() },
            r#"{"b":[1,2.0,null],"a":{"x":"<é\n>"},"e":{},"f":[]}"#,
        );
        check(
            Style { indent: Some(2), ..Style::default() },
            "{\n  \"b\": [\n    1,\n    2.0,\n    null\n  ],\n  \"a\": {\n    \"x\": \"<é\\n>\"\n  },\n  \"e\": {},\n  \"f\": []\n}",
        );
    }
}
