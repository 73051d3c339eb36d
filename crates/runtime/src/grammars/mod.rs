//! Compiled grammars of one model: the vocabulary's trie is built once, a grammar once for each text of it.

mod gbnf;
mod matching;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use scheduler::TenantId;
use toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::account::Taken;
use crate::error::{ApiError, invalid};
use crate::users::User;

pub(crate) use matching::Matching;

/// Compiled grammars kept for each user; the oldest goes for a new one.
const CACHED: usize = 32;
/// Bytes that a grammar takes at least.
const BYTES_MIN: u64 = 64 << 10;
/// States of one lexer, some tens of megabytes.
const LEXER_STATES: usize = 20_000;

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
    /// What each user compiled last, so that no user finds out what another compiled, nor pushes it out.
    cache: Mutex<HashMap<TenantId, VecDeque<Cached>>>,
}

/// A grammar that was compiled.
struct Cached {
    source: Source,
    matcher: Matcher,
    bytes: u64,
    _held: Taken,
}

/// A fresh matcher, and about how many bytes it takes.
pub(crate) struct Compiled {
    pub(crate) matcher: Matcher,
    pub(crate) bytes: u64,
}

impl Grammars {
    pub(crate) fn new(model: Arc<model::Model>, vocabulary_size: u32) -> Grammars {
        Grammars { model, vocabulary_size, factory: OnceLock::new(), cache: Mutex::default() }
    }

    /// A fresh matcher for a grammar of a user.
    pub(crate) fn compile(&self, user: &User, source: Source) -> Result<Compiled, ApiError> {
        let known = {
            let cache = self.lock();
            let mut cached = cache.get(&user.tenant).into_iter().flatten();
            let known = cached.find(|cached| cached.source == source);
            known.map(|known| Compiled { matcher: known.matcher.deep_clone(), bytes: known.bytes })
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let factory = self.factory.get_or_init(|| self.factory());
        let factory = factory.as_ref().map_err(|reason| ApiError::Backend(reason.clone()))?;
        let refused = |reason: String| invalid(format!("the grammar does not compile: {reason}"));
        let parser = factory.create_parser(top_level(source.clone())?);
        let parser = parser.map_err(|error| refused(error.to_string()))?;
        let bytes = (parser.parser.lexer_stats().num_bytes + source.text().len()) as u64;
        let bytes = bytes.max(BYTES_MIN);
        let matcher = Matcher::new(Ok(parser));
        if let Some(reason) = matcher.get_error() {
            return Err(refused(reason));
        }
        // It is kept where the user has memory for it.
        if let Ok(held) = user.host_memory.take(bytes) {
            let cached = Cached { source, matcher: matcher.deep_clone(), bytes, _held: held };
            let mut cache = self.lock();
            let of_user = cache.entry(user.tenant).or_default();
            of_user.truncate(CACHED - 1);
            of_user.push_front(cached);
        }
        Ok(Compiled { matcher, bytes })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, VecDeque<Cached>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn factory(&self) -> Result<ParserFactory, String> {
        let environment: TokEnv = Arc::new(Vocabulary::new(self.model.clone(), self.vocabulary_size));
        let mut factory = ParserFactory::new_simple(&environment).map_err(|error| error.to_string())?;
        factory.quiet();
        // A state of the lexer takes a kilobyte or two, and a program can make a grammar need any number.
        factory.limits_mut().max_lexer_states = LEXER_STATES;
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
