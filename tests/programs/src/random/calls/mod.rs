//! Every function of `wit/`, and how a random call of it is made.
//!
//! A call that returns at once is made and noted here; a call that takes time becomes a future, to be awaited or
//! dropped. One that may wait for ever waits for some milliseconds.
mod context;
mod forward;
mod model;

use std::future::Future;
use std::time::Duration;

use inferlet::bindings::pie::inferlet::{clock, mcp, messaging, runtime, session, store};
use inferlet::futures::FutureExt;
use inferlet::futures::future::{Either, LocalBoxFuture, select};
use inferlet::{Error, sleep};

pub(super) use context::Held;

use super::{Done, New, Program};

/// The functions and how often they are drawn.
pub(super) const CALLS: [(&str, u32); 81] = [
    ("adapter.load", 4),
    ("adapter.rank", 1),
    ("adapter.tensors", 1),
    ("adapter.available", 1),
    ("answer.opens-reasoning", 1),
    ("answer.call-grammar", 2),
    ("answer.call-triggers", 1),
    ("answer.create", 2),
    ("answer.read", 4),
    ("answer.finish", 1),
    ("clock.sleep", 2),
    ("clock.elapsed", 1),
    ("context.create", 6),
    ("context.fork", 6),
    ("context.length", 1),
    ("context.next-position", 1),
    ("context.truncate", 5),
    ("context.remove", 4),
    ("context.slice", 4),
    ("context.append", 4),
    ("context.set-priority", 3),
    ("context.save", 6),
    ("context.open", 6),
    ("context.delete", 3),
    ("context.snapshots", 2),
    ("context.set-cache-salt", 1),
    ("embeds.from-tokens", 4),
    ("embeds.from-values", 2),
    ("embeds.rows", 1),
    ("embeds.values", 1),
    ("forward.execute", 30),
    ("forward.execute-many", 8),
    ("forward.create", 2),
    ("forward.add", 3),
    ("forward.remove", 2),
    ("forward.fork", 1),
    ("grammar.compile", 4),
    ("grammar.fork", 2),
    ("grammar.advance", 3),
    ("grammar.rollback", 2),
    ("grammar.allowed", 2),
    ("grammar.forced", 1),
    ("grammar.complete", 1),
    ("grammar.finished", 1),
    ("mcp.servers", 1),
    ("mcp.find", 1),
    ("mcp.tools", 2),
    ("mcp.call", 4),
    ("messaging.next", 3),
    ("messaging.broadcast", 3),
    ("messaging.subscribe", 3),
    ("messaging.forget", 2),
    ("messaging.push", 3),
    ("messaging.pull", 3),
    ("model.models", 1),
    ("model.open", 1),
    ("model.facts", 1),
    ("model.embedding", 1),
    ("model.tokenize", 2),
    ("model.detokenize", 1),
    ("model.vocabulary", 1),
    ("model.encode-chat", 1),
    ("model.format-chat", 1),
    ("runtime.arguments", 1),
    ("runtime.instance-id", 1),
    ("runtime.user", 1),
    ("runtime.version", 1),
    ("runtime.detach", 1),
    ("runtime.usage", 2),
    ("runtime.id", 1),
    ("runtime.wait", 3),
    ("runtime.cancel", 1),
    ("runtime.launch", 2),
    ("session.send", 3),
    ("session.send-blob", 2),
    ("session.receive", 2),
    ("session.receive-blob", 2),
    ("store.get", 2),
    ("store.set", 2),
    ("store.delete", 1),
    ("store.keys", 1),
];

/// A future as a call in flight.
fn call(
    name: &'static str,
    work: impl Future<Output = Result<New, Error>> + 'static,
) -> LocalBoxFuture<'static, Done> {
    async move { (name, work.await) }.boxed_local()
}

/// As [`call`], for what may wait for ever; then it counts as cancelled.
fn patient(
    name: &'static str,
    limit_ms: u64,
    work: impl Future<Output = Result<New, Error>> + 'static,
) -> LocalBoxFuture<'static, Done> {
    let limited = async move {
        match select(Box::pin(work), Box::pin(sleep(Duration::from_millis(limit_ms)))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(Error::Cancelled),
        }
    };
    call(name, limited)
}

fn nothing<T>(_: T) -> New {
    New::Nothing
}

