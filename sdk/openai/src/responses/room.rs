//! What calls of tools give, cut to what the context has room for.

use inferlet::Model;

use crate::Result;

/// Tokens that must be left for calls to be made at all: an output, and what the model makes of it.
const LEAST: usize = 256;
/// Bytes of an output of which tokens are counted: more than any context has, and less than the tokenizer takes.
const COUNTED_BYTES: usize = 512 << 10;

/// How many tokens the output of each call may have.
pub(super) struct Room<'a> {
    model: &'a Model,
    tokens: usize,
}

impl Room<'_> {
    /// That of so many calls, in a context with so many tokens: together a half of what is left, since the model is to
    /// go on behind them.
    ///
    /// # Errors
    /// In words, when the context is full.
    pub(super) fn of(model: &Model, used: usize, calls: usize) -> std::result::Result<Room<'_>, String> {
        let limit = model.facts().context_length as usize;
        let left = limit.saturating_sub(used);
        if left < LEAST {
            return Err(format!(
                "it was not made: the model's context of {limit} tokens has room for {left} more, and an output needs \
                 {LEAST}"
            ));
        }
        Ok(Room { model, tokens: left / 2 / calls.max(1) })
    }

    /// What a call gave, or how it failed, with a mark where it is cut.
    pub(super) fn fit(
        &self,
        answer: std::result::Result<String, String>,
    ) -> Result<std::result::Result<String, String>> {
        Ok(match answer {
            Ok(text) => Ok(self.cut(text)?),
            Err(text) => Err(self.cut(text)?),
        })
    }

    fn cut(&self, text: String) -> Result<String> {
        // A token has a byte at least.
        if text.len() <= self.tokens {
            return Ok(text);
        }
        let counted = &text[..text.floor_char_boundary(COUNTED_BYTES)];
        let tokens = self.model.tokenize(counted)?;
        if counted.len() == text.len() && tokens.len() <= self.tokens {
            return Ok(text);
        }
        let all = text.chars().count();
        let mark = |shown: usize| {
            let missing = all - shown;
            format!(
                "\n[cut: the first {shown} of {all} characters, {missing} are missing, since the context has no room]"
            )
        };
        let kept = self.tokens.saturating_sub(self.model.tokenize(&mark(0))?.len()).min(tokens.len());
        let bytes = self.model.handle().detokenize(&tokens[..kept])?.len();
        let shown = &text[..text.floor_char_boundary(bytes.min(text.len()))];
        Ok(format!("{shown}{}", mark(shown.chars().count())))
    }
}

#[cfg(test)]
mod tests {
    use inferlet::testing::{Host, ScriptedModel};

    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
        Host::new().model(ScriptedModel::new().context_length(1000)).run(async {
            let model = Model::open_default().unwrap();
            let cut = |used: usize, calls: usize, text: &str| {
                Room::of(&model, used, calls).unwrap().cut(text.to_string()).unwrap()
            };
            assert_eq!(cut(0, 1, &"a".repeat(500)), "a".repeat(500));
            for (text, calls) in [("a".repeat(501), 1), ("ä€".repeat(5000), 1), ("€".repeat(1 << 20), 3)]
            {
                let cut = cut(0, calls, &text);
                let (shown, mark) = cut.split_once("\n[cut: ").unwrap();
                assert!(text.starts_with(shown) && cut.len() <= 500 / calls + 10, "{} bytes", cut.len());
                let (shown, all) = (shown.chars().count(), text.chars().count());
                let told = format!("the first {shown} of {all} characters, {} are missing", all - shown);
                assert!(mark.starts_with(&told), "{mark}");
                assert!(shown > 0 || calls > 1);
            }
            let full = Room::of(&model, 900, 1).err().unwrap();
            assert!(full.contains("room for 100 more"), "{full}");
        });
    }
}
