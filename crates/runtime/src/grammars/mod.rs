//! Compiled grammars of one model: the vocabulary's trie is built once, a grammar once for each text of it.

mod gbnf;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::error::{ApiError, invalid};

/// Compiled grammars kept; the oldest goes for a new one.
const CACHED: usize = 256;

/// A grammar, as text in one of its notations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Any JSON value.
    Json,
    /// JSON that satisfies a schema.
    JsonSchema(String),
    /// A regular expression.
    Regex(String),
    /// A grammar in the notation of Lark.
    Lark(String),
    /// A grammar in EBNF, or in the GBNF of llama.cpp.
    Ebnf(String),
}

impl Source {
    /// Its text.
    pub(crate) fn text(&self) -> &str {
        match self {
            Source::Json => "",
            Source::JsonSchema(text) | Source::Regex(text) | Source::Lark(text) | Source::Ebnf(text) => text,
        }
    }
}

/// The grammars of one model.
pub(crate) struct Grammars {
    model: Arc<model::Model>,
    vocabulary_size: u32,
    /// Built when the first grammar is compiled: it takes some tens of milliseconds and megabytes.
    factory: OnceLock<Result<ParserFactory, String>>,
    cache: Mutex<VecDeque<(Source, Matcher)>>,
}

impl Grammars {
    pub(crate) fn new(model: Arc<model::Model>, vocabulary_size: u32) -> Grammars {
        Grammars { model, vocabulary_size, factory: OnceLock::new(), cache: Mutex::default() }
    }

    /// A fresh matcher for a grammar.
    pub(crate) fn compile(&self, source: Source) -> Result<Matcher, ApiError> {
        let cached = |cache: &VecDeque<(Source, Matcher)>| {
            cache.iter().find(|(known, _)| *known == source).map(|(_, matcher)| matcher.deep_clone())
        };
        if let Some(matcher) = cached(&self.lock()) {
            return Ok(matcher);
        }
        let factory = self.factory.get_or_init(|| self.factory());
        let factory = factory.as_ref().map_err(|reason| ApiError::Backend(reason.clone()))?;
        let matcher = Matcher::new(factory.create_parser(top_level(source.clone())?));
        if let Some(reason) = matcher.get_error() {
            return Err(invalid(format!("the grammar does not compile: {reason}")));
        }
        let mut cache = self.lock();
        if cache.len() == CACHED {
            cache.pop_front();
        }
        cache.push_back((source, matcher.deep_clone()));
        Ok(matcher)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Source, Matcher)>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn factory(&self) -> Result<ParserFactory, String> {
        let environment: TokEnv = Arc::new(Vocabulary::new(self.model.clone(), self.vocabulary_size));
        let mut factory = ParserFactory::new_simple(&environment).map_err(|error| error.to_string())?;
        factory.quiet();
        Ok(factory)
    }
}

fn top_level(source: Source) -> Result<TopLevelGrammar, ApiError> {
    let schema = |text: &str| match serde_json::from_str(text) {
        Ok(schema) => Ok(TopLevelGrammar::from_json_schema(schema)),
        Err(error) => Err(invalid(format!("the JSON Schema is not JSON: {error}"))),
    };
    match source {
        Source::Json => schema("{}"),
        Source::JsonSchema(text) => schema(&text),
        Source::Regex(text) => Ok(TopLevelGrammar::from_regex(&text)),
        Source::Lark(text) => Ok(TopLevelGrammar::from_lark(text)),
        Source::Ebnf(text) => match gbnf::to_lark(&text) {
            Ok(lark) => Ok(TopLevelGrammar::from_lark(lark)),
            Err(reason) => Err(invalid(format!("the EBNF grammar: {reason}"))),
        },
    }
}

/// The model's vocabulary as the grammar library sees it.
struct Vocabulary {
    model: Arc<model::Model>,
    trie: TokTrie,
}

impl Vocabulary {
    fn new(model: Arc<model::Model>, size: u32) -> Vocabulary {
        let tokenizer = &model.tokenizer;
        let special = tokenizer.special();
        let eos = special.eos.or(special.stop.first().copied()).unwrap_or(0);
        let mut info = TokRxInfo::new(size, eos);
        info.tok_bos = special.bos;
        // Control tokens are marked, so that no grammar takes them for text; rows without meaning match nothing.
        let word = |token| match (tokenizer.kind(token), tokenizer.token_bytes(token)) {
            (Some(model::TokenKind::Text), Some(bytes)) => bytes.to_vec(),
            (Some(model::TokenKind::Control), Some(name)) => {
                [&[TokTrie::SPECIAL_TOKEN_MARKER][..], name].concat()
            }
            _ => Vec::new(),
        };
        let words: Vec<Vec<u8>> = (0..size).map(word).collect();
        Vocabulary { trie: TokTrie::from(&info, &words), model }
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let encode = |text: &str| self.model.tokenizer.encode(text).unwrap_or_default();
        self.trie.tokenize_with_greedy_fallback(bytes, encode)
    }
}
