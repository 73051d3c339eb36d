//! Random calls with random arguments, over the whole API.
//!
//! A seed draws calls of [`CALLS`] one after the other: some are awaited, some stay in flight beside the next ones,
//! some are dropped before or after a poll. Arguments are valid, borderline or hostile ones (`draw`). Every refusal is
//! fine; what is checked is that lengths of contexts are what the calls say, and, by the host, that nothing traps and
//! nothing stays behind. The end is drawn too: well, in the middle, with an error, with a panic, with all handles leaked.

mod answers;
mod calls;
mod draw;
pub(crate) mod lora;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use inferlet::anyhow::{Context as _, bail, ensure};
use inferlet::bindings::pie::inferlet::adapter::Adapter;
use inferlet::bindings::pie::inferlet::answer::Reader;
use inferlet::bindings::pie::inferlet::embeds::Embeddings;
use inferlet::bindings::pie::inferlet::forward::TokenCounts;
use inferlet::bindings::pie::inferlet::grammar::Constraint;
use inferlet::bindings::pie::inferlet::messaging::Subscription;
use inferlet::bindings::pie::inferlet::model::{self, Model};
use inferlet::bindings::pie::inferlet::runtime::Child;
use inferlet::bindings::pie::inferlet::{context, store};
use inferlet::futures::future::LocalBoxFuture;
use inferlet::{Error, Result, sleep};

use calls::{CALLS, Held};
use draw::Random;

/// What a call gave.
enum New {
    Nothing,
    Context(Held),
    Embeddings(Embeddings),
    Constraint(Constraint),
    Reader(Reader),
    Counts(TokenCounts),
    Adapter(Adapter),
    Subscription(Subscription),
    Child(Child),
}

