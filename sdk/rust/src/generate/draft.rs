//! Drafts of what may come next, and the drafters that make them.
//!
//! ```text
//! text … the | cat ── sat ── on          a draft: candidates with parents
//!            |  └─── was
//!            | dog ── ran
//! ```
//! One pass computes all candidates, each attending to the text and its own ancestors, and draws after each of them;
//! the text goes on along the candidates that equal the draws.

use std::collections::HashMap;

use futures::future::LocalBoxFuture;

use crate::context::EMBEDDING;
use crate::{Context, Result, SamplingParams};

/// Candidates for the next tokens: a chain or a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    candidates: Vec<Candidate>,
}

/// A token that may come after its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub token: u32,
    /// Index of an earlier candidate; none for the first token after the text.
    pub parent: Option<usize>,
}

impl Draft {
    /// No candidate.
    pub fn none() -> Draft {
        Draft::default()
    }

    /// Tokens that follow each other.
    pub fn chain(tokens: &[u32]) -> Draft {
        let mut draft = Draft::none();
        draft.add_chain(tokens);
        draft
    }

    /// Adds a candidate after another one, or after the text, and gives its index: that of the same candidate
    /// if it is there already.
    ///
    /// # Panics
    /// When there is no candidate `parent`.
    pub fn add(&mut self, parent: Option<usize>, token: u32) -> usize {
        assert!(parent.is_none_or(|parent| parent < self.candidates.len()), "no candidate {parent:?}");
        let candidate = Candidate { token, parent };
        let known = self.candidates.iter().position(|known| *known == candidate);
        known.unwrap_or_else(|| {
            self.candidates.push(candidate);
            self.candidates.len() - 1
        })
    }

    /// Adds tokens that follow each other after the text. Common beginnings of several are there once.
    pub fn add_chain(&mut self, tokens: &[u32]) {
        tokens.iter().fold(None, |parent, token| Some(self.add(parent, *token)));
    }

    /// Number of candidates.
    pub fn len(&self) -> usize {
        self.candidates.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// Candidates in depth-first order, of siblings those with the shortest continuation first: where the
    /// text leaves the tree, the rows behind are those with the larger positions.
    pub(crate) fn ordered(&self) -> Vec<Candidate> {
        let mut heights = vec![1; self.len()];
        for index in (0..self.len()).rev() {
            if let Some(parent) = self.candidates[index].parent {
                heights[parent] = heights[parent].max(heights[index] + 1);
            }
        }
        let children = |parent: Option<usize>| {
            let mut children: Vec<usize> =
                (0..self.len()).filter(|index| self.candidates[*index].parent == parent).collect();
            // The first one is at the top of the stack.
            children.sort_by_key(|child| std::cmp::Reverse((heights[*child], *child)));
            children
        };
        let (mut stack, mut ordered) = (Vec::new(), Vec::with_capacity(self.len()));
        stack.extend(children(None).into_iter().map(|child| (child, None)));
        while let Some((index, parent)) = stack.pop() {
            let at = ordered.len();
            ordered.push(Candidate { token: self.candidates[index].token, parent });
            stack.extend(children(Some(index)).into_iter().map(|child| (child, Some(at))));
        }
        ordered
    }
}

impl From<Vec<u32>> for Draft {
    fn from(tokens: Vec<u32>) -> Draft {
        Draft::chain(&tokens)
    }
}

/// Drafts the next tokens.
#[expect(async_fn_in_trait, reason = "a program has one thread: no future of it needs to be `Send`")]
pub trait Drafter {
    /// Candidates after `tokens`, those of the whole context; none costs nothing and gains nothing.
    ///
    /// # Errors
    /// The drafter's own; the generation passes them on.
    async fn draft(&mut self, tokens: &[u32]) -> Result<Draft>;

    /// The tokens that the model drew after wrong candidates: drawn on wrong input, but maybe right.
    fn rejected(&mut self, drawn: &[u32]) {
        let _ = drawn;
    }
}

/// A [`Drafter`] of any type.
pub(crate) trait AnyDrafter {
    fn draft<'a>(&'a mut self, tokens: &'a [u32]) -> LocalBoxFuture<'a, Result<Draft>>;
    fn rejected(&mut self, drawn: &[u32]);
}

impl<D: Drafter> AnyDrafter for D {
    fn draft<'a>(&'a mut self, tokens: &'a [u32]) -> LocalBoxFuture<'a, Result<Draft>> {
        Box::pin(Drafter::draft(self, tokens))
    }

