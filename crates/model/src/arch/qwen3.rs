//! Qwen 3: llama with an RMS norm on each head of Q and K before the rotation.

use super::common::{ATTENTION, GATED, MODEL, NORMS_BEFORE, QK_NORMS};
use super::{Spec, llama};
use crate::hyper::QkNorm;
use kernels::ops::RopePairing;

pub(super) const SPEC: Spec = Spec {
    name: "qwen3",
    model_types: &["qwen3"],
    gguf_pairing: RopePairing::Neox,
    tensors: &[MODEL, NORMS_BEFORE, ATTENTION, QK_NORMS, GATED],
    describe: |_, hyper| {
        hyper.qk_norm = Some(QkNorm::Head);
        Ok(())
    },
    ..llama::SPEC
};
