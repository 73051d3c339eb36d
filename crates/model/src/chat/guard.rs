//! Keeps control tokens that a user wrote from becoming control tokens.
//!
//! Where a message names one, the name is put between two marks that no text uses; the template carries them along;
//! what then stands between marks in the rendered text is text. The marks are noncharacters of Unicode, which
//! have no meaning in interchange; a message that names a control token loses its own.

use serde_json::Value;

use crate::tokenizer::{TokenKind, Tokenizer, TokenizerError};

const OPEN: char = '\u{fdd0}';
const CLOSE: char = '\u{fdd1}';

/// The names of all control tokens with their ids, longest first.
pub(super) fn control_names(tokenizer: &Tokenizer) -> Vec<(String, u32)> {
    let ids = 0..tokenizer.vocabulary_size() as u32;
    let mut names: Vec<(String, u32)> = ids
        .filter(|&id| tokenizer.kind(id) == Some(TokenKind::Control))
        .filter_map(|id| Some((std::str::from_utf8(tokenizer.token_bytes(id)?).ok()?.to_owned(), id)))
        .filter(|(name, _)| !name.is_empty())
        .collect();
    names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    names
}

/// Marks every name in every string of `value`, keys included; whether there was one.
pub(super) fn mark(value: &mut Value, names: &[(String, u32)]) -> bool {
    match value {
        Value::String(text) => match marked(text, names) {
            Some(marked) => {
                *text = marked;
                true
            }
            None => false,
        },
        Value::Array(values) => values.iter_mut().fold(false, |any, value| mark(value, names) | any),
        Value::Object(fields) => {
            let mut any = fields.iter_mut().fold(false, |any, (_, value)| mark(value, names) | any);
            if fields.keys().any(|key| find(key, names).is_some()) {
                any = true;
                let old = std::mem::take(fields);
                fields
                    .extend(old.into_iter().map(|(key, value)| (marked(&key, names).unwrap_or(key), value)));
            }
            any
        }
        _ => false,
    }
}

fn marked(text: &str, names: &[(String, u32)]) -> Option<String> {
    find(text, names)?;
    let mut out = String::with_capacity(text.len() + 16);
    let clean = text.replace([OPEN, CLOSE], "");
    let mut rest = clean.as_str();
    while let Some((start, name, _)) = find(rest, names) {
        out.push_str(&rest[..start]);
        out.push(OPEN);
        out.push_str(name);
        out.push(CLOSE);
        rest = &rest[start + name.len()..];
    }
    out.push_str(rest);
    Some(out)
}

/// The first name in `text`, the longest where several start: where, the name, its id.
fn find<'a>(text: &str, names: &'a [(String, u32)]) -> Option<(usize, &'a str, u32)> {
    names
        .iter()
        .filter_map(|(name, id)| text.find(name.as_str()).map(|start| (start, name.as_str(), *id)))
        .min_by_key(|&(start, name, _)| (start, std::cmp::Reverse(name.len())))
}

/// Token ids of a rendered text with marks: names outside of marks are control tokens, all else is text.
pub(super) fn encode(
    text: &str,
    names: &[(String, u32)],
    tokenizer: &Tokenizer,
) -> Result<Vec<u32>, TokenizerError> {
    let mut ids = Vec::new();
    let mut plain = String::new();
    let flush = |plain: &mut String, ids: &mut Vec<u32>| {
        if !plain.is_empty() {
            ids.extend(tokenizer.encode(plain)?);
            plain.clear();
        }
        Ok::<_, TokenizerError>(())
    };
    let mut rest = text;
    loop {
        let open = rest.find(OPEN).unwrap_or(rest.len());
        match find(&rest[..open], names) {
            Some((start, name, id)) => {
                plain.push_str(&rest[..start]);
                flush(&mut plain, &mut ids)?;
                ids.push(id);
                rest = &rest[start + name.len()..];
            }
            None if open < rest.len() => {
                plain.push_str(&rest[..open]);
                let inside = &rest[open + OPEN.len_utf8()..];
                // A template may have cut the text between the marks; then all to the end is text.
                let close = inside.find(CLOSE).unwrap_or(inside.len());
                plain.push_str(&inside[..close].replace(OPEN, ""));
                rest = inside[close..].strip_prefix(CLOSE).unwrap_or_default();
            }
            None => {
                plain.push_str(rest);
                flush(&mut plain, &mut ids)?;
                return Ok(ids);
            }
        }
    }
}
