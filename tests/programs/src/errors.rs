//! Every function with wrong arguments: each must answer with the right kind of error.
//!
//! The result names the functions that were refused, one a line, so that the host can compare them with
//! `wit/`. It wants two models, a limit of 64 contexts and a client that sends nothing.

use std::collections::BTreeSet;

use inferlet::anyhow::{anyhow, ensure};
use inferlet::bindings::pie::inferlet::answer::{self, CallOptions, Reader, ReaderOptions, ReasoningPlace};
use inferlet::bindings::pie::inferlet::context::{Context, Priority};
use inferlet::bindings::pie::inferlet::embeds::Embeddings;
use inferlet::bindings::pie::inferlet::forward::{
    self, Input, OutputKind, OutputRequest, Pass, Sampling, TokenCounts, TokenOrigin,
};
use inferlet::bindings::pie::inferlet::grammar::{Constraint, Source};
use inferlet::bindings::pie::inferlet::model::{ChatOptions, Message, Model as Handle};
use inferlet::bindings::pie::inferlet::{
    adapter, context, mcp, messaging, model as api, runtime, session, store,
};
use inferlet::futures::FutureExt;
use inferlet::{Error, Model, Result, SamplingParams};

type Refused = BTreeSet<&'static str>;

/// Checks that `answer` is an error of this kind, and notes the function.
macro_rules! expect {
    ($refused:ident, $function:literal, $kind:ident, $answer:expr) => {
        match $answer {
            Err(Error::$kind(reason)) if !reason.is_empty() => {
                $refused.insert($function);
            }
            other => {
                return Err(anyhow!(
                    "{}: {}: expected {}, got {}",
                    $function,
                    stringify!($answer),
                    stringify!($kind),
                    format!("{other:?}").chars().take(300).collect::<String>()
                ));
            }
        }
    };
}

pub async fn all() -> Result<String> {
    let mut refused = Refused::new();
    let models = Model::names();
    ensure!(models.len() == 2, "the case wants two models: {models:?}");
    let model = Model::open_default()?;
    let other = Model::open(&models[1])?;
    models_and_chats(&mut refused, &model)?;
    contexts(&mut refused, &model, other.handle()).await?;
    passes(&mut refused, &model).await?;
    outputs(&mut refused, &model).await?;
    of_another_model(&mut refused, &model, other.handle()).await?;
    embeddings(&mut refused, &model).await?;
    grammars(&mut refused, &model).await?;
    answers(&mut refused, &model)?;
    adapters(&mut refused, &model).await?;
    programs(&mut refused).await?;
    stores(&mut refused).await?;
    messages(&mut refused).await?;
    sessions(&mut refused).await?;
    servers(&mut refused).await?;
    // Last: from here on no context can be made.
    too_many_contexts(&mut refused, model.handle()).await?;
    Ok(refused.into_iter().collect::<Vec<_>>().join("\n"))
}

/// Bytes one more than a name may have.
fn long_name() -> String {
    "n".repeat(257)
}

