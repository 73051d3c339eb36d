//! Accounts of pages: a tree of users, their inferlets, and the inferlets that those launched.
//!
//! ```text
//! tenant (user)   quota for all its inferlets and snapshots
//!   owner         quota of an inferlet and all that it launched
//!     owner       quota of an inferlet that it launched
//! ```
//! A page counts once for each account on the way up from its holder, however many contexts hold it. So a child draws on
//! its parent's share, and all programs of a user together on the user's. An account stays until it holds nothing: a
//! child draws on its parent's share also after the parent is gone.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::pages::LogicalId;
use crate::request::{OwnerId, TenantId};

/// Who pays for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Account {
    /// A user, also for the user's snapshots.
    Tenant(TenantId),
    /// An inferlet.
    Owner(OwnerId),
}

/// What an account holds, and may hold.
#[derive(Debug)]
pub(crate) struct Share {
    parent: Option<Account>,
    /// Age: older owners have lower numbers.
    pub(crate) sequence: u64,
    quota: Option<u32>,
    /// Entries of contexts, passes and snapshots of this account and those below it, by page. Only counted and looked
    /// up, never walked for a decision.
    held: FxHashMap<LogicalId, u32>,
    /// Accounts whose parent this is.
    children: u32,
    /// Whether it stays although it holds nothing: an owner until it is gone.
    open: bool,
}

impl Share {
    /// Distinct pages of this account and those below it, in the pool or not.
    pub(crate) fn pages(&self) -> u32 {
        self.held.len() as u32
    }
}

/// All accounts.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    shares: BTreeMap<Account, Share>,
    /// Quota of each tenant.
    tenant_quota: Option<u32>,
}

/// The account that cannot take so many more pages.
pub(crate) struct Exceeded {
    pub(crate) needed: u32,
    pub(crate) quota: u32,
}

impl Accounts {
    pub(crate) fn new(tenant_quota: Option<u32>) -> Accounts {
        Accounts { shares: BTreeMap::new(), tenant_quota }
    }

    /// Opens the account of an owner below that of its parent, or of its tenant. Nothing changes when it is open.
    pub(crate) fn open(
        &mut self,
        owner: OwnerId,
        parent: Option<OwnerId>,
        tenant: TenantId,
        quota: Option<u32>,
        sequence: u64,
    ) {
        if self.shares.contains_key(&Account::Owner(owner)) {
            return;
        }
        let parent = parent.map(Account::Owner).filter(|parent| self.shares.contains_key(parent));
        let parent = parent.unwrap_or(Account::Tenant(tenant));
        self.of_tenant(tenant);
        self.shares.get_mut(&parent).expect("just looked up or made").children += 1;
        let share = Share {
            parent: Some(parent),
            sequence,
            quota,
            held: FxHashMap::default(),
            children: 0,
            open: true,
        };
        self.shares.insert(Account::Owner(owner), share);
    }

    fn of_tenant(&mut self, tenant: TenantId) -> &mut Share {
        let quota = self.tenant_quota;
        self.shares.entry(Account::Tenant(tenant)).or_insert_with(|| Share {
            parent: None,
            sequence: 0,
            quota,
            held: FxHashMap::default(),
            children: 0,
            open: false,
        })
    }

    /// Closes the account of an owner, which holds nothing itself any more.
    pub(crate) fn close(&mut self, owner: OwnerId) {
        if let Some(share) = self.shares.get_mut(&Account::Owner(owner)) {
            share.open = false;
            self.prune(Account::Owner(owner));
        }
    }

    /// Removes an account without use, and then perhaps its parent.
    fn prune(&mut self, account: Account) {
        let used = |share: &Share| share.open || share.children > 0 || !share.held.is_empty();
        let Some(share) = self.shares.get(&account).filter(|share| !used(share)) else { return };
        let parent = share.parent;
        self.shares.remove(&account);
        if let Some(parent) = parent {
            self.shares.get_mut(&parent).expect("a parent stays as long as its children").children -= 1;
            self.prune(parent);
        }
    }

    /// One more entry for a page, in the account and all above it.
    pub(crate) fn hold(&mut self, account: Account, page: LogicalId) {
        if let Account::Tenant(tenant) = account {
            self.of_tenant(tenant);
        }
        let mut next = Some(account);
        while let Some(account) = next {
            let share = self.shares.get_mut(&account).expect("an account is opened before it holds pages");
            *share.held.entry(page).or_insert(0) += 1;
            next = share.parent;
        }
    }

    /// One entry less.
    pub(crate) fn release(&mut self, account: Account, page: LogicalId) {
        let mut next = Some(account);
        while let Some(account) = next {
            let share = self.shares.get_mut(&account).expect("an account stays while it holds pages");
            let count = share.held.get_mut(&page).expect("a released page was held");
            *count -= 1;
            if *count == 0 {
                share.held.remove(&page);
            }
            next = share.parent;
        }
        self.prune(account);
    }

