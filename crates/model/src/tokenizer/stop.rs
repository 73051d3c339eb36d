//! Which tokens end a turn or a text.

use super::TokenKind;
use super::bytes::TokenTable;

/// Names of control tokens that end a turn or a text, over all known models. Files often name only one of
/// theirs. The list is that of llama.cpp, which also ends on the tokens that go on with another file or fill
/// up: a model that was trained to complete code in the middle of a file writes them when it is done.
const STOP_NAMES: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<eos>",
    "</s>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_utterance>",
    "[e~[",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
    "<｜end▁of▁sentence｜>",
];

/// The given ids and all control tokens with a stop name, sorted.
pub(super) fn stop_tokens(table: &TokenTable, given: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let mut stop: Vec<u32> = given.into_iter().collect();
    stop.extend((0..table.len() as u32).filter(|&id| {
        table.kind(id) == Some(TokenKind::Control)
            && STOP_NAMES.iter().any(|name| Some(name.as_bytes()) == table.bytes(id))
    }));
    stop.sort_unstable();
    stop.dedup();
    stop
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_the_middle_of_a_file_end_a_text() {
        let mut table = TokenTable::default();
        for name in ["a", "<|fim_prefix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<reponame>"] {
            table.push(name.as_bytes(), TokenKind::Control);
        }
        table.push(b"<|file_sep|>", TokenKind::Text);
        assert_eq!(stop_tokens(&table, [0]), [0, 2, 3, 4, 5]);
    }
}
