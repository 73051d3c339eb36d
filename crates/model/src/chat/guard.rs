//! Keeps control tokens that a message names from becoming control tokens.
//!
//! Into the texts of messages a mark is put, a noncharacter of Unicode that no text has, so that a name in
//! them is no name any more. The template carries the marks along; in the rendered text a name is a control
//! token, and then all marks are dropped. A mark has no partner, so a template may cut, join and escape texts
//! as it likes.
//!
//! Names must be broken, but a template may also look at a text: whether it begins with `<tool_response>`,
//! say. So there are two ways. [`Marks::Names`] breaks whole names only, and is what a template sees nothing
//! of. But a name may come together in the template only: from the end of one message and the start of the
//! next, by `lower`, by taking a part out. [`Marks::Parts`] breaks all that could become one. The prompt is
//! rendered in both ways, and the first one counts if it has the same control tokens as the second.

use serde_json::{Map, Value};

use crate::tokenizer::{TokenNames, Tokenizer, TokenizerError, Wanted};

/// Breaks a name.
pub(super) const MARK: char = '\u{fdd0}';

/// Where a message ends that is to be continued.
pub(super) const CUT: char = '\u{fdd1}';

/// Roles that a template may build a control token from, as in `'<|' + message.role + '|>'`.
const ROLES: &[&str] =
    &["system", "developer", "user", "assistant", "tool", "function", "ipython", "model", "observation"];

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    /// Names of control tokens.
    Names,
    /// Whatever may be a part of one.
    Parts,
}

/// Takes the characters that have a meaning here out of every string and key.
pub(super) fn clean(value: &mut Value) {
    each_string(value, &mut |text| {
        if text.contains([MARK, CUT]) {
            text.retain(|c| c != MARK && c != CUT);
        }
    });
}

/// Marks every string of `value`, keys included.
pub(super) fn mark(value: &mut Value, names: &TokenNames, marks: Marks) {
    each_string(value, &mut |text| mark_text(text, names, marks));
}

/// Marks the texts of a message: all but roles that are known, types of parts, and the content of a trusted
/// one.
pub(super) fn mark_message(
    message: &mut Map<String, Value>,
    is_trusted: bool,
    names: &TokenNames,
    marks: Marks,
) {
    for (key, value) in message {
        match (key.as_str(), value) {
            ("role", Value::String(role)) if ROLES.contains(&role.as_str()) => {}
            ("role", Value::String(role)) => {
                mark_text(role, names, marks);
                if marks == Marks::Parts && names.may_end_at_the_start_of(role) {
                    role.insert(0, MARK);
                }
            }
            ("content", _) if is_trusted => {}
            ("content", Value::Array(parts)) => {
                for text in parts.iter_mut().filter_map(|part| part.get_mut("text")) {
                    mark(text, names, marks);
                }
            }
            (_, value) => mark(value, names, marks),
        }
    }
}

fn each_string(value: &mut Value, change: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(values) => values.iter_mut().for_each(|value| each_string(value, change)),
        Value::Object(fields) => {
            for (mut key, mut value) in std::mem::take(fields) {
                change(&mut key);
                each_string(&mut value, change);
                fields.insert(key, value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn mark_text(text: &mut String, names: &TokenNames, marks: Marks) {
    let begin = text.len() - text.trim_start().len();
    // A word is no end of a name, unless a template makes names of words, which it does of roles only.
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let is_rest =
        marks == Marks::Parts && !is_word && names.may_end_at_the_start_of(text[begin..].trim_end());
    if !is_rest && !text.contains(|c| names.starts_with(c)) {
        return;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for (start, c) in text.char_indices() {
        if is_rest && start == begin {
            out.push(MARK);
        }
        out.push(c);
        if names.starts_with(c) && (marks == Marks::Parts || names.at(text, start).is_some()) {
            out.push(MARK);
        }
    }
    *text = out;
}

/// The ids of the control tokens of a rendered text with marks.
pub(super) fn controls(text: &str, names: &TokenNames) -> Vec<u32> {
    names.parts(text).filter_map(|(_, token)| Some(token?.id)).collect()
}

/// Token ids of a rendered text with marks: names are control tokens, all else is text, without its marks.
pub(super) fn encode(
    text: &str,
    tokenizer: &Tokenizer,
    wanted: Wanted<'_>,
) -> Result<Vec<u32>, TokenizerError> {
    let names = tokenizer.control_names();
    let mut ids = Vec::new();
    let mut rest = text;
    loop {
        let found = names.find(rest);
        let (start, length, token) = match found {
            Some((start, length, token)) => (start, length, Some(token)),
            None => (rest.len(), 0, None),
        };
        let mut plain = &rest[..start];
        if token.is_some_and(|token| token.takes_space_before) {
            plain = plain.trim_end();
        }
        if !plain.is_empty() {
            ids.extend(tokenizer.encode_while(&plain.replace(MARK, ""), false, wanted)?);
        }
        let Some(token) = token else { return Ok(ids) };
        ids.push(token.id);
        rest = &rest[start + length..];
        if token.takes_space_after {
            rest = rest.trim_start();
        }
    }
}
