//! Byte-level BPE, by the merges that a GGUF file has.
//!
//! A text is split into words by the rules of [`pre`](super::pre). A word becomes symbols, one per byte, and again and
//! again the two neighbours are joined whose merge comes first in the file's list, the leftmost ones of equals, until no
//! neighbours have a merge. That is what the `tokenizers` library does, and the tests hold it against that. Departures
//! from it, which copies the text for each rule and keeps track of where every character came from:
//!
//! 1. The rules are applied in turn to one part of the text after the other, and nothing is copied.
//! 2. Short words, that is almost all, are joined in a row of ids, in which the first merge is looked for each time. Only
//!    long ones take a heap.
//! 3. A text may be a megabyte, or all of it one word, so whoever wants the tokens is asked now and then whether that is
//!    still so.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use regex_automata::meta::Regex;
use regex_automata::{Input, PatternID};
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::names::TokenNames;
use super::pre::{self, PreTokenizer};
use super::{TokenizerError, Wanted};

/// Bytes of a word that are joined in a row.
const SHORT_WORD: usize = 48;
/// Steps of some tens of nanoseconds between two questions whether the tokens are still wanted.
const STEPS: usize = 1 << 14;

/// A merge: its place in the list, and the token it gives.
type Merge = (u32, u32);

/// A vocabulary with merges.
pub(super) struct BytePair {
    rules: Vec<Rule>,
    /// The token of every byte; a byte without one gives none.
    bytes: [Option<u32>; 256],
    merges: FxHashMap<(u32, u32), Merge>,
    /// Words that are one token whatever the merges say.
    words: FxHashMap<Box<[u8]>, u32>,
    user_defined: TokenNames,
    user_defined_and_control: TokenNames,
}

/// What [`BytePair::new`] makes a vocabulary from.
pub(super) struct Parts {
    /// The token of every byte.
    pub(super) bytes: [Option<u32>; 256],
    /// Left and right token, and what they give, in the order of the file.
    pub(super) merges: Vec<(u32, u32, u32)>,
    /// Words that are one token whatever the merges say.
    pub(super) words: FxHashMap<Box<[u8]>, u32>,
    /// Tokens that are found by name in every text.
    pub(super) user_defined: TokenNames,
    /// The same, and those that are found in trusted text only.
    pub(super) user_defined_and_control: TokenNames,
}

impl BytePair {
    /// # Errors
    /// [`TokenizerError::Build`] when a rule does not compile.
    pub(super) fn new(pre: &PreTokenizer, parts: Parts) -> Result<Self, TokenizerError> {
        let mut merges = FxHashMap::with_capacity_and_hasher(parts.merges.len(), FxBuildHasher);
        for (rank, (left, right, joint)) in parts.merges.into_iter().enumerate() {
            // Of equal merges the first counts.
            merges.entry((left, right)).or_insert((rank as u32, joint));
        }
        Ok(Self {
            rules: pre.patterns.iter().map(|pattern| Rule::new(pattern)).collect::<Result<_, _>>()?,
            bytes: parts.bytes,
            merges,
            words: parts.words,
            user_defined: parts.user_defined,
            user_defined_and_control: parts.user_defined_and_control,
        })
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
        let mut joining = Joining { model: self, ids: Vec::new(), steps: 0, wanted };
        for (part, token) in names.parts(text) {
            self.split(&self.rules, part, &mut joining)?;
            joining.ids.extend(token.map(|token| token.id));
        }
        Ok(joining.ids)
    }

    /// Applies the rules to a part of the text, and joins the words that they leave.
    fn split(&self, rules: &[Rule], part: &str, joining: &mut Joining<'_>) -> Result<(), TokenizerError> {
        if part.is_empty() {
            return Ok(());
        }
        let Some((rule, rest)) = rules.split_first() else { return joining.word(part.as_bytes()) };
        let mut start = 0;
        while start < part.len() {
            let end = match rule.find(part, start) {
                Some(found) => {
                    self.split(rest, &part[start..found.start], joining)?;
                    start = found.start;
                    found.end
                }
                None => part.len(),
            };
            self.split(rest, &part[start..end], joining)?;
            start = end;
        }
        Ok(())
    }
}

/// One rule: what it matches is a piece, and what is between two matches as well.
enum Rule {
    /// The expression, and behind it, if the rule ends with [`pre::SPACES`], white space.
    Pattern(Box<Regex>),
    /// Digits in groups of three, counted from their end.
    Thousands,
}

