//! The pages of a user's inferlets, as a picture shows them: asked of the engines when somebody looks.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use scheduler::{ContextPages, OwnerId, OwnerPages};

use crate::Runtime;

/// Pages of one inferlet in the engine of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferletPages {
    /// Its id.
    pub inferlet: String,
    /// Its pages there.
    pub pages: OwnerPages,
}

/// What the inferlets of a user hold in the engine of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPages {
    /// The model.
    pub model: String,
    /// Pages of its pool.
    pub pool: u32,
    /// Tokens of a page.
    pub page_tokens: u32,
    /// The inferlets that have contexts there, by id.
    pub inferlets: Vec<InferletPages>,
    /// The contexts of the inferlet that was asked for, older ones first.
    pub contexts: Vec<ContextPages>,
    /// Contexts that are not in this, since there are too many.
    pub left_out: u32,
}

impl Runtime {
    /// What the inferlets of a user hold, and the contexts of one of them. A model whose engine is dead is left out.
    pub async fn pages_of(&self, user: &str, inferlet: Option<&str>) -> Vec<ModelPages> {
        let tenant = self.0.users.of(user).tenant;
        let owners: BTreeMap<OwnerId, String> = {
            let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
            let own = running.values().filter(|inferlet| inferlet.user.name == user);
            own.map(|inferlet| (inferlet.owner, inferlet.id.clone())).collect()
        };
        let asked = owners.iter().find(|(_, id)| Some(id.as_str()) == inferlet).map(|(owner, _)| *owner);
        let mut models = Vec::new();
        for model in &self.0.models {
            let Ok(Ok(found)) = model.engine.holdings(tenant, asked).await else { continue };
            let named = found.owners.iter().filter_map(|(owner, pages)| {
                Some(InferletPages { inferlet: owners.get(owner)?.clone(), pages: *pages })
            });
            let mut inferlets: Vec<InferletPages> = named.collect();
            inferlets.sort_by(|one, other| one.inferlet.cmp(&other.inferlet));
            models.push(ModelPages {
                model: model.name.clone(),
                pool: model.engine.limits().pages,
                page_tokens: model.facts.page_tokens,
                inferlets,
                contexts: found.contexts,
                left_out: found.left_out,
            });
        }
        models
    }
}
