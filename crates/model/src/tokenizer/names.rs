//! Names of tokens, and where they occur in a text.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

/// Names of tokens, of control tokens for example. Finding one takes time in the length of the text alone,
/// however many names there are and whatever a hostile text repeats.
#[derive(Debug, Default)]
pub(crate) struct TokenNames {
    tokens: HashMap<String, NamedToken>,
    /// Lengths of names in bytes, longest first.
    lengths: Vec<usize>,
    /// The first characters of names.
    firsts: HashSet<char>,
    /// Every name without its first characters, in all ways, sorted; made when first needed. `None` when that
    /// is more than [`RESTS_MAX`].
    rests: OnceLock<Option<Vec<String>>>,
}

/// Bytes of all names up to which their rests are kept. Real vocabularies have 10 kB of names of control
/// tokens; a damaged one may have as much as its file holds, and the rests of one name are quadratic in its
/// length.
const RESTS_MAX: usize = 1 << 18;
const NAME_MAX: usize = 256;

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NamedToken {
    pub(crate) id: u32,
    /// Whether the token takes the white space before it.
    pub(crate) takes_space_before: bool,
    /// Whether the token takes the white space after it.
    pub(crate) takes_space_after: bool,
}

impl TokenNames {
    /// Of equal names the first counts; empty ones never occur.
    pub(super) fn new<'a>(named: impl Iterator<Item = (&'a str, NamedToken)>) -> Self {
        let mut names = Self::default();
        for (name, token) in named.filter(|(name, _)| !name.is_empty()) {
            names.firsts.extend(name.chars().next());
            names.tokens.entry(name.to_owned()).or_insert(token);
        }
        names.lengths = names.tokens.keys().map(String::len).collect();
        names.lengths.sort_unstable_by(|a, b| b.cmp(a));
        names.lengths.dedup();
        names
    }

    fn rests(&self) -> Option<&[String]> {
        let rests = self.rests.get_or_init(|| {
            let names = || self.tokens.keys();
            if names().map(String::len).sum::<usize>() > RESTS_MAX
                || names().any(|name| name.len() > NAME_MAX)
            {
                return None;
            }
            let starts = |name: &str| name.char_indices().skip(1).map(|(start, _)| start).collect::<Vec<_>>();
            let mut rests: Vec<String> = names()
                .flat_map(|name| starts(name).into_iter().map(|start| name[start..].to_owned()))
                .collect();
            rests.sort_unstable();
            rests.dedup();
            Some(rests)
        });
        rests.as_deref()
    }

    /// Whether a name starts with `c`.
    pub(crate) fn starts_with(&self, c: char) -> bool {
        self.firsts.contains(&c)
    }

    /// The longest name that starts at `start`: its length and its token.
    pub(crate) fn at(&self, text: &str, start: usize) -> Option<(usize, NamedToken)> {
        self.lengths.iter().find_map(|&length| {
            let name = text.get(start..start + length)?;
            Some((length, *self.tokens.get(name)?))
        })
    }

    /// The first name in `text`, the longest where several start: where, its length, its token.
    pub(crate) fn find(&self, text: &str) -> Option<(usize, usize, NamedToken)> {
        let starts = text.char_indices().filter(|&(_, c)| self.starts_with(c));
        starts
            .filter_map(|(start, _)| self.at(text, start).map(|(length, token)| (start, length, token)))
            .next()
    }

    /// The text cut at its names: what is before each with its token, and what is behind the last.
    pub(crate) fn parts<'a>(
        &self,
        text: &'a str,
    ) -> impl Iterator<Item = (&'a str, Option<NamedToken>)> + use<'a, '_> {
        let mut rest = Some(text);
        std::iter::from_fn(move || {
            let text = rest.take()?;
            let Some((start, length, token)) = self.find(text) else { return Some((text, None)) };
            rest = Some(&text[start + length..]);
            Some((&text[..start], Some(token)))
        })
    }

    /// Whether text in front of `text` can make its start the rest of a name. True for any text when there
    /// are too many names to tell.
    pub(crate) fn may_end_at_the_start_of(&self, text: &str) -> bool {
        let Some(rests) = self.rests() else { return !text.is_empty() };
        let next = rests.partition_point(|rest| rest.as_str() < text);
        let is_part = !text.is_empty() && rests.get(next).is_some_and(|rest| rest.starts_with(text));
        let longest = self.lengths.first().copied().unwrap_or_default();
        let ends = text.char_indices().map(|(start, c)| start + c.len_utf8());
        let is_rest = |end: usize| rests.binary_search_by(|rest| rest.as_str().cmp(&text[..end])).is_ok();
        is_part || ends.take_while(|&end| end <= longest).any(is_rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&'static str]) -> TokenNames {
        let token = |id| NamedToken { id, takes_space_before: false, takes_space_after: false };
        TokenNames::new(names.iter().enumerate().map(|(id, &name)| (name, token(id as u32))))
    }

    #[test]
    fn the_longest_of_the_first_names_is_found() {
        let names = names(&["<s>", "<s>>", "[INST]", "", "<ü>"]);
        let found = |text: &str| names.find(text).map(|(start, length, token)| (start, length, token.id));
        assert_eq!(found("a[INST]<s>"), Some((1, 6, 2)));
        assert_eq!(found("é<s>>"), Some((2, 4, 1)));
        assert_eq!(found("<s<ü>"), Some((2, 4, 4)));
        assert_eq!(found("text <s"), None);
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
    #[test]
    fn too_many_or_too_long_names_have_any_rest() {
        let long = "<".repeat(NAME_MAX + 1);
        let many: Vec<String> = (0..RESTS_MAX / 4).map(|index| format!("<{index}>")).collect();
        let token = NamedToken { id: 0, takes_space_before: false, takes_space_after: false };
        for names in [vec![long], many] {
            let names = TokenNames::new(names.iter().map(|name| (name.as_str(), token)));
            assert!(names.may_end_at_the_start_of("anything") && !names.may_end_at_the_start_of(""));
            assert_eq!(names.rests().map(<[String]>::len), None);
        }
    }
}
