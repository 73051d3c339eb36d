//! Qwen 2 and 2.5: llama with biases on Q, K and V, which are taken where the file has them.

use super::{Spec, llama};
use kernels::ops::RopePairing;

pub(super) const SPEC: Spec =
    Spec { name: "qwen2", model_types: &["qwen2"], gguf_pairing: RopePairing::Neox, ..llama::SPEC };
