//! Programs that take as much as they get, one for each thing that can be taken, and the program beside them.
//!
//! An attack is a step that is made again and again (`Attack::step`). `once` ends at the first refusal, or when so much was
//! taken that a limit would have been worth it (`steps`). `forever` goes on after refusals, holding what it has, and begins
//! anew where nothing is refused; it ends by being killed.

use std::time::Duration;

use inferlet::adapter::{self, Adapter};
use inferlet::anyhow::{bail, ensure};
use inferlet::bindings::pie::inferlet::context::{self, Context, Priority};
use inferlet::bindings::pie::inferlet::grammar::{Constraint, Source};
use inferlet::bindings::pie::inferlet::mcp;
use inferlet::bindings::pie::inferlet::messaging::Subscription;
use inferlet::bindings::pie::inferlet::model::{self, Model};
use inferlet::bindings::pie::inferlet::runtime::Child;
use inferlet::embeds::Embeddings;
use inferlet::forward::{self, Input, Output, OutputKind, OutputRequest, Pass};
use inferlet::futures::future::{Either, join_all, select, try_join_all};
use inferlet::{Error, Result, SamplingParams, clock, messaging, runtime, session, sleep, store};

use crate::random::lora;

/// What an attack holds.
struct Attack {
    name: String,
    model: Model,
    contexts: Vec<Context>,
    adapters: Vec<Adapter>,
    embeddings: Vec<Embeddings>,
    constraints: Vec<Constraint>,
    subscriptions: Vec<Subscription>,
    children: Vec<Child>,
    memory: Vec<Vec<u8>>,
}

impl Attack {
    /// One that holds nothing.
    fn new(name: String, model: Model) -> Attack {
        Attack {
            name,
            model,
            contexts: Vec::new(),
            adapters: Vec::new(),
            embeddings: Vec::new(),
            constraints: Vec::new(),
            subscriptions: Vec::new(),
            children: Vec::new(),
            memory: Vec::new(),
        }
    }
}

/// `NAME/once` or `NAME/forever`.
pub async fn run(value: &str) -> Result<String> {
    let Some((name, mode)) = value.split_once('/') else { bail!("expected NAME/once or NAME/forever") };
    let mut attack = Attack::new(name.to_string(), model::open(None)?);
    let forever = mode == "forever";
    loop {
        for step in 0..steps(name) {
            match attack.step(step).await {
                Ok(()) => {}
                Err(error) if !forever => return Ok(format!("refused after {step}: {error:?}")),
                Err(_) => {}
            }
        }
        if !forever {
            return Ok(format!("took {}", steps(name)));
        }
        attack = Attack::new(attack.name, attack.model);
    }
}

/// Steps after which enough was taken.
fn steps(name: &str) -> u32 {
    match name {
        // A mebibyte in each, or 16.
        "queue-bytes" | "kept-bytes" => 96,
        "store-bytes" => 8,
        "embeddings" => 64,
        "tokenize" | "tokenize-100-mb" | "compile-bomb" | "snapshots-at-once" | "row-outputs" => 2,
        "fork-bomb" => 1,
        "long-passes" => 3,
        "pass-outputs" => 10,
        "store-reads" => 50,
        "many-passes" | "short-launches" | "deep-grammars" => 200,
        "grammars" => 2000,
        "abandoned-passes" | "vocabulary" | "stderr" => 500,
        "free-calls" | "inbox" | "tokenize-often" | "broadcasts" | "masks" | "facts" => 10_000,
        "subscriptions" => 20_000,
        _ => 100_000,
    }
}