fn pass(tokens: Vec<u32>, outputs: Vec<OutputRequest<'_>>) -> Pass<'_> {
    Pass { input: Input::Tokens(tokens), positions: None, masks: None, adapter: None, keep: true, outputs }
}

/// A pass of one token that asks for one thing and keeps nothing.
fn asking(row: u32, kind: OutputKind<'_>) -> Pass<'_> {
    Pass { keep: false, ..pass(vec![1], vec![OutputRequest { row, kind }]) }
}

fn models_and_chats(refused: &mut Refused, model: &Model) -> Result<()> {
    let (handle, vocabulary) = (model.handle(), model.facts().vocabulary_size);
    expect!(refused, "model.open", NotFound, api::open(Some("no such model")));
    expect!(refused, "model.open", NotFound, api::open(Some("")));
    let long = "a ".repeat((1 << 19) + 1);
    expect!(refused, "model.tokenize", LimitExceeded, handle.tokenize(&long, false));
    expect!(refused, "model.detokenize", LimitExceeded, handle.detokenize(&vec![0; (1 << 18) + 1]));
    expect!(refused, "model.detokenize", InvalidArgument, handle.detokenize(&[vocabulary]));
    expect!(refused, "model.detokenize", InvalidArgument, handle.detokenize(&[1, u32::MAX]));
    let message = |tool_calls: Option<&str>| Message {
        role: "user".into(),
        content: "x".into(),
        tool_calls: tool_calls.map(Into::into),
        tool_call_id: None,
        name: None,
        reasoning_content: None,
        trusted: false,
    };
    let options = |tools: Option<&str>, variables: Option<&str>| ChatOptions {
        add_generation_prompt: true,
        continue_final_message: false,
        tools: tools.map(Into::into),
        variables: variables.map(Into::into),
    };
    let long = || vec![Message { content: "x".repeat(1 << 20), ..message(None) }; 9];
    let both = ChatOptions { continue_final_message: true, ..options(None, None) };
    let mut wrong: Vec<(Message, ChatOptions)> = vec![(message(None), both)];
    for text in ["no json", "", "[", "{}", "1"] {
        wrong.push((message(Some(text)), options(None, None)));
        wrong.push((message(None), options(Some(text), None)));
    }
    for text in ["no json", "", "[", "[]", "1"] {
        wrong.push((message(None), options(None, Some(text))));
    }
    for (message, options) in wrong {
        let messages = [message];
        expect!(refused, "model.encode-chat", InvalidArgument, handle.encode_chat(&messages, &options));
        expect!(refused, "model.format-chat", InvalidArgument, handle.format_chat(&messages, &options));
    }
    let plain = options(None, None);
    expect!(refused, "model.encode-chat", LimitExceeded, handle.encode_chat(&long(), &plain));
    expect!(refused, "model.format-chat", LimitExceeded, handle.format_chat(&long(), &plain));
    Ok(())
}

async fn contexts(refused: &mut Refused, model: &Model, other: &Handle) -> Result<()> {
    let handle = model.handle();
    let context = Context::create(handle)?;
    forward::execute(&context, pass(vec![1, 2, 3], vec![])).await?;
    for length in [4, u32::MAX] {
        expect!(refused, "context.truncate", InvalidArgument, context.truncate(length));
    }
    for (start, end) in [(0, 4), (3, 2), (4, 4), (1, 0), (u32::MAX, u32::MAX), (u32::MAX, 0)] {
        expect!(refused, "context.remove", InvalidArgument, context.remove(start, end));
        expect!(refused, "context.slice", InvalidArgument, context.slice(start, end));
    }
    expect!(refused, "context.append", InvalidArgument, context.append(&context));
    expect!(refused, "context.append", InvalidArgument, context.append(&Context::create(other)?));
    for persistent in [false, true] {
        expect!(refused, "context.save", LimitExceeded, context.save(long_name(), persistent).await);
    }
    // The test's server has no data folder.
    expect!(refused, "context.save", Denied, context.save("to disk".into(), true).await);
    for name in ["no such snapshot", "to disk", ""] {
        expect!(refused, "context.open", NotFound, context::open(handle, name.into()).await);
        expect!(refused, "context.delete", NotFound, context::delete(handle, name.into()).await);
    }
    expect!(refused, "context.open", LimitExceeded, context::open(handle, long_name()).await);
    expect!(refused, "context.delete", LimitExceeded, context::delete(handle, long_name()).await);
    context.save("of one model".into(), false).await?;
    expect!(refused, "context.open", NotFound, context::open(other, "of one model".into()).await);
    expect!(refused, "context.delete", NotFound, context::delete(other, "of one model".into()).await);
    context::delete(handle, "of one model".into()).await?;
    expect!(refused, "context.set-cache-salt", LimitExceeded, context::set_cache_salt(&"a".repeat(1025)));
    ensure!(context::snapshots(handle).await?.is_empty(), "a refused snapshot was saved");
    for priority in [Priority::Low, Priority::Normal, Priority::High] {
        context.set_priority(priority);
    }
    ensure!(context.length() == 3 && context.next_position() == 3, "a refused call changed the context");
    Ok(())
}

async fn passes(refused: &mut Refused, model: &Model) -> Result<()> {
    let (facts, context) = (model.facts(), Context::create(model.handle())?);
    let beyond = facts.vocabulary_size;
    let rows = |rows: u32| pass(vec![1; rows as usize], vec![]);
    let wrong = [
        rows(0),
        pass(vec![beyond], vec![]),
        pass(vec![1, u32::MAX], vec![]),
        rows(facts.context_length + 1),
        Pass { positions: Some(vec![u32::MAX]), ..rows(1) },
        Pass { positions: Some(vec![facts.context_length]), ..rows(1) },
        Pass { positions: Some(vec![1, 2]), ..rows(1) },
        Pass { positions: Some(vec![]), ..rows(1) },
        Pass { masks: Some(vec![]), ..rows(1) },
        Pass { masks: Some(vec![vec![0]]), ..rows(2) },
        Pass { masks: Some(vec![vec![0]; 3]), ..rows(2) },
    ];
    for wrong in wrong {
        expect!(refused, "forward.execute", InvalidArgument, forward::execute(&context, wrong).await);
    }
    let runs = Pass { masks: Some(vec![vec![1; (4 << 20) + 1]]), ..rows(1) };
    expect!(refused, "forward.execute", LimitExceeded, forward::execute(&context, runs).await);
    ensure!(context.length() == 0, "a refused pass grew the context");

    // Runs longer than the tokens are cut, however long.
    let long = Pass { masks: Some(vec![vec![u32::MAX; 3]; 2]), ..rows(2) };
    forward::execute(&context, long).await?;
    ensure!(context.length() == 2, "the pass with long runs is kept");

    let answers =
        forward::execute_many(vec![(&context, rows(0)), (&context, rows(1)), (&context, rows(1))]).await;
    let [first, second, third] = <[_; 3]>::try_from(answers).map_err(|a| anyhow!("{} answers", a.len()))?;
    expect!(refused, "forward.execute-many", InvalidArgument, first);
    ensure!(second.is_ok(), "a wrong pass spoils the other: {second:?}");
    // The second pass of this context is on its way.
    expect!(refused, "forward.execute-many", InvalidArgument, third);
    ensure!(context.length() == 3, "one of three passes grew the context by one");
    ensure!(forward::execute_many(vec![]).await.is_empty(), "no passes have no answers");
    Ok(())
}

async fn outputs(refused: &mut Refused, model: &Model) -> Result<()> {
    let context = Context::create(model.handle())?;
    let vocabulary = model.facts().vocabulary_size;
    let greedy = || SamplingParams::greedy().for_token(None, &[]);
    let kinds = || {
        [
            OutputKind::Token(greedy()),
            OutputKind::TopK(1),
            OutputKind::LogProbs(vec![1]),
            OutputKind::Logits,
            OutputKind::Entropy,
            OutputKind::Hidden,
        ]
    };
    for row in [1, u32::MAX] {
        for kind in kinds() {
            let answer = forward::execute(&context, asking(row, kind)).await;
            expect!(refused, "forward.execute", InvalidArgument, answer);
        }
    }
    let wrong = [
        OutputKind::TopK(0),
        OutputKind::TopK(vocabulary + 1),
        OutputKind::TopK(u32::MAX),
        OutputKind::LogProbs(vec![vocabulary]),
        OutputKind::LogProbs(vec![1, u32::MAX]),
    ];
    for kind in wrong {
        let answer = forward::execute(&context, asking(0, kind)).await;
        expect!(refused, "forward.execute", InvalidArgument, answer);
    }
    let mut samplings = vec![
        Sampling { logit_bias: vec![(vocabulary, 0.0)], ..greedy() },
        Sampling { logit_bias: vec![(0, f32::NAN)], ..greedy() },
        Sampling { logit_bias: vec![(0, f32::INFINITY)], ..greedy() },
        Sampling { allowed_tokens: Some(vec![0, vocabulary]), ..greedy() },
    ];
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 101.0] {
        samplings.push(Sampling { temperature: wrong, ..greedy() });
        samplings.push(Sampling { top_p: wrong, ..greedy() });
        samplings.push(Sampling { min_p: wrong, ..greedy() });
        samplings.push(Sampling { repetition_penalty: wrong, ..greedy() });
        samplings.push(Sampling { presence_penalty: wrong * 101.0, ..greedy() });
        samplings.push(Sampling { frequency_penalty: wrong * 101.0, ..greedy() });
    }
    samplings.push(Sampling { top_p: 0.0, ..greedy() });
    samplings.push(Sampling { repetition_penalty: 0.0, ..greedy() });
    token_counts(refused, model)?;
    for sampling in samplings {
        let said = format!("{sampling:?}").chars().take(400).collect::<String>();
        match forward::execute(&context, asking(0, OutputKind::Token(sampling))).await {
            Err(Error::InvalidArgument(_)) => {}
            other => return Err(anyhow!("{said}: expected InvalidArgument, got {other:?}")),
        }
    }
    let logits = |row| OutputRequest { row, kind: OutputKind::Logits };
    let many = (0..(17 << 20) / vocabulary).map(|_| logits(0)).collect();
    expect!(refused, "forward.execute", LimitExceeded, forward::execute(&context, pass(vec![1], many)).await);
    let only = |token| Sampling { allowed_tokens: Some(vec![token]), ..greedy() };
    let masks = |number| (0..number).map(|n| OutputRequest { row: n % 2, kind: OutputKind::Token(only(n)) });
    let many = forward::execute(&context, pass(vec![1, 2], masks(257).collect())).await;
    expect!(refused, "forward.execute", LimitExceeded, many);
    ensure!(context.length() == 0, "a refused pass grew the context");
    let drawn = forward::execute(&context, pass(vec![1, 2], masks(256).collect())).await?.values;
    let is_only = |(output, token): (&forward::Output, u32)| matches!(output, forward::Output::Token(t) if t.token == token);
    ensure!(drawn.iter().zip(0..).all(is_only), "a token that is not allowed: {drawn:?}");
    Ok(())
}

fn token_counts(refused: &mut Refused, model: &Model) -> Result<()> {
    let vocabulary = model.facts().vocabulary_size;
    let counts = TokenCounts::create(model.handle())?;
    let (prompt, generated) = (TokenOrigin::Prompt, TokenOrigin::Generated);
    for tokens in [vec![vocabulary], vec![1, u32::MAX]] {
        for origin in [prompt, generated] {
            expect!(refused, "forward.add", InvalidArgument, counts.add(&tokens, origin));
            expect!(refused, "forward.remove", InvalidArgument, counts.remove(&tokens, origin));
        }
    }
    counts.add(&[1, 2, 2], prompt)?;
    expect!(refused, "forward.remove", InvalidArgument, counts.remove(&[2, 2, 2], prompt));
    expect!(refused, "forward.remove", InvalidArgument, counts.remove(&[1], generated));
    // A refused call changed nothing, and a fork goes its own way.
    let fork = counts.fork()?;
    counts.remove(&[1, 2, 2], prompt)?;
    expect!(refused, "forward.remove", InvalidArgument, counts.remove(&[1], prompt));
    fork.remove(&[1, 2, 2], prompt)?;
    let mut held = vec![counts, fork];
    while held.len() < 4096 {
        held.push(TokenCounts::create(model.handle())?);
    }
    expect!(refused, "forward.create", LimitExceeded, TokenCounts::create(model.handle()));
    expect!(refused, "forward.fork", LimitExceeded, held[0].fork());
    // The whole vocabulary in each of them is more than all may have together.
    let all: Vec<u32> = (0..vocabulary).collect();
    let fitting = (1 << 20) / vocabulary as usize;
    ensure!(fitting < held.len(), "a vocabulary of {vocabulary} is too small for this case");
    for counts in &held[..fitting] {
        counts.add(&all, generated)?;
    }
    expect!(refused, "forward.add", LimitExceeded, held[fitting].add(&all, generated));
    held[0].remove(&all, generated)?;
    held[fitting].add(&all, generated)?;
    held.truncate(fitting / 2);
    TokenCounts::create(model.handle())?.add(&all, generated)?;
    Ok(())
}

/// Handles that belong to another model than the context does.
async fn of_another_model(refused: &mut Refused, model: &Model, other: &Handle) -> Result<()> {
    let context = Context::create(model.handle())?;
    let rows = Embeddings::from_tokens(other, vec![1, 2]).await?;
    let constraint = Constraint::compile(other, Source::Json).await?;
    let loaded = adapter::Adapter::load(other, adapter::Source::Gguf(tiny_adapter())).await?;
    let sampling = SamplingParams::greedy().for_token(None, &[&constraint]);
    let counts = TokenCounts::create(other)?;
    let penalized = SamplingParams::greedy().presence_penalty(1.0).for_token(Some(&counts), &[]);
    let wrong = [
        Pass { input: Input::Embeddings(&rows), ..pass(vec![], vec![]) },
        Pass { adapter: Some(&loaded), ..pass(vec![1], vec![]) },
        asking(0, OutputKind::Token(sampling)),
        asking(0, OutputKind::Token(penalized)),
    ];
    for wrong in wrong {
        expect!(refused, "forward.execute", InvalidArgument, forward::execute(&context, wrong).await);
    }
    Ok(())
}

async fn embeddings(refused: &mut Refused, model: &Model) -> Result<()> {
    let (handle, facts) = (model.handle(), model.facts());
    let hidden = facts.hidden_size as usize;
    for tokens in [vec![], vec![facts.vocabulary_size], vec![1; facts.context_length as usize + 1]] {
        let answer = Embeddings::from_tokens(handle, tokens).await;
        expect!(refused, "embeds.from-tokens", InvalidArgument, answer);
    }
    let almost = |last: f32| [vec![0.0; hidden - 1], vec![last]].concat();
    for values in [vec![], vec![1.0], vec![1.0; hidden + 1], almost(f32::NAN), almost(f32::INFINITY)] {
        let answer = Embeddings::from_values(handle, &values);
        expect!(refused, "embeds.from-values", InvalidArgument, answer);
    }
    Ok(())
}

fn answers(refused: &mut Refused, model: &Model) -> Result<()> {
    let handle = model.handle();
    let tools = r#"[{"type":"function","function":{"name":"add"}}]"#;
    let reader = |tools: &str| {
        let options = ReaderOptions { tools: Some(tools.to_string()), any_tool: false, in_reasoning: false };
        Reader::create(handle, &options)
    };
    let grammar = |tools: &str, name: Option<&str>| {
        let (tools, name) = (tools.to_string(), name.map(str::to_string));
        let options = CallOptions { tools, name, parallel: true, reasoning: ReasoningPlace::None };
        answer::call_grammar(handle, &options)
    };
    for wrong in ["", "{", "{}", "1"] {
        expect!(refused, "answer.create", InvalidArgument, reader(wrong));
        expect!(refused, "answer.call-grammar", InvalidArgument, grammar(wrong, None));
        expect!(refused, "answer.call-triggers", InvalidArgument, answer::call_triggers(handle, wrong, true));
    }
    expect!(refused, "answer.call-grammar", InvalidArgument, grammar("[]", None));
    expect!(refused, "answer.call-grammar", NotFound, grammar(tools, Some("subtract")));
    let long = "x".repeat((1 << 20) + 1);
    expect!(refused, "answer.create", LimitExceeded, reader(&long));
    expect!(refused, "answer.call-grammar", LimitExceeded, grammar(&long, None));
    expect!(refused, "answer.call-triggers", LimitExceeded, answer::call_triggers(handle, &long, true));
    let reader = reader(tools)?;
    expect!(refused, "answer.read", LimitExceeded, reader.read(&long));
    reader.read(&long[..1 << 20])?;
    expect!(refused, "answer.read", LimitExceeded, reader.read("x"));
    let wrong = [model.facts().vocabulary_size];
    expect!(refused, "answer.opens-reasoning", InvalidArgument, answer::opens_reasoning(handle, &wrong));
    Ok(())
}

async fn grammars(refused: &mut Refused, model: &Model) -> Result<()> {
    let handle = model.handle();
    // As deep as a text may be.
    let deep = |open: &str, close: &str| {
        let levels = 60_000 / (open.len() + close.len());
        format!("{}1{}", open.repeat(levels), close.repeat(levels))
    };
    let sources = [
        Source::JsonSchema(String::new()),
        Source::JsonSchema("{".into()),
        Source::JsonSchema("[]".into()),
        Source::JsonSchema("false".into()),
        Source::JsonSchema(r#"{"type":"no type"}"#.into()),
        Source::JsonSchema(r##"{"$ref":"#/nowhere"}"##.into()),
        Source::JsonSchema(r#"{"$ref":"https://example.com/schema"}"#.into()),
        Source::JsonSchema(r#"{"type":"integer","minimum":2,"maximum":1}"#.into()),
        Source::JsonSchema(r#"{"type":"string","pattern":"("}"#.into()),
        Source::JsonSchema(r#"{"x-guidance":{"no_option":1}}"#.into()),
        Source::JsonSchema(r#"{"x-guidance":1}"#.into()),
        Source::JsonSchema(deep(r#"{"items":"#, "}")),
        Source::Regex("(".into()),
        Source::Regex("a{2,1}".into()),
        Source::Regex("(?=a)".into()),
        Source::Regex(deep("(", ")")),
        Source::Lark(String::new()),
        Source::Lark("start: nothing".into()),
        Source::Lark("start: \"a".into()),
        Source::Lark(format!("start: {}", deep("(", ")"))),
        Source::Ebnf(String::new()),
        Source::Ebnf("root ::= nothing".into()),
        Source::Ebnf("root ::= [".into()),
        Source::Ebnf(format!("root ::= {}", deep("(", ")").replace('1', "\"1\""))),
    ];
    for source in sources {
        let said = format!("{source:?}").chars().take(80).collect::<String>();
        match Constraint::compile(handle, source).await {
            Err(Error::InvalidArgument(reason)) if !reason.is_empty() => {}
            other => return Err(anyhow!("{said}: expected InvalidArgument, got {:?}", other.err())),
        }
    }
    let long = || "x".repeat((64 << 10) + 1);
    for source in
        [Source::JsonSchema(long()), Source::Regex(long()), Source::Lark(long()), Source::Ebnf(long())]
    {
        expect!(refused, "grammar.compile", LimitExceeded, Constraint::compile(handle, source).await);
    }
    let constraint = Constraint::compile(handle, Source::Regex("abc".into())).await?;
    let (abc, z) = (model.tokenize("abc")?, model.tokenize("z")?);
    let stop = model.facts().stop_tokens[0];
    let fork = constraint.fork()?;
    let many = SamplingParams::greedy().for_token(None, &[&constraint; 17]);
    let context = Context::create(handle)?;
    let answer = forward::execute(&context, asking(0, OutputKind::Token(many))).await;
    expect!(refused, "forward.execute", LimitExceeded, answer);
    for constraint in [&constraint, &fork] {
        for wrong in [&z[..], &[model.facts().vocabulary_size], &[u32::MAX], &[stop]] {
            expect!(refused, "grammar.advance", InvalidArgument, constraint.advance(wrong));
        }
        for wrong in [1, u32::MAX] {
            expect!(refused, "grammar.rollback", InvalidArgument, constraint.rollback(wrong));
        }
    }
    let abz = [&abc[..abc.len() - 1], &z].concat();
    expect!(refused, "grammar.advance", InvalidArgument, constraint.advance(&abz));
    constraint.advance(&abc)?;
    ensure!(constraint.complete()? && !fork.complete()?, "a refused advance left something behind");
    expect!(refused, "grammar.advance", InvalidArgument, constraint.advance(&z));
    constraint.advance(&[stop])?;
    expect!(refused, "grammar.advance", InvalidArgument, constraint.advance(&abc[..1]));
    let accepted = abc.len() as u32 + 1;
    expect!(refused, "grammar.rollback", InvalidArgument, constraint.rollback(accepted + 1));
    constraint.rollback(accepted)?;
    ensure!(constraint.allowed()? == fork.allowed()?, "it is not back at the beginning");
    stopped_grammar(handle, model).await
}

/// A constraint with a step that was stopped in its middle: each `a` leaves another end of the text.
async fn stopped_grammar(handle: &Handle, model: &Model) -> Result<()> {
    let source = Source::Regex(format!("(x{}){{0,20000}}", "a?".repeat(7500)));
    let constraint = Constraint::compile(handle, source).await?;
    let xa = model.tokenize("xa")?;
    let stopped = (0..50).find_map(|_| constraint.advance(&xa).err());
    ensure!(matches!(stopped, Some(Error::LimitExceeded(_))), "expected LimitExceeded, got {stopped:?}");
    let after = [
        constraint.advance(&xa).err(),
        constraint.rollback(1).err(),
        constraint.allowed().err(),
        constraint.forced().err(),
        constraint.complete().err(),
        constraint.finished().err(),
        constraint.fork().err(),
    ];
    let is_named = |error: &Option<Error>| matches!(error, Some(Error::InvalidArgument(reason)) if reason.contains("compile the grammar again"));
    ensure!(after.iter().all(is_named), "expected InvalidArgument of each, got {after:?}");
    // Others are none the worse.
    let other = Constraint::compile(handle, Source::Regex("xa".into())).await?;
    other.advance(&xa)?;
    ensure!(other.complete()?, "another grammar is as ever");
    Ok(())
}

/// A GGUF adapter without any layer: the header, three settings, and one pair of 1 x 1 matrices.
fn tiny_adapter() -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut file = [&b"GGUF"[..], &3u32.to_le_bytes(), &2u64.to_le_bytes(), &3u64.to_le_bytes()].concat();
    for (key, value) in [("general.type", "adapter"), ("adapter.type", "lora")] {
        file.extend([text(key), 8u32.to_le_bytes().to_vec(), text(value)].concat());
    }
    let alpha = [&6u32.to_le_bytes()[..], &1f32.to_le_bytes()].concat();
    file.extend([text("adapter.lora.alpha"), alpha].concat());
    for (half, offset) in [("lora_a", 0u64), ("lora_b", 32)] {
        file.extend(text(&format!("blk.0.attn_q.weight.{half}")));
        file.extend([&2u32.to_le_bytes()[..], &1u64.to_le_bytes(), &1u64.to_le_bytes()].concat());
        file.extend([&0u32.to_le_bytes()[..], &offset.to_le_bytes()].concat());
    }
    file.resize(file.len().next_multiple_of(32) + 36, 0);
    file
}

async fn adapters(refused: &mut Refused, model: &Model) -> Result<()> {
    let load = |source| adapter::Adapter::load(model.handle(), source);
    for name in ["", ".", "..", "../none", "/etc/passwd", "no such adapter"] {
        let answer = load(adapter::Source::Name(name.into())).await;
        expect!(refused, "adapter.load", NotFound, answer);
    }
    ensure!(adapter::available()?.is_empty(), "the test's server has no adapters");
    let whole = tiny_adapter();
    let cut = whole[..whole.len() - 8].to_vec();
    for bytes in [vec![], vec![1], b"GGUF".to_vec(), cut] {
        expect!(refused, "adapter.load", InvalidArgument, load(adapter::Source::Gguf(bytes)).await);
    }
    let config = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8}"#;
    let empty = [&2u64.to_le_bytes()[..], b"{}"].concat();
    let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    for (config, tensors) in [
        ("", vec![]),
        ("{}", vec![]),
        (config, vec![]),
        (config, empty.clone()),
        (config, huge),
        (r#"{"peft_type": "LORA", "r": 0, "lora_alpha": 8}"#, empty),
    ] {
        let answer = load(adapter::Source::Peft((config.into(), tensors))).await;
        expect!(refused, "adapter.load", InvalidArgument, answer);
    }
    Ok(())
}

async fn programs(refused: &mut Refused) -> Result<()> {
    for name in ["no such program", "", "..", "../test-programs", "/etc/passwd", "a\0b"] {
        expect!(refused, "runtime.launch", NotFound, runtime::launch(name.into(), vec![]).await);
    }
    let long = vec!["y".repeat(1 << 19); 3];
    expect!(refused, "runtime.launch", LimitExceeded, runtime::launch("x".into(), long).await);
    // Each `wait` for a failed child reports the failure, and the child can be cancelled afterwards.
    let child = runtime::launch("test-programs".into(), vec!["fail".into()]).await?;
    expect!(refused, "runtime.wait", Closed, child.wait().await);
    child.cancel();
    expect!(refused, "runtime.wait", Closed, child.wait().await);
    Ok(())
}

async fn stores(refused: &mut Refused) -> Result<()> {
    let long = "k".repeat(1025);
    expect!(refused, "store.set", LimitExceeded, store::set(long.clone(), vec![]).await);
    expect!(refused, "store.get", LimitExceeded, store::get(&long));
    expect!(refused, "store.delete", LimitExceeded, store::delete(long.clone()).await);
    expect!(refused, "store.keys", LimitExceeded, store::keys(&long));
    expect!(refused, "store.set", LimitExceeded, store::set("k".into(), vec![0; (16 << 20) + 1]).await);
    ensure!(store::keys("")?.is_empty() && store::get("k")?.is_none(), "a refused value was stored");
    Ok(())
}

async fn messages(refused: &mut Refused) -> Result<()> {
    let long = || "m".repeat((1 << 20) + 1);
    for keep in [false, true] {
        let (name, message) = (messaging::broadcast(&long_name(), "m", keep), long());
        expect!(refused, "messaging.broadcast", LimitExceeded, name);
        let message = messaging::broadcast("t", &message, keep);
        expect!(refused, "messaging.broadcast", LimitExceeded, message);
    }
    expect!(refused, "messaging.subscribe", LimitExceeded, messaging::subscribe(&long_name(), false));
    expect!(refused, "messaging.forget", LimitExceeded, messaging::forget(&long_name()));
    expect!(refused, "messaging.push", LimitExceeded, messaging::push(long_name(), "m".into()).await);
    expect!(refused, "messaging.push", LimitExceeded, messaging::push("q".into(), long()).await);
    expect!(refused, "messaging.pull", LimitExceeded, messaging::pull(long_name()).await);

    let slow = messaging::subscribe("busy", true)?;
    for number in 0..4096 + 3 {
        messaging::broadcast("busy", &number.to_string(), false)?;
    }
    expect!(refused, "messaging.next", LimitExceeded, slow.next().await);
    let next = slow.next().await?;
    ensure!(next == "3", "after three lost messages comes the fourth, not {next}");

    for number in 0..4096 - 1 {
        messaging::broadcast(&format!("kept {number}"), "m", true)?;
    }
    expect!(refused, "messaging.broadcast", LimitExceeded, messaging::broadcast("one more", "m", true));
    expect!(refused, "messaging.subscribe", LimitExceeded, messaging::subscribe("one more", false));
    for number in 0..4096 {
        messaging::push(format!("queue {number}"), "m".into()).await?;
    }
    expect!(refused, "messaging.push", LimitExceeded, messaging::push("one more".into(), "m".into()).await);
    expect!(refused, "messaging.pull", LimitExceeded, messaging::pull("one more".into()).await);
    Ok(())
}

async fn sessions(refused: &mut Refused) -> Result<()> {
    let left = runtime::usage().await?.output_bytes as usize;
    expect!(refused, "session.send", LimitExceeded, session::send("x".repeat(left + 1)).await);
    expect!(refused, "session.send-blob", LimitExceeded, session::send_blob(vec![0; left + 1]).await);
    ensure!(runtime::usage().await?.output_bytes as usize == left, "refused output was counted");
    expect!(refused, "session.receive", Closed, session::receive().await);
    expect!(refused, "session.receive-blob", Closed, session::receive_blob().await);
    Ok(())
}

async fn servers(refused: &mut Refused) -> Result<()> {
    let call = |server: &str, tool: &str, arguments: &str| {
        mcp::call(server.to_string(), tool.to_string(), arguments.to_string())
    };
    for url in ["", "http://127.0.0.1/mcp", "test", "file:///etc/passwd"] {
        expect!(refused, "mcp.find", NotFound, mcp::find(url));
    }
    ensure!(mcp::servers() == ["test", "nobody"], "{:?}", mcp::servers());
    ensure!(mcp::find("http://127.0.0.1:9/mcp")? == "nobody", "it has the address");
    expect!(refused, "mcp.tools", Closed, mcp::tools("nobody".into()).await);
    expect!(refused, "mcp.call", Closed, call("nobody", "echo", "{}").await);
    for server in ["", "other", "TEST", "test\0", "../test"] {
        expect!(refused, "mcp.tools", NotFound, mcp::tools(server.into()).await);
        expect!(refused, "mcp.call", NotFound, call(server, "echo", "{}").await);
    }
    for arguments in ["", "no json", "[]", "1", "null", "{", "{\"a\": }"] {
        expect!(refused, "mcp.call", InvalidArgument, call("test", "echo", arguments).await);
    }
    for tool in ["", "die", "Echo", "echo\0"] {
        expect!(refused, "mcp.call", Denied, call("test", tool, "{}").await);
    }
    expect!(refused, "mcp.call", InvalidArgument, call("test", "no such tool", "{}").await);
    expect!(refused, "mcp.call", Backend, call("test", "broken", "{}").await);
    let long = "a".repeat(1 << 20);
    expect!(refused, "mcp.call", LimitExceeded, call("test", "echo", &format!("{{\"a\":\"{long}\"}}")).await);
    expect!(refused, "mcp.call", LimitExceeded, call("test", &long, "{}").await);
    // As many as there may be at once, and one more.
    let mut slow: Vec<_> = (0..16).map(|_| call("test", "slow", "{}").boxed_local()).collect();
    for call in &mut slow {
        ensure!(inferlet::futures::poll!(call).is_pending(), "it never answers");
    }
    expect!(refused, "mcp.call", LimitExceeded, call("test", "echo", "{}").await);
    expect!(refused, "mcp.tools", LimitExceeded, mcp::tools("test".into()).await);
    drop(slow);
    ensure!(call("test", "fail", "{}").await?.is_error, "the tool tells of a failure");
    let given = call("test", "echo", "{\"a\": [1]}").await?.structured;
    ensure!(given.as_deref() == Some("{\"a\":[1]}"), "{given:?}");
    ensure!(mcp::tools("test".into()).await?.len() == 3, "three of its tools are allowed");
    Ok(())
}

async fn too_many_contexts(refused: &mut Refused, model: &Handle) -> Result<()> {
    let first = Context::create(model)?;
    forward::execute(&first, pass(vec![1, 2], vec![])).await?;
    first.save("kept".into(), false).await?;
    let mut held = vec![first];
    while held.len() < 64 {
        held.push(Context::create(model)?);
    }
    expect!(refused, "context.create", LimitExceeded, Context::create(model));
    expect!(refused, "context.fork", LimitExceeded, held[0].fork());
    expect!(refused, "context.slice", LimitExceeded, held[0].slice(0, 1));
    expect!(refused, "context.open", LimitExceeded, context::open(model, "kept".into()).await);
    held.pop();
    Context::create(model)?;
    context::delete(model, "kept".into()).await?;
    Ok(())
}
