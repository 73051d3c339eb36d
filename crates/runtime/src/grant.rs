//! What the holder of a key may do, and take.
//!
//! An inferlet acts under the grant with which its request came, and those that it launches under the same. Without a key
//! it is its user's own, which allows everything and takes from the user's accounts.
//!
//! ```text
//! server
//!   user
//!     grant       what all inferlets under a key may take
//!       inferlet
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use scheduler::{ContextOp, EngineHandle, OwnerId};

use crate::account::Account;
use crate::limits::InferletLimits;
use crate::users::User;
use crate::{Runtime, RuntimeState};

/// What a key allows. `None` is what its user may, or the runtime's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantOptions {
    /// The id of the key, for logs and lists.
    pub name: String,
    /// Whose store, snapshots, topics and cached prefixes its inferlets see.
    pub user: String,
    /// Models that can be opened.
    pub models: Option<Vec<String>>,
    /// Programs that can be run, by name; those that users have uploaded by hash.
    pub programs: Option<Vec<String>>,
    /// MCP servers that can be called.
    pub mcp: Option<Vec<String>>,
    /// Limits of each inferlet.
    pub limits: Option<InferletLimits>,
    /// Inferlets that run or wait, together.
    pub inferlets: Option<u64>,
    /// Bytes of linear memory, together.
    pub memory_bytes: Option<u64>,
    /// Bytes that the host holds, together.
    pub host_memory_bytes: Option<u64>,
    /// Distinct pages of each model, together.
    pub pages: Option<u32>,
}

/// A key at work: what it allows, and the accounts of what its inferlets take.
pub struct Grant {
    options: GrantOptions,
    pub(crate) inferlets: Arc<Account>,
    pub(crate) memory: Arc<Account>,
    pub(crate) host_memory: Arc<Account>,
    /// Its account of pages in the engines: all its inferlets are below it.
    pages: Option<PageAccount>,
    tokens: TokenCount,
    /// Whether its key was taken away: nothing begins under it any more.
    revoked: AtomicBool,
}

/// Tokens computed so far. Cloning gives another handle to the same count.
#[derive(Clone, Debug, Default)]
pub struct TokenCount(Arc<AtomicU64>);

impl TokenCount {
    /// Whether it is the same count.
    pub fn is_same(&self, other: &TokenCount) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// So many more.
    pub fn add(&self, tokens: u64) {
        self.0.fetch_add(tokens, Ordering::Relaxed);
    }
}

/// An account of pages, closed when dropped.
struct PageAccount {
    owner: OwnerId,
    engines: Vec<EngineHandle>,
}

impl Drop for PageAccount {
    fn drop(&mut self) {
        self.engines.iter().for_each(|engine| engine.owner_gone(self.owner));
    }
}

impl Grant {
    /// What a user without a key may: everything, out of these accounts.
    pub(crate) fn of_user(user: &str, accounts: [&Arc<Account>; 3]) -> Grant {
        let [inferlets, memory, host_memory] = accounts.map(Arc::clone);
        let options = GrantOptions { user: user.to_string(), ..GrantOptions::default() };
        Grant {
            options,
            inferlets,
            memory,
            host_memory,
            pages: None,
            tokens: TokenCount::default(),
            revoked: AtomicBool::new(false),
        }
    }

    fn new(options: GrantOptions, user: &User, shared: &RuntimeState) -> Grant {
        let below = |account: &Arc<Account>, most: Option<u64>| match most {
            Some(most) => account.below("the key", most),
            None => account.clone(),
        };
        let pages = options.pages.map(|pages| {
            let owner = shared.next_owner();
            let engines: Vec<EngineHandle> = shared.models.iter().map(|m| m.engine.clone()).collect();
            for engine in &engines {
                let tenant = user.tenant;
                // Never refused.
                let _ = engine.apply(ContextOp::Register { owner, parent: None, tenant, pages: Some(pages) });
            }
            PageAccount { owner, engines }
        });
        Grant {
            inferlets: below(&user.inferlets, options.inferlets),
            memory: below(&user.memory, options.memory_bytes),
            host_memory: below(&user.host_memory, options.host_memory_bytes),
            pages,
            tokens: TokenCount::default(),
            revoked: AtomicBool::new(false),
            options,
        }
    }

    /// The id of its key; empty for a user without one.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Its user.
    pub fn user(&self) -> &str {
        &self.options.user
    }

    /// What it was made of.
    pub fn options(&self) -> &GrantOptions {
        &self.options
    }

    /// Tokens computed for it so far, those of prompts among them. Of a pass that is under way all count that it has;
    /// those that were in the cache are taken back when it is done.
    pub fn tokens(&self) -> &TokenCount {
        &self.tokens
    }