fn pass(tokens: Vec<u32>, outputs: Vec<OutputRequest<'_>>) -> Pass<'_> {
    Pass { input: Input::Tokens(tokens), positions: None, masks: None, adapter: None, keep: true, outputs }
}

/// Many different tokens, so that no page is shared.
fn different(seed: u32, count: u32) -> Vec<u32> {
    (0..count).map(|at| (seed.wrapping_mul(31) + at * 7) % 250).collect()
}

impl Attack {
    async fn step(&mut self, step: u32) -> Result<(), Error> {
        match self.name.as_str() {
            "pages" => {
                let context = Context::create(&self.model)?;
                forward::execute(&context, pass(different(step, 256), vec![])).await?;
                self.contexts.push(context);
            }
            "saved-pages" => {
                let context = Context::create(&self.model)?;
                forward::execute(&context, pass(different(step, 256), vec![])).await?;
                context.save(format!("saved {step}"), false).await?;
            }
            "snapshots" => {
                self.one_context().await?;
                self.contexts[0].save(format!("saved {step}"), false).await?;
            }
            "snapshots-at-once" => {
                self.one_context().await?;
                let save = |number| self.contexts[0].save(format!("saved {step} {number}"), false);
                let answers = join_all((0..1500).map(save)).await;
                let saved = context::snapshots(&self.model).await?.len();
                assert!(saved <= 1024, "{saved} snapshots are saved");
                answers.into_iter().collect::<Result<Vec<_>, _>>()?;
            }
            "append" => {
                self.one_context().await?;
                let fork = self.contexts[0].fork()?;
                self.contexts[0].append(&fork)?;
            }
            "contexts" => {
                self.one_context().await?;
                self.contexts.push(self.contexts[0].fork()?);
            }
            "adapters" => {
                let source = adapter::Source::Gguf(lora::gguf(u64::from(step)));
                self.adapters.push(Adapter::load(&self.model, source).await?);
            }
            "row-outputs" => {
                let context = Context::create(&self.model)?;
                let output = || OutputRequest { row: 0, kind: OutputKind::Entropy };
                let outputs = (0..1_000_000).map(|_| output()).collect();
                forward::execute(&context, pass(vec![1], outputs)).await?;
            }
            "pass-outputs" => {
                let context = Context::create(&self.model)?;
                let output = |row| OutputRequest { row, kind: OutputKind::Logits };
                let outputs = (0..64).flat_map(|row| (0..256).map(move |_| output(row))).collect();
                forward::execute(&context, pass(different(step, 64), outputs)).await?;
            }
            "long-passes" => {
                let context = Context::create(&self.model)?;
                forward::execute(&context, pass(different(step, 1500), vec![])).await?;
            }
            "many-passes" => {
                while self.contexts.len() < 128 {
                    self.contexts.push(Context::create(&self.model)?);
                }
                let pass = || Pass { keep: false, ..pass(different(step, 4), vec![]) };
                let passes = self.contexts.iter().map(|context| (context, pass())).collect();
                for answer in forward::execute_many(passes).await {
                    answer?;
                }
            }
            "abandoned-passes" => {
                let context = Context::create(&self.model)?;
                let pass = forward::execute(&context, pass(different(step, 200), vec![]));
                select(Box::pin(pass), Box::pin(sleep(Duration::ZERO))).await;
            }
            "inbox" => {
                self.one_context().await?;
                let priority = if step.is_multiple_of(2) { Priority::High } else { Priority::Low };
                self.contexts[0].set_priority(priority);
                drop(self.contexts[0].fork()?);
            }
            "free-calls" => {
                self.one_context().await?;
                let context = &self.contexts[0];
                context.set_priority(if step.is_multiple_of(2) { Priority::High } else { Priority::Low });
                context.truncate(context.length())?;
                context.remove(0, 0)?;
                std::hint::black_box((context.next_position(), clock::elapsed(), runtime::instance_id()));
            }
            "facts" => {
                drop((self.model.facts(), model::models(), runtime::arguments(), adapter::available()))
            }
            "vocabulary" => drop(self.model.vocabulary()),
            "memory" => self.memory.push(std::hint::black_box(vec![1; 1 << 20])),
            "spin" => {
                std::hint::black_box(crate::hostile::spin()).map_err(|e| Error::Closed(e.to_string()))?;
            }
            "output" => session::send("x".repeat(1 << 16)).await?,
            "stderr" => eprintln!("{}", "x".repeat(1 << 12)),
            "fork-bomb" => {
                let arguments = vec!["attack".to_string(), "fork-bomb/once".to_string()];
                let (one, two) = (launch(&arguments).await?, launch(&arguments).await?);
                for child in [one, two] {
                    // What ended below says why the child ended.
                    let answer = child.wait().await?;
                    self.children.push(child);
                    if answer.starts_with("refused") {
                        return Err(Error::LimitExceeded(answer));
                    }
                }
            }
            "launches" => {
                self.children.push(launch(&["attack".to_string(), "sleep/once".to_string()]).await?);
            }
            "short-launches" => drop(launch(&["hello".to_string()]).await?),
            // What "launches" launches.
            "sleep" => sleep(Duration::from_secs(3600)).await,
            "queue-bytes" => {
                let push = Box::pin(messaging::push(format!("queue {}", step % 4), "x".repeat(1 << 20)));
                match select(push, Box::pin(sleep(Duration::from_secs(2)))).await {
                    Either::Left((answer, _)) => answer?,
                    Either::Right(_) => return Err(Error::LimitExceeded("it waits".into())),
                }
            }
            "kept-bytes" => messaging::broadcast(&format!("topic {}", step % 4), &"x".repeat(1 << 20), true)?,
            "subscriptions" => self.subscriptions.push(messaging::subscribe("topic", true)?),
            "broadcasts" => {
                if self.subscriptions.len() < 100 {
                    self.subscriptions.push(messaging::subscribe("topic", false)?);
                }
                messaging::broadcast("topic", "message", false)?;
            }
            "store-bytes" => store::set(format!("key {step}"), vec![7; 16 << 20]).await?,
            "store-reads" => {
                if step == 0 {
                    store::set("large".to_string(), vec![7; 16 << 20]).await?;
                }
                drop(store::get("large")?);
            }
            "embeddings" => {
                let hidden = self.model.facts().hidden_size as usize;
                let values = vec![0.5; (1 << 20) / hidden * hidden];
                self.embeddings.push(Embeddings::from_values(&self.model, &values)?);
            }
            "grammars" => {
                let source = Source::Regex(format!("[a-z]{{1,200}} {step} (yes|no)"));
                self.constraints.push(Constraint::compile(&self.model, source).await?);
            }
            "compile-bomb" => {
                let compile = |number| {
                    // Fifty kilobytes, none of them a text that was compiled before.
                    let word = |at| format!("\"{number} {at} {}\"", at * 7919 % 10_007);
                    let words: Vec<String> = (0..2500).map(word).collect();
                    let schema = format!("{{\"enum\": [{}]}}", words.join(", "));
                    Constraint::compile(&self.model, Source::JsonSchema(schema))
                };
                let answers = join_all((step * 64..step * 64 + 64).map(compile)).await;
                // A grammar that is too large is refused as wrong, which is no limit on how often.
                let limited = answers.into_iter().filter_map(Result::err);
                let limited = limited.filter(|error| !matches!(error, Error::InvalidArgument(_)));
                limited.map(Err).next().unwrap_or(Ok(()))?;
            }
            "deep-grammars" => {
                // Rules that need each other, as many as a text may have.
                let rules: String = (0..3600).map(|at| format!("r{at}: \"a\" r{}\n", at + 1)).collect();
                let lark = format!("start: r0\n{rules}r3600: \"{step}\"\n");
                drop(Constraint::compile(&self.model, Source::Lark(lark)).await?);
            }
            "slow-grammars" => {
                // Its first step alone would take minutes.
                let source = Source::Regex("a?".repeat(32_000));
                drop(Constraint::compile(&self.model, source).await?);
            }
            "grown-grammars" => {
                // Each `a` leaves another end of the text, and so thousands of expressions.
                if self.constraints.is_empty() {
                    let source = Source::Regex(format!("(x{}){{0,20000}}", "a?".repeat(3000)));
                    self.constraints.push(Constraint::compile(&self.model, source).await?);
                }
                let constraint = &self.constraints[0];
                constraint.advance(&self.model.tokenize("xa", false)?)?;
                let fork = constraint.fork()?;
                self.constraints.push(fork);
            }
            "masks" => {
                if self.constraints.is_empty() {
                    self.constraints.push(Constraint::compile(&self.model, Source::Json).await?);
                }
                let fork = self.constraints[0].fork()?;
                drop((fork.allowed()?, fork.forced()));
            }
            "tool-calls" => {
                // More at once than there may be, of a tool that never answers.
                let call = |_| mcp::call("test".to_string(), "slow".to_string(), "{}".to_string());
                try_join_all((0..20).map(call)).await?;
            }
            "tokenize" => drop(self.model.tokenize(&"hello the ring ".repeat((2 << 20) / 15), false)?),
            "tokenize-100-mb" => {
                drop(self.model.tokenize(&"hello the ring ".repeat((100 << 20) / 15), false)?)
            }
            "tokenize-often" => drop(self.model.tokenize(&"hello the ring ".repeat(100), false)?),
            unknown => return Err(Error::NotFound(format!("no attack `{unknown}`"))),
        }
        Ok(())
    }

    async fn one_context(&mut self) -> Result<(), Error> {
        if self.contexts.is_empty() {
            let context = Context::create(&self.model)?;
            forward::execute(&context, pass(vec![1, 2, 3], vec![])).await?;
            self.contexts.push(context);
        }
        Ok(())
    }
}

async fn launch(arguments: &[String]) -> Result<Child, Error> {
    runtime::launch("test-programs".to_string(), arguments.to_vec()).await
}

/// Draws tokens one by one: `STEPS`. It says when it is there, and begins when its client has sent something or sends no
/// more. The first line has the tokens, the second one the microseconds of each step.
pub async fn decode(value: &str) -> Result<String> {
    let steps: usize = value.parse()?;
    session::send("started".to_string()).await?;
    let _ = session::receive().await;
    let model = model::open(None)?;
    let context = Context::create(&model)?;
    let mut input = model.tokenize("The quick brown fox jumps over the lazy dog.", false)?;
    let (mut tokens, mut times) = (Vec::new(), Vec::new());
    for _ in 0..steps {
        let sampling = SamplingParams::greedy().for_token(None, &[]);
        let last = input.len() as u32 - 1;
        let outputs = vec![OutputRequest { row: last, kind: OutputKind::Token(sampling) }];
        let start = clock::elapsed();
        let answer = forward::execute(&context, pass(input, outputs)).await?;
        times.push(((clock::elapsed() - start) / 1000).to_string());
        let Some(Output::Token(drawn)) = answer.values.into_iter().next() else {
            bail!("no token was drawn")
        };
        tokens.push(drawn.token.to_string());
        input = vec![drawn.token];
    }
    ensure!(context.length() as usize >= steps, "the context has every token but the last");
    Ok(format!("{}\n{}", tokens.join(" "), times.join(" ")))
}
