//! OLMo 2: norms of what each branch gives, and none before; Q and K are normed over the whole row.

use super::common::{ATTENTION, GATED, MODEL, QK_NORMS};
use super::{Part, Spec, llama, tensor};
use crate::hyper::{Placement, QkNorm};
use kernels::ops::RopePairing;

pub(super) const SPEC: Spec = Spec {
    name: "olmo2",
    model_types: &["olmo2"],
    gguf_pairing: RopePairing::Neox,
    tensors: &[
        MODEL,
        ATTENTION,
        QK_NORMS,
        GATED,
        &[
            tensor(&[Part::AttentionPostNorm], "post_attention_norm", "post_attention_layernorm"),
            tensor(&[Part::FfnPostNorm], "post_ffw_norm", "post_feedforward_layernorm"),
        ],
    ],
    describe: |_, hyper| {
        hyper.placement = Placement::After;
        hyper.qk_norm = Some(QkNorm::Row);
        Ok(())
    },
    ..llama::SPEC
};
