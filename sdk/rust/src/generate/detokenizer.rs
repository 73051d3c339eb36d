//! Tokens to text while they arrive.

use crate::{Model, Result};

/// Collects the bytes of tokens and gives them out as soon as they are whole UTF-8 characters.
pub struct Detokenizer {
    model: Model,
    bytes: Vec<u8>,
}

impl Detokenizer {
    /// An empty one.
    pub fn new(model: &Model) -> Detokenizer {
        Detokenizer { model: model.clone(), bytes: Vec::new() }
    }

    /// Adds tokens; the text that is complete now, maybe empty.
    ///
    /// # Errors
    /// When a token is outside the vocabulary.
    pub fn push(&mut self, tokens: &[u32]) -> Result<String> {
        self.bytes.extend(self.model.handle().detokenize(tokens)?);
        let mut text = String::new();
        let mut rest = self.bytes.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    let Some(invalid) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[invalid..];
                }
            }
        }
        self.bytes = rest.to_vec();
        Ok(text)
    }

    /// Whether the last token ended with a whole character.
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The rest of the text at the end, with an incomplete character replaced.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned()
    }
}
