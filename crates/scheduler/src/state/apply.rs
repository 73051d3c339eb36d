//! Bookkeeping of contexts. No bytes move: pages are shared, and live bits cleared.

use std::ops::Range;

use backend::AdapterId;

use super::Scheduler;
use crate::context::{self, Context, Entry};
use crate::memory::Holder;
use crate::ops::{CallError, ContextInfo, ContextOp};
use crate::request::{CacheSalt, ContextId, OwnerId, Priority, TenantId};

impl Scheduler {
    /// Applies an operation, at once.
    ///
    /// # Errors
    /// When it is wrong; nothing has changed then.
    pub fn apply(&mut self, op: ContextOp) -> Result<(), CallError> {
        match op {
            ContextOp::Create { context, owner, priority, tenant } => {
                self.create(context, owner, priority, tenant, Vec::new(), 0)
            }
            ContextOp::Fork { from, to } => {
                let (entries, next) = self.get(from).map(|c| (c.entries.clone(), c.next_position))?;
                self.derive(from, to, entries, next)
            }
            ContextOp::Slice { from, to, range } => {
                let context = self.get(from)?;
                check_range(context, &range)?;
                let (entries, _) = context::split(&context.entries, &range);
                let next = range.end.checked_sub(1).filter(|last| *last >= range.start);
                let next = next.map_or(0, |last| self.position(&self.contexts[&from].entries, last) + 1);
                self.derive(from, to, entries, next)
            }
            ContextOp::Truncate { context, length } => {
                let found = self.get_idle(context)?;
                if length >= found.length {
                    return Ok(());
                }
                let next = self.position(&found.entries, length);
                let (kept, _) = context::split(&found.entries, &(0..length));
                self.replace(context, kept, next);
                Ok(())
            }
            ContextOp::Remove { context, range } => {
                let found = self.get_idle(context)?;
                check_range(found, &range)?;
                let (_, kept) = context::split(&found.entries, &range);
                let next = found.next_position;
                self.replace(context, kept, next);
                Ok(())
            }
            ContextOp::Append { to, from } => {
                let (added, next) = self.get(from).map(|c| (c.entries.clone(), c.next_position))?;
                let found = self.get_idle(to)?;
                let (length, limit) = (self.get(from)?.length, self.limits.context_tokens);
                let length = u64::from(found.length) + u64::from(length);
                if length > u64::from(limit) {
                    return Err(CallError::TooLong { length, limit });
                }
                let entries = [found.entries.as_slice(), &added].concat();
                let next = next.max(found.next_position);
                self.replace(to, entries, next);
                Ok(())
            }
            ContextOp::Drop { context } => {
                self.get(context)?;
                self.drop_context(context);
                Ok(())
            }
            ContextOp::SetPriority { context, priority } => {
                let found = self.contexts.get_mut(&context).ok_or(CallError::UnknownContext(context))?;
                found.priority = priority;
                Ok(())
            }
            ContextOp::SetCacheSalt { context, salt } => self.set_cache_salt(context, salt),
            ContextOp::Register { owner, parent, tenant, pages } => {
                self.register(owner, parent, tenant, pages);
                Ok(())
            }
            ContextOp::Cancel { ticket } => {
                self.cancel(ticket);
                Ok(())
            }
            ContextOp::Abandon { ticket, context, length, next_position } => {
                self.cancel(ticket);
                // Gone with its owner, perhaps.
                let Ok(found) = self.get_idle(context) else { return Ok(()) };
                if found.length > length {
                    let (kept, _) = context::split(&found.entries, &(0..length));
                    self.replace(context, kept, next_position);
                }
                Ok(())
            }
            ContextOp::DropAdapter { adapter } => {
                if self.adapters.remove(&adapter).is_some() {
                    self.orphaned_adapters.push(adapter);
                }
                Ok(())
            }
            ContextOp::DropSnapshot { key } => {
                let _ = self.delete(&key);
                Ok(())
            }
            ContextOp::OwnerGone { owner } => {
                self.owner_gone(owner);
                Ok(())
            }
        }
    }

    /// An owner has loaded an adapter; it goes when the owner is gone.
    pub fn adopt_adapter(&mut self, owner: OwnerId, adapter: AdapterId) {
        self.adapters.insert(adapter, owner);
    }

