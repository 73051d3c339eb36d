//! Calls of what belongs to a model: `model`, `grammar`, `adapter`, `embeds`.

use std::rc::Rc;

use inferlet::Error;
use inferlet::bindings::pie::inferlet::adapter::{self, Adapter};
use inferlet::bindings::pie::inferlet::embeds::Embeddings;
use inferlet::bindings::pie::inferlet::grammar::{Constraint, Source};
use inferlet::bindings::pie::inferlet::model::{self, ChatOptions, Message, Model};
use inferlet::futures::future::LocalBoxFuture;

use super::{call, nothing};
use crate::random::draw::Random;
use crate::random::{Done, New, Program, lora};

impl Program {
    pub(super) fn grammar_call(
        &mut self,
        name: &'static str,
        model: Rc<Model>,
    ) -> Option<LocalBoxFuture<'static, Done>> {
        let random = &mut self.random;
        if name == "grammar.compile" {
            let source = grammar(random);
            let work = async move { Constraint::compile(&model, source).await.map(New::Constraint) };
            return Some(call(name, work));
        }
        let constraint = random.pick(&self.constraints)?;
        let result = match name {
            "grammar.fork" => constraint.fork().map(New::Constraint),
            "grammar.advance" => {
                let forced = constraint.forced().unwrap_or_default();
                let allowed = constraint.allowed().unwrap_or_default();
                let first = allowed.iter().position(|word| *word != 0);
                let first = first.map(|at| at as u32 * 32 + allowed[at].trailing_zeros());
                let tokens = match random.below(4) {
                    0 if !forced.is_empty() => forced,
                    1 => random.tokens(288),
                    _ => first.into_iter().collect(),
                };
                constraint.advance(&tokens).map(nothing)
            }
            "grammar.rollback" => constraint.rollback(random.number(3)).map(nothing),
            "grammar.allowed" => constraint.allowed().map(nothing),
            "grammar.forced" => constraint.forced().map(nothing),
            "grammar.complete" => constraint.complete().map(nothing),
            "grammar.finished" => constraint.finished().map(nothing),
            _ => panic!("`{name}` has no call"),
        };
        self.keep((name, result));
        None
    }

    pub(super) fn model_call(&mut self, name: &'static str, model: &Model) -> Result<New, Error> {
        let random = &mut self.random;
        match name {
            "model.models" => Ok(nothing(model::models())),
            "model.open" => {
                let names = [None, Some("tiny"), Some("other"), Some(""), Some("no such model")];
                model::open(names[random.index(names.len())]).map(nothing)
            }
            "model.facts" => Ok(nothing(model.facts())),
            "model.embedding" => Ok(nothing(model.embedding())),
            "model.tokenize" => model.tokenize(&random.text(), random.chance(50)).map(nothing),
            "model.detokenize" => model.detokenize(&random.tokens(288)).map(nothing),
            "model.vocabulary" => model.vocabulary().map(nothing),
            "model.encode-chat" | "model.format-chat" => {
                let (messages, options) = chat(random);
                match name {
                    "model.encode-chat" => model.encode_chat(&messages, &options).map(nothing),
                    _ => model.format_chat(&messages, &options).map(nothing),
                }
            }
            _ => panic!("`{name}` has no call"),
        }
    }

    pub(super) fn adapter_call(
        &mut self,
        name: &'static str,
        model: Rc<Model>,
    ) -> Option<LocalBoxFuture<'static, Done>> {
        let random = &mut self.random;
        let result = match name {
            "adapter.available" => adapter::available().map(nothing),
            "adapter.load" => {
                let source = adapter_source(random);
                let load = async move { Adapter::load(&model, source).await.map(New::Adapter) };
                return Some(call(name, load));
            }
            "adapter.rank" => Ok(nothing(random.pick(&self.adapters)?.rank())),
            "adapter.tensors" => Ok(nothing(random.pick(&self.adapters)?.tensors())),
            _ => panic!("`{name}` has no call"),
        };
        self.keep((name, result));
        None
    }

    pub(super) fn embeds_call(
        &mut self,
        name: &'static str,
        model: Rc<Model>,
    ) -> Option<LocalBoxFuture<'static, Done>> {
        let random = &mut self.random;
        let facts = model.facts();
        let result = match name {
            "embeds.from-tokens" => {
                let tokens = random.tokens(facts.vocabulary_size);
                let make = async move { Embeddings::from_tokens(&model, tokens).await.map(New::Embeddings) };
                return Some(call(name, make));
            }
            "embeds.from-values" => {
                let length = random.number(4) * facts.hidden_size + u32::from(random.chance(10));
                let wrong = random.chance(3).then_some(f32::NAN);
                let mut values = vec![0.5; length.min(1 << 16) as usize];
                values.extend(wrong);
                Embeddings::from_values(&model, &values).map(New::Embeddings)
            }
            "embeds.rows" => Ok(nothing(random.pick(&self.embeddings)?.rows())),
            "embeds.values" => Ok(nothing(random.pick(&self.embeddings)?.values())),
            _ => panic!("`{name}` has no call"),
        };
        self.keep((name, result));
        None
    }
}

fn grammar(random: &mut Random) -> Source {
    match random.below(10) {
        0 | 1 => Source::Json,
        2 => Source::JsonSchema(
            r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}"#.into(),
        ),
        3 => Source::JsonSchema(random.text()),
        4 => Source::Regex(format!("[a-z]{{1,{}}} (yes|no)", 1 + random.below(30))),
        5 => Source::Regex("((a|b)*c){1000}{1000}".into()),
        6 => Source::Lark("start: \"a\" start | \"!\"".into()),
        7 => Source::Lark("start: start\n%ignore".into()),
        8 => Source::Ebnf("root ::= \"a\"+ \"!\"".into()),
        _ => Source::Ebnf(random.text()),
    }
}

fn adapter_source(random: &mut Random) -> adapter::Source {
    match random.below(12) {
        0 => adapter::Source::Name("whole.gguf".into()),
        1 => adapter::Source::Name("damaged.gguf".into()),
        2 => adapter::Source::Name(random.name()),
        3 => adapter::Source::Gguf(random.bytes()),
        4 | 5 => {
            let mut file = lora::gguf(random.next());
            lora::damage(random, &mut file);
            adapter::Source::Gguf(file)
        }
        6 => {
            let (config, mut tensors) = lora::peft(random.next());
            lora::damage(random, &mut tensors);
            adapter::Source::Peft((config, tensors))
        }
        7 => adapter::Source::Peft((random.text(), random.bytes())),
        8 | 9 => {
            let (config, tensors) = lora::peft(random.next());
            adapter::Source::Peft((config, tensors))
        }
        _ => adapter::Source::Gguf(lora::gguf(random.next())),
    }
}

fn chat(random: &mut Random) -> (Vec<Message>, ChatOptions) {
    let json = |random: &mut Random| {
        let texts = [None, None, None, Some("[]"), Some("{}"), Some("["), Some("")];
        texts[random.index(texts.len())].map(str::to_string)
    };
    let roles = ["system", "user", "assistant", "tool", "", "other"];
    let message = |random: &mut Random| Message {
        role: roles[random.index(roles.len())].into(),
        content: random.text(),
        tool_calls: json(random),
        tool_call_id: json(random),
        name: json(random),
        reasoning_content: json(random),
        trusted: random.chance(30),
    };
    let messages = (0..random.below(4)).map(|_| message(random)).collect();
    let options = ChatOptions {
        add_generation_prompt: random.chance(50),
        continue_final_message: random.chance(20),
        tools: json(random),
        variables: json(random),
    };
    (messages, options)
}
