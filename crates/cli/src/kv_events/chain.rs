//! From pages of the prefix cache to blocks with hashes: each hash is of the block before it and of the block's own tokens, so
//! equal hashes are equal prefixes of one user.
//!
//! Pages that a plain prompt never meets, since they do not begin where the page before them ends, are not told, and what
//! follows them is not either.

use std::collections::HashMap;

use scheduler::{CacheSalt, PrefixEvent, PrefixParent};

use super::message::{Event, Stored};

/// A page that was told.
struct Told {
    hash: u64,
    /// Position of the token behind it.
    end: u32,
}

/// The pages of one model that subscribers know.
pub(super) struct Chains {
    /// Names the weights and the layout of pages: other models have other hashes.
    fingerprint: String,
    told: HashMap<u64, Told>,
}

impl Chains {
    pub(super) fn new(fingerprint: String) -> Chains {
        Chains { fingerprint, told: HashMap::new() }
    }

    /// What subscribers are to be told; pages of one chain that came one after another are one event.
    pub(super) fn events(&mut self, changes: Vec<PrefixEvent>) -> Vec<Event> {
        let mut events = Vec::new();
        for change in changes {
            match change {
                PrefixEvent::Stored { page, parent, adapter, position, tokens } => {
                    let lora_id = adapter.map(|adapter| adapter.0);
                    if let Some(stored) = self.store(page, parent, lora_id, position, &tokens) {
                        push_stored(&mut events, stored);
                    }
                }
                PrefixEvent::Removed { page } => {
                    if let Some(told) = self.told.remove(&page) {
                        match events.last_mut() {
                            Some(Event::Removed(hashes)) => hashes.push(told.hash),
                            _ => events.push(Event::Removed(vec![told.hash])),
                        }
                    }
                }
                PrefixEvent::Lost => {
                    self.told.clear();
                    events.push(Event::Cleared);
                }
            }
        }
        events
    }

    fn store(
        &mut self,
        page: u64,
        parent: PrefixParent,
        lora_id: Option<u32>,
        position: u32,
        tokens: &[u32],
    ) -> Option<Stored> {
        let (parent, salt, start) = match parent {
            PrefixParent::Root(user, CacheSalt(0)) => (None, Some(format!("user-{}", user.0)), 0),
            PrefixParent::Root(user, CacheSalt(salt)) => {
                (None, Some(format!("user-{}-{salt:032x}", user.0)), 0)
            }
            PrefixParent::Page(page) => self.told.get(&page).map(|told| (Some(told.hash), None, told.end))?,
        };
        if position != start {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        match (&salt, parent) {
            (Some(salt), _) => hasher.update(format!("{} {salt}\n", self.fingerprint).as_bytes()),
            (None, parent) => hasher.update(&parent.unwrap_or(0).to_le_bytes()),
        };
        hasher.update(format!("{lora_id:?}\n").as_bytes());
        for token in tokens {
            hasher.update(&token.to_le_bytes());
        }
        let hash = hasher.finalize();
        let hash = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"));
        let length = tokens.len() as u32;
        self.told.insert(page, Told { hash, end: position + length });
        Some(Stored {
            hashes: vec![hash],
            parent,
            tokens: tokens.to_vec(),
            block_size: length,
            lora_id,
            salt,
        })
    }
}

/// Adds blocks to the event before them where they go on from its last one.
fn push_stored(events: &mut Vec<Event>, stored: Stored) {
    match events.last_mut() {
        Some(Event::Stored(before))
            if stored.parent.is_some()
                && before.hashes.last().copied() == stored.parent
                && before.lora_id == stored.lora_id =>
        {
            before.hashes.extend(stored.hashes);
            before.tokens.extend(stored.tokens);
        }
        _ => events.push(Event::Stored(stored)),
    }
}

#[cfg(test)]
mod tests {
    use scheduler::TenantId;

    use super::*;

    fn stored(page: u64, parent: PrefixParent, position: u32, token: u32) -> PrefixEvent {
        PrefixEvent::Stored { page, parent, adapter: None, position, tokens: Box::new([token; 4]) }
    }

    fn root(user: u64) -> PrefixParent {
        PrefixParent::Root(TenantId(user), CacheSalt(0))
    }

    #[test]
    fn a_chain_is_one_event_and_a_branch_another_with_its_parent() {
        let mut chains = Chains::new("model".into());
        let page = PrefixParent::Page;
        let events = chains.events(vec![
            stored(0, root(1), 0, 5),
            stored(1, page(0), 4, 6),
            stored(2, page(0), 4, 7),
            PrefixEvent::Removed { page: 1 },
            PrefixEvent::Removed { page: 9 },
        ]);
        let [Event::Stored(chain), Event::Stored(branch), Event::Removed(removed)] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(chain.tokens, [5, 5, 5, 5, 6, 6, 6, 6]);
        assert_eq!((chain.parent, chain.salt.as_deref(), chain.block_size), (None, Some("user-1"), 4));
        assert_eq!((branch.parent, &branch.salt), (Some(chain.hashes[0]), &None));
        assert_eq!(removed[..], chain.hashes[1..], "and nothing of a page that was not told");
        assert_ne!(chain.hashes[1], branch.hashes[0]);
    }

    #[test]
    fn hashes_are_the_same_for_the_same_prefix_of_a_user_only() {
        let of = |model: &str, user, tokens| {
            let mut chains = Chains::new(model.into());
            match &chains.events(vec![stored(8, root(user), 0, tokens)])[..] {
                [Event::Stored(stored)] => stored.hashes[0],
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(of("model", 1, 5), of("model", 1, 5));
        assert!(
            [of("model", 2, 5), of("model", 1, 6), of("other", 1, 5)]
                .iter()
                .all(|hash| *hash != of("model", 1, 5))
        );
    }

    #[test]
    fn what_a_plain_prompt_never_meets_is_not_told_and_after_a_loss_all_is_told_anew() {
        let mut chains = Chains::new("model".into());
        let odd = vec![stored(0, root(1), 3, 5), stored(1, PrefixParent::Page(0), 7, 5)];
        assert!(chains.events(odd).is_empty());
        let first = chains.events(vec![stored(2, root(1), 0, 5)]);
        let again = chains.events(vec![PrefixEvent::Lost, stored(2, root(1), 0, 5)]);
        assert_eq!(again, [vec![Event::Cleared], first].concat());
    }
}
