//! What templates expect of Python and Jinja2, and minijinja has otherwise or not at all.
//!
//! Not here, as the engine itself would have to change: `%` on strings, `varargs` of macros, methods as values,
//! and slices that go backwards between bounds. A test lists what is known to differ.

use minijinja::value::{Kwargs, Rest, Tuple, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter};
use minijinja_contrib::pycompat;

use super::json;

/// Replaces what minijinja has otherwise.
pub(super) fn install(environment: &mut Environment<'static>) {
    environment.set_formatter(format);
    environment.set_unknown_method_callback(method);
    environment.add_filter("string", |value: &Value| text(value));
    environment.add_filter("escape", escape);
    environment.add_filter("e", escape);
    environment.add_filter("items", |value: &Value| {
        // Of nothing, there are no items.
        if value.is_undefined() {
            Ok(Value::from(Vec::<Value>::new()))
        } else {
            minijinja::filters::items(value)
        }
    });
    for name in ["length", "count"] {
        environment.add_filter(name, length);
    }
    environment.add_filter("float", |value: &Value, default: Option<f64>, named: Kwargs| {
        let default = default.map_or_else(|| named.get("default"), |default| Ok(Some(default)))?;
        named.assert_all_used()?;
        Ok::<f64, Error>(number(value).or(default).unwrap_or(0.0))
    });
    environment.add_filter("int", |value: &Value, default: Option<i64>, named: Kwargs| {
        let default = default.map_or_else(|| named.get("default"), |default| Ok(Some(default)))?;
        named.assert_all_used()?;
        Ok::<i64, Error>(whole(value).or(default).unwrap_or(0))
    });
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String)
    });
}

fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match float(value) {
        Some(number) => escape_formatter(out, state, &Value::from(json::float(number))),
        None => escape_formatter(out, state, value),
    }
}

/// The value, if it is a number with a point.
fn float(value: &Value) -> Option<f64> {
    if value.kind() == ValueKind::Number && !value.is_integer() {
        f64::try_from(value.clone()).ok()
    } else {
        None
    }
}

fn text(value: &Value) -> Value {
    match float(value) {
        Some(number) => Value::from(json::float(number)),
        None if value.as_str().is_some() => value.clone(),
        None => Value::from(value.to_string()),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None => f64::try_from(value.clone()).ok(),
    }
}

/// The value as a whole number, as Python's `int` has it: of one with a point, what is before it.
fn whole(value: &Value) -> Option<i64> {
    let whole = match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None => value.as_i64(),
    };
    whole.or_else(|| Some(number(value)?.trunc() as i64))
}

fn length(value: &Value) -> Result<usize, Error> {
    let length = if value.is_undefined() { Some(0) } else { value.len() };
    length.ok_or_else(|| invalid(format!("a value of type {} has no length", value.kind())))
}

fn escape(value: &Value) -> Value {
    let mut out = String::new();
    for c in text(value).as_str().unwrap_or_default().chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    Value::from(out)
}

