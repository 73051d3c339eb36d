//! BERT, the encoder of sentence-transformers and others: rows attend in both directions. Learned positions, the row of
//! the first type of token added to each, a norm of that sum; layer norms of sums with biases, GELU itself without a gate.
//! Heads for training, and the pooler before them, are left out: vectors of texts are pooled from the last rows.

use super::common::LLAMA_KEYS;
use super::{Keys, Part, Spec, tensor};
use crate::hyper::{Activation, HyperError, NormKind, Placement};
use kernels::ops::RopePairing;

pub(super) const SPEC: Spec = Spec {
    name: "bert",
    model_types: &["bert"],
    keys: Keys { norm_eps: "layer_norm_eps", norm_eps_default: Some(1e-12), ..LLAMA_KEYS },
    gguf_pairing: RopePairing::Neox,
    norm: NormKind::Layer,
    rotates: false,
    activation: Activation::Gelu,
    roots: &["bert.", ""],
    layers: "encoder.layer.",
    tensors: &[&[
        tensor(&[Part::Embedding], "token_embd", "embeddings.word_embeddings"),
        tensor(&[Part::Positions], "position_embd", "embeddings.position_embeddings"),
        tensor(&[Part::TokenTypes], "token_types", "embeddings.token_type_embeddings"),
        tensor(&[Part::EmbeddingNorm], "token_embd_norm", "embeddings.LayerNorm"),
        tensor(&[Part::Q], "attn_q", "attention.self.query"),
        tensor(&[Part::K], "attn_k", "attention.self.key"),
        tensor(&[Part::V], "attn_v", "attention.self.value"),
        tensor(&[Part::AttentionOutput], "attn_output", "attention.output.dense"),
        tensor(&[Part::AttentionNorm], "attn_output_norm", "attention.output.LayerNorm"),
        tensor(&[Part::Up], "ffn_up", "intermediate.dense"),
        tensor(&[Part::Down], "ffn_down", "output.dense"),
        tensor(&[Part::FfnNorm], "layer_output_norm", "output.LayerNorm"),
    ]],
    ignored: &[
        "embeddings.position_ids",
        "pooler.dense.weight",
        "pooler.dense.bias",
        "cls.predictions.bias",
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
        "cls.predictions.transform.dense.weight",
        "cls.predictions.transform.dense.bias",
        "cls.predictions.transform.LayerNorm.weight",
        "cls.predictions.transform.LayerNorm.bias",
        "cls.seq_relationship.weight",
        "cls.seq_relationship.bias",
    ],
    describe: |reader, hyper| {
        hyper.encoder = true;
        hyper.gated = false;
        hyper.placement = Placement::Sum;
        hyper.output_norm = false;
        hyper.embedding_norm = true;
        hyper.learned_positions = Some(0);
        let types = reader.common_count("tokenizer.ggml.token_type_count", "type_vocab_size")?;
        hyper.token_types = Some(types.unwrap_or(2) as usize);
        // There are no logits, so no matrix for them.
        hyper.tied_embeddings = true;
        if reader.config_flag("is_decoder")? == Some(true) {
            return Err(HyperError::Unsupported {
                what: "attention to what is before a token only".to_owned(),
                instead: "use a model without `is_decoder`",
            });
        }
        match reader.config_text("position_embedding_type")? {
            None | Some("absolute") => Ok(()),
            Some(found) => Err(HyperError::Unsupported {
                what: format!("positions of type `{found}`"),
                instead: "use a model with `absolute` ones",
            }),
        }
    },
};
