//! What a model thinks before it answers: how it marks that, how long it may be, and how it makes way for a form.

use inferlet::bindings::pie::inferlet::answer::{self, Part, ReaderOptions};
use inferlet::{Budget, Chat, Model};

use crate::Result;

/// How thoughts are marked, and how templates write the marks.
pub(super) struct Marks {
    open: &'static str,
    pub(super) close: &'static str,
    opened: &'static str,
    closed: &'static str,
}

const MARKS: [Marks; 2] = [
    Marks { open: "<think>", close: "</think>", opened: "<think>\n", closed: "\n</think>\n\n" },
    Marks { open: "[THINK]", close: "[/THINK]", opened: "[THINK]", closed: "[/THINK]" },
];

impl Marks {
    /// Those of a model: the ones at which its reader sees the end of a thought. None when it has others, or does not
    /// mark what it thinks.
    pub(super) fn of(model: &Model) -> Result<Option<&'static Marks>> {
        for marks in &MARKS {
            let options = ReaderOptions { tools: None, any_tool: false, in_reasoning: true };
            let reader = answer::Reader::create(model.handle(), &options)?;
            let mut parts = reader.read(&format!("a{}b", marks.close))?;
            parts.extend(reader.finish());
            if let [Part::Reasoning(thought), Part::Content(said)] = &parts[..]
                && (thought.as_str(), said.as_str()) == ("a", "b")
            {
                return Ok(Some(marks));
            }
        }
        Ok(None)
    }

    /// At most so many tokens of thoughts.
    pub(super) fn budget(&self, tokens: usize, in_reasoning: bool) -> Budget {
        let budget = Budget::new(self.close, tokens).written_as(self.closed);
        if in_reasoning { budget } else { budget.opened_by(self.open) }
    }
}

/// Brings a conversation whose answer must have a form to where the model thinks, if it is to: then it is known that the
/// form begins behind the thoughts. Otherwise nobody knows before the first token.
pub(crate) fn open(chat: &mut Chat) -> Result<()> {
    let model = chat.context().model().clone();
    if answer::opens_reasoning(model.handle(), chat.context().tokens())? || !chat.thinks()? {
        return Ok(());
    }
    if let Some(marks) = Marks::of(&model)? {
        let opened = model.tokenize_special(marks.opened)?;
        chat.context_mut().append_tokens(&opened);
    }
    Ok(())
}