impl Rule {
    fn new(pattern: &str) -> Result<Self, TokenizerError> {
        if pattern == pre::THOUSANDS {
            return Ok(Self::Thousands);
        }
        let patterns = match pattern.strip_suffix(pre::SPACES) {
            Some(others) => vec![others, r"\s+"],
            None => vec![pattern],
        };
        let regex = Regex::new_many(&patterns).map_err(|error| TokenizerError::Build(error.into()))?;
        Ok(Self::Pattern(Box::new(regex)))
    }

    /// The first match of `text` from `start` on.
    fn find(&self, text: &str, start: usize) -> Option<std::ops::Range<usize>> {
        match self {
            Self::Pattern(regex) => {
                let found = regex.search(&Input::new(text).range(start..))?;
                let mut range = found.range();
                // `\s+(?!\S)|\s+`: the last space of several belongs to what comes after.
                if found.pattern() != PatternID::ZERO && range.end < text.len() {
                    let (last, _) = text[range.clone()].char_indices().next_back()?;
                    if last > 0 {
                        range.end = range.start + last;
                    }
                }
                Some(range)
            }
            Self::Thousands => {
                let is_digit = |c: char| c.is_numeric();
                let from = start + text[start..].find(is_digit)?;
                let digits = &text[from..];
                let digits = &digits[..digits.find(|c| !is_digit(c)).unwrap_or(digits.len())];
                let first = (digits.chars().count() + 2) % 3 + 1;
                let length = digits.char_indices().nth(first).map_or(digits.len(), |(at, _)| at);
                Some(from..from + length)
            }
        }
    }
}

/// The tokens so far, and what is asked meanwhile.
struct Joining<'a> {
    model: &'a BytePair,
    ids: Vec<u32>,
    /// Since whoever wants the tokens was asked.
    steps: usize,
    wanted: Wanted<'a>,
}