/// The end of a call: its name, and what it gave or why it was refused.
type Done = (&'static str, Result<New, Error>);

/// How many calls stay in flight at once.
const IN_FLIGHT: usize = 8;
/// How many handles of a kind are held; one goes for a new one. More than the limits of some tests.
const HANDLES: usize = 40;

struct Program {
    random: Random,
    /// How many programs below this one may launch programs.
    depth: u32,
    /// Calls of each program that this one launches.
    steps_of_child: u32,
    models: Vec<Rc<Model>>,
    contexts: Vec<Rc<Held>>,
    embeddings: Vec<Rc<Embeddings>>,
    constraints: Vec<Rc<Constraint>>,
    readers: Vec<Rc<Reader>>,
    token_counts: Vec<Rc<TokenCounts>>,
    adapters: Vec<Rc<Adapter>>,
    subscriptions: Vec<Rc<Subscription>>,
    children: Vec<Rc<Child>>,
    in_flight: Vec<LocalBoxFuture<'static, Done>>,
    /// Calls that succeeded, and that were refused.
    counts: BTreeMap<&'static str, [u32; 2]>,
}

/// `list` names the calls, `clean` deletes what the user has, `seed/depth/steps` makes so many random calls. The result has a line for each function that was
/// called: its name, how often it succeeded and how often it was refused.
pub async fn run(value: &str) -> Result<String> {
    if value == "list" {
        return Ok(CALLS.map(|(name, _)| name).join("\n"));
    }
    if value == "clean" {
        return clean().await;
    }
    let numbers: Vec<u64> = value.split('/').map(str::parse).collect::<Result<_, _>>()?;
    let [seed, depth, steps] = numbers[..] else { bail!("expected seed/depth/steps, got `{value}`") };
    let models = model::models().into_iter().map(|name| model::open(Some(&name)).map(Rc::new));
    let mut program = Program {
        random: Random(seed),
        depth: depth as u32,
        steps_of_child: steps as u32 / 3,
        models: models.collect::<Result<_, _>>().context("the models have names")?,
        contexts: Vec::new(),
        embeddings: Vec::new(),
        token_counts: Vec::new(),
        constraints: Vec::new(),
        readers: Vec::new(),
        adapters: Vec::new(),
        subscriptions: Vec::new(),
        children: Vec::new(),
        in_flight: Vec::new(),
        counts: BTreeMap::new(),
    };
    for _ in 0..steps {
        program.step().await;
    }
    program.end().await
}

impl Program {
    async fn step(&mut self) {
        if self.random.chance(12) {
            self.drop_a_handle();
        }
        let name = self.random.weighted(&CALLS);
        let Some(call) = self.call(name) else { return };
        match self.random.below(100) {
            // Awaited, while what is in flight goes on.
            0..60 => {
                self.in_flight.push(call);
                self.drive_last().await;
            }
            // Left in flight.
            60..85 => {
                self.in_flight.push(call);
                self.poll_once().await;
            }
            // Dropped after some polls, or without any.
            _ => {
                let polls = self.random.below(4);
                self.in_flight.push(call);
                for _ in 0..polls {
                    self.poll_once().await;
                    if self.random.chance(50) {
                        sleep(Duration::from_millis(self.random.below(3))).await;
                    }
                }
                // Another one, if that one is done.
                self.in_flight.pop();
            }
        }
        while self.in_flight.len() > IN_FLIGHT {
            let index = self.random.index(self.in_flight.len());
            drop(self.in_flight.remove(index));
        }
    }

    /// Polls all that is in flight until the newest call is done.
    async fn drive_last(&mut self) {
        let mut last = self.in_flight.pop().expect("pushed by the caller");
        let done = poll_fn(|context| {
            if let Poll::Ready(done) = last.as_mut().poll(context) {
                return Poll::Ready(done);
            }
            self.poll_in_flight(context);
            Poll::Pending
        });
        let done = done.await;
        self.keep(done);
    }

    async fn poll_once(&mut self) {
        poll_fn(|context| {
            self.poll_in_flight(context);
            Poll::Ready(())
        })
        .await;
    }

    fn poll_in_flight(&mut self, context: &mut std::task::Context<'_>) {
        let mut done = Vec::new();
        self.in_flight.retain_mut(|call| match call.as_mut().poll(context) {
            Poll::Ready(one) => {
                done.push(one);
                false
            }
            Poll::Pending => true,
        });
        done.into_iter().for_each(|one| self.keep(one));
    }

    /// Counts a call and keeps what it gave.
    fn keep(&mut self, (name, result): Done) {
        let counts = self.counts.entry(name).or_default();
        counts[usize::from(result.is_err())] += 1;
        let random = &mut self.random;
        match result {
            Err(_) | Ok(New::Nothing) => {}
            Ok(New::Context(new)) => add(random, &mut self.contexts, new),
            Ok(New::Embeddings(new)) => add(random, &mut self.embeddings, new),
            Ok(New::Constraint(new)) => add(random, &mut self.constraints, new),
            Ok(New::Reader(new)) => add(random, &mut self.readers, new),
            Ok(New::Counts(new)) => add(random, &mut self.token_counts, new),
            Ok(New::Adapter(new)) => add(random, &mut self.adapters, new),
            Ok(New::Subscription(new)) => add(random, &mut self.subscriptions, new),
            Ok(New::Child(new)) => add(random, &mut self.children, new),
        }
    }

    /// Calls in flight may still use it.
    fn drop_a_handle(&mut self) {
        match self.random.below(9) {
            0 | 1 => self.random.take(&mut self.contexts).map(drop),
            2 => self.random.take(&mut self.embeddings).map(drop),
            3 => self.random.take(&mut self.constraints).map(drop),
            4 => self.random.take(&mut self.adapters).map(drop),
            5 => self.random.take(&mut self.subscriptions).map(drop),
            6 => self.random.take(&mut self.token_counts).map(drop),
            7 => self.random.take(&mut self.readers).map(drop),
            _ => self.random.take(&mut self.children).map(drop),
        };
    }

    async fn end(mut self) -> Result<String> {
        let report = |counts: BTreeMap<&str, [u32; 2]>| {
            let lines = counts.into_iter().map(|(name, [done, refused])| format!("{name} {done} {refused}"));
            lines.collect::<Vec<_>>().join("\n")
        };
        match self.random.below(20) {
            0 => panic!("panicked as asked"),
            1 => bail!("failed as asked"),
            2 => {
                let counts = std::mem::take(&mut self.counts);
                std::mem::forget(self);
                Ok(report(counts))
            }
            // Ended by the host, or else by itself.
            3 => {
                sleep(Duration::from_millis(50)).await;
                Ok(report(self.counts))
            }
            _ => Ok(report(self.counts)),
        }
    }
}

/// Deletes all that is kept for the user, and says how much it was.
async fn clean() -> Result<String> {
    let mut deleted = 0;
    for name in model::models() {
        let model = model::open(Some(&name))?;
        for snapshot in context::snapshots(&model).await? {
            context::delete(&model, snapshot.name).await?;
            deleted += 1;
        }
        ensure!(context::snapshots(&model).await?.is_empty(), "a snapshot is listed that was deleted");
    }
    for key in store::keys("")? {
        ensure!(store::delete(key).await?, "a key is listed that is not there");
        deleted += 1;
    }
    Ok(deleted.to_string())
}

fn add<T>(random: &mut Random, handles: &mut Vec<Rc<T>>, new: T) {
    if handles.len() == HANDLES {
        random.take(handles);
    }
    handles.push(Rc::new(new));
}
