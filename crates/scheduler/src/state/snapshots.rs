//! Saved contexts: entries held by a name in place of an owner, exported to bytes and imported again.

use std::ops::Range;

use backend::{Backend, PageId};

use super::Scheduler;
use crate::accounts::Account;
use crate::context::{self, Entry};
use crate::memory::Holder;
use crate::ops::{CallError, ContextInfo};
use crate::pages::PageLocation;
use crate::request::{ContextId, OwnerId, Priority, TenantId};

/// A saved context, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Name, with the user's namespace, as the saver gave it.
    pub key: String,
    /// Live tokens.
    pub length: u32,
    /// Position that a pass after opening continues at.
    pub next_position: u32,
    /// Pages.
    pub pages: u32,
    /// Whether the saver wants it to survive a restart.
    pub persistent: bool,
}

/// A context to be made from a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct NewContext {
    /// New id.
    pub id: ContextId,
    /// Who holds it.
    pub owner: OwnerId,
    /// Its priority.
    pub priority: Priority,
    /// Who may share its cached prefixes.
    pub tenant: TenantId,
}

/// What [`Scheduler::load`] did.
#[derive(Debug)]
pub struct Loaded {
    /// The persistent snapshots that only the disk has now, also where nothing was opened.
    pub forgotten: Vec<SnapshotInfo>,
    /// The context; an error as of [`Scheduler::import`] and [`Scheduler::open`].
    pub opened: Result<ContextInfo, CallError>,
}

/// What of a list a new snapshot needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Snapshots of the list.
    pub count: usize,
    /// Whether that of the key is persistent; none where there is no such snapshot.
    pub persistent: Option<bool>,
}

/// Everything needed to make a context again, also in another process with the same model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotData {
    /// Slots of a page.
    pub page_tokens: u32,
    /// Position that a pass after opening continues at.
    pub next_position: u32,
    /// Pages in order.
    pub pages: Vec<SnapshotPage>,
}

/// One page of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPage {
    /// Bit `i`: slot `i` is live.
    pub live: u64,
    /// Position of each slot; `page_tokens` entries, meaningless where not live.
    pub positions: Vec<u32>,
    /// Content, as the backend gives it.
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) entries: Vec<Entry>,
    /// The user who pays for its pages.
    pub(crate) tenant: TenantId,
    next_position: u32,
    persistent: bool,
}

impl Snapshot {
    fn info(&self, key: &str) -> SnapshotInfo {
        SnapshotInfo {
            key: key.into(),
            length: context::length(&self.entries),
            next_position: self.next_position,
            pages: self.entries.len() as u32,
            persistent: self.persistent,
        }
    }
}

impl Scheduler {
    /// Saves a context under a name, replacing what was there. Of a context with a pass in flight, the tokens before
    /// the pass.
    ///
    /// # Errors
    /// When the context does not exist.
    pub fn save(&mut self, id: ContextId, key: String, persistent: bool) -> Result<SnapshotInfo, CallError> {
        let context = self.get(id)?;
        let (entries, next_position, tenant) =
            (context.entries.clone(), context.next_position, context.tenant);
        Ok(self.keep(key, Snapshot { entries, tenant, next_position, persistent }))
    }

    fn keep(&mut self, key: String, snapshot: Snapshot) -> SnapshotInfo {
        self.memory.hold_all(Holder::Snapshot(snapshot.tenant), &snapshot.entries);
        let info = snapshot.info(&key);
        if let Some(before) = self.snapshots.insert(key, snapshot) {
            self.memory.release_all(Holder::Snapshot(before.tenant), &before.entries);
        }
        info
    }

    /// Makes a context from a snapshot.
    ///
    /// # Errors
    /// When there is no such snapshot or the context id is in use.
    pub fn open(&mut self, key: &str, context: NewContext) -> Result<ContextInfo, CallError> {
        let snapshot = self.snapshots.get(key).ok_or_else(|| CallError::NotFound(key.into()))?;
        let (entries, next_position) = (snapshot.entries.clone(), snapshot.next_position);
        let NewContext { id, owner, priority, tenant } = context;
        self.create(id, owner, priority, tenant, entries, next_position)?;
        self.info(id)
    }

    /// Makes a persistent snapshot of what its file has, unless it is there by now, in place of other persistent ones where
    /// host memory has no room, and a context from it: in one step, so that no other load takes its room in between.
    pub fn load(&mut self, key: String, data: SnapshotData, context: NewContext) -> Loaded {
        let mut forgotten = Vec::new();
        if !self.has(&key) {
            let checked = self.check_data(&data).and_then(|()| {
                self.forget_persistent(data.pages.len() as u32, context.tenant, &mut forgotten)?;
                self.import(key.clone(), context.tenant, true, data)
            });
            if let Err(error) = checked {
                return Loaded { forgotten, opened: Err(error) };
            }
        }
        Loaded { forgotten, opened: self.open(&key, context) }
    }

    /// Whether there is a snapshot.
    pub fn has(&self, key: &str) -> bool {
        self.snapshots.contains_key(key)
    }

    /// Deletes a snapshot; contexts opened from it keep their pages.
    ///
    /// # Errors
    /// When there is no such snapshot.
    pub fn delete(&mut self, key: &str) -> Result<(), CallError> {
        let snapshot = self.snapshots.remove(key).ok_or_else(|| CallError::NotFound(key.into()))?;
        self.memory.release_all(Holder::Snapshot(snapshot.tenant), &snapshot.entries);
        Ok(())
    }

