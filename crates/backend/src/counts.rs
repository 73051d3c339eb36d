//! How often each token came: what the penalties of sampling look at.

use std::collections::BTreeMap;

use crate::output::check_tokens;

/// Where a token came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOrigin {
    /// It was given to the model.
    Prompt,
    /// It was generated.
    Generated,
}

/// How often a token came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenCount {
    /// In the prompt.
    pub prompt: u64,
    /// In what was generated.
    pub generated: u64,
}

impl TokenCount {
    fn of(&mut self, origin: TokenOrigin) -> &mut u64 {
        match origin {
            TokenOrigin::Prompt => &mut self.prompt,
            TokenOrigin::Generated => &mut self.generated,
        }
    }
}

/// How often each token came, those that did not left out. So it has at most as many entries as the vocabulary tokens,
/// and a token more or less is a change of one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenCounts(BTreeMap<u32, TokenCount>);

impl TokenCounts {
    /// Each of these tokens came once more.
    pub fn add(&mut self, tokens: &[u32], origin: TokenOrigin) {
        for token in tokens {
            *self.0.entry(*token).or_default().of(origin) += 1;
        }
    }

    /// Takes back tokens that were added.
    ///
    /// # Errors
    /// The first token that did not come so often; nothing has changed then.
    pub fn remove(&mut self, tokens: &[u32], origin: TokenOrigin) -> Result<(), u32> {
        for (index, token) in tokens.iter().enumerate() {
            let mut count = self.0.get(token).copied().unwrap_or_default();
            let Some(fewer) = count.of(origin).checked_sub(1) else {
                self.add(&tokens[..index], origin);
                return Err(*token);
            };
            *count.of(origin) = fewer;
            match count == TokenCount::default() {
                true => self.0.remove(token),
                false => self.0.insert(*token, count),
            };
        }
        Ok(())
    }

    /// The tokens that came, by id.
    pub fn iter(&self) -> impl Iterator<Item = (u32, TokenCount)> + '_ {
        self.0.iter().map(|(token, count)| (*token, *count))
    }

    /// Distinct tokens that came.
    pub fn distinct(&self) -> usize {
        self.0.len()
    }

    /// Those of `tokens` that did not come yet, each once.
    pub fn distinct_new(&self, tokens: &[u32]) -> usize {
        let mut new: Vec<u32> = tokens.iter().copied().filter(|token| !self.0.contains_key(token)).collect();
        new.sort_unstable();
        new.dedup();
        new.len()
    }

    /// Refuses token ids that are not in the vocabulary.
    pub(crate) fn check(&self, vocabulary: u32) -> Result<(), String> {
        check_tokens(self.0.keys().next_back(), vocabulary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_taken_back_and_nothing_else() {
        let (prompt, generated) = (TokenOrigin::Prompt, TokenOrigin::Generated);
        let mut counts = TokenCounts::default();
        counts.add(&[5, 3, 5], prompt);
        counts.add(&[3, 9], generated);
        let all: Vec<_> =
            counts.iter().map(|(token, count)| (token, count.prompt, count.generated)).collect();
        assert_eq!(all, [(3, 1, 1), (5, 2, 0), (9, 0, 1)]);
        assert_eq!((counts.distinct(), counts.distinct_new(&[3, 4, 4, 8])), (3, 2));
        let before = counts.clone();
        assert_eq!(counts.remove(&[3, 9, 9], generated), Err(9));
        assert_eq!(counts.remove(&[5], generated), Err(5), "it came in the prompt");
        assert_eq!(counts, before);
        assert_eq!((counts.check(10), counts.check(9).is_err()), (Ok(()), true));
        assert_eq!(counts.remove(&[3, 9], generated), Ok(()));
        assert_eq!(counts.remove(&[5, 5, 3], prompt), Ok(()));
        assert_eq!(counts, TokenCounts::default());
    }
}
