//! Logical pages: contexts hold them, wherever the bytes are.
//!
//! A logical page has one location, a page of the backend's pool or a slot of host memory, and any number of holders.
//! Moving it changes the location for all holders at once, so suspended contexts go on sharing. Decisions are made here
//! at once; the bytes follow when the moves are carried out, in order, before the next batch.

use backend::{AdapterId, PageId};

use crate::prefix::{NodeId, Parent};

/// A logical page. Reused after it was freed; always checked through a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LogicalId(pub(crate) u32);

/// Where the bytes of a logical page are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageLocation {
    /// In the backend's pool.
    Device(PageId),
    /// In a slot of host memory.
    Host(u32),
}

/// How the slots of a page, from the first on, were computed: from tokens under default attention, after the pages
/// that `parent` names. Such a page may enter the prefix cache once full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Provenance {
    pub(crate) parent: Parent,
    pub(crate) adapter: Option<AdapterId>,
}

#[derive(Debug)]
pub(crate) struct Page {
    /// Entries of contexts, passes and snapshots. A page with more than one is never written.
    pub(crate) refs: u32,
    /// Those of `refs` that snapshots hold.
    pub(crate) snapshot_refs: u32,
    pub(crate) location: PageLocation,
    /// Its entry in the prefix cache. Such a page is never written: it is full, or nobody holds it.
    pub(crate) node: Option<NodeId>,
    /// The backend failed to move it; a pass that needs it gets an error.
    pub(crate) lost: bool,
    pub(crate) provenance: Option<Provenance>,
    /// Token and position of each slot, as last written.
    pub(crate) tokens: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    /// Round of planning in which the batch, or the requester looked at, needs it.
    pub(crate) pinned: u64,
}

/// A move of bytes that the engine carries out before it runs the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageMove {
    /// Copy a page of the pool to another.
    Copy {
        /// Page read.
        from: PageId,
        /// Page overwritten.
        to: PageId,
    },
    /// Read a page of the pool into a slot of host memory.
    Spill {
        /// Page read.
        page: PageId,
        /// Slot overwritten.
        slot: u32,
    },
    /// Write a slot of host memory to a page of the pool; the slot is empty afterwards.
    Restore {
        /// Slot read.
        slot: u32,
        /// Page overwritten.
        page: PageId,
    },
}

/// All logical pages, the free pages of the pool, and host memory.
#[derive(Debug)]
pub(crate) struct Pages {
    page_tokens: u32,
    pool: u32,
    pages: Vec<Option<Page>>,
    vacant: Vec<LogicalId>,
    free: Vec<PageId>,
    host: Vec<Option<Vec<u8>>>,
    host_free: Vec<u32>,
    host_limit: u32,
    /// Slots given up while moves were outstanding, to be emptied after them.
    stale: Vec<u32>,
    /// Decided and not yet carried out, with the page that is lost if it fails.
    pub(crate) moves: Vec<(PageMove, LogicalId)>,
    /// Those of `moves` that are carried out.
    carried: usize,
}

impl Pages {
    pub(crate) fn new(pool: u32, page_tokens: u32, host_limit: u32) -> Pages {
        Pages {
            page_tokens,
            pool,
            pages: Vec::new(),
            vacant: Vec::new(),
            free: (0..pool).rev().map(PageId).collect(),
            host: Vec::new(),
            host_free: Vec::new(),
            host_limit,
            stale: Vec::new(),
            moves: Vec::new(),
            carried: 0,
        }
    }

    pub(crate) fn pool(&self) -> u32 {
        self.pool
    }

    pub(crate) fn page_tokens(&self) -> u32 {
        self.page_tokens
    }

    pub(crate) fn free(&self) -> u32 {
        self.free.len() as u32
    }

    pub(crate) fn free_ids(&self) -> &[PageId] {
        &self.free
    }

    pub(crate) fn host_used(&self) -> u32 {
        (self.host.len() - self.host_free.len()) as u32
    }

    pub(crate) fn host_left(&self) -> u32 {
        self.host_limit - self.host_used()
    }

    pub(crate) fn get(&self, id: LogicalId) -> &Page {
        self.pages[id.0 as usize].as_ref().expect("a held page exists")
    }

    pub(crate) fn get_mut(&mut self, id: LogicalId) -> &mut Page {
        self.pages[id.0 as usize].as_mut().expect("a held page exists")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LogicalId, &Page)> {
        let ids = (0..).map(LogicalId);
        ids.zip(&self.pages).filter_map(|(id, page)| page.as_ref().map(|page| (id, page)))
    }

