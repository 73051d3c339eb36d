//! Mistral 7B and its relatives: llama, with a window in all layers of the first version. Their GGUF files
//! say `llama`.

use super::{Spec, llama};

pub(super) const SPEC: Spec = Spec { name: "mistral", model_types: &["mistral"], ..llama::SPEC };
