//! Grammars hold a model to what its format's parser reads.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use model::chat::FunctionCall;
use model::formats::{Answer, Choice, Format, GrammarError, GrammarOptions, ParserOptions, Part, Reasoning};
use serde_json::{Value, json};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie, TokenId};

use crate::writing::calls;
use crate::{Seeded, format, read, tools};

/// What may be control tokens, of all formats.
const CONTROL: &[&str] = &[
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[THINK]",
    "[/THINK]",
    "<|python_tag|>",
    "<|python_start|>",
    "<|python_end|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|call|>",
    "<|message|>",
    "<|constrain|>",
];

/// A vocabulary of the bytes, and the control tokens or not.
struct Vocabulary {
    has_control: bool,
    factory: ParserFactory,
}

impl Vocabulary {
    fn both() -> [Vocabulary; 2] {
        [false, true].map(|has_control| {
            let mut words: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
            words.push(b"\xFF<|eos|>".to_vec());
            if has_control {
                words.extend(CONTROL.iter().map(|name| [b"\xFF", name.as_bytes()].concat()));
            }
            let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, 256), &words);
            let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            let mut factory = ParserFactory::new_simple(&environment).unwrap();
            factory.quiet();
            Vocabulary { has_control, factory }
        })
    }

    fn control(&self, name: &str) -> Option<u32> {
        let at = CONTROL.iter().position(|other| *other == name).filter(|_| self.has_control)?;
        Some(257 + at as u32)
    }

    fn text(&self, tokens: &[TokenId]) -> String {
        let mut bytes = Vec::new();
        for &token in tokens {
            match token {
                0..=255 => bytes.push(token as u8),
                _ => bytes.extend(CONTROL[token as usize - 257].as_bytes()),
            }
        }
        String::from_utf8(bytes).expect("grammars allow UTF-8 only")
    }

    fn matcher(&self, lark: &str) -> Matcher {
        let parser = self.factory.create_parser(TopLevelGrammar::from_lark(lark.to_owned()));
        let matcher = Matcher::new(Ok(parser.unwrap_or_else(|error| panic!("{error:#}\n{lark}"))));
        assert_eq!(matcher.get_error(), None, "{lark}");
        matcher
    }

    /// Whether the grammar accepts the text as a whole; otherwise, up to where. A name is its control token where
    /// that is allowed, and text elsewhere, as within a string.
    fn accepts(&self, lark: &str, text: &str) -> Result<(), String> {
        let mut matcher = self.matcher(lark);
        let mut at = 0;
        while at < text.len() {
            let name = CONTROL.iter().find(|name| text.as_bytes()[at..].starts_with(name.as_bytes()));
            let token = name.and_then(|name| Some((self.control(name)?, name.len())));
            let mut take = |token: TokenId| matcher.try_consume_tokens(&[token]).unwrap() == 1;
            match token {
                Some((token, length)) if take(token) => at += length,
                _ if take(u32::from(text.as_bytes()[at])) => at += 1,
                _ => return Err(String::from_utf8_lossy(&text.as_bytes()[..at]).into_owned()),
            }
        }
        if matcher.is_accepting().unwrap() { Ok(()) } else { Err(text.to_owned()) }
    }
}

fn options(is_parallel: bool) -> GrammarOptions {
    GrammarOptions { choice: Choice::Required, is_parallel, reasoning: Reasoning::No }
}

#[test]
fn grammars_accept_what_is_written() {
    for vocabulary in Vocabulary::both() {
        for format in Format::all() {
            for calls in calls() {
                for reasoning in ["", "First this,\n\nthen that."] {
                    let answer =
                        Answer { reasoning: reasoning.to_owned(), calls: calls.clone(), ..Answer::default() };
                    let text = format.write(&answer, &tools()).unwrap();
                    let options =
                        GrammarOptions { reasoning: Reasoning::Allowed, ..options(calls.len() > 1) };
                    let lark = format.grammar(&tools(), &options, &|name| vocabulary.control(name)).unwrap();
                    let accepted = vocabulary.accepts(&lark, &text);
                    assert_eq!(
                        accepted.is_ok(),
                        !calls.is_empty(),
                        "{format:?} {text}\nup to {accepted:?}\n{lark}"
                    );
                }
            }
        }
    }
}

#[test]
fn grammars_refuse_what_is_not_on_offer() {
    let call = |name: &str, arguments: Value| FunctionCall { name: name.to_owned(), arguments };
    let refused = [
        vec![call("unknown", json!({}))],
        vec![call("weather", json!({}))],
        vec![call("weather", json!({"city": "x", "days": true}))],
        vec![call("run", json!({"code": "x", "mode": "slow"}))],
        vec![call("now", json!({})), call("now", json!({}))],
    ];
    for vocabulary in Vocabulary::both() {
        let control = |name: &str| vocabulary.control(name);
        for format in Format::all() {
            let lark = format.grammar(&tools(), &options(false), &control).unwrap();
            for calls in &refused {
                let text = format.write(&Answer { calls: calls.clone(), ..Answer::default() }, &[]).unwrap();
                assert!(vocabulary.accepts(&lark, &text).is_err(), "{format:?} {text}\n{lark}");
            }
            let named = GrammarOptions { choice: Choice::Named("now".to_owned()), ..options(false) };
            let lark = format.grammar(&tools(), &named, &control).unwrap();
            for (name, arguments, is_accepted) in
                [("now", json!({}), true), ("weather", json!({"city": "x"}), false)]
            {
                let answer = Answer { calls: vec![call(name, arguments)], ..Answer::default() };
                let text = format.write(&answer, &tools()).unwrap();
                assert_eq!(
                    vocabulary.accepts(&lark, &text).is_ok(),
                    is_accepted,
                    "{format:?} {text}\n{lark}"
                );
            }
            let unknown = GrammarOptions { choice: Choice::Named("unknown".to_owned()), ..options(false) };
            let error = format.grammar(&tools(), &unknown, &control).unwrap_err();
            assert!(error.to_string().contains("weather, run, now"), "{error}");
            assert_eq!(format.grammar(&[], &options(true), &control), Err(GrammarError::NoTools));
        }
    }
}