    fn insert(&mut self, location: PageLocation) -> LogicalId {
        let slots = self.page_tokens as usize;
        let page = Page {
            refs: 0,
            snapshot_refs: 0,
            location,
            node: None,
            lost: false,
            provenance: None,
            tokens: vec![0; slots],
            positions: vec![0; slots],
            pinned: 0,
        };
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.pages.push(None);
            LogicalId(self.pages.len() as u32 - 1)
        });
        self.pages[id.0 as usize] = Some(page);
        id
    }

    /// A new page in the pool, without holders. There must be a free one.
    pub(crate) fn create(&mut self) -> LogicalId {
        let page = self.free.pop().expect("room was made before pages are taken");
        self.insert(PageLocation::Device(page))
    }

    /// A new page with the content of another one, which is in the pool. There must be a free one.
    pub(crate) fn create_copy(&mut self, of: LogicalId) -> LogicalId {
        let PageLocation::Device(from) = self.get(of).location else {
            panic!("{of:?} is copied while not in the pool")
        };
        let id = self.create();
        let PageLocation::Device(to) = self.get(id).location else {
            unreachable!("just created in the pool")
        };
        let (provenance, tokens, positions, lost) = {
            let page = self.get(of);
            (page.provenance, page.tokens.clone(), page.positions.clone(), page.lost)
        };
        let copy = self.get_mut(id);
        (copy.provenance, copy.tokens, copy.positions, copy.lost) = (provenance, tokens, positions, lost);
        self.moves.push((PageMove::Copy { from, to }, id));
        id
    }

    /// A new page in host memory, without holders. Host memory must have room.
    pub(crate) fn create_on_host(&mut self, bytes: Vec<u8>) -> LogicalId {
        let slot = self.take_slot();
        self.host[slot as usize] = Some(bytes);
        self.insert(PageLocation::Host(slot))
    }

    fn take_slot(&mut self) -> u32 {
        assert!(self.host_left() > 0, "host memory is full");
        self.host_free.pop().unwrap_or_else(|| {
            self.host.push(None);
            self.host.len() as u32 - 1
        })
    }

    /// Moves a page out to host memory, which must have room.
    pub(crate) fn spill(&mut self, id: LogicalId) {
        let PageLocation::Device(page) = self.get(id).location else { panic!("{id:?} is spilled twice") };
        let slot = self.take_slot();
        self.get_mut(id).location = PageLocation::Host(slot);
        self.free.push(page);
        self.moves.push((PageMove::Spill { page, slot }, id));
    }

    /// Moves a page back to the pool, which must have room.
    pub(crate) fn restore(&mut self, id: LogicalId) {
        let PageLocation::Host(slot) = self.get(id).location else { panic!("{id:?} is restored twice") };
        let page = self.free.pop().expect("room was made before pages are restored");
        self.get_mut(id).location = PageLocation::Device(page);
        self.host_free.push(slot);
        self.moves.push((PageMove::Restore { slot, page }, id));
    }

    /// Frees a page that has no holder and is not in the prefix cache.
    pub(crate) fn free_page(&mut self, id: LogicalId) {
        let page = self.pages[id.0 as usize].take().expect("a page is freed once");
        assert!(page.refs == 0 && page.node.is_none(), "{id:?} is freed while in use: {page:?}");
        self.vacant.push(id);
        match page.location {
            PageLocation::Device(device) => self.free.push(device),
            PageLocation::Host(slot) => {
                self.host_free.push(slot);
                // A move decided earlier may still read the slot.
                if self.moves.is_empty() { self.host[slot as usize] = None } else { self.stale.push(slot) }
            }
        }
    }

    /// Bytes of a page in host memory.
    pub(crate) fn host_bytes(&self, slot: u32) -> Option<&Vec<u8>> {
        self.host[slot as usize].as_ref()
    }

    /// Carries out the moves decided so far, in order. When one fails, it and the later ones are outstanding still.
    pub(crate) fn carry_out(
        &mut self,
        backend: &mut dyn backend::Backend,
    ) -> Result<(), backend::BackendError> {
        while let Some((one, _)) = self.moves.get(self.carried) {
            match *one {
                PageMove::Copy { from, to } => backend.copy_pages(&[backend::PageCopy { from, to }])?,
                PageMove::Spill { page, slot } => {
                    let mut bytes = Vec::with_capacity(backend.limits().page_bytes);
                    backend.read_page(page, &mut bytes)?;
                    self.host[slot as usize] = Some(bytes);
                }
                PageMove::Restore { slot, page } => {
                    let bytes = self.host[slot as usize].take().unwrap_or_default();
                    backend.write_page(page, &bytes)?;
                }
            }
            self.carried += 1;
        }
        self.moves.clear();
        self.carried = 0;
        for slot in std::mem::take(&mut self.stale) {
            if self.host_free.contains(&slot) {
                self.host[slot as usize] = None;
            }
        }
        Ok(())
    }

    /// Forgets the outstanding moves, because the backend cannot do them: their pages are lost, and a pass that
    /// needs one gets an error.
    pub(crate) fn abandon_moves(&mut self) {
        let moves = std::mem::take(&mut self.moves);
        let carried = std::mem::take(&mut self.carried);
        self.lose(moves.into_iter().skip(carried).map(|(_, page)| page));
    }

    fn lose(&mut self, lost: impl Iterator<Item = LogicalId>) {
        for id in lost {
            if let Some(page) = self.pages[id.0 as usize].as_mut() {
                page.lost = true;
                page.provenance = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backend::{Backend, FakeBackend};

    #[test]
    fn spilled_pages_come_back_bit_for_bit() {
        let mut backend = FakeBackend::new(2, 50);
        let bytes: Vec<u8> = (0..128).collect();
        let mut pages = Pages::new(2, 16, 4);
        let id = pages.create();
        let PageLocation::Device(first) = pages.get(id).location else { panic!("in the pool") };
        backend.write_page(first, &bytes).unwrap();
        pages.spill(id);
        let (a, b) = (pages.create(), pages.create());
        assert_eq!((pages.free(), pages.host_left()), (0, 3));
        pages.carry_out(&mut backend).unwrap();
        backend.write_page(first, &[0; 128]).unwrap();
        pages.free_page(a);
        pages.restore(id);
        pages.carry_out(&mut backend).unwrap();
        let PageLocation::Device(now) = pages.get(id).location else { panic!("in the pool") };
        let mut read = Vec::new();
        backend.read_page(now, &mut read).unwrap();
        assert_eq!(read, bytes);
        pages.free_page(b);
        pages.free_page(id);
        assert_eq!((pages.free(), pages.host_left()), (2, 4));
    }

    #[test]
    fn a_slot_given_up_in_mid_plan_still_serves_the_moves_before() {
        let mut backend = FakeBackend::new(2, 50);
        let mut pages = Pages::new(2, 16, 1);
        let (a, b) = (pages.create(), pages.create());
        pages.spill(a);
        pages.carry_out(&mut backend).unwrap();
        pages.restore(a);
        pages.spill(b);
        pages.free_page(b);
        pages.carry_out(&mut backend).unwrap();
        assert_eq!((pages.free(), pages.host_left(), pages.host_bytes(0)), (1, 1, None));
    }

    #[test]
    fn a_move_that_fails_loses_its_page_only() {
        struct Broken(FakeBackend);
        impl Backend for Broken {
            fn limits(&self) -> backend::Limits {
                self.0.limits()
            }
            fn run(
                &mut self,
                b: &backend::Batch,
                o: &mut backend::Output,
            ) -> Result<(), backend::BackendError> {
                self.0.run(b, o)
            }
            fn copy_pages(&mut self, _: &[backend::PageCopy]) -> Result<(), backend::BackendError> {
                Err(backend::BackendError::Failed("gone".into()))
            }
            fn read_page(&mut self, page: PageId, bytes: &mut Vec<u8>) -> Result<(), backend::BackendError> {
                self.0.read_page(page, bytes)
            }
            fn write_page(&mut self, page: PageId, bytes: &[u8]) -> Result<(), backend::BackendError> {
                self.0.write_page(page, bytes)
            }
            fn embed(&mut self, tokens: &[u32], rows: &mut Vec<f32>) -> Result<(), backend::BackendError> {
                self.0.embed(tokens, rows)
            }
            fn load_adapter(
                &mut self,
                _: AdapterId,
                _: Vec<backend::LoraMatrix>,
            ) -> Result<(), backend::BackendError> {
                Ok(())
            }
            fn unload_adapter(&mut self, _: AdapterId) {}
        }
        let mut pages = Pages::new(3, 16, 4);
        let (a, b) = (pages.create(), pages.create());
        pages.spill(b);
        let copy = pages.create_copy(a);
        assert!(pages.carry_out(&mut Broken(FakeBackend::new(3, 50))).is_err());
        pages.abandon_moves();
        assert_eq!([a, b, copy].map(|id| pages.get(id).lost), [false, false, true]);
    }
}
