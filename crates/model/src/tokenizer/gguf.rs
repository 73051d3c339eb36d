//! A tokenizer from GGUF metadata.

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use super::bytes::{ByteEncoding, TokenTable};
use super::{SpecialTokens, TokenKind, Tokenizer, TokenizerError, pre, stop};
use crate::gguf::Gguf;

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";

/// Values of `tokenizer.ggml.token_type`.
mod kind {
    pub(super) const UNKNOWN: i64 = 2;
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
    pub(super) const UNUSED: i64 = 5;
}

/// The vocabulary as the file has it.
struct Vocabulary<'a> {
    tokens: &'a [String],
    /// One of [`kind`] per token, 1 being normal.
    types: Vec<i64>,
}

impl Tokenizer {
    /// Builds the tokenizer of a GGUF file.
    ///
    /// # Errors
    /// A kind or splitting rule that is not known, or metadata that contradicts itself.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, TokenizerError> {
        let model = gguf
            .get_str("tokenizer.ggml.model")?
            .ok_or(TokenizerError::Missing { key: "tokenizer.ggml.model" })?;
        let tokens = gguf.get_strings(TOKENS)?.ok_or(TokenizerError::Missing { key: TOKENS })?;
        let types = match gguf.get_array(TYPES)? {
            None => vec![1; tokens.len()],
            Some(array) => array.to_i64s().ok_or(TokenizerError::Missing { key: TYPES })?,
        };
        same_length(TYPES, types.len(), tokens.len())?;
        let vocabulary = Vocabulary { tokens, types };
        match model {
            "gpt2" => byte_level(gguf, &vocabulary),
            "llama" => sentence_piece(gguf, &vocabulary),
            found => Err(TokenizerError::Kind { found: found.to_owned() }),
        }
    }
}

fn byte_level(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<Tokenizer, TokenizerError> {
    let name = gguf.get_str("tokenizer.ggml.pre")?.unwrap_or("default");
    let pre = pre::find(name)
        .ok_or_else(|| TokenizerError::PreTokenizer { found: name.to_owned(), known: pre::known() })?;
    let ids = vocabulary.ids();
    let lines = gguf.get_strings(MERGES)?.ok_or(TokenizerError::Missing { key: MERGES })?;
    let mut merges = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        // Checked here because the library relies on it.
        match line.split_once(' ') {
            Some((left, right))
                if [left, right, &[left, right].concat()].iter().all(|token| ids.contains_key(*token)) =>
            {
                merges.push((left.to_owned(), right.to_owned()));
            }
            _ => return Err(TokenizerError::Merge { index, merge: line.clone() }),
        }
    }
    let bpe = BPE::builder()
        .vocab_and_merges(ids, merges)
        .ignore_merges(pre.ignore_merges)
        .build()
        .map_err(TokenizerError::Build)?;

    let mut steps = Vec::new();
    for &pattern in pre.patterns {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        let split =
            Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(TokenizerError::Build)?;
        steps.push(PreTokenizerWrapper::from(split));
    }
    let space_prefix = gguf.get_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(false);
    steps.push(ByteLevel::new(space_prefix, false, false).into());
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(steps)));
    vocabulary.finish(gguf, tokenizer, ByteEncoding::ByteLevel, pre.add_bos, space_prefix)
}

