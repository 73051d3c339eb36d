//! Accounts of what programs take of the host: a tree, in which what one takes counts for all above it.
//!
//! ```text
//! server       what all together may take
//!   user       what all programs of a user may take
//!     inferlet what an inferlet and all that it launched may take
//!       child
//! ```
//! So a child draws on its parent's share, and the programs of a user together on the user's. Pages of key/value memory
//! have such accounts in the engine, for it alone knows which contexts share a page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::ApiError;

/// One account: so much may be taken of one thing.
pub(crate) struct Account {
    /// Whose it is, for errors: `the user`.
    whose: &'static str,
    /// What is counted, for errors: `bytes of host memory`.
    what: &'static str,
    limit: u64,
    taken: AtomicU64,
    above: Option<Arc<Account>>,
}

/// Something taken from an account and all above it. Dropping it gives it back.
pub(crate) struct Taken {
    account: Arc<Account>,
    amount: u64,
}

impl Account {
    /// An account at the root of a tree.
    pub(crate) fn root(whose: &'static str, what: &'static str, limit: u64) -> Arc<Account> {
        Arc::new(Account { whose, what, limit, taken: AtomicU64::new(0), above: None })
    }

    /// An account below this one, of the same thing.
    pub(crate) fn below(self: &Arc<Account>, whose: &'static str, limit: u64) -> Arc<Account> {
        let (what, above) = (self.what, Some(self.clone()));
        Arc::new(Account { whose, what, limit, taken: AtomicU64::new(0), above })
    }

    /// The most that may be taken.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// What is taken now, by those below as well.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes so much, from all accounts on the way up or from none.
    ///
    /// # Errors
    /// `limit-exceeded` with the account that has not so much left.
    pub(crate) fn take(self: &Arc<Account>, amount: u64) -> Result<Taken, ApiError> {
        let mut taken = Taken { account: self.clone(), amount: 0 };
        taken.grow(amount)?;
        Ok(taken)
    }

    /// The accounts from this one up.
    fn path(&self) -> impl Iterator<Item = &Account> {
        std::iter::successors(Some(self), |account| account.above.as_deref())
    }

    fn add(&self, amount: u64) -> Result<(), ApiError> {
        let fits = |taken: u64| taken.checked_add(amount).filter(|taken| *taken <= self.limit);
        let added = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        added.map(drop).map_err(|taken| {
            let Account { whose, what, limit, .. } = self;
            ApiError::LimitExceeded(format!(
                "{amount} {what} after {taken} exceed what {whose} may take, {limit}"
            ))
        })
    }

    fn give_back(&self, amount: u64) {
        self.taken.fetch_sub(amount, Ordering::Relaxed);
    }
}

impl Taken {
    /// How much it is.
    pub(crate) fn amount(&self) -> u64 {
        self.amount
    }

    /// Takes so much more, or nothing.
    ///
    /// # Errors
    /// As [`Account::take`].
    pub(crate) fn grow(&mut self, amount: u64) -> Result<(), ApiError> {
        for (index, account) in self.account.path().enumerate() {
            if let Err(error) = account.add(amount) {
                self.account.path().take(index).for_each(|below| below.give_back(amount));
                return Err(error);
            }
        }
        self.amount += amount;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.account.path().for_each(|account| account.give_back(self.amount));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_takes_counts_for_all_above_and_comes_back() {
        let server = Account::root("the server", "bytes", 100);
        let user = server.below("the user", 50);
        let (parent, other) = (user.below("the inferlet", 40), user.below("the inferlet", 40));
        let child = parent.below("the inferlet", 40);
        let mut held = child.take(30).unwrap();
        assert_eq!([&server, &user, &parent, &child, &other].map(|a| a.taken()), [30, 30, 30, 30, 0]);
        let refused = |result: Result<Taken, ApiError>, text: &str| match result {
            Err(ApiError::LimitExceeded(reason)) => assert!(reason.contains(text), "{reason}"),
            _ => panic!("it is refused: {text}"),
        };
        refused(parent.take(11), "the inferlet may take, 40");
        refused(other.take(21), "the user may take, 50");
        refused(child.take(u64::MAX), "the inferlet");
        assert_eq!([&server, &user, &parent, &child, &other].map(|a| a.taken()), [30, 30, 30, 30, 0]);
        held.grow(10).unwrap();
        assert!(held.grow(1).is_err());
        // The child goes on drawing on its parent's share when the parent is gone.
        drop(parent);
        assert_eq!(user.taken(), 40);
        drop(held);
        assert_eq!([server, user, child, other].map(|a| a.taken()), [0; 4]);
    }
}
