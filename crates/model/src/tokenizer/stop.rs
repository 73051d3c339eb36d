//! Which tokens end a turn or a text.

use super::TokenKind;
use super::bytes::TokenTable;

/// Names of control tokens that end a turn or a text, over all known models. Files often name only one of
/// theirs.
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
