//! Qwen 2 and 2.5: llama with biases on Q, K and V, which the loader takes where the file has them.

use super::{Spec, llama};
use model::Architecture;

pub(super) const SPEC: Spec = Spec { architecture: Architecture::Qwen2, layer: llama::layer };
