//! SentencePiece's BPE, by the scores that a GGUF file has.
//!
//! A text becomes symbols, one per character, and again and again the two neighbours are joined whose joint
//! token has the best score, the leftmost ones of equals, until none are a token. What then is no token is
//! written in bytes. That is what llama.cpp does. A list of merges cannot say it: each merge has a rank of
//! its own there, so of two ways to the same token, or of two tokens with one score, one always comes before
//! the other.
//!
//! Spaces are `▁`, and one is put before a text where the file says so, also behind a token with a name.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::bytes::byte_token;
use super::names::{NamedToken, TokenNames};
use super::{TokenizerError, Wanted};

/// Pairs between two questions whether the tokens are still wanted.
const STEPS: usize = 1 << 12;

/// What a token of the vocabulary is to a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceKind {
    /// Comes from joining.
    Normal,
    /// One byte, for what has no token.
    Byte,
    /// Found by name, in every text.
    UserDefined,
    /// Found by name in trusted text only.
    Control,
    /// Never comes from text.
    Unused,
}

/// A vocabulary with scores.
pub(super) struct SentencePiece {
    /// Normal and user-defined tokens: id and score.
    pieces: HashMap<String, (u32, f32)>,
    bytes: [Option<u32>; 256],
    unknown: u32,
    space_prefix: bool,
    user_defined: TokenNames,
    user_defined_and_control: TokenNames,
}

/// A part of the text that is a character or a token; the symbols are a list.
struct Symbol {
    start: usize,
    /// 0 when it was joined to the one before.
    length: usize,
    prev: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours that could be joined. The greatest is joined first.
struct Pair {
    score: f32,
    left: Reverse<usize>,
    right: usize,
    /// Length of both; when they have another by now, this pair is no more.
    length: usize,
}

impl SentencePiece {
    /// The vocabulary in the order of ids; of equal names the first counts. `unknown` is the token of bytes
    /// without one.
    pub(super) fn new<'a>(
        vocabulary: impl Iterator<Item = (&'a str, PieceKind, f32)> + Clone,
        unknown: u32,
        space_prefix: bool,
    ) -> Self {
        let mut pieces = HashMap::new();
        let mut bytes = [None; 256];
        for (id, (name, kind, score)) in vocabulary.clone().enumerate() {
            match (kind, byte_token(name)) {
                (PieceKind::Byte, Some(byte)) => bytes[usize::from(byte)] = Some(id as u32),
                (PieceKind::Normal | PieceKind::UserDefined, _) => {
                    pieces.entry(name.to_owned()).or_insert((id as u32, score));
                }
                _ => {}
            }
        }
        let named = |kinds: &'static [PieceKind]| {
            let named = vocabulary.clone().enumerate().filter(|(_, (_, kind, _))| kinds.contains(kind));
            TokenNames::new(named.map(|(id, (name, ..))| {
                (name, NamedToken { id: id as u32, takes_space_before: false, takes_space_after: false })
            }))
        };
        Self {
            pieces,
            bytes,
            unknown,
            space_prefix,
            user_defined: named(&[PieceKind::UserDefined]),
            user_defined_and_control: named(&[PieceKind::UserDefined, PieceKind::Control]),
        }
    }

    /// # Errors
    /// [`TokenizerError::Stopped`] when the tokens are not wanted any more.
    pub(super) fn encode(
        &self,
        text: &str,
        with_control: bool,
        wanted: Wanted<'_>,
    ) -> Result<Vec<u32>, TokenizerError> {
        let names = if with_control { &self.user_defined_and_control } else { &self.user_defined };
        let mut ids = Vec::new();
        for (part, token) in names.parts(text) {
            self.encode_part(part, &mut ids, wanted)?;
            ids.extend(token.map(|token| token.id));
        }
        Ok(ids)
    }

