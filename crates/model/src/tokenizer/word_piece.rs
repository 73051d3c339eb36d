//! WordPiece, the tokenizer of BERT, from the vocabulary that a GGUF file has.
//!
//! A text is cleaned (control characters go, every white space is a space), cut around each Chinese character and each
//! punctuation mark, and, for a vocabulary without capitals, freed of accents and put in lower case. A word is then the
//! longest token it begins with, the longest that continues it, and so on; one that cannot be taken apart so, or has more
//! than 100 characters, is `[UNK]`. The library does all of it, as it does for a tokenizer.json, so both give the same ids.
//!
//! ```text
//! tokenizer.json   play  ##ing  [SEP]
//! GGUF             ▁play   ing  [SEP]     tokens with a role keep their names
//! ```

use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;

use super::TokenizerError;

/// What the library writes before a token that continues a word.
pub(super) const CONTINUES: &str = "##";

/// The name that the library has for a token without a role.
pub(super) fn library_name(token: &str) -> String {
    match token.strip_prefix('▁') {
        Some(word) => word.to_owned(),
        None => [CONTINUES, token].concat(),
    }
}

/// The library's tokenizer, of tokens under the library's names and the name of `[UNK]` among them.
///
/// # Errors
/// [`TokenizerError::Build`] when the library refuses it.
pub(super) fn library(
    vocabulary: Vocab,
    unknown: &str,
    lower_case: bool,
) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let model = WordPiece::builder().vocab(vocabulary).unk_token(unknown.to_owned()).build();
    let mut tokenizer = tokenizers::Tokenizer::new(model.map_err(TokenizerError::Build)?);
    let normalizer = BertNormalizer::new(true, true, Some(lower_case), lower_case);
    tokenizer.with_normalizer(Some(normalizer)).map_err(TokenizerError::Build)?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    Ok(tokenizer)
}

/// Whether a token says something in capitals, which no text in lower case has: the vocabulary is that of a cased model.
/// GGUF files say nothing else of it.
pub(super) fn has_capitals<'a>(mut tokens: impl Iterator<Item = &'a str>) -> bool {
    tokens.any(|token| token.to_lowercase() != token)
}