    /// Forgets persistent snapshots, which their saver has on disk, until so many pages fit what the tenant may have and host
    /// memory, or none is left: first the tenant's own, so that nobody loses one to a tenant who has no room for another.
    ///
    /// # Errors
    /// When so many never fit: nobody loses one for that.
    fn forget_persistent(
        &mut self,
        pages: u32,
        tenant: TenantId,
        forgotten: &mut Vec<SnapshotInfo>,
    ) -> Result<(), CallError> {
        let available = self.memory.pages.host_left() + self.memory.pages.host_used();
        if pages > available {
            return Err(CallError::OutOfPages { needed: pages, available });
        }
        loop {
            let room = self.check_room(tenant, pages);
            if room.is_ok() && self.memory.pages.host_left() >= pages {
                return Ok(());
            }
            let may_go =
                |snapshot: &Snapshot| snapshot.persistent && (room.is_ok() || snapshot.tenant == tenant);
            let Some((key, snapshot)) = self.snapshots.iter().find(|(_, snapshot)| may_go(snapshot)) else {
                return room;
            };
            let info = snapshot.info(key);
            self.delete(&info.key).expect("it is there");
            forgotten.push(info);
        }
    }

    /// Whether a tenant may have so many pages more.
    fn check_room(&self, tenant: TenantId, pages: u32) -> Result<(), CallError> {
        let room = self.memory.accounts.check_room(Account::Tenant(tenant), pages);
        room.map_err(|e| CallError::OutOfPages { needed: e.needed, available: e.quota })
    }

    /// Snapshots whose key starts with `prefix`, by key.
    pub fn list(&self, prefix: &str) -> Vec<SnapshotInfo> {
        let from = self.snapshots.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix)).map(|(key, s)| s.info(key)).collect()
    }

    /// How many there are of [`Scheduler::list`], and whether that of `key` is persistent, if there is one.
    pub fn saved(&self, prefix: &str, key: &str) -> Saved {
        let from = self.snapshots.range(prefix.to_owned()..);
        let count = from.take_while(|(key, _)| key.starts_with(prefix)).count();
        Saved { count, persistent: self.snapshots.get(key).map(|snapshot| snapshot.persistent) }
    }

    /// Reads some pages of a snapshot out, or all that there are of them. No moves may be outstanding.
    ///
    /// # Errors
    /// When there is no such snapshot, or the backend cannot read its pages.
    pub fn export_pages(
        &self,
        key: &str,
        range: Range<u32>,
        backend: &mut dyn Backend,
    ) -> Result<Vec<SnapshotPage>, CallError> {
        let snapshot = self.snapshots.get(key).ok_or_else(|| CallError::NotFound(key.into()))?;
        let end = snapshot.entries.len().min(range.end as usize);
        let entries = &snapshot.entries[end.min(range.start as usize)..end];
        let mut pages = Vec::with_capacity(entries.len());
        for entry in entries {
            let page = self.memory.pages.get(entry.page);
            let lost = || CallError::Backend("a page of the snapshot was lost".into());
            if page.lost {
                return Err(lost());
            }
            let bytes = match page.location {
                PageLocation::Host(slot) => self.memory.pages.host_bytes(slot).cloned().ok_or_else(lost)?,
                PageLocation::Device(device) => read(backend, device)?,
            };
            pages.push(SnapshotPage { live: entry.live, positions: page.positions.clone(), bytes });
        }
        Ok(pages)
    }

    /// Makes a snapshot from what [`Scheduler::export_pages`] gave, replacing what was there. Its pages wait in host memory.
    ///
    /// # Errors
    /// When the data does not fit the model, or host memory has no room.
    pub fn import(
        &mut self,
        key: String,
        tenant: TenantId,
        persistent: bool,
        data: SnapshotData,
    ) -> Result<SnapshotInfo, CallError> {
        self.check_data(&data)?;
        let (needed, available) = (data.pages.len() as u32, self.memory.pages.host_left());
        if needed > available {
            return Err(CallError::OutOfPages { needed, available });
        }
        self.check_room(tenant, needed)?;
        let mut entries = Vec::with_capacity(data.pages.len());
        for SnapshotPage { live, positions, bytes } in data.pages {
            let page = self.memory.pages.create_on_host(bytes);
            self.memory.pages.get_mut(page).positions = positions;
            entries.push(Entry { page, live });
        }
        Ok(self.keep(key, Snapshot { entries, tenant, next_position: data.next_position, persistent }))
    }

    /// Refuses what does not fit the model.
    fn check_data(&self, data: &SnapshotData) -> Result<(), CallError> {
        let limits = &self.limits;
        let mismatch = |text: String| Err(CallError::Mismatch(text));
        if data.page_tokens != limits.page_tokens {
            return mismatch(format!("pages of {} slots, not {}", data.page_tokens, limits.page_tokens));
        }
        if data.next_position > limits.context_tokens {
            return mismatch(format!("position {} of {}", data.next_position, limits.context_tokens));
        }
        for (index, page) in data.pages.iter().enumerate() {
            let fits = page.bytes.len() == limits.page_bytes
                && page.positions.len() == limits.page_tokens as usize
                && page.live != 0
                && page.live & !self.memory.full() == 0
                && page.positions.iter().all(|position| *position < limits.context_tokens);
            if !fits {
                return mismatch(format!(
                    "page {index} has {} bytes, not {}",
                    page.bytes.len(),
                    limits.page_bytes
                ));
            }
        }
        Ok(())
    }
}

fn read(backend: &mut dyn Backend, page: PageId) -> Result<Vec<u8>, CallError> {
    let mut bytes = Vec::with_capacity(backend.limits().page_bytes);
    backend.read_page(page, &mut bytes).map_err(|error| CallError::Backend(error.to_string()))?;
    Ok(bytes)
}
