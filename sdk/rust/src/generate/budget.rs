//! A limit for a part of the text, such as what a model thinks before it answers.
//!
//! ```text
//! <think> a b c d e f g … </think> answer          as the model would write it
//! <think> a b c d \n </think> \n\n answer          with a budget of 4: the mark is appended, and the model goes on
//! ```

use super::text::TextLog;

/// A part of the text that may have so many tokens, and what ends it. Where the model has not ended it by then, that is
/// appended without being drawn, and computed with the next pass that draws.
#[derive(Clone, Debug)]
pub struct Budget {
    open: Option<String>,
    close: String,
    written: String,
    tokens: usize,
}

impl Budget {
    /// The text begins within the part, which ends with the text `close`.
    pub fn new(close: &str, tokens: usize) -> Budget {
        Budget { open: None, close: close.to_string(), written: close.to_string(), tokens }
    }

    /// The text begins before the part: there is one if this is the first that it says.
    pub fn opened_by(self, open: &str) -> Budget {
        Budget { open: Some(open.to_string()), ..self }
    }

    /// What is appended at the limit, such as the end with the empty lines around it; the end alone if not set.
    pub fn written_as(self, written: &str) -> Budget {
        Budget { written: written.to_string(), ..self }
    }
}

/// A budget while the text is written.
pub(crate) struct Spending {
    budget: Budget,
    /// Tokens before the part, once it has begun.
    begin: Option<usize>,
    /// Bytes of the text in which it does not end.
    searched: usize,
    is_over: bool,
}

impl Spending {
    pub fn new(budget: Budget) -> Spending {
        let begin = budget.open.is_none().then_some(0);
        Spending { budget, begin, searched: 0, is_over: false }
    }

    /// The text has one more token, and so many together.
    pub fn read(&mut self, log: &TextLog, tokens: usize) {
        let text = log.text();
        // The text may have been cut.
        let searched = std::mem::replace(&mut self.searched, text.len()).min(text.len());
        match (&self.budget.open, self.begin) {
            (Some(open), None) => {
                let said = text.trim_start();
                if said.starts_with(open.as_str()) {
                    self.begin = Some(tokens);
                } else if !open.starts_with(said) {
                    self.is_over = true;
                }
            }
            _ => self.is_over |= log.find_end(&self.budget.close, searched).is_some(),
        }
    }

    /// Whether the limit is reached.
    pub fn is_due(&self, tokens: usize) -> bool {
        !self.is_over && self.begin.is_some_and(|begin| tokens >= begin + self.budget.tokens)
    }

    /// What may be appended then, the best first. It is over with that.
    pub fn end(&mut self) -> [String; 2] {
        self.is_over = true;
        [self.budget.written.clone(), self.budget.close.clone()]
    }
}