    fn rejected(&mut self, drawn: &[u32]) {
        Drafter::rejected(self, drawn);
    }
}

/// Drafts what followed when the text had ended in the same tokens before: good where text repeats itself.
pub struct NgramDrafter {
    order: usize,
    length: usize,
    branches: usize,
    seen: usize,
    /// For each n-gram, where it ended, the last one at the end.
    table: HashMap<Vec<u32>, Vec<usize>>,
}

impl NgramDrafter {
    /// Looks up the last `order` tokens, and drafts up to `length`.
    pub fn new(order: usize, length: usize) -> NgramDrafter {
        NgramDrafter { order: order.max(1), length, branches: 1, seen: 0, table: HashMap::new() }
    }

    /// Drafts a tree of the continuations of the last `branches` times; one if not set.
    pub fn branches(self, branches: usize) -> NgramDrafter {
        NgramDrafter { branches, ..self }
    }
}

impl Drafter for NgramDrafter {
    async fn draft(&mut self, tokens: &[u32]) -> Result<Draft> {
        // Enter the n-grams that something follows already. A text that became shorter is another one.
        if tokens.len() < self.seen {
            (self.seen, self.table) = (0, HashMap::new());
        }
        for end in self.seen.max(self.order)..tokens.len() {
            self.table.entry(tokens[end - self.order..end].to_vec()).or_default().push(end);
        }
        self.seen = tokens.len();
        let mut draft = Draft::none();
        let start = tokens.len().checked_sub(self.order);
        let found = start.and_then(|start| self.table.get(&tokens[start..])).into_iter().flatten();
        for end in found.rev().take(self.branches) {
            draft.add_chain(&tokens[*end..(*end + self.length).min(tokens.len())]);
        }
        Ok(draft)
    }
}

/// Drafts what another, smaller model draws. It must have the same vocabulary.
pub struct ModelDrafter {
    context: Context,
    sampling: SamplingParams,
    length: usize,
}

impl ModelDrafter {
    /// Drafts `length` tokens with a context of the other model. Draws with one seed agree most: give the
    /// sampling of the generation, with its seed.
    pub fn new(context: Context, sampling: SamplingParams, length: usize) -> ModelDrafter {
        ModelDrafter { context, sampling, length }
    }

    /// The other model's context: what drafting costs is in [`Context::work`].
    pub fn context(&self) -> &Context {
        &self.context
    }
}

impl Drafter for ModelDrafter {
    async fn draft(&mut self, tokens: &[u32]) -> Result<Draft> {
        let facts = self.context.model().facts();
        // It stays within its own context length and vocabulary.
        let room = (facts.context_length as usize).saturating_sub(tokens.len()).min(self.length);
        let is_known = |token: &u32| *token != EMBEDDING && *token < facts.vocabulary_size;
        if room == 0 || tokens.is_empty() || !tokens.iter().all(is_known) {
            return Ok(Draft::none());
        }
        let same = self.context.tokens().iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let same = same.min(tokens.len() - 1);
        self.context.truncate(same)?;
        self.context.append_tokens(&tokens[same..]);
        for _ in 0..room {
            self.context.step(&self.sampling, &[]).await?;
        }
        Ok(Draft::chain(&self.context.tokens()[tokens.len()..]))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn draft(drafter: &mut NgramDrafter, tokens: &[u32]) -> Draft {
        Drafter::draft(drafter, tokens).now_or_never().expect("it never waits").unwrap()
    }

    #[test]
    fn the_drafter_goes_on_as_the_last_time() {
        let mut drafter = NgramDrafter::new(2, 3);
        assert!(draft(&mut drafter, &[]).is_empty() && draft(&mut drafter, &[1, 2]).is_empty());
        assert_eq!(draft(&mut drafter, &[1, 2, 3, 4, 5, 6, 1, 2]), vec![3, 4, 5].into());
        assert_eq!(draft(&mut drafter, &[1, 2, 3, 4, 5, 6, 1, 2, 9, 1, 2]), vec![9, 1, 2].into());
        let mut drafter = NgramDrafter::new(2, 2).branches(2);
        let tree = draft(&mut drafter, &[1, 2, 3, 4, 1, 2, 3, 5, 1, 2]);
        let mut expected = Draft::chain(&[3, 5]);
        expected.add_chain(&[3, 4]);
        assert_eq!((tree.len(), tree), (3, expected));
    }

    #[test]
    fn the_longest_branch_comes_last() {
        let mut draft = Draft::chain(&[1, 2, 3]);
        draft.add_chain(&[1, 4]);
        draft.add_chain(&[5]);
        let order: Vec<(u32, Option<usize>)> = draft.ordered().iter().map(|c| (c.token, c.parent)).collect();
        assert_eq!(order, [(5, None), (1, None), (4, Some(1)), (2, Some(1)), (3, Some(3))]);
    }
}
