//! A byte-level tokenizer from the files of before tokenizer.json, as GPT-2 and OPT have them: vocab.json,
//! merges.txt, and the files beside them that name special tokens.

use std::path::Path;

use serde_json::Value;
use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::TokenizerError;
use crate::json;

/// Most bytes of merges.txt; those of known models have half a megabyte.
const MERGES_BYTES_MAX: u64 = 64 << 20;

/// Keys of tokenizer_config.json and special_tokens_map.json that name a special token.
const SPECIAL: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Whether the folder has such a tokenizer and no tokenizer.json.
pub(super) fn is_in(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).exists();
    !has("tokenizer.json") && has("vocab.json") && has("merges.txt")
}

/// Builds the tokenizer.
///
/// # Errors
/// A file that cannot be read or is not what its name says.
pub(super) fn read(folder: &Path) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let vocabulary = vocabulary(folder)?;
    let merges = merges(folder, &vocabulary)?;
    let config = json::read_optional(&folder.join("tokenizer_config.json"))?;
    let named = special(folder, &config)?;
    // A special token is one of the vocabulary; a new one would get an id that the model has no row for.
    let known = named.into_iter().filter(|token| vocabulary.contains_key(token));
    let known: Vec<AddedToken> = known.map(|token| AddedToken::from(token, true).normalized(false)).collect();
    let bpe = BPE::builder().vocab_and_merges(vocabulary, merges).build().map_err(TokenizerError::Build)?;
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    let space_in_front = config["add_prefix_space"] == Value::Bool(true);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(space_in_front, true, true)));
    tokenizer.add_special_tokens(known).map_err(TokenizerError::Build)?;
    Ok(tokenizer)
}

fn vocabulary(folder: &Path) -> Result<Vocab, TokenizerError> {
    let path = folder.join("vocab.json");
    let invalid = |reason: String| TokenizerError::Json {
        path: path.clone(),
        what: "vocabulary: an object of tokens and their ids",
        reason,
    };
    let value = json::read(&path)?;
    let tokens = value.as_object().ok_or_else(|| invalid("it is no object".to_owned()))?;
    let id = |(token, id): (&String, &Value)| {
        let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
        number.map(|id| (token.clone(), id)).ok_or_else(|| invalid(format!("the id of `{token}` is {id}")))
    };
    tokens.iter().map(id).collect()
}

fn merges(folder: &Path, vocabulary: &Vocab) -> Result<Merges, TokenizerError> {
    let path = folder.join("merges.txt");
    let io = |source| TokenizerError::Io { path: path.clone(), source };
    let bytes = std::fs::metadata(&path).map_err(io)?.len();
    if bytes > MERGES_BYTES_MAX {
        let reason = format!("it has {bytes} bytes, expected at most {MERGES_BYTES_MAX}");
        return Err(TokenizerError::Json { path, what: "list of merges", reason });
    }
    let text = std::fs::read_to_string(&path).map_err(io)?;
    let lines = text.lines().enumerate().filter(|(index, line)| {
        let is_head = *index == 0 && line.starts_with("#version");
        !is_head && !line.trim().is_empty()
    });
    let merge = |(index, line): (usize, &str)| match line.trim_end().split_once(' ') {
        // The library relies on it.
        Some((left, right))
            if [left, right, &[left, right].concat()].iter().all(|token| vocabulary.contains_key(*token)) =>
        {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => Err(TokenizerError::Merge { index, merge: line.chars().take(100).collect() }),
    };
    lines.map(merge).collect()
}

/// Names of special tokens, each once.
fn special(folder: &Path, config: &Value) -> Result<Vec<String>, TokenizerError> {
    let map = json::read_optional(&folder.join("special_tokens_map.json"))?;
    let mut names = Vec::new();
    let mut add = |value: &Value| {
        let name = value.as_str().or_else(|| value["content"].as_str());
        if let Some(name) = name.filter(|name| !name.is_empty() && !names.iter().any(|known| known == name)) {
            names.push(name.to_owned());
        }
    };
    for file in [config, &map] {
        SPECIAL.iter().for_each(|key| add(&file[*key]));
        file["additional_special_tokens"].as_array().into_iter().flatten().for_each(&mut add);
    }
    let added = config["added_tokens_decoder"].as_object().into_iter().flat_map(|tokens| tokens.values());
    added.filter(|token| token["special"] == Value::Bool(true)).for_each(&mut add);
    Ok(names)
}