fn invalid(reason: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

fn method(state: &mut State<'_, '_>, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    match (value.as_str(), value.kind()) {
        (Some(text), _) => {
            if let Some(result) = string_method(text, name, arguments)? {
                return Ok(result);
            }
        }
        (None, ValueKind::Seq) if name == "index" => {
            let (wanted,): (&Value,) = from_args(arguments)?;
            let at = value.try_iter()?.position(|item| item == *wanted);
            return at.map(Value::from).ok_or_else(|| invalid(format!("{wanted} is not in the list")));
        }
        (None, ValueKind::Map) if name == "copy" => return Ok(value.clone()),
        _ => {}
    }
    pycompat::unknown_method_callback(state, value, name, arguments)
}

/// Methods of strings that pycompat does not have.
fn string_method(text: &str, name: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    let parts = |parts: [&str; 3]| Value::from(Tuple::from(parts.map(Value::from)));
    let one = || from_args::<(&str,)>(arguments).map(|(one,)| one);
    Ok(Some(match name {
        "rsplit" => {
            let (separator, limit): (Option<&str>, Option<i64>) = from_args(arguments)?;
            let limit =
                limit.and_then(|limit| usize::try_from(limit).ok()).map_or(usize::MAX, |limit| limit + 1);
            let mut found: Vec<&str> = match separator {
                Some(separator) => text.rsplitn(limit, separator).collect(),
                None => {
                    text.trim().rsplitn(limit, char::is_whitespace).filter(|part| !part.is_empty()).collect()
                }
            };
            found.reverse();
            found.into_iter().map(Value::from).collect()
        }
        "partition" => {
            let separator = one()?;
            let (before, after) = text.split_once(separator).unwrap_or((text, ""));
            let found = if before.len() == text.len() { "" } else { separator };
            parts([before, found, after])
        }
        "rpartition" => {
            let separator = one()?;
            let found = text.rsplit_once(separator);
            found.map_or_else(|| parts(["", "", text]), |(before, after)| parts([before, separator, after]))
        }
        "index" | "rindex" => {
            let wanted = one()?;
            let at = if name == "index" { text.find(wanted) } else { text.rfind(wanted) };
            let at = at.ok_or_else(|| invalid(format!("`{wanted}` is not in the string")))?;
            Value::from(text[..at].chars().count())
        }
        "removeprefix" => Value::from(text.strip_prefix(one()?).unwrap_or(text)),
        "removesuffix" => Value::from(text.strip_suffix(one()?).unwrap_or(text)),
        "swapcase" => {
            let swapped = text.chars().flat_map(|c| -> Vec<char> {
                if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
            });
            Value::from(swapped.collect::<String>())
        }
        "zfill" | "ljust" | "rjust" | "center" => Value::from(padded(text, name, arguments)?),
        _ => return Ok(None),
    }))
}

/// Most characters that a string is padded to: templates are untrusted.
const WIDTH: usize = 10_000;

fn padded(text: &str, name: &str, arguments: &[Value]) -> Result<String, Error> {
    let (width, with): (usize, Option<&str>) = from_args(arguments)?;
    if width > WIDTH {
        return Err(invalid(format!("a string is to be padded to {width} characters, {WIDTH} are the most")));
    }
    let count = width.saturating_sub(text.chars().count());
    let fill = |count: usize| with.unwrap_or(" ").repeat(count);
    Ok(match name {
        "zfill" => {
            let sign =
                text.len() - text.trim_start_matches(['-', '+']).len().max(text.len().saturating_sub(1));
            format!("{}{}{}", &text[..sign], "0".repeat(count), &text[sign..])
        }
        "ljust" => format!("{text}{}", fill(count)),
        "rjust" => format!("{}{text}", fill(count)),
        _ => {
            // As CPython has it: of an odd number the left side has more where the width is odd.
            let left = count / 2 + (count & width & 1);
            format!("{}{text}{}", fill(left), fill(count - left))
        }
    })
}

/// `json.dumps` with the defaults of transformers: no HTML escapes, no ASCII escapes, spaces after `,` and
/// `:`. The arguments are in the order that transformers has.
pub(super) fn to_json(value: &Value, arguments: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(invalid("an undefined value cannot be written as JSON".to_owned()));
    }
    type Arguments = (Option<bool>, Option<usize>, Option<Vec<String>>, Option<bool>);
    let (is_ascii, indent, separators, is_sorted): Arguments = from_args(&arguments)?;
    let is_ascii = is_ascii.map_or_else(|| named.get("ensure_ascii"), |is| Ok(Some(is)))?;
    let indent = indent.map_or_else(|| named.get("indent"), |indent| Ok(Some(indent)))?;
    let separators = separators.map_or_else(|| named.get("separators"), |pair| Ok(Some(pair)))?;
    let is_sorted = is_sorted.map_or_else(|| named.get("sort_keys"), |is| Ok(Some(is)))?;
    named.assert_all_used()?;
    let style = json::Style {
        indent: indent.map(|indent: usize| indent.min(64)),
        item: separators.as_ref().and_then(|pair: &Vec<String>| pair.first().cloned()),
        key: separators.as_ref().and_then(|pair| pair.get(1).cloned()),
        is_ascii: is_ascii.unwrap_or(false),
        is_sorted: is_sorted.unwrap_or(false),
    };
    let value = serde_json::to_value(value).map_err(|error| {
        Error::new(ErrorKind::InvalidOperation, "cannot be written as JSON").with_source(error)
    })?;
    Ok(Value::from(json::write(&value, &style)))
}