    fn encode_part(&self, text: &str, ids: &mut Vec<u32>, wanted: Wanted<'_>) -> Result<(), TokenizerError> {
        if text.is_empty() {
            return Ok(());
        }
        let prefix = if self.space_prefix { "▁" } else { "" };
        let text = [prefix, &text.replace(' ', "▁")].concat();
        let mut symbols: Vec<Symbol> = (text.char_indices().enumerate())
            .map(|(index, (start, c))| Symbol {
                start,
                length: c.len_utf8(),
                prev: index.checked_sub(1),
                next: Some(index + 1),
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.next = None;
        }
        let mut pairs: BinaryHeap<Pair> =
            (1..symbols.len()).filter_map(|right| self.pair(&text, &symbols, right - 1, right)).collect();
        let mut steps = 0_usize;
        while let Some(Pair { left: Reverse(left), right, length, .. }) = pairs.pop() {
            steps += 1;
            if steps.is_multiple_of(STEPS) && !wanted() {
                return Err(TokenizerError::Stopped);
            }
            let lengths = (symbols[left].length, symbols[right].length);
            if lengths.0 == 0 || lengths.1 == 0 || lengths.0 + lengths.1 != length {
                continue;
            }
            let next = symbols[right].next;
            (symbols[left].length, symbols[left].next, symbols[right].length) = (length, next, 0);
            if let Some(next) = next {
                symbols[next].prev = Some(left);
                pairs.extend(self.pair(&text, &symbols, left, next));
            }
            if let Some(prev) = symbols[left].prev {
                pairs.extend(self.pair(&text, &symbols, prev, left));
            }
        }
        for symbol in symbols.iter().filter(|symbol| symbol.length > 0) {
            let piece = &text[symbol.start..][..symbol.length];
            match self.pieces.get(piece) {
                Some(&(id, _)) => ids.push(id),
                None => ids
                    .extend(piece.bytes().map(|byte| self.bytes[usize::from(byte)].unwrap_or(self.unknown))),
            }
        }
        Ok(())
    }

    fn pair(&self, text: &str, symbols: &[Symbol], left: usize, right: usize) -> Option<Pair> {
        let length = symbols[left].length + symbols[right].length;
        let &(_, score) = self.pieces.get(&text[symbols[left].start..][..length])?;
        Some(Pair { score, left: Reverse(left), right, length })
    }
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(self.left.cmp(&other.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_model::SplitMix64;

    /// The same as a loop over all neighbours.
    fn naive(pieces: &[(&str, f32)], text: &str) -> Vec<u32> {
        let id = |piece: &str| pieces.iter().position(|(name, _)| *name == piece);
        let mut symbols: Vec<String> = text.chars().map(String::from).collect();
        loop {
            let joint = |at: usize| id(&[&symbols[at][..], &symbols[at + 1]].concat());
            let scored =
                (0..symbols.len().saturating_sub(1)).filter_map(|at| Some((pieces[joint(at)?].1, at)));
            let best = scored.reduce(|best, next| if next.0 > best.0 { next } else { best });
            let Some((_, at)) = best else { break };
            let right = symbols.remove(at + 1);
            symbols[at].push_str(&right);
        }
        symbols.iter().map(|symbol| id(symbol).unwrap() as u32).collect()
    }

    #[test]
    fn the_best_pair_is_joined_and_the_leftmost_of_equals() {
        let mut random = SplitMix64(5);
        for case in 0..500 {
            let mut names =
                vec!["a", "b", "aa", "ab", "ba", "bb", "aaa", "aab", "aba", "bab", "abab", "aaaa", "bbb"];
            names.retain(|name| name.len() == 1 || !random.next().is_multiple_of(3));
            // Few scores, so that many are equal.
            let pieces: Vec<(&str, f32)> =
                names.into_iter().map(|name| (name, -((random.next() % 4) as f32))).collect();
            let vocabulary = pieces.iter().map(|&(name, score)| (name, PieceKind::Normal, score));
            let model = SentencePiece::new(vocabulary, 0, false);
            for _ in 0..20 {
                let length = random.next() % 40;
                let text: String = (0..length).map(|_| ['a', 'b'][(random.next() % 2) as usize]).collect();
                assert_eq!(
                    model.encode(&text, false, &|| true).unwrap(),
                    naive(&pieces, &text),
                    "case {case}: {text} with {pieces:?}"
                );
            }
        }
    }
}
