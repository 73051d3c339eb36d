//! Counting tokens: with the model's own tokenizer, or by words where none is given.
//!
//! Without a tokenizer a made-up prompt of `n` tokens is `n` common words, which is near for most vocabularies and
//! exact for none. A report then takes the server's counts, and says so.

use std::path::Path;

use std::time::Duration;

use model::{Tokenizer, gguf::Gguf};
use serde_json::{Value, json};

use super::DatasetError;
use crate::client::{ClientOptions, fetch};

/// How tokens are counted.
pub enum Tokens {
    /// By the model's tokenizer.
    Exact(Box<Exact>),
    /// By the server, at its `/tokenize`.
    Server(Box<ServerTokens>),
    /// One for each word.
    Words,
}

/// A server that counts tokens.
pub struct ServerTokens(ClientOptions);

impl ServerTokens {
    /// Takes a server that answers `/tokenize` as vLLM and SGLang do, with a `count`.
    ///
    /// # Errors
    /// [`DatasetError::Tokenizer`] with what it answered instead.
    pub fn open(options: &ClientOptions) -> Result<Self, DatasetError> {
        // An address of an API that begins with /v1: this route is not below it.
        let mut options = options.clone();
        options.address.base = options.address.base.trim_end_matches("/v1").to_string();
        let server = Self(options);
        server.count("one two")?;
        Ok(server)
    }

    fn count(&self, text: &str) -> Result<u32, DatasetError> {
        let refused = |what: String| {
            DatasetError::Tokenizer(format!("{}/tokenize: {what}, expected a `count`", self.0.address))
        };
        let body = json!({"model": self.0.model, "prompt": text, "add_special_tokens": false});
        let fetched = fetch(&self.0, "POST", "/tokenize", Some(&body), Duration::from_secs(30));
        let fetched = fetched.map_err(|failure| refused(failure.message))?;
        let answer: Value = serde_json::from_slice(&fetched.body).unwrap_or_default();
        let count = answer["count"].as_u64().filter(|_| fetched.status == 200);
        Ok(count.ok_or_else(|| refused(format!("status {}", fetched.status)))? as u32)
    }
}

/// A tokenizer, and words of it that are one token each.
pub struct Exact {
    tokenizer: Tokenizer,
    /// Ids of a space and small letters: such tokens in a row stay apart when encoded.
    words: Vec<u32>,
    /// Where it was read from.
    source: String,
}

impl Tokens {
    /// Reads a folder with a tokenizer.json, that file itself, or a GGUF file.
    ///
    /// # Errors
    /// [`DatasetError::Tokenizer`].
    pub fn open(path: &Path) -> Result<Self, DatasetError> {
        let refused = |error: String| DatasetError::Tokenizer(format!("`{}`: {error}", path.display()));
        let is_gguf = path.extension().is_some_and(|extension| extension == "gguf");
        let tokenizer = if is_gguf {
            let gguf = Gguf::open(path).map_err(|error| refused(error.to_string()))?;
            Tokenizer::from_gguf(&gguf)
        } else if path.is_dir() {
            Tokenizer::from_folder(path)
        } else if path.file_name().is_some_and(|name| name == "tokenizer.json") {
            Tokenizer::from_folder(path.parent().unwrap_or(Path::new(".")))
        } else {
            let what = if path.exists() { "is neither" } else { "does not exist; expected" };
            return Err(refused(format!("{what} a folder with a tokenizer.json, or a .gguf file")));
        };
        let tokenizer = tokenizer.map_err(|error| refused(error.to_string()))?;
        let is_word = |id: &u32| {
            let bytes = tokenizer.token_bytes(*id).unwrap_or_default();
            let letters = bytes.strip_prefix(b" ").unwrap_or_default();
            // A token may be in the vocabulary and yet not come out of its own text: merges of others go first.
            let is_own = |text: &str| tokenizer.encode(text).is_ok_and(|ids| ids == [*id]);
            letters.len() >= 3
                && letters.iter().all(u8::is_ascii_lowercase)
                && std::str::from_utf8(bytes).is_ok_and(is_own)
        };
        let words: Vec<u32> = (0..tokenizer.vocabulary_size() as u32).filter(is_word).collect();
        if words.len() < 100 {
            return Err(refused(format!("has {} words as single tokens, expected 100 or more", words.len())));
        }
        Ok(Self::Exact(Box::new(Exact { tokenizer, words, source: path.display().to_string() })))
    }

    /// How many tokens a text has.
    ///
    /// # Errors
    /// [`DatasetError::Tokenizer`] when the tokenizer refuses the text.
    pub fn count(&self, text: &str) -> Result<u32, DatasetError> {
        match self {
            Self::Exact(exact) => Ok(exact.encode(text)?.len() as u32),
            Self::Server(server) => server.count(text),
            Self::Words => Ok(text.split_whitespace().count() as u32),
        }
    }

    /// How the counts come about, for the report.
    pub fn source(&self) -> String {
        match self {
            Self::Exact(exact) => format!("tokenizer {}", exact.source),
            Self::Server(server) => format!("{}/tokenize", server.0.address),
            Self::Words => "words (no --tokenizer); the server's usage counts where it reports them".into(),
        }
    }
}

impl Exact {
    /// The ids of a text.
    ///
    /// # Errors
    /// [`DatasetError::Tokenizer`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DatasetError> {
        self.tokenizer.encode(text).map_err(|error| DatasetError::Tokenizer(error.to_string()))
    }

    /// The text of ids; bytes that are no text become the replacement character.
    pub fn decode(&self, ids: &[u32]) -> String {
        String::from_utf8_lossy(&self.tokenizer.decode(ids)).into_owned()
    }

    /// Ids of words.
    pub fn words(&self) -> &[u32] {
        &self.words
    }
}