    /// A pass with so many tokens begins.
    pub(crate) fn begin_pass(&self, tokens: u32) {
        self.tokens.add(tokens.into());
    }

    /// Of a pass that is done, so many tokens were not computed.
    pub(crate) fn give_back(&self, tokens: u32) {
        self.tokens.0.fetch_sub(tokens.into(), Ordering::Relaxed);
    }

    /// Above its inferlets in the engines.
    pub(crate) fn owner(&self) -> Option<OwnerId> {
        self.pages.as_ref().map(|account| account.owner)
    }

    /// Whether its key was taken away: nothing begins under it any more.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }

    pub(crate) fn allows_model(&self, name: &str) -> bool {
        allows(self.options.models.as_deref(), name)
    }

    /// Whether a program may be run: by its name, or by the hash of one that a user has uploaded.
    pub fn allows_program(&self, name: &str) -> bool {
        allows(self.options.programs.as_deref(), name)
    }

    pub(crate) fn allows_mcp(&self, name: &str) -> bool {
        allows(self.options.mcp.as_deref(), name)
    }
}

fn allows(list: Option<&[String]>, name: &str) -> bool {
    list.is_none_or(|list| list.iter().any(|allowed| allowed == name))
}

impl Runtime {
    /// Makes a grant. It lasts as long as somebody holds it: its inferlets do.
    pub fn grant(&self, options: GrantOptions) -> Arc<Grant> {
        let user = self.0.users.of(&options.user);
        Arc::new(Grant::new(options, &user, &self.0))
    }

    /// Ends all inferlets of a key, and lets none begin any more.
    pub fn revoke(&self, grant: &Grant) {
        // Under this lock an inferlet is put on the list, or finds that it must not begin.
        let running = self.0.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        grant.revoked.store(true, Ordering::Relaxed);
        let of_grant = running.values().filter(|inferlet| std::ptr::eq(&*inferlet.grant, grant));
        of_grant.for_each(|inferlet| inferlet.kill());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::Bench;
    use crate::process::{ProgramNames, register};
    use crate::{LaunchError, LaunchOptions};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_key_has_its_part_of_what_its_user_has() {
        let bench = Bench::new(16).await;
        let shared = &bench.runtime.0;
        let options = |name: &str| GrantOptions {
            name: name.into(),
            user: "ann".into(),
            programs: Some(vec!["allowed".into()]),
            inferlets: Some(2),
            pages: Some(4),
            ..GrantOptions::default()
        };
        let (one, two) = (bench.runtime.grant(options("one")), bench.runtime.grant(options("two")));
        let register = |program: &str, grant, parent| {
            // Whatever the options say, the user is the key's.
            let options = LaunchOptions { user: "bob".into(), ..LaunchOptions::default() };
            let names = ProgramNames { label: program.to_string(), listed_as: program.to_string() };
            register(shared, names, options, Some(grant), parent)
        };
        let (parent, _client) = register("allowed", &one, None).expect("there is room");
        assert_eq!((&*parent.inferlet.user.name, parent.inferlet.grant.name()), ("ann", "one"));
        // A child acts under its parent's grant, whichever is given.
        let (child, _client) = register("allowed", &two, Some(&parent.inferlet)).expect("there is room");
        assert_eq!(child.inferlet.grant.name(), "one");
        let refused = |result: Result<_, LaunchError>| result.err().expect("it is refused");
        assert!(matches!(refused(register("allowed", &one, None)), LaunchError::Overloaded(_)));
        assert!(matches!(refused(register("other", &two, None)), LaunchError::NotAllowed(_)));
        let other = register("other", &two, Some(&parent.inferlet));
        assert!(matches!(refused(other), LaunchError::NotAllowed(_)), "nor by launching it");
        let (third, _client) = register("allowed", &two, None).expect("another key of the user has room");
        assert_eq!(shared.users.of("ann").inferlets.taken(), 3);
        assert_eq!(shared.users.of("bob").inferlets.taken(), 0);

        bench.runtime.revoke(&two);
        assert!(matches!(refused(register("allowed", &two, None)), LaunchError::Revoked));
        tokio::time::timeout(std::time::Duration::from_secs(10), third.inferlet.killed()).await.unwrap();
        drop((parent, child, third));
        assert_eq!(shared.users.of("ann").inferlets.taken(), 0);
    }

    #[test]
    fn what_was_cached_is_not_counted() {
        let account = Account::root("the server", "of something", 1);
        let grant = Grant::of_user("ann", [&account, &account, &account]);
        grant.begin_pass(100);
        grant.give_back(60);
        assert_eq!(grant.tokens().get(), 40);
    }
}
