//! Stop texts in a text that arrives token by token.
//!
//! A piece of text is held back as long as it may be the beginning of a stop text. When one appears,
//! everything from its first byte on is taken back: the text ends before it, and so do the tokens. A token
//! that holds both the last kept bytes and the first of the stop text is replaced by the tokens of its kept
//! part.

/// The stop texts, and the text since the first token.
#[derive(Default)]
pub(crate) struct StopTexts {
    stops: Vec<String>,
    text: String,
    /// Bytes of `text` given out.
    given: usize,
    /// For each token, the bytes of `text` up to its end.
    ends: Vec<usize>,
}

/// A stop text that appeared.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// The stop text.
    pub stop: String,
    /// Tokens that end before it.
    pub tokens: usize,
    /// Text between the end of these tokens and the stop text.
    pub rest: String,
}

impl StopTexts {
    pub fn add(&mut self, stop: &str) {
        self.stops.push(stop.to_string());
    }

    pub fn has_empty(&self) -> bool {
        self.stops.iter().any(String::is_empty)
    }

    /// Takes in the text of one more token. Gives the text that can no longer be part of a stop text, and the
    /// stop text if one is complete now.
    pub fn push(&mut self, piece: &str) -> (String, Option<Stop>) {
        self.text.push_str(piece);
        self.ends.push(self.text.len());
        let held = &self.text[self.given..];
        let found = self.stops.iter().filter_map(|stop| Some((held.find(stop)?, stop.clone()))).min();
        let Some((at, stop)) = found else {
            let kept = self.stops.iter().map(|stop| partial_suffix(held, stop)).max().unwrap_or(0);
            return (self.give(self.text.len() - kept), None);
        };
        let end = self.given + at;
        // A token without text holds the first bytes of the character after it: at `end` it is not kept.
        let mut tokens = self.ends.partition_point(|token| *token < end);
        if end > 0 && self.ends[tokens] == end {
            tokens += 1;
        }
        let start = tokens.checked_sub(1).map_or(0, |last| self.ends[last]);
        let rest = self.text[start..end].to_string();
        (self.give(end), Some(Stop { stop, tokens, rest }))
    }

    /// The text held back, once no more will come.
    pub fn finish(&mut self) -> String {
        self.give(self.text.len())
    }

    fn give(&mut self, end: usize) -> String {
        let text = self.text[self.given..end].to_string();
        self.given = end;
        text
    }
}

/// Bytes at the end of `text` that could be the beginning of `stop`.
fn partial_suffix(text: &str, stop: &str) -> usize {
    let starts = stop.char_indices().map(|(at, _)| at).skip(1);
    starts.filter(|at| text.ends_with(&stop[..*at])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All text given out for these tokens, and the stop.
    fn run(stops: &[&str], tokens: &[&str]) -> (String, Option<Stop>) {
        let mut texts = StopTexts::default();
        stops.iter().for_each(|stop| texts.add(stop));
        let mut said = String::new();
        for token in tokens {
            let (text, stop) = texts.push(token);
            said += &text;
            if stop.is_some() {
                return (said, stop);
            }
        }
        (said + &texts.finish(), None)
    }

    fn stop(stop: &str, tokens: usize, rest: &str) -> Option<Stop> {
        Some(Stop { stop: stop.to_string(), tokens, rest: rest.to_string() })
    }

    #[test]
    fn text_and_tokens_end_before_the_stop_text() {
        let observation = run(&["\nObservation:"], &["A", "\n", "Obs", "ervation", ":", " no"]);
        assert_eq!(observation, ("A".to_string(), stop("\nObservation:", 1, "")));
        // At the very beginning nothing is left.
        assert_eq!(run(&["ab"], &["a", "b"]), (String::new(), stop("ab", 0, "")));
    }

    #[test]
    fn a_token_that_holds_more_than_the_stop_text_is_split() {
        assert_eq!(run(&["\n"], &["one", " two\nthree"]), ("one two".to_string(), stop("\n", 1, " two")));
        assert_eq!(run(&["ST"], &["xS", "T"]), ("x".to_string(), stop("ST", 0, "x")));
    }

    #[test]
    fn the_first_stop_text_of_several_counts() {
        assert_eq!(run(&["c", "b"], &["a", "bc"]), ("a".to_string(), stop("b", 1, "")));
    }

    #[test]
    fn a_beginning_of_a_stop_text_is_held_back_and_given_out_when_it_is_none() {
        let mut texts = StopTexts::default();
        texts.add("stop");
        assert_eq!(texts.push("a st"), ("a ".to_string(), None));
        assert_eq!(texts.push("ill"), ("still".to_string(), None));
        assert_eq!(run(&["stop"], &["a", " st"]), ("a st".to_string(), None));
        assert_eq!(run(&[], &["a", "b"]), ("ab".to_string(), None));
    }

    #[test]
    fn a_token_with_a_part_of_the_stop_texts_first_character_is_taken_back() {
        // The second token holds the first bytes of `é`: its text comes with the third.
        assert_eq!(run(&["é"], &["a", "", "é"]), ("a".to_string(), stop("é", 1, "")));
        assert_eq!(run(&["é"], &["", "é"]), (String::new(), stop("é", 0, "")));
    }
}