fn sentence_piece(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<Tokenizer, TokenizerError> {
    let scores = gguf
        .get_array(SCORES)?
        .and_then(|array| array.as_f32s())
        .ok_or(TokenizerError::Missing { key: SCORES })?;
    same_length(SCORES, scores.len(), vocabulary.tokens.len())?;
    let ids = vocabulary.ids();
    let merges = merges_of_scores(vocabulary, scores, &ids);
    let unknown = gguf.get_u32("tokenizer.ggml.unknown_token_id")?.unwrap_or(0);
    let unknown = vocabulary.name("tokenizer.ggml.unknown_token_id", unknown)?;
    let bpe = BPE::builder()
        .vocab_and_merges(ids, merges)
        .unk_token(unknown.to_owned())
        .fuse_unk(true)
        .byte_fallback(true)
        .build()
        .map_err(TokenizerError::Build)?;

    let space_prefix = gguf.get_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if space_prefix {
        steps.push(Prepend::new("▁".to_owned()).into());
    }
    steps.push(Replace::new(" ", "▁").map_err(TokenizerError::Build)?.into());
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    tokenizer.with_normalizer(Some(Normalizers::new(steps))).map_err(TokenizerError::Build)?;
    vocabulary.finish(gguf, tokenizer, ByteEncoding::SentencePiece, true, space_prefix)
}

/// SentencePiece joins the neighbours whose joint token has the best score, which is BPE with the scores as
/// ranks: every way to cut a token into two tokens is a merge, tokens of better score first.
fn merges_of_scores(vocabulary: &Vocabulary<'_>, scores: &[f32], ids: &Vocab) -> Vec<(String, String)> {
    let mut ranked = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        if vocabulary.types[id] != 1 && vocabulary.types[id] != kind::USER_DEFINED {
            continue;
        }
        // A damaged file may have a token of megabytes; its cuts would be quadratic.
        if token.len() > 1024 {
            continue;
        }
        for (cut, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(cut);
            if ids.contains_key(left) && ids.contains_key(right) {
                ranked.push((scores[id], id, left, right));
            }
        }
    }
    // Stable, so that equal scores keep the order of the vocabulary.
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    ranked.into_iter().map(|(_, _, left, right)| (left.to_owned(), right.to_owned())).collect()
}

impl Vocabulary<'_> {
    /// Token to id; of equal tokens the first counts.
    fn ids(&self) -> Vocab {
        let mut ids = Vocab::default();
        for (id, token) in self.tokens.iter().enumerate() {
            ids.entry(token.clone()).or_insert(id as u32);
        }
        ids
    }

    fn name(&self, key: &str, id: u32) -> Result<&str, TokenizerError> {
        self.tokens.get(id as usize).map(String::as_str).ok_or_else(|| TokenizerError::Id {
            key: key.to_owned(),
            found: id,
            expected: self.tokens.len(),
        })
    }

    fn finish(
        &self,
        gguf: &Gguf,
        mut tokenizer: tokenizers::Tokenizer,
        tokens: ByteEncoding,
        add_bos_default: bool,
        space_prefix: bool,
    ) -> Result<Tokenizer, TokenizerError> {
        let mut table = TokenTable::default();
        let mut added = Vec::new();
        for (token, &kind) in self.tokens.iter().zip(&self.types) {
            let is_control = matches!(kind, kind::CONTROL | kind::UNKNOWN);
            if is_control || kind == kind::USER_DEFINED {
                added.push(AddedToken::from(token.clone(), is_control).normalized(false));
                let kind = if is_control { TokenKind::Control } else { TokenKind::Text };
                table.push(&tokens.added_bytes(token), kind);
            } else if kind == kind::UNUSED {
                table.push(token.as_bytes(), TokenKind::Unused);
            } else {
                table.push(&tokens.bytes(token), TokenKind::Text);
            }
        }
        tokenizer.add_tokens(added).map_err(TokenizerError::Build)?;

        let id = |key: &str| -> Result<Option<u32>, TokenizerError> {
            let found = gguf.get_u32(key)?;
            if let Some(id) = found {
                self.name(key, id)?;
            }
            Ok(found)
        };
        let eos = id("tokenizer.ggml.eos_token_id")?;
        let ends = [eos, id("tokenizer.ggml.eot_token_id")?, id("tokenizer.ggml.eom_token_id")?];
        let bos = id("tokenizer.ggml.bos_token_id")?;
        let special = SpecialTokens {
            bos,
            eos,
            add_bos: bos.is_some()
                && gguf.get_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(add_bos_default),
            add_eos: eos.is_some() && gguf.get_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            stop: stop::stop_tokens(&table, ends.into_iter().flatten()),
        };
        Ok(Tokenizer::new(tokenizer, table, special, space_prefix))
    }
}

fn same_length(key: &'static str, found: usize, expected: usize) -> Result<(), TokenizerError> {
    if found == expected { Ok(()) } else { Err(TokenizerError::Length { key, found, expected }) }
}
