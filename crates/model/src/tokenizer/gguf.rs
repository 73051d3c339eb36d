//! A tokenizer from GGUF metadata.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::Replace;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use super::byte_pair::{BytePair, Parts};
use super::bytes::{ByteEncoding, TokenTable, byte_level_char};
use super::names::{NamedToken, TokenNames};
use super::sentence_piece::{PieceKind, SentencePiece};
use super::{SpecialTokens, Splitter, TokenKind, Tokenizer, TokenizerError, pre, stop, word_piece};
use crate::gguf::Gguf;

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
/// Spelled so in all files.
const SEPARATOR: &str = "tokenizer.ggml.seperator_token_id";

/// Values of `tokenizer.ggml.token_type`.
mod kind {
    pub(super) const NORMAL: i64 = 1;
    pub(super) const UNKNOWN: i64 = 2;
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
    pub(super) const UNUSED: i64 = 5;
    pub(super) const BYTE: i64 = 6;
}

/// The vocabulary as the file has it.
struct Vocabulary<'a> {
    tokens: &'a [String],
    /// One of [`kind`] per token.
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
            "gemma4" => gemma(gguf, &vocabulary),
            "bert" => bert(gguf, &vocabulary),
            found => Err(TokenizerError::Kind { found: found.to_owned() }),
        }
    }
}