impl Joining<'_> {
    fn steps(&mut self, count: usize) -> Result<(), TokenizerError> {
        self.steps += count;
        if self.steps < STEPS {
            return Ok(());
        }
        self.steps = 0;
        if (self.wanted)() { Ok(()) } else { Err(TokenizerError::Stopped) }
    }

    fn merge(&self, left: u32, right: u32) -> Option<Merge> {
        self.model.merges.get(&(left, right)).copied()
    }

    /// The tokens of a word.
    fn word(&mut self, word: &[u8]) -> Result<(), TokenizerError> {
        self.steps(word.len())?;
        if let Some(&id) = self.model.words.get(word) {
            self.ids.push(id);
            return Ok(());
        }
        let first = self.ids.len();
        self.ids.extend(word.iter().filter_map(|&byte| self.model.bytes[usize::from(byte)]));
        if self.ids.len() - first > SHORT_WORD {
            return self.long_word(first);
        }
        let mut ranks = [u32::MAX; SHORT_WORD];
        let rank = |joining: &Self, at: usize| {
            let pair = joining.ids.get(at).zip(joining.ids.get(at + 1));
            pair.and_then(|(&left, &right)| joining.merge(left, right)).map_or(u32::MAX, |(rank, _)| rank)
        };
        for at in first..self.ids.len() {
            ranks[at - first] = rank(self, at);
        }
        loop {
            let ranks_left = &ranks[..self.ids.len() - first];
            let Some((at, &least)) = ranks_left.iter().enumerate().min_by_key(|&(_, rank)| rank) else {
                return Ok(());
            };
            if least == u32::MAX {
                return Ok(());
            }
            let (left, right) = (self.ids[first + at], self.ids[first + at + 1]);
            self.ids[first + at] = self.merge(left, right).expect("it has a rank").1;
            self.ids.remove(first + at + 1);
            ranks.copy_within(at + 2.., at + 1);
            ranks[at] = rank(self, first + at);
            if at > 0 {
                ranks[at - 1] = rank(self, first + at - 1);
            }
        }
    }

    /// Joins the ids from `first` on, which are the bytes of a word.
    fn long_word(&mut self, first: usize) -> Result<(), TokenizerError> {
        const NONE: u32 = u32::MAX;
        /// A byte or a token; the symbols are a list.
        #[derive(Clone, Copy)]
        struct Symbol {
            /// `NONE` when it was joined to the one before.
            id: u32,
            prev: u32,
            next: u32,
        }
        let count = (self.ids.len() - first) as u32;
        let mut symbols: Vec<Symbol> = (self.ids.drain(first..).enumerate())
            .map(|(at, id)| {
                let (at, next) = (at as u32, at as u32 + 1);
                Symbol {
                    id,
                    prev: at.checked_sub(1).unwrap_or(NONE),
                    next: if next < count { next } else { NONE },
                }
            })
            .collect();
        // What could be joined: the rank, the left symbol, and both ids. When these have changed, it is no more.
        let mut pairs = BinaryHeap::new();
        let pair = |joining: &Self, symbols: &[Symbol], left: u32| {
            let (one, next) = (symbols[left as usize].id, symbols[left as usize].next);
            let other = symbols.get(next as usize)?.id;
            let (rank, _) = joining.merge(one, other)?;
            Some(Reverse((rank, left, one, other)))
        };
        for left in 0..count - 1 {
            pairs.extend(pair(self, &symbols, left));
        }
        self.steps(count as usize)?;
        while let Some(Reverse((_, left, one, other))) = pairs.pop() {
            self.steps(8)?;
            let Symbol { id, prev, next: right } = symbols[left as usize];
            if id != one || symbols.get(right as usize).is_none_or(|right| right.id != other) {
                continue;
            }
            let (_, joint) = self.merge(one, other).expect("it has a rank");
            let next = symbols[right as usize].next;
            symbols[right as usize].id = NONE;
            symbols[left as usize] = Symbol { id: joint, prev, next };
            if next != NONE {
                symbols[next as usize].prev = left;
            }
            pairs.extend(pair(self, &symbols, left));
            if prev != NONE {
                pairs.extend(pair(self, &symbols, prev));
            }
        }
        self.ids.extend(symbols.iter().map(|symbol| symbol.id).filter(|&id| id != NONE));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::models::bpe::BPE;
    use tokenizers::pre_tokenizers::PreTokenizerWrapper;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    use tokenizers::pre_tokenizers::sequence::Sequence;
    use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
    use tokenizers::{AddedToken, SplitDelimiterBehavior};

    use super::*;
    use crate::test_model::SplitMix64;
    use crate::tokenizer::byte_level_char;
    use crate::tokenizer::names::NamedToken;

    const USER_DEFINED: &str = "<tool>";
    const CONTROL: &str = "<|end|>";

    /// All bytes and random merges, as names, with the names that are not merged behind them.
    fn vocabulary(random: &mut SplitMix64) -> (Vec<String>, Vec<(String, String)>) {
        let mut tokens: Vec<String> = (0..=255).map(|byte| byte_level_char(byte).to_string()).collect();
        let mut merges = Vec::new();
        while merges.len() < 60 {
            let part = |random: &mut SplitMix64| match &tokens[256..] {
                joined if !joined.is_empty() && random.next().is_multiple_of(2) => {
                    joined[random.next() as usize % joined.len()].clone()
                }
                // What texts have much of, so that words are joined in many ways.
                _ => tokens[usize::from(b"ab1 \n'e"[random.next() as usize % 7])].clone(),
            };
            let (left, right) = (part(random), part(random));
            let joint = [&left[..], &right].concat();
            if joint.chars().count() <= 12 && !merges.contains(&(left.clone(), right.clone())) {
                if !tokens.contains(&joint) {
                    tokens.push(joint);
                }
                merges.push((left, right));
            }
        }
        tokens.extend([USER_DEFINED, CONTROL].map(str::to_owned));
        (tokens, merges)
    }

    /// The same by the library.
    fn library(
        pre: &PreTokenizer,
        tokens: &[String],
        merges: &[(String, String)],
        with_control: bool,
    ) -> tokenizers::Tokenizer {
        let ids = tokens
            .iter()
            .enumerate()
            .map(|(id, token)| (token.clone(), id as u32))
            .collect::<tokenizers::models::bpe::Vocab>();
        let bpe = BPE::builder().vocab_and_merges(ids, merges.to_vec()).ignore_merges(pre.ignore_merges);
        let mut twin = tokenizers::Tokenizer::new(bpe.build().unwrap());
        let split = |pattern: &&str| {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            PreTokenizerWrapper::from(Split::new(pattern, SplitDelimiterBehavior::Isolated, false).unwrap())
        };
        let last = PreTokenizerWrapper::from(ByteLevel::new(false, false, false));
        twin.with_pre_tokenizer(Some(Sequence::new(pre.patterns.iter().map(split).chain([last]).collect())));
        let added = [(USER_DEFINED, false), (CONTROL, true)];
        twin.add_tokens(added.map(|(name, is_special)| AddedToken::from(name, is_special).normalized(false)))
            .unwrap();
        twin.set_encode_special_tokens(!with_control);
        twin
    }

    fn model(pre: &PreTokenizer, tokens: &[String], merges: &[(String, String)]) -> BytePair {
        let id = |name: &str| tokens.iter().position(|token| token == name).unwrap() as u32;
        let names = |names: &[&'static str]| {
            TokenNames::new(names.iter().map(|&name| {
                (name, NamedToken { id: id(name), takes_space_before: false, takes_space_after: false })
            }))
        };
        let words = tokens.iter().enumerate().filter(|_| pre.ignore_merges).take(tokens.len() - 2);
        let words = words.map(|(id, token)| {
            (crate::tokenizer::bytes::ByteEncoding::ByteLevel.bytes(token).into(), id as u32)
        });
        let parts = Parts {
            bytes: std::array::from_fn(|byte| Some(byte as u32)),
            merges: merges.iter().map(|(l, r)| (id(l), id(r), id(&[&l[..], r].concat()))).collect(),
            words: words.collect(),
            user_defined: names(&[USER_DEFINED]),
            user_defined_and_control: names(&[USER_DEFINED, CONTROL]),
        };
        BytePair::new(pre, parts).unwrap()
    }

    /// A text of pieces that the rules look at; now and then a long word.
    fn text(random: &mut SplitMix64) -> String {
        const PIECES: &[&str] = &[
            "a",
            "b",
            "ab",
            "e",
            "A",
            "Ab",
            "é",
            "e\u{301}",
            "ß",
            "漢",
            "字",
            "か",
            "한",
            "1",
            "12",
            "123",
            "1234567",
            "٣",
            "½",
            " ",
            "  ",
            "   ",
            "\t",
            "\n",
            "\n\n",
            "\r\n",
            "\r",
            "\u{a0}",
            "\u{3000}",
            "\u{200b}",
            "'",
            "'s",
            "'LL",
            "'Re",
            "’s",
            ".",
            "...",
            ",",
            "!",
            "。",
            "，",
            "(",
            ")",
            "$",
            "+",
            "=",
            "/",
            "//",
            "_",
            "-",
            "<",
            "|",
            ">",
            "`",
            "~",
            "€",
            "😀",
            "👩‍👧",
            "\0",
            "«x»",
            USER_DEFINED,
            CONTROL,
            "<|end",
            "ǅ",
            "ʰ",
            "ª",
            "Ⅷ",
        ];
        let piece = |random: &mut SplitMix64| PIECES[random.next() as usize % PIECES.len()];
        let mut text: String = (0..random.next() % 24).map(|_| piece(random)).collect();
        if random.next().is_multiple_of(4) {
            let word = piece(random);
            text += &word.repeat(random.next() as usize % 200);
            text.extend((0..random.next() % 200).map(|_| ['a', 'b', 'e'][random.next() as usize % 3]));
            text += piece(random);
        }
        text
    }

    #[test]
    fn tokens_are_those_of_the_library_for_every_rule() {
        let mut random = SplitMix64(11);
        for name in pre::all() {
            let pre = pre::find(name).unwrap();
            let (tokens, merges) = vocabulary(&mut random);
            let ours = model(pre, &tokens, &merges);
            for with_control in [true, false] {
                let twin = library(pre, &tokens, &merges, with_control);
                for _ in 0..150 {
                    let text = text(&mut random);
                    let expected = twin.encode_fast(&text[..], false).unwrap().get_ids().to_vec();
                    let found = ours.encode(&text, with_control, &|| true).unwrap();
                    assert_eq!(found, expected, "{name}: {text:?} with {merges:?}");
                }
            }
        }
    }

    #[test]
    fn a_long_text_stops_when_it_is_not_wanted() {
        let pre = pre::find("qwen2").unwrap();
        let (tokens, merges) = vocabulary(&mut SplitMix64(3));
        let ours = model(pre, &tokens, &merges);
        for text in ["a".repeat(1 << 20), "ab 1".repeat(1 << 18), " ".repeat(1 << 20), "1".repeat(1 << 20)] {
            let asked = std::cell::Cell::new(0);
            let wanted = || {
                asked.set(asked.get() + 1);
                asked.get() < 2
            };
            assert!(
                matches!(ours.encode(&text, false, &wanted), Err(TokenizerError::Stopped)),
                "{}",
                &text[..4]
            );
            assert_eq!(asked.get(), 2);
        }
    }
}