#[test]
fn what_a_grammar_allows_is_read_as_calls() {
    let (mut complete, mut random) = (0, Seeded(11));
    for vocabulary in Vocabulary::both() {
        for format in Format::all() {
            for is_reasoning in [false, true] {
                let reasoning = if is_reasoning { Reasoning::Open } else { Reasoning::No };
                let options = GrammarOptions { reasoning, ..options(true) };
                let lark = format.grammar(&tools(), &options, &|name| vocabulary.control(name)).unwrap();
                for seed in 0..15 {
                    random.0 = seed;
                    let Some(tokens) = said(&vocabulary, &lark, &mut random) else { continue };
                    complete += 1;
                    let text = vocabulary.text(&tokens);
                    let options = ParserOptions { is_reasoning, ..ParserOptions::default() };
                    let parts = read(format.parser(&tools(), options), [text.as_str()]);
                    let is_call = |part: &Part| !matches!(part, Part::Content(_) | Part::CallFailed { .. });
                    assert!(
                        parts.iter().all(is_call),
                        "{format:?}, seed {seed}: {text:?}\n{parts:?}\n{lark}"
                    );
                    let calls = Answer::from_parts(&parts).calls;
                    assert!(!calls.is_empty(), "{format:?}, seed {seed}: {text:?}");
                }
            }
        }
    }
    assert!(complete > 200, "{complete} answers were complete");
}

/// Something that a grammar allows, if it comes to an end.
fn said(vocabulary: &Vocabulary, lark: &str, random: &mut Seeded) -> Option<Vec<TokenId>> {
    let mut matcher = vocabulary.matcher(lark);
    let mut tokens: Vec<TokenId> = Vec::new();
    while tokens.len() < 600 {
        if matcher.is_stopped() || (matcher.is_accepting().unwrap() && random.below(3) > 0) {
            return Some(tokens);
        }
        let mask = matcher.compute_mask().unwrap();
        let mut allowed: Vec<TokenId> = Vec::new();
        mask.iter_set_entries(|token| allowed.push(token as u32));
        allowed.retain(|token| *token != 256);
        // What ends something comes often enough that there is an end.
        let ends: Vec<TokenId> = allowed
            .iter()
            .copied()
            .filter(|token| *token > 256 || b"\"}])<".contains(&(*token as u8)))
            .collect();
        let from = if !ends.is_empty() && random.below(2) == 0 { &ends } else { &allowed };
        let token = *from.get(random.below(from.len().max(1)))?;
        matcher.consume_token(token).unwrap();
        tokens.push(token);
    }
    None
}

#[test]
fn a_trigger_begins_what_its_grammar_goes_on_with() {
    for vocabulary in Vocabulary::both() {
        let control = |name: &str| vocabulary.control(name);
        for format in Format::all() {
            let triggers = format.triggers(&tools(), true, &control);
            assert!(!triggers.is_empty(), "{format:?}");
            for trigger in &triggers {
                assert_eq!(trigger.token, control(&trigger.text), "{format:?} {trigger:?}");
            }
            for calls in calls().into_iter().filter(|calls| !calls.is_empty()) {
                for content in ["", "Let me see."] {
                    let answer =
                        Answer { content: content.to_owned(), calls: calls.clone(), ..Answer::default() };
                    let text = format.write(&answer, &tools()).unwrap();
                    let is_here = |at: usize, is_at_start: bool, trigger: &str| {
                        (!is_at_start || at == 0) && text[at..].starts_with(trigger)
                    };
                    let found = text.char_indices().find_map(|(at, _)| {
                        let here = triggers.iter().find(|one| is_here(at, one.is_at_start, &one.text))?;
                        Some((at, here))
                    });
                    // Text that a model without these control tokens would not write.
                    if !vocabulary.has_control && format.name().starts_with("llama") && !content.is_empty() {
                        continue;
                    }
                    let (at, trigger) = found.unwrap_or_else(|| panic!("{format:?}: {text}"));
                    let rest = &text[at + trigger.text.len()..];
                    let accepted = vocabulary.accepts(&trigger.grammar, rest);
                    assert_eq!(accepted, Ok(()), "{format:?} {text}\n{}", trigger.grammar);
                }
            }
        }
    }
    assert!(format("hermes").triggers(&[], true, &|_| None).is_empty());
}
