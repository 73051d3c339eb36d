//! The names of control tokens, and where they occur in a text.

use std::collections::{HashMap, HashSet};

use super::TokenKind;
use super::bytes::TokenTable;

/// All names of control tokens of a vocabulary. Finding one takes time in the length of the text alone,
/// however many names there are and whatever a hostile text repeats.
#[derive(Debug, Default)]
pub(crate) struct ControlNames {
    tokens: HashMap<String, ControlToken>,
    /// Lengths of names in bytes, longest first.
    lengths: Vec<usize>,
    /// The first characters of names.
    firsts: HashSet<char>,
    /// Every name without its first characters, in all ways, sorted.
    rests: Vec<String>,
}

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ControlToken {
    pub(crate) id: u32,
    /// Whether the token takes the white space before it.
    pub(crate) takes_space_before: bool,
    /// Whether the token takes the white space after it.
    pub(crate) takes_space_after: bool,
}

impl ControlNames {
    /// `strips` tells, for an id, whether the token takes the space before and after it. A name of a single
    /// character is left out: it cannot be told from text.
    pub(super) fn new(table: &TokenTable, strips: impl Fn(u32) -> (bool, bool)) -> Self {
        let mut names = Self::default();
        for id in (0..table.len() as u32).filter(|&id| table.kind(id) == Some(TokenKind::Control)) {
            let Some(name) = table.bytes(id).and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
                continue;
            };
            let mut starts = name.char_indices().skip(1).map(|(start, _)| start).peekable();
            if starts.peek().is_none() {
                continue;
            }
            // A damaged file may have a name of megabytes; its rests would be quadratic.
            names.rests.extend(starts.take(256).map(|start| name[start..].to_owned()));
            names.firsts.extend(name.chars().next());
            let (takes_space_before, takes_space_after) = strips(id);
            let token = ControlToken { id, takes_space_before, takes_space_after };
            names.tokens.entry(name.to_owned()).or_insert(token);
        }
        names.lengths = names.tokens.keys().map(String::len).collect();
        names.lengths.sort_unstable_by(|a, b| b.cmp(a));
        names.lengths.dedup();
        names.rests.sort_unstable();
        names.rests.dedup();
        names
    }

    /// Whether a name starts with `c`.
    pub(crate) fn starts_with(&self, c: char) -> bool {
        self.firsts.contains(&c)
    }

    /// The longest name that starts at `start`: its length and its token.
    pub(crate) fn at(&self, text: &str, start: usize) -> Option<(usize, ControlToken)> {
        self.lengths.iter().find_map(|&length| {
            let name = text.get(start..start + length)?;
            Some((length, *self.tokens.get(name)?))
        })
    }

    /// The first name in `text`, the longest where several start: where, its length, its token.
    pub(crate) fn find(&self, text: &str) -> Option<(usize, usize, ControlToken)> {
        let starts = text.char_indices().filter(|&(_, c)| self.starts_with(c));
        starts
            .filter_map(|(start, _)| self.at(text, start).map(|(length, token)| (start, length, token)))
            .next()
    }

    /// Whether text in front of `text` can make its start the rest of a name.
    pub(crate) fn may_end_at_the_start_of(&self, text: &str) -> bool {
        let next = self.rests.partition_point(|rest| rest.as_str() < text);
        let is_part = !text.is_empty() && self.rests.get(next).is_some_and(|rest| rest.starts_with(text));
        let longest = self.lengths.first().copied().unwrap_or_default();
        let ends = text.char_indices().map(|(start, c)| start + c.len_utf8());
        is_part
            || ends
                .take_while(|&end| end <= longest)
                .any(|end| self.rests.binary_search_by(|rest| rest.as_str().cmp(&text[..end])).is_ok())
    }

    /// All names, in no order.
    #[cfg(test)]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tokens.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> ControlNames {
        let mut table = TokenTable::default();
        for name in names {
            table.push(name.as_bytes(), TokenKind::Control);
        }
        table.push(b"text", TokenKind::Text);
        ControlNames::new(&table, |_| (false, false))
    }

    #[test]
    fn the_longest_of_the_first_names_is_found() {
        let names = names(&["<s>", "<s>>", "[INST]", "x", "<ü>"]);
        let found = |text: &str| names.find(text).map(|(start, length, token)| (start, length, token.id));
        assert_eq!(found("a[INST]<s>"), Some((1, 6, 2)));
        assert_eq!(found("é<s>>"), Some((2, 4, 1)));
        assert_eq!(found("<s<ü>"), Some((2, 4, 4)));
        assert_eq!(found("text x <s"), None);
        assert_eq!(names.names().count(), 4);
    }

    #[test]
    fn rests_of_names_are_known() {
        let names = names(&["<|end|>", "</s>"]);
        for text in ["|end|>", "end|> more", ">", "> quoted", "en", "/s>", "s"] {
            assert!(names.may_end_at_the_start_of(text), "{text}");
        }
        for text in ["", "<|end|>", "ending", "a>", "End|>"] {
            assert!(!names.may_end_at_the_start_of(text), "{text}");
        }
    }
}
