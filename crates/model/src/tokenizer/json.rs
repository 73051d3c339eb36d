//! A tokenizer from a Hugging Face folder: tokenizer.json, and the files beside it that name special tokens.

use std::path::Path;

use serde_json::Value;
use tokenizers::ModelWrapper;

use super::bytes::{ByteEncoding, TokenTable};
use super::{SpecialTokens, Splitter, TokenKind, Tokenizer, TokenizerError, stop, vocab};
use crate::json::{self, JsonError};

impl Tokenizer {
    /// Builds the tokenizer of a model folder from `tokenizer.json`, or from `vocab.json` and `merges.txt` where
    /// only those are there, with the roles of tokens from
    /// `tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json` and `config.json` as far as they are there.
    ///
    /// # Errors
    /// A file that cannot be read or is not what its name says.
    pub fn from_folder(folder: &Path) -> Result<Self, TokenizerError> {
        let is_old = vocab::is_in(folder);
        let (mut inner, is_byte_level) =
            if is_old { (vocab::read(folder)?, true) } else { read_library(folder)? };
        // Training settings of the file; a prompt must never be cut or filled up.
        inner.with_truncation(None).map_err(TokenizerError::Build)?;
        inner.with_padding(None);

        let kind = match inner.get_model() {
            ModelWrapper::WordPiece(_) => ByteEncoding::WordPiece,
            _ if is_byte_level => ByteEncoding::ByteLevel,
            _ => ByteEncoding::SentencePiece,
        };
        let table = table(&inner, kind);

        let optional = |name: &str| json::read_optional(&folder.join(name)).map_err(TokenizerError::from);
        let tokenizer_config = optional("tokenizer_config.json")?;
        let special_tokens = optional("special_tokens_map.json")?;
        let generation_config = optional("generation_config.json")?;
        let config = optional("config.json")?;
        let named = |key: &str| {
            let values = [&tokenizer_config[key], &special_tokens[key]].into_iter();
            let name = values.filter_map(|v| v.as_str().or_else(|| v["content"].as_str())).next()?;
            inner.token_to_id(name)
        };
        let numbered = |key: &str| -> Vec<u32> {
            let ids = [&generation_config[key], &config[key]];
            let ids = ids.into_iter().find(|value| !value.is_null()).map_or(&[][..], |value| match value {
                Value::Array(ids) => ids,
                value => std::slice::from_ref(value),
            });
            let ids = ids.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok());
            ids.filter(|&id| (id as usize) < table.len()).collect()
        };
        let ends = numbered("eos_token_id");
        let bos = named("bos_token").or_else(|| numbered("bos_token_id").first().copied());
        // BERT's are called otherwise.
        let bos = bos.or_else(|| named("cls_token"));
        let eos = named("eos_token").or_else(|| ends.first().copied()).or_else(|| named("sep_token"));
        // What the file's own post-processor puts around an empty text.
        let around = inner.encode_fast("", true).map_err(TokenizerError::Encode)?.get_ids().to_vec();
        let special = SpecialTokens {
            bos,
            eos,
            add_bos: bos.is_some_and(|bos| around.first() == Some(&bos))
                || (is_old && bos.is_some() && tokenizer_config["add_bos_token"] == Value::Bool(true)),
            add_eos: eos.is_some_and(|eos| around.len() > 1 && around.last() == Some(&eos)),
            stop: stop::stop_tokens(&table, ends.into_iter().chain(eos)),
        };
        let space_prefix = match kind {
            ByteEncoding::ByteLevel => false,
            ByteEncoding::SentencePiece => puts_space_in_front(&inner)?,
            ByteEncoding::WordPiece => true,
        };
        Ok(Self::new(Splitter::library(inner), table, special, space_prefix))
    }
}

impl From<JsonError> for TokenizerError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Io { path, source } => Self::Io { path, source },
            JsonError::Invalid { path, reason } => Self::Json { path, what: "JSON file", reason },
        }
    }
}

/// The tokenizer of tokenizer.json, and whether its tokens are bytes.
fn read_library(folder: &Path) -> Result<(tokenizers::Tokenizer, bool), TokenizerError> {
    let path = folder.join("tokenizer.json");
    let text = std::fs::read(&path).map_err(|source| TokenizerError::Io { path: path.clone(), source })?;
    let invalid = |reason: String| TokenizerError::Json {
        path: path.clone(),
        what: "tokenizer of the `tokenizers` library",
        reason,
    };
    let description: Value = serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
    let inner = tokenizers::Tokenizer::from_bytes(&text).map_err(|error| invalid(error.to_string()))?;
    let is_byte_level =
        mentions_byte_level(&description["decoder"]) || mentions_byte_level(&description["pre_tokenizer"]);
    Ok((inner, is_byte_level))
}

/// The bytes of all ids up to the greatest; holes become unused tokens.
fn table(inner: &tokenizers::Tokenizer, kind: ByteEncoding) -> TokenTable {
    let added = inner.get_added_tokens_decoder();
    let vocabulary = inner.get_vocab(true);
    let mut tokens: Vec<(u32, String)> = vocabulary.into_iter().map(|(token, id)| (id, token)).collect();
    tokens.sort_unstable();
    let mut table = TokenTable::default();
    for (id, token) in tokens {
        // Ids come from a file, and one of 2^32 must not make a table of that size.
        if id as usize > table.len() + 65_536 {
            break;
        }
        while table.len() < id as usize {
            table.push(b"", TokenKind::Unused);
        }
        if table.len() > id as usize {
            continue; // A second name of the same id.
        }
        match added.get(&id) {
            Some(added) if added.special => table.push(&kind.added_bytes(&token), TokenKind::Control),
            Some(_) => table.push(&kind.added_bytes(&token), TokenKind::Text),
            None => table.push(&kind.bytes(&token), TokenKind::Text),
        }
    }
    table
}

fn mentions_byte_level(value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            fields.get("type").is_some_and(|kind| kind == "ByteLevel")
                || fields.values().any(mentions_byte_level)
        }
        Value::Array(values) => values.iter().any(mentions_byte_level),
        _ => false,
    }
}

/// Whether the library puts a space before a text.
fn puts_space_in_front(inner: &tokenizers::Tokenizer) -> Result<bool, TokenizerError> {
    let encoding = inner.encode_fast("a", false).map_err(TokenizerError::Encode)?;
    Ok(encoding.get_tokens().first().is_some_and(|token| token.starts_with('▁')))
}