impl Program {
    /// Makes a call. `None` when it was made and noted, or when there is no handle to make it with.
    pub(super) fn call(&mut self, name: &'static str) -> Option<LocalBoxFuture<'static, Done>> {
        let model = self.random.pick(&self.models).expect("there is a model");
        match name.split_once('.').expect("interface and function").0 {
            "context" => self.context_call(name, model),
            "forward" => self.forward_call(name, &model),
            "grammar" => self.grammar_call(name, model),
            "model" => {
                let result = self.model_call(name, &model);
                self.keep((name, result));
                None
            }
            "answer" => {
                if let Some(result) = self.answer_call(name, &model) {
                    self.keep((name, result));
                }
                None
            }
            "mcp" => self.mcp_call(name),
            "messaging" => self.messaging_call(name),
            "adapter" => self.adapter_call(name, model),
            "embeds" => self.embeds_call(name, model),
            "runtime" => self.runtime_call(name),
            "session" => Some(self.session_call(name)),
            "store" => self.store_call(name),
            "clock" => self.clock_call(name),
            _ => panic!("`{name}` has no call"),
        }
    }

    fn clock_call(&mut self, name: &'static str) -> Option<LocalBoxFuture<'static, Done>> {
        if name == "clock.elapsed" {
            clock::elapsed();
            self.keep((name, Ok(New::Nothing)));
            return None;
        }
        let long = [0, 1, 3, u64::MAX, u64::MAX / 2, 1 << 40];
        let (time, limit) = (long[self.random.index(long.len())], self.random.below(5));
        let sleep = async move {
            clock::sleep(time).await;
            Ok(New::Nothing)
        };
        Some(patient(name, limit, sleep))
    }

    fn messaging_call(&mut self, name: &'static str) -> Option<LocalBoxFuture<'static, Done>> {
        let random = &mut self.random;
        let limit = random.below(8);
        let result = match name {
            "messaging.broadcast" => {
                messaging::broadcast(&random.name(), &random.text(), random.chance(30)).map(nothing)
            }
            "messaging.forget" => messaging::forget(&random.name()).map(nothing),
            "messaging.subscribe" => {
                messaging::subscribe(&random.name(), random.chance(50)).map(New::Subscription)
            }
            "messaging.next" => {
                let subscription = random.pick(&self.subscriptions)?;
                let next = async move { subscription.next().await.map(nothing) };
                return Some(patient(name, limit, next));
            }
            "messaging.push" => {
                let push = messaging::push(random.name(), random.text());
                return Some(patient(name, limit, async move { push.await.map(nothing) }));
            }
            "messaging.pull" => {
                let pull = messaging::pull(random.name());
                return Some(patient(name, limit, async move { pull.await.map(nothing) }));
            }
            _ => panic!("`{name}` has no call"),
        };
        self.keep((name, result));
        None
    }

    /// A call that is never answered counts as cancelled.
    fn mcp_call(&mut self, name: &'static str) -> Option<LocalBoxFuture<'static, Done>> {
        let random = &mut self.random;
        let server = if random.chance(85) { "test".to_string() } else { random.name() };
        let limit = random.below(4);
        let result = match name {
            "mcp.servers" => {
                assert_eq!(mcp::servers(), ["test", "nobody"]);
                Ok(New::Nothing)
            }
            "mcp.find" if random.chance(50) => mcp::find("http://127.0.0.1:9/mcp").map(nothing),
            "mcp.find" => mcp::find(&random.name()).map(nothing),
            "mcp.tools" => {
                let tools = async move { mcp::tools(server).await.map(nothing) };
                return Some(patient(name, limit, tools));
            }
            "mcp.call" => {
                let tool = ["echo", "fail", "slow", "broken", "die"][random.index(5)];
                let arguments = match random.below(4) {
                    0 => random.text(),
                    1 => "[1]".to_string(),
                    _ => "{\"a\": 1}".to_string(),
                };
                let call = mcp::call(server, tool.to_string(), arguments);
                return Some(patient(name, limit, async move { call.await.map(nothing) }));
            }
            _ => panic!("`{name}` has no call"),
        };
        self.keep((name, result));
        None
    }

    fn runtime_call(&mut self, name: &'static str) -> Option<LocalBoxFuture<'static, Done>> {
        let random = &mut self.random;
        match name {
            "runtime.arguments" => drop(runtime::arguments()),
            "runtime.instance-id" => drop(runtime::instance_id()),
            "runtime.user" => drop(runtime::user()),
            "runtime.version" => drop(runtime::version()),
            "runtime.detach" => runtime::detach(),
            "runtime.usage" => {
                return Some(call(name, async { runtime::usage().await.map(nothing) }));
            }
            "runtime.id" => drop(random.pick(&self.children)?.id()),
            "runtime.cancel" => random.pick(&self.children)?.cancel(),
            "runtime.wait" => {
                let (child, limit) = (random.pick(&self.children)?, random.below(40));
                return Some(patient(name, limit, async move { child.wait().await.map(nothing) }));
            }
            "runtime.launch" => {
                let (program, arguments) = match random.below(8) {
                    0 => ("no such program".to_string(), Vec::new()),
                    1 => ("test-programs".to_string(), vec!["x".repeat((1 << 20) + 1)]),
                    _ if self.depth == 0 => return None,
                    _ => {
                        let steps = self.steps_of_child;
                        let value = format!("{}/{}/{steps}", random.next(), self.depth - 1);
                        ("test-programs".to_string(), vec!["random".to_string(), value])
                    }
                };
                let launch = async move { runtime::launch(program, arguments).await.map(New::Child) };
                return Some(call(name, launch));
            }
            _ => panic!("`{name}` has no call"),
        }
        self.keep((name, Ok(New::Nothing)));
        None
    }

    fn session_call(&mut self, name: &'static str) -> LocalBoxFuture<'static, Done> {
        let (random, limit) = (&mut self.random, 4);
        match name {
            "session.send" => {
                let send = session::send(random.text());
                patient(name, limit, async move { send.await.map(nothing) })
            }
            "session.send-blob" => {
                let send = session::send_blob(random.bytes());
                patient(name, limit, async move { send.await.map(nothing) })
            }
            "session.receive" => patient(name, limit, async { session::receive().await.map(nothing) }),
            "session.receive-blob" => {
                patient(name, limit, async { session::receive_blob().await.map(nothing) })
            }
            _ => panic!("`{name}` has no call"),
        }
    }

    fn store_call(&mut self, name: &'static str) -> Option<LocalBoxFuture<'static, Done>> {
        let key = self.random.name();
        let result = match name {
            "store.get" => store::get(&key).map(nothing),
            "store.keys" => store::keys(&key).map(|keys| {
                assert!(keys.iter().all(|k| k.starts_with(&key)) && keys.is_sorted(), "{keys:?}");
                New::Nothing
            }),
            "store.set" => {
                let value = self.random.bytes();
                return Some(call(name, async move { store::set(key, value).await.map(nothing) }));
            }
            "store.delete" => {
                return Some(call(name, async move { store::delete(key).await.map(nothing) }));
            }
            _ => panic!("`{name}` has no call"),
        };
        self.keep((name, result));
        None
    }
}
