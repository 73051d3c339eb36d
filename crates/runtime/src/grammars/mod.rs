//! Compiled grammars of one model: the vocabulary's trie is built once, a grammar once for each text of it.

mod gbnf;
mod matching;
mod stopping;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use model::Wanted;
use scheduler::TenantId;
use toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::account::{Account, Taken};
use crate::error::{ApiError, check_length, invalid};
use crate::users::User;

pub(crate) use matching::Matching;
pub(crate) use stopping::{Expressions, LONG, SHORT, stoppable};

/// Compiled grammars kept for each user; the oldest goes for a new one.
const CACHED: usize = 32;
/// Bytes that a grammar takes at least.
const BYTES_MIN: u64 = 64 << 10;
/// Bytes of a grammar's text.
pub(crate) const SOURCE_BYTES: usize = 64 << 10;
/// Stack that a grammar is compiled on. The library follows the rules of a grammar from one to the next by recursion,
/// some kilobytes for each: four times of what the longest chain of rules took that fits into [`SOURCE_BYTES`]. Only
/// what is used takes memory.
const STACK_BYTES: usize = 128 << 20;

// The library's own limits are made for grammars of the operator. These bound what a grammar may become; how long that
// takes is for `stopping`.

/// States of one lexer, some tens of megabytes.
const LEXER_STATES: usize = 20_000;
/// Nodes of the regular expressions that a grammar starts with.
const LEXER_NODES: u64 = 300_000;
/// Symbols of the rules of a grammar. A loop of the library over them, which nothing stops, takes as long as their square.
const SYMBOLS: usize = 20_000;

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

    /// A fresh matcher for a grammar of a user, whose text is at most [`SOURCE_BYTES`] long. It stops in its middle when
    /// nobody wants it any more, after [`LONG`], or when there is no `memory` for what it makes, which is held meanwhile.
    pub(crate) fn compile(
        &self,
        user: &User,
        memory: &Arc<Account>,
        source: Source,
        wanted: Wanted<'_>,
    ) -> Result<Compiled, ApiError> {
        check_length("the grammar", source.text().len(), SOURCE_BYTES)?;
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
        let compile = || {
            stacker::grow(STACK_BYTES, || {
                factory.create_parser(top_level(source.clone())?).map_err(|error| refused(error.to_string()))
            })
        };
        let mut expressions = Expressions::default();
        let parser = stoppable(LONG, wanted, memory, &mut expressions, compile)
            .map_err(|stopped| stopped.error("the grammar"))??;
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
        let limits = factory.limits_mut();
        limits.max_lexer_states = LEXER_STATES;
        limits.initial_lexer_fuel = LEXER_NODES;
        limits.max_grammar_size = SYMBOLS;
        // It belongs to the masks, of which each is bounded.
        limits.precompute_large_lexemes = false;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RuntimeConfig;
    use crate::turns::Threads;
    use crate::users::Users;
    use crate::work::Workers;

    /// Rules that need each other, as many as fit.
    fn chain(start: &str, rule: impl Fn(usize, usize) -> String, end: impl Fn(usize) -> String) -> String {
        let mut text = start.to_owned();
        let mut count = 0;
        loop {
            let next = rule(count, count + 1);
            if text.len() + next.len() + end(count + 1).len() > SOURCE_BYTES {
                return text + &end(count);
            }
            text += &next;
            count += 1;
        }
    }

    /// Those of a model, and a user.
    fn grammars() -> (Grammars, Arc<User>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        model::test_model::write(file.path(), kernels::DType::F32, 1).unwrap();
        let model = Arc::new(model::Model::open(file.path()).unwrap());
        let grammars = Grammars::new(model.clone(), model.tokenizer.vocabulary_size() as u32);
        let (config, workers) = (RuntimeConfig::default(), Workers::new());
        let users = Users::new(&config, &workers, &Arc::new(Threads::new(2)));
        (grammars, users.of("ann"))
    }

    /// As many pieces as fit between a start and an end.
    fn repeated(start: &str, piece: impl Fn(usize) -> String, end: &str) -> String {
        let mut text = start.to_owned();
        for at in 0.. {
            let piece = piece(at);
            if text.len() + piece.len() + end.len() > SOURCE_BYTES {
                break;
            }
            text += &piece;
        }
        text.truncate(text.trim_end_matches(',').len());
        text + end
    }

    /// Without an end within minutes, and of each a part that asks in another way: derivatives, the emptiness of an
    /// intersection, comparing all pairs, and hashing the rest of a list for each of its places.
    fn slow_sources() -> [Source; 4] {
        [
            Source::Regex(repeated("", |_| "a?".into(), "")),
            Source::JsonSchema(repeated(
                r#"{"type":"string","allOf":["#,
                |at| format!(r#"{{"pattern":"a{at}"}},"#),
                "]}",
            )),
            Source::JsonSchema(repeated(
                r#"{"patternProperties":{"#,
                |at| format!(r#""a{at}b$":true,"#),
                "}}",
            )),
            // This one takes about a second.
            Source::JsonSchema(repeated(r#"{"properties":{"#, |at| format!(r#""a{at}":{{}},"#), "}}")),
        ]
    }

    #[test]
    fn a_grammar_that_is_compiled_stops_when_nobody_wants_it() {
        let (grammars, user) = grammars();
        for source in slow_sources() {
            let text = source.text()[..40].to_owned();
            // Not the first time: at the fourth it is well in its middle.
            let asked = std::cell::Cell::new(0);
            let wanted = || {
                asked.set(asked.get() + 1);
                asked.get() < 4
            };
            let ended = grammars.compile(&user, &user.host_memory, source, &wanted).err();
            assert!(matches!(ended, Some(ApiError::Cancelled)), "{text}: {ended:?}");
            assert_eq!(asked.get(), 4, "{text}: it stops when it is told to");
        }
        // The next one is none the worse.
        grammars.compile(&user, &user.host_memory, Source::Json, &|| true).unwrap();
    }

    #[test]
    fn a_step_in_a_grammar_stops_when_nobody_wants_it() {
        let (grammars, user) = grammars();
        // Each token leads to a state that was not there before.
        let source = Source::Regex(".{30000}".into());
        let Compiled { mut matcher, .. } =
            grammars.compile(&user, &user.host_memory, source, &|| true).unwrap();
        let mut other = matcher.deep_clone();
        let memory = &user.host_memory;
        let stopped = stoppable(LONG, &|| false, memory, &mut Expressions::default(), || {
            (0..3000).try_for_each(|at| {
                let allowed = matcher.compute_mask()?;
                matcher.consume_token(allowed.iter().nth(at % 50).expect("any text goes on"))
            })
        });
        assert!(matches!(stopped, Err(stopping::Stopped::NotWanted)));
        let mask = stoppable(LONG, &|| true, memory, &mut Expressions::default(), || other.compute_mask());
        assert!(!mask.unwrap().unwrap().is_zero());
    }

    #[test]
    fn the_longest_chains_of_rules_compile_on_a_thread_with_little_stack() {
        let (grammars, user) = grammars();
        let lark = |first: char| {
            let rule = |this, next| format!("{first}{this}:\"a\" {first}{next}\n");
            chain(&format!("start:{first}0\n"), rule, |last| format!("{first}{last}:\"z\"\n"))
        };
        let schema = |rule: fn(usize) -> String| {
            let rule = |this, next| format!("\"a{this}\":{},", rule(next));
            chain("{\"$ref\":\"#/$defs/a0\",\"$defs\":{", rule, |last| format!("\"a{last}\":{{}}}}}}"))
        };
        let sources = [
            Source::Lark(lark('r')),
            Source::Lark(lark('T')),
            Source::JsonSchema(schema(|next| format!("{{\"$ref\":\"#/$defs/a{next}\"}}"))),
            // Blanks, for fourteen symbols each are as many as there may be.
            Source::JsonSchema(schema(|next| {
                format!("{{\"items\":          {{\"$ref\":\"#/$defs/a{next}\"}}}}")
            })),
            Source::JsonSchema(schema(|next| format!("{{\"allOf\":[{{\"$ref\":\"#/$defs/a{next}\"}}]}}"))),
            Source::Ebnf(chain(
                "root::=r0\n",
                |this, next| format!("r{this}::=\"a\" r{next}\n"),
                |last| format!("r{last}::=\"z\"\n"),
            )),
        ];
        // The threads that do long work have 2 MiB, and a step in a grammar may have less.
        let work = move || {
            for source in sources {
                let text = source.text()[..40].to_owned();
                let bytes = source.text().len();
                let compiled = grammars.compile(&user, &user.host_memory, source, &|| true);
                let matcher = compiled.unwrap_or_else(|error| panic!("{text}: {error}")).matcher;
                assert!(bytes > SOURCE_BYTES - 200, "{text} is as long as may be");
                assert!(!matcher.deep_clone().compute_mask().unwrap().is_zero(), "{text} allows something");
            }
            let long = Source::Regex("a".repeat(SOURCE_BYTES + 1));
            assert!(matches!(
                grammars.compile(&user, &user.host_memory, long, &|| true),
                Err(ApiError::LimitExceeded(_))
            ));
        };
        std::thread::Builder::new().stack_size(512 << 10).spawn(work).unwrap().join().unwrap();
    }
}
