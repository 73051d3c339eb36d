//! The text of a generation as it arrives token by token, and where it may be cut.
//!
//! ```text
//! tokens    | t0 | t1   | t2 |  t3  |
//! text      S t e p  o n e \n S t o p        stop text "\nStop"
//!           given out     | held back        it may be the beginning of a stop text
//! ```
//! A cut ends the text anywhere: tokens before it stay, and a token that holds the last kept bytes and more is
//! replaced by the tokens of its kept part.

/// The text since the first token.
#[derive(Default)]
pub(crate) struct TextLog {
    stops: Vec<String>,
    text: String,
    /// Bytes of `text` given out.
    given: usize,
    /// Bytes of `text` in which no stop text begins.
    passed: usize,
    tokens: Vec<TokenEnd>,
}

#[derive(Clone, Copy)]
struct TokenEnd {
    /// Bytes of the text up to its end.
    end: usize,
    /// It does not end within a character.
    is_whole: bool,
}

/// Where a text is cut.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Tokens that end before it.
    pub tokens: usize,
    /// Text between the end of these tokens and the cut.
    pub rest: String,
}

impl TextLog {
    pub fn add_stop(&mut self, stop: &str) {
        self.stops.push(stop.to_string());
    }

    pub fn has_empty_stop(&self) -> bool {
        self.stops.iter().any(String::is_empty)
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes in the text of one more token, which ends with a whole character or not.
    pub fn push(&mut self, piece: &str, is_whole: bool) {
        self.text.push_str(piece);
        self.tokens.push(TokenEnd { end: self.text.len(), is_whole });
    }

    /// The first stop text in what is held back, and where it begins.
    pub fn find_stop(&self) -> Option<(usize, &str)> {
        let start = self.searched();
        let held = &self.text[start..];
        self.stops.iter().filter_map(|stop| Some((start + held.find(stop)?, stop.as_str()))).min()
    }

    /// Where stop texts are looked for. A cut may have taken back text that was passed over.
    fn searched(&self) -> usize {
        self.given.max(self.passed).min(self.text.len())
    }

    /// No stop text begins in the text so far.
    pub fn pass_over(&mut self) {
        self.passed = self.text.len();
    }

    /// The end of the first `pattern` that ends behind byte `from`.
    pub fn find_end(&self, pattern: &str, from: usize) -> Option<usize> {
        let start = (from + 1).saturating_sub(pattern.len());
        let found =
            self.text.as_bytes()[start..].windows(pattern.len().max(1)).position(|w| w == pattern.as_bytes());
        found.map(|at| start + at + pattern.len())
    }

    /// A cut that ends the text at a byte.
    pub fn cut_at(&self, end: usize) -> Cut {
        let mut tokens = self.tokens.partition_point(|token| token.end < end);
        // A token without text holds the first bytes of the character after it: at `end` it is not kept.
        if end > 0 && self.tokens[tokens].end == end {
            tokens += 1;
        }
        let start = tokens.checked_sub(1).map_or(0, |last| self.tokens[last].end);
        Cut { tokens, rest: self.text[start..end].to_string() }
    }

    /// Keeps the first tokens; those of the rest of a cut are pushed again.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens.truncate(tokens);
        self.text.truncate(self.tokens.last().map_or(0, |last| last.end));
    }

    /// Gives out the text that cannot be the beginning of a stop text.
    pub fn give(&mut self) -> String {
        let held = &self.text[self.searched()..];
        let kept = self.stops.iter().map(|stop| partial_suffix(held, stop)).max().unwrap_or(0);
        self.give_until(self.text.len() - kept)
    }

    /// Gives out what is left, with the end of the text.
    pub fn finish(&mut self, end: &str) -> String {
        self.text.push_str(end);
        self.give_until(self.text.len())
    }

    /// Tokens whose text has been given out: none of them can be taken back.
    pub fn tokens_given(&self) -> usize {
        let given = |token: &TokenEnd| token.is_whole && token.end <= self.given;
        self.tokens.iter().rposition(given).map_or(0, |last| last + 1)
    }

    fn give_until(&mut self, end: usize) -> String {
        let text = self.text[self.given.min(end)..end].to_string();
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

    /// All text given out for these tokens, the stop text and the cut before it.
    fn run(stops: &[&str], tokens: &[&str]) -> (String, Option<(String, Cut)>) {
        let mut log = TextLog::default();
        stops.iter().for_each(|stop| log.add_stop(stop));
        let mut said = String::new();
        for token in tokens {
            log.push(token, !token.is_empty());
            if let Some((end, stop)) = log.find_stop() {
                let (stop, cut) = (stop.to_string(), log.cut_at(end));
                log.truncate(cut.tokens);
                if !cut.rest.is_empty() {
                    log.push(&cut.rest, true);
                }
                return (said + &log.finish(""), Some((stop, cut)));
            }
            said += &log.give();
        }
        (said + &log.finish(""), None)
    }

    fn stop(stop: &str, tokens: usize, rest: &str) -> Option<(String, Cut)> {
        Some((stop.to_string(), Cut { tokens, rest: rest.to_string() }))
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
        let mut log = TextLog::default();
        log.add_stop("stop");
        log.push("a st", true);
        assert_eq!((log.give(), log.tokens_given()), ("a ".to_string(), 0));
        log.push("ill", true);
        assert_eq!((log.give(), log.tokens_given()), ("still".to_string(), 2));
        assert_eq!(run(&["stop"], &["a", " st"]), ("a st".to_string(), None));
        assert_eq!(run(&[], &["a", "b"]), ("ab".to_string(), None));
    }

    #[test]
    fn a_stop_text_that_is_passed_over_is_none() {
        let mut log = TextLog::default();
        log.add_stop("ab");
        log.push("ab a", true);
        log.pass_over();
        log.push("bab", true);
        assert_eq!(log.find_stop(), Some((5, "ab")));
    }

    #[test]
    fn a_token_with_a_part_of_the_stop_texts_first_character_is_taken_back() {
        // The second token holds the first bytes of `é`: its text comes with the third.
        assert_eq!(run(&["é"], &["a", "", "é"]), ("a".to_string(), stop("é", 1, "")));
        assert_eq!(run(&["é"], &["", "é"]), (String::new(), stop("é", 0, "")));
    }

    #[test]
    fn a_pattern_is_found_where_it_ends_behind_a_byte() {
        let mut log = TextLog::default();
        log.push("<a><a>", true);
        assert_eq!(log.find_end("<a>", 0), Some(3));
        assert_eq!((log.find_end("<a>", 3), log.find_end("<a>", 6)), (Some(6), None));
    }
}