    /// Adapters to unload: dropped by their owner, or left behind by one that is gone.
    pub fn orphaned_adapters(&mut self) -> std::vec::Drain<'_, AdapterId> {
        self.orphaned_adapters.drain(..)
    }

    /// What a context holds.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn info(&self, context: ContextId) -> Result<ContextInfo, CallError> {
        let Context { length, next_position, entries, .. } = self.get(context)?;
        let mut positions: Vec<(u32, u32)> = Vec::new();
        for entry in entries {
            let page = self.memory.pages.get(entry.page);
            for (slot, position) in page.positions.iter().enumerate() {
                match positions.last_mut() {
                    _ if entry.live >> slot & 1 == 0 => {}
                    Some((first, tokens)) if *first + *tokens == *position => *tokens += 1,
                    _ => positions.push((*position, 1)),
                }
            }
        }
        let pages = entries.len() as u32;
        Ok(ContextInfo { length: *length, next_position: *next_position, pages, positions })
    }

    /// Frees everything an owner holds and cancels its passes.
    pub fn owner_gone(&mut self, owner: OwnerId) {
        let of_owner = self.contexts.iter().filter(|(_, context)| context.owner == owner);
        let contexts: Vec<ContextId> = of_owner.map(|(id, _)| *id).collect();
        for context in contexts {
            self.drop_context(context);
        }
        let adapters = self.adapters.iter().filter(|(_, holder)| **holder == owner);
        let adapters: Vec<AdapterId> = adapters.map(|(adapter, _)| *adapter).collect();
        for adapter in adapters {
            self.adapters.remove(&adapter);
            self.orphaned_adapters.push(adapter);
        }
        self.expected_back.retain(|(_, by), _| *by != owner);
        self.memory.accounts.close(owner);
    }

    pub(super) fn create(
        &mut self,
        id: ContextId,
        owner: OwnerId,
        priority: Priority,
        tenant: TenantId,
        entries: Vec<Entry>,
        next_position: u32,
    ) -> Result<(), CallError> {
        if self.contexts.contains_key(&id) {
            return Err(CallError::ContextExists(id));
        }
        self.register(owner, None, tenant, self.config.pages_quota);
        self.memory.hold_all(Holder::Owner(owner), &entries);
        self.sequence += 1;
        let context = Context {
            owner,
            tenant,
            salt: CacheSalt::default(),
            priority,
            sequence: self.sequence,
            parent: None,
            length: context::length(&entries),
            prefix_node: self.memory.prefix_node(tenant, CacheSalt::default(), &entries),
            entries,
            next_position,
            pass: None,
            answered: None,
        };
        self.contexts.insert(id, context);
        Ok(())
    }

    /// A new context beside `from`.
    fn derive(
        &mut self,
        from: ContextId,
        to: ContextId,
        entries: Vec<Entry>,
        next: u32,
    ) -> Result<(), CallError> {
        let Context { owner, priority, tenant, salt, .. } = *self.get(from)?;
        self.create(to, owner, priority, tenant, entries, next)?;
        self.contexts.get_mut(&to).expect("just made").parent = Some(from);
        self.set_cache_salt(to, salt)
    }

    fn set_cache_salt(&mut self, id: ContextId, salt: CacheSalt) -> Result<(), CallError> {
        let context = self.contexts.get_mut(&id).ok_or(CallError::UnknownContext(id))?;
        context.salt = salt;
        context.prefix_node = self.memory.prefix_node(context.tenant, salt, &context.entries);
        Ok(())
    }

    fn register(&mut self, owner: OwnerId, parent: Option<OwnerId>, tenant: TenantId, pages: Option<u32>) {
        self.sequence += 1;
        self.memory.accounts.open(owner, parent, tenant, pages, self.sequence);
    }

    /// Gives a context other entries.
    fn replace(&mut self, id: ContextId, entries: Vec<Entry>, next_position: u32) {
        let context = self.contexts.get_mut(&id).expect("looked up by the caller");
        let holder = Holder::Owner(context.owner);
        // First hold, then release: what stays must not be freed in between.
        self.memory.hold_all(holder, &entries);
        self.memory.release_all(holder, &context.entries);
        context.length = context::length(&entries);
        context.prefix_node = self.memory.prefix_node(context.tenant, context.salt, &entries);
        (context.entries, context.next_position) = (entries, next_position);
    }

    pub(super) fn drop_context(&mut self, id: ContextId) {
        if let Some(ticket) = self.pass_of(id) {
            self.cancel(ticket);
        }
        self.fair.streams.not_away(id);
        if let Some(context) = self.contexts.remove(&id) {
            if let Some(last) = context.entries.last() {
                self.memory.register_begun(*last);
            }
            self.memory.release_all(Holder::Owner(context.owner), &context.entries);
        }
    }

    pub(super) fn get(&self, id: ContextId) -> Result<&Context, CallError> {
        self.contexts.get(&id).ok_or(CallError::UnknownContext(id))
    }

    /// A context that may be changed.
    fn get_idle(&self, id: ContextId) -> Result<&Context, CallError> {
        let context = self.get(id)?;
        if context.pass.is_some() { Err(CallError::Busy) } else { Ok(context) }
    }

    /// Position of the live token with this index, which exists.
    fn position(&self, entries: &[Entry], index: u32) -> u32 {
        let (entry, slot) =
            context::locate(entries, index).expect("the index was checked against the length");
        self.memory.pages.get(entries[entry].page).positions[slot as usize]
    }
}

fn check_range(context: &Context, range: &Range<u32>) -> Result<(), CallError> {
    let length = context.length;
    match range.start > range.end || range.end > length {
        true => Err(CallError::OutOfRange { index: range.start.max(range.end), length }),
        false => Ok(()),
    }
}
