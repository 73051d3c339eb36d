//! Llama 1 to 3, SmolLM2 and others with the same layers: RMS norm, rotary attention with grouped heads, SwiGLU. Biases
//! are taken where the file has them: some derivatives do.

use super::Spec;
use super::common::{ATTENTION, GATED, IGNORED, LLAMA_KEYS, MODEL, NORMS_BEFORE, ROOTS};
use crate::hyper::{Activation, NormKind};
use kernels::ops::RopePairing;

pub(super) const SPEC: Spec = Spec {
    name: "llama",
    model_types: &["llama"],
    keys: LLAMA_KEYS,
    gguf_pairing: RopePairing::Interleaved,
    norm: NormKind::Rms,
    rotates: true,
    activation: Activation::Silu,
    roots: ROOTS,
    layers: "layers.",
    tensors: &[MODEL, NORMS_BEFORE, ATTENTION, GATED],
    ignored: IGNORED,
    describe: |_, _| Ok(()),
};
