//! Text of an exact number of tokens.
//!
//! With a tokenizer, words are drawn that are one token each with the space before them, so that `n` of them are `n`
//! tokens; the whole is encoded to be sure, and what a tokenizer joined after all is drawn again.

use fastrand::Rng;

use super::DatasetError;
use super::tokens::{Exact, Tokens};

/// Common words, for when there is no tokenizer.
const WORDS: &str = "the of and to in is you that it he was for on are as with his they at be this have from or one \
had by word but not what all were we when your can said there use an each which she do how their if will up other \
about out many then them these so some her would make like him into time has look two more write go see number no \
way could people my than first water been call who oil its now find long down day did get come made may part over \
new sound take only little work know place year live me back give most very after thing our just name good sentence \
man think say great where help through much before line right too mean old any same tell boy follow came want show \
also around form three small set put end does another well large must big even such because turn here why ask went \
men read need land different home us move try kind hand picture again change off play spell air away animal house \
point page letter mother answer found study still learn should world";

/// Text of `tokens` tokens by the count of `by`.
///
/// # Errors
/// [`DatasetError::Tokenizer`] when the tokenizer cannot be brought to that number.
pub fn make(rng: &mut Rng, by: &Tokens, tokens: u32) -> Result<String, DatasetError> {
    match by {
        Tokens::Words => Ok(words(rng, tokens)),
        Tokens::Exact(exact) => exactly(rng, exact, tokens),
        Tokens::Server(_) => counted(rng, by, Vec::new(), tokens),
    }
}

/// Words, mended until another's count of them is right: `kept` and some more, or fewer of them.
fn counted(rng: &mut Rng, by: &Tokens, kept: Vec<&str>, tokens: u32) -> Result<String, DatasetError> {
    let all: Vec<&str> = WORDS.split_whitespace().collect();
    let mut found = if kept.is_empty() { 0 } else { by.count(&kept.join(" "))? };
    let mut chosen = kept;
    for _ in 0..ROUNDS {
        // A word of this list is one token of most vocabularies, so the difference is almost the number of words.
        if found > tokens {
            chosen.truncate(chosen.len().saturating_sub((found - tokens) as usize));
        } else {
            chosen.extend((0..tokens - found).map(|_| all[rng.usize(..all.len())]));
        }
        let text = chosen.join(" ");
        found = if text.is_empty() { 0 } else { by.count(&text)? };
        if found == tokens {
            return Ok(text);
        }
    }
    Err(DatasetError::Tokenizer(format!("made a text of {found} tokens, expected {tokens}")))
}

fn words(rng: &mut Rng, count: u32) -> String {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let chosen: Vec<&str> = (0..count).map(|_| words[rng.usize(..words.len())]).collect();
    chosen.join(" ")
}

/// How often a text is mended before the tokenizer is given up. One round is the rule.
const ROUNDS: usize = 20;

fn exactly(rng: &mut Rng, exact: &Exact, tokens: u32) -> Result<String, DatasetError> {
    let target = tokens as usize;
    let mut ids: Vec<u32> = (0..target).map(|_| exact.words()[rng.usize(..exact.words().len())]).collect();
    let mut found = 0;
    for _ in 0..ROUNDS {
        // The space in front of the text would be lost to servers that trim.
        let text = exact.decode(&ids).trim_start().to_string();
        let encoded = exact.encode(&text)?;
        found = encoded.len();
        if found == target {
            return Ok(text);
        }
        if found > target {
            ids.truncate(ids.len().saturating_sub(found - target));
        } else {
            let more = target - found;
            ids.extend((0..more).map(|_| exact.words()[rng.usize(..exact.words().len())]));
        }
        // The first word without its space may be several tokens, whatever is at the end.
        if let Some(first) = ids.first_mut() {
            *first = exact.words()[rng.usize(..exact.words().len())];
        }
    }
    Err(DatasetError::Tokenizer(format!("made a text of {found} tokens, expected {target}")))
}

/// Cuts or continues `text` to `tokens` tokens: what is kept is its beginning.
///
/// # Errors
/// [`DatasetError::Tokenizer`].
pub fn fit(rng: &mut Rng, by: &Tokens, text: &str, tokens: u32) -> Result<String, DatasetError> {
    let have = by.count(text)?;
    if have == tokens {
        return Ok(text.to_string());
    }
    if have < tokens {
        let more = make(rng, by, tokens - have)?;
        return Ok(if text.is_empty() { more } else { format!("{text} {more}") });
    }
    Ok(match by {
        Tokens::Server(_) => {
            // Words have one token or more, so what is kept is too long at first, and is cut.
            counted(rng, by, text.split_whitespace().take(tokens as usize).collect(), tokens)?
        }
        Tokens::Words => text.split_whitespace().take(tokens as usize).collect::<Vec<_>>().join(" "),
        Tokens::Exact(exact) => exact.decode(&exact.encode(text)?[..tokens as usize]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_as_many_as_requested() {
        let mut rng = Rng::with_seed(1);
        for tokens in [0, 1, 7, 1000] {
            assert_eq!(
                make(&mut rng, &Tokens::Words, tokens).unwrap().split_whitespace().count(),
                tokens as usize
            );
        }
        assert_eq!(fit(&mut rng, &Tokens::Words, "a b c", 2).unwrap(), "a b");
        assert!(fit(&mut rng, &Tokens::Words, "a b c", 5).unwrap().starts_with("a b c "));
    }
}