fn byte_level(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<Tokenizer, TokenizerError> {
    let name = gguf.get_str("tokenizer.ggml.pre")?.unwrap_or("default");
    let pre = pre::find(name).ok_or_else(|| TokenizerError::PreTokenizer {
        found: name.to_owned(),
        known: pre::all().collect::<Vec<_>>().join(", "),
    })?;
    let ids = vocabulary.ids();
    let is_normal = |&(_, &id): &(&&str, &u32)| vocabulary.types[id as usize] == kind::NORMAL;
    let words = ids.iter().filter(|_| pre.ignore_merges).filter(is_normal);
    let words = words.map(|(token, &id)| (ByteEncoding::ByteLevel.bytes(token).into(), id));
    let parts = Parts {
        bytes: std::array::from_fn(|byte| ids.get(&*byte_level_char(byte as u8).to_string()).copied()),
        merges: vocabulary.merges(gguf, &ids)?,
        words: words.collect(),
        user_defined: vocabulary.names(&[kind::USER_DEFINED]),
        user_defined_and_control: vocabulary.names(&[kind::USER_DEFINED, kind::CONTROL, kind::UNKNOWN]),
    };
    let splitter = Splitter::BytePair(Box::new(BytePair::new(pre, parts)?));
    // Whatever `tokenizer.ggml.add_space_prefix` says: it is of SentencePiece, and llama.cpp reads it there only.
    vocabulary.finish(gguf, splitter, ByteEncoding::ByteLevel, pre.add_bos, false)
}

/// Gemma 4: merges like a byte-level vocabulary, but of characters, with spaces and bytes as SentencePiece
/// writes them, and words that end at new lines only.
fn gemma(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<Tokenizer, TokenizerError> {
    let ids = vocabulary.ids();
    let name = |id: u32| vocabulary.tokens[id as usize].clone();
    let merges = vocabulary.merges(gguf, &ids)?;
    let merges: Merges = merges.into_iter().map(|(left, right, _)| (name(left), name(right))).collect();
    let ids: Vocab = ids.into_iter().map(|(token, id)| (token.to_owned(), id)).collect();
    let unknown = gguf.get_u32(UNKNOWN)?.unwrap_or(0);
    let unknown = vocabulary.name(UNKNOWN, unknown)?;
    let bpe = BPE::builder()
        .vocab_and_merges(ids, merges)
        .unk_token(unknown.to_owned())
        .fuse_unk(true)
        .byte_fallback(true)
        .build()
        .map_err(TokenizerError::Build)?;
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    let spaces = Replace::new(" ", "▁").map_err(TokenizerError::Build)?;
    tokenizer.with_normalizer(Some(spaces)).map_err(TokenizerError::Build)?;
    let lines = SplitPattern::Regex(r"[^\n]+|[\n]+".to_owned());
    let lines = Split::new(lines, SplitDelimiterBehavior::Isolated, false).map_err(TokenizerError::Build)?;
    tokenizer.with_pre_tokenizer(Some(lines));
    tokenizer.add_tokens(vocabulary.added_tokens()).map_err(TokenizerError::Build)?;
    let splitter = Splitter::library(tokenizer);
    vocabulary.finish(gguf, splitter, ByteEncoding::SentencePiece, true, false)
}

fn sentence_piece(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<Tokenizer, TokenizerError> {
    let scores = gguf
        .get_array(SCORES)?
        .and_then(|array| array.as_f32s())
        .ok_or(TokenizerError::Missing { key: SCORES })?;
    same_length(SCORES, scores.len(), vocabulary.tokens.len())?;
    let unknown = gguf.get_u32(UNKNOWN)?.unwrap_or(0);
    vocabulary.name(UNKNOWN, unknown)?;
    let space_prefix = gguf.get_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let pieces = vocabulary.tokens.iter().zip(&vocabulary.types).zip(scores);
    let pieces = pieces.map(|((name, &kind), &score)| {
        let kind = match kind {
            kind::CONTROL | kind::UNKNOWN => PieceKind::Control,
            kind::USER_DEFINED => PieceKind::UserDefined,
            kind::UNUSED => PieceKind::Unused,
            kind::BYTE => PieceKind::Byte,
            _ => PieceKind::Normal,
        };
        (name.as_str(), kind, score)
    });
    let splitter = Splitter::SentencePiece(Box::new(SentencePiece::new(pieces, unknown, space_prefix)));
    vocabulary.finish(gguf, splitter, ByteEncoding::SentencePiece, true, space_prefix)
}

/// WordPiece. The model wants each text between `[CLS]` and `[SEP]`, which files name in keys of their own.
fn bert(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<Tokenizer, TokenizerError> {
    let role = |key: &str, name: &str| match gguf.get_u32(key)? {
        Some(id) => vocabulary.name(key, id).map(|_| Some(id)),
        None => Ok(vocabulary.tokens.iter().position(|token| token == name).map(|id| id as u32)),
    };
    let (first, last) = (role("tokenizer.ggml.cls_token_id", "[CLS]")?, role(SEPARATOR, "[SEP]")?);
    let unknown = role(UNKNOWN, "[UNK]")?.ok_or(TokenizerError::Missing { key: UNKNOWN })?;
    let mut vocab = Vocab::default();
    for (id, (token, kind)) in vocabulary.tokens.iter().zip(&vocabulary.types).enumerate() {
        let name = if has_a_role(*kind) { token.clone() } else { word_piece::library_name(token) };
        vocab.entry(name).or_insert(id as u32);
    }
    // The library must find it, also where a file has it among the words.
    let unknown_name = vocabulary.name(UNKNOWN, unknown)?;
    vocab.entry(unknown_name.to_owned()).or_insert(unknown);
    let words = vocabulary.tokens.iter().zip(&vocabulary.types).filter(|(_, kind)| !has_a_role(**kind));
    let words = words.map(|(token, _)| token.as_str()).filter(|token| !token.contains('['));
    let mut library = word_piece::library(vocab, unknown_name, !word_piece::has_capitals(words))?;
    library.add_tokens(vocabulary.added_tokens()).map_err(TokenizerError::Build)?;
    let mut tokenizer =
        vocabulary.finish(gguf, Splitter::library(library), ByteEncoding::SentencePiece, true, true)?;
    let special = &mut tokenizer.special;
    special.bos = first.or(special.bos);
    special.eos = last.or(special.eos);
    (special.add_bos, special.add_eos) = (special.bos.is_some(), special.eos.is_some());
    special.stop = stop::stop_tokens(&tokenizer.table, special.eos);
    Ok(tokenizer)
}

/// Whether tokens of this kind are found by name, and not as words.
fn has_a_role(kind: i64) -> bool {
    matches!(kind, kind::CONTROL | kind::UNKNOWN | kind::USER_DEFINED)
}

impl Vocabulary<'_> {
    /// Token to id; of equal tokens the first counts.
    fn ids(&self) -> HashMap<&str, u32> {
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (id, token) in self.tokens.iter().enumerate() {
            ids.entry(token.as_str()).or_insert(id as u32);
        }
        ids
    }

    /// The names of the tokens of these kinds.
    fn names(&self, kinds: &[i64]) -> TokenNames {
        let tokens = self.tokens.iter().zip(&self.types).enumerate();
        let tokens = tokens.filter(|(_, (_, kind))| kinds.contains(kind));
        TokenNames::new(tokens.map(|(id, (token, _))| {
            (
                token.as_str(),
                NamedToken { id: id as u32, takes_space_before: false, takes_space_after: false },
            )
        }))
    }

    /// The tokens that the library takes whole.
    fn added_tokens(&self) -> Vec<AddedToken> {
        let tokens = self.tokens.iter().zip(&self.types);
        let added = tokens.filter(|(_, kind)| has_a_role(**kind));
        added
            .map(|(token, &kind)| {
                AddedToken::from(token.clone(), kind != kind::USER_DEFINED).normalized(false)
            })
            .collect()
    }

    /// The merges: left and right token, and what they give, all of which must be in `ids`.
    fn merges(&self, gguf: &Gguf, ids: &HashMap<&str, u32>) -> Result<Vec<(u32, u32, u32)>, TokenizerError> {
        let lines = gguf.get_strings(MERGES)?.ok_or(TokenizerError::Missing { key: MERGES })?;
        let mut joint = String::new();
        let mut merge = |line: &str| {
            let (left, right) = line.split_once(' ')?;
            joint.clear();
            joint.extend([left, right]);
            Some((*ids.get(left)?, *ids.get(right)?, *ids.get(joint.as_str())?))
        };
        let merges = lines.iter().enumerate().map(|(index, line)| {
            merge(line).ok_or_else(|| TokenizerError::Merge { index, merge: line.clone() })
        });
        merges.collect()
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
        splitter: Splitter,
        tokens: ByteEncoding,
        add_bos_default: bool,
        space_prefix: bool,
    ) -> Result<Tokenizer, TokenizerError> {
        let mut table = TokenTable::default();
        for (token, &kind) in self.tokens.iter().zip(&self.types) {
            let is_control = matches!(kind, kind::CONTROL | kind::UNKNOWN);
            if is_control || kind == kind::USER_DEFINED {
                let kind = if is_control { TokenKind::Control } else { TokenKind::Text };
                table.push(&tokens.added_bytes(token), kind);
            } else if kind == kind::UNUSED {
                table.push(token.as_bytes(), TokenKind::Unused);
            } else {
                table.push(&tokens.bytes(token), TokenKind::Text);
            }
        }
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
        Ok(Tokenizer::new(splitter, table, special, space_prefix))
    }
}

fn same_length(key: &'static str, found: usize, expected: usize) -> Result<(), TokenizerError> {
    if found == expected { Ok(()) } else { Err(TokenizerError::Length { key, found, expected }) }
}
