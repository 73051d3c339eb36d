//! Calls of `context`, and what is known of a context that the program holds.

use std::cell::Cell;
use std::rc::Rc;

use inferlet::Error;
use inferlet::bindings::pie::inferlet::context::{self, Context, Priority};
use inferlet::bindings::pie::inferlet::model::Model;
use inferlet::futures::future::LocalBoxFuture;

use super::{call, nothing};
use crate::random::{Done, New, Program};

/// A context that the program holds, and what is known of it.
pub(in crate::random) struct Held {
    pub(super) context: Context,
    pub(super) model: Rc<Model>,
    /// Passes of it that are awaited. While there are any, its length may change between two calls.
    pub(super) flying: Cell<u32>,
    /// Calls that changed it while passes were awaited.
    pub(super) changes: Cell<u32>,
}

impl Held {
    fn new(context: Context, model: Rc<Model>) -> Held {
        Held { context, model, flying: Cell::new(0), changes: Cell::new(0) }
    }

    /// A call that changes the length, by the change.
    fn change(&self, by: i64, call: impl FnOnce(&Context) -> Result<(), Error>) -> Result<New, Error> {
        let before = self.context.length();
        let answer = call(&self.context);
        if self.flying.get() > 0 {
            self.changes.set(self.changes.get() + u32::from(answer.is_ok()));
        } else {
            let expected = i64::from(before) + if answer.is_ok() { by } else { 0 };
            assert_eq!(i64::from(self.context.length()), expected, "{answer:?} of {before} tokens by {by}");
        }
        answer.map(|()| New::Nothing)
    }
}

impl Program {
    pub(super) fn context_call(
        &mut self,
        name: &'static str,
        model: Rc<Model>,
    ) -> Option<LocalBoxFuture<'static, Done>> {
        let random = &mut self.random;
        let on_a_context = !matches!(
            name,
            "context.create"
                | "context.set-cache-salt"
                | "context.open"
                | "context.delete"
                | "context.snapshots"
        );
        let held = if on_a_context { Some(random.pick(&self.contexts)?) } else { None };
        let held = || held.clone().expect("picked above");
        let result = match name {
            "context.create" => Context::create(&model).map(|c| New::Context(Held::new(c, model))),
            "context.set-cache-salt" => context::set_cache_salt(&random.name()).map(nothing),
            "context.fork" => {
                let held = held();
                let (before, quiet) = (held.context.length(), held.flying.get() == 0);
                held.context.fork().map(|fork| {
                    assert!(!quiet || fork.length() == before, "a fork has the tokens of its context");
                    New::Context(Held::new(fork, held.model.clone()))
                })
            }
            "context.length" => Ok(nothing(held().context.length())),
            "context.next-position" => Ok(nothing(held().context.next_position())),
            "context.truncate" => {
                let held = held();
                let before = held.context.length();
                let length = random.number(before);
                held.change(i64::from(length) - i64::from(before), |context| context.truncate(length))
            }
            "context.remove" => {
                let held = held();
                let length = held.context.length();
                let (start, end) = (random.number(length), random.number(length));
                let (start, end) =
                    if random.chance(80) { (start.min(end), start.max(end)) } else { (start, end) };
                held.change(i64::from(start) - i64::from(end), |context| context.remove(start, end))
            }
            "context.slice" => {
                let held = held();
                let length = held.context.length();
                let (one, two) = (random.number(length), random.number(length));
                let (start, end) = if random.chance(80) { (one.min(two), one.max(two)) } else { (one, two) };
                held.context.slice(start, end).map(|slice| {
                    assert_eq!(slice.length(), end - start, "a slice has the tokens of its range");
                    New::Context(Held::new(slice, held.model.clone()))
                })
            }
            "context.append" => {
                let (held, other) = (held(), random.pick(&self.contexts)?);
                let by = i64::from(other.context.length());
                held.change(by, |context| context.append(&other.context))
            }
            "context.set-priority" => {
                let priorities = [Priority::Low, Priority::Normal, Priority::High];
                held().context.set_priority(priorities[random.index(3)]);
                Ok(New::Nothing)
            }
            "context.save" => {
                let (held, key, persistent) = (held(), random.name(), random.chance(50));
                let work = async move { held.context.save(key, persistent).await.map(nothing) };
                return Some(call(name, work));
            }
            "context.open" => {
                let key = random.name();
                let work = async move {
                    let opened = context::open(&model, key).await?;
                    Ok(New::Context(Held::new(opened, model)))
                };
                return Some(call(name, work));
            }
            "context.delete" => {
                let key = random.name();
                return Some(call(name, async move { context::delete(&model, key).await.map(nothing) }));
            }
            "context.snapshots" => {
                let work = async move {
                    let snapshots = context::snapshots(&model).await?;
                    let mut names: Vec<_> = snapshots.into_iter().map(|snapshot| snapshot.name).collect();
                    let sorted = names.is_sorted();
                    names.dedup();
                    assert!(sorted, "snapshots come by name, each once: {names:?}");
                    Ok(New::Nothing)
                };
                return Some(call(name, work));
            }
            _ => panic!("`{name}` has no call"),
        };
        self.keep((name, result));
        None
    }
}