    /// Whether an owner is known, or a tenant has something.
    pub(crate) fn get(&self, account: Account) -> Option<&Share> {
        self.shares.get(&account)
    }

    /// Distinct pages that an owner and the inferlets it launched hold.
    pub(crate) fn held(&self, owner: OwnerId) -> u32 {
        self.shares.get(&Account::Owner(owner)).map_or(0, Share::pages)
    }

    /// Whether an owner is there and not gone.
    pub(crate) fn knows(&self, owner: OwnerId) -> bool {
        self.shares.get(&Account::Owner(owner)).is_some_and(|share| share.open)
    }

    /// Owners that are not gone.
    pub(crate) fn owners(&self) -> usize {
        self.shares.values().filter(|share| share.open).count()
    }

    /// Whether an account and all above it may take so many more pages.
    pub(crate) fn check_room(&self, account: Account, more: u32) -> Result<(), Exceeded> {
        let mut next = Some(account);
        while let Some(share) = next.and_then(|account| self.shares.get(&account)) {
            let needed = share.pages() + more;
            if let Some(quota) = share.quota.filter(|quota| needed > *quota) {
                return Err(Exceeded { needed, quota });
            }
            next = share.parent;
        }
        // A tenant without anything has no account yet.
        match (account, self.tenant_quota) {
            (Account::Tenant(_), Some(quota)) if more > quota => Err(Exceeded { needed: more, quota }),
            _ => Ok(()),
        }
    }

    /// Checks that accounts hold exactly `entries`, the holders of all entries there are.
    pub(crate) fn check(&self, entries: impl Iterator<Item = (Account, LogicalId)>) {
        let mut expected: BTreeMap<Account, BTreeMap<LogicalId, u32>> = BTreeMap::new();
        for (account, page) in entries {
            let mut next = Some(account);
            while let Some(account) = next {
                *expected.entry(account).or_default().entry(page).or_default() += 1;
                next = self.shares.get(&account).expect("a holder has an account").parent;
            }
        }
        let mut children: BTreeMap<Account, u32> = BTreeMap::new();
        for (account, share) in &self.shares {
            let held: BTreeMap<_, _> = share.held.iter().map(|(id, count)| (*id, *count)).collect();
            assert_eq!(held, expected.remove(account).unwrap_or_default(), "{account:?}: share");
            *children.entry(share.parent.unwrap_or(*account)).or_default() +=
                u32::from(share.parent.is_some());
        }
        assert!(expected.is_empty(), "pages are held without an account");
        for (account, share) in &self.shares {
            assert_eq!(share.children, children.get(account).copied().unwrap_or(0), "{account:?}: children");
            let used = share.open || share.children > 0 || !share.held.is_empty();
            assert!(used, "{account:?} is kept for nothing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_draws_on_its_parent_and_both_on_their_tenant() {
        let mut accounts = Accounts::new(Some(5));
        let (parent, child, other) = (OwnerId(1), OwnerId(2), OwnerId(3));
        accounts.open(parent, None, TenantId(1), Some(4), 1);
        accounts.open(child, Some(parent), TenantId(1), Some(4), 2);
        accounts.open(other, None, TenantId(1), None, 3);
        let of = Account::Owner;
        (0..3).for_each(|page| accounts.hold(of(child), LogicalId(page)));
        accounts.hold(of(parent), LogicalId(0));
        assert_eq!((accounts.held(parent), accounts.held(child)), (3, 3), "a page held twice counts once");
        assert!(accounts.check_room(of(parent), 1).is_ok() && accounts.check_room(of(parent), 2).is_err());
        accounts.hold(of(other), LogicalId(7));
        let full = accounts.check_room(of(other), 2).err().map(|e| (e.needed, e.quota));
        assert_eq!(full, Some((6, 5)), "the tenant's");
        // The parent goes first: its share still bounds the child.
        accounts.release(of(parent), LogicalId(0));
        accounts.close(parent);
        assert!(accounts.check_room(of(child), 2).is_err());
        (0..3).for_each(|page| accounts.release(of(child), LogicalId(page)));
        accounts.close(child);
        accounts.release(of(other), LogicalId(7));
        accounts.close(other);
        assert!(accounts.shares.is_empty());
        // Snapshots count for their tenant.
        accounts.hold(Account::Tenant(TenantId(1)), LogicalId(9));
        assert!(accounts.check_room(Account::Tenant(TenantId(1)), 5).is_err());
        accounts.release(Account::Tenant(TenantId(1)), LogicalId(9));
        assert!(accounts.shares.is_empty());
    }
}
