use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::model::Model;
use super::{Error, invalid};
use crate::testing::{ScriptedModel, Slot, host, pause};

/// Snapshots of one user, as the server has it.
const SNAPSHOTS: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    Low,
    Normal,
    High,
}

#[derive(Clone, Debug)]
pub struct Snapshot {
    pub name: String,
    pub length: u32,
    pub persistent: bool,
}

#[derive(Debug)]
pub struct Context {
    pub(crate) model: Rc<ScriptedModel>,
    pub(crate) slots: RefCell<Vec<Slot>>,
    pub(crate) next: Cell<u32>,
}

impl Context {
    fn of(model: &Rc<ScriptedModel>, slots: Vec<Slot>, next: u32) -> Context {
        Context { model: model.clone(), slots: RefCell::new(slots), next: Cell::new(next) }
    }

    pub fn create(model: &Model) -> Result<Context, Error> {
        Ok(Context::of(&model.model, Vec::new(), 0))
    }

    pub fn fork(&self) -> Result<Context, Error> {
        Ok(Context::of(&self.model, self.slots.borrow().clone(), self.next.get()))
    }

    pub fn length(&self) -> u32 {
        self.slots.borrow().len() as u32
    }

    pub fn next_position(&self) -> u32 {
        self.next.get()
    }

    fn check(&self, start: u32, end: u32) -> Result<std::ops::Range<usize>, Error> {
        let length = self.length();
        match start > end || end > length {
            true => Err(invalid(format!("tokens {start} .. {end} are asked for, the context has {length}"))),
            false => Ok(start as usize..end as usize),
        }
    }

    pub fn truncate(&self, length: u32) -> Result<(), Error> {
        let range = self.check(0, length)?;
        if let Some(dropped) = self.slots.borrow().get(range.end) {
            self.next.set(dropped.position);
        }
        self.slots.borrow_mut().truncate(range.end);
        Ok(())
    }

    pub fn remove(&self, start: u32, end: u32) -> Result<(), Error> {
        let range = self.check(start, end)?;
        self.slots.borrow_mut().drain(range);
        Ok(())
    }

    pub fn slice(&self, start: u32, end: u32) -> Result<Context, Error> {
        let slots = self.slots.borrow()[self.check(start, end)?].to_vec();
        let next = slots.last().map_or(0, |last| last.position + 1);
        Ok(Context::of(&self.model, slots, next))
    }

    pub fn append(&self, other: &Context) -> Result<(), Error> {
        let slots = other.slots.borrow().clone();
        self.slots.borrow_mut().extend(slots);
        self.next.set(self.next.get().max(other.next.get()));
        Ok(())
    }

    pub fn set_priority(&self, _priority: Priority) {}

    pub async fn save(&self, name: String, _persistent: bool) -> Result<(), Error> {
        pause().await;
        let host = host();
        let mut snapshots = host.snapshots.borrow_mut();
        if snapshots.len() >= SNAPSHOTS && !snapshots.contains_key(&name) {
            return Err(Error::LimitExceeded(format!("the user has {SNAPSHOTS} snapshots already")));
        }
        snapshots.insert(name, (self.slots.borrow().clone(), self.next.get()));
        Ok(())
    }
}

pub async fn open(model: &Model, name: String) -> Result<Context, Error> {
    pause().await;
    let found = host().snapshots.borrow().get(&name).cloned();
    let (slots, next) = found.ok_or_else(|| Error::NotFound(format!("no snapshot is named `{name}`")))?;
    Ok(Context::of(&model.model, slots, next))
}

/// The scripted model has no cache of prefixes; the salt is kept for the test to see.
pub fn set_cache_salt(salt: &str) -> Result<(), Error> {
    *host().cache_salt.borrow_mut() = Some(salt.to_string());
    Ok(())
}

pub async fn delete(_model: &Model, name: String) -> Result<(), Error> {
    pause().await;
    let removed = host().snapshots.borrow_mut().remove(&name);
    removed.map(drop).ok_or_else(|| Error::NotFound(format!("no snapshot is named `{name}`")))
}

pub async fn snapshots(_model: &Model) -> Result<Vec<Snapshot>, Error> {
    pause().await;
    let snapshot = |(name, (slots, _)): (&String, &(Vec<Slot>, u32))| Snapshot {
        name: name.clone(),
        length: slots.len() as u32,
        persistent: false,
    };
    Ok(host().snapshots.borrow().iter().map(snapshot).collect())
}
