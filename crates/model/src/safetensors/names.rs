//! Hugging Face's names of tensors, and ours.

/// Names outside of the layers.
const MODEL: &[(&str, &str)] = &[
    ("model.embed_tokens.weight", "token_embd.weight"),
    ("model.norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
];

/// Names after `model.layers.N.` and after `blk.N.`, without `.weight` or `.bias`.
const LAYER: &[(&str, &str)] = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Our name of a tensor: `None` when it is not known, `Some(None)` when it is not needed.
pub(super) fn canonical(name: &str) -> Option<Option<String>> {
    if let Some((_, ours)) = MODEL.iter().find(|(theirs, _)| *theirs == name) {
        return Some(Some((*ours).to_owned()));
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    if rest == "self_attn.rotary_emb.inv_freq" {
        return Some(None); // Computed from the hyper-parameters.
    }
    let (stem, end) = rest.rsplit_once('.')?;
    let (_, ours) = LAYER.iter().find(|(theirs, _)| *theirs == stem)?;
    matches!(end, "weight" | "bias").then(|| Some(format!("blk.{layer}.{ours}.{end}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_translated() {
        let check = |theirs: &str, ours: &str| assert_eq!(canonical(theirs), Some(Some(ours.to_owned())));
        check("lm_head.weight", "output.weight");
        check("model.layers.12.self_attn.q_proj.bias", "blk.12.attn_q.bias");
        check("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight");
        assert_eq!(canonical("model.layers.3.self_attn.rotary_emb.inv_freq"), Some(None));
        assert_eq!(canonical("model.layers.x.mlp.down_proj.weight"), None);
        assert_eq!(canonical("transformer.h.0.attn.c_attn.weight"), None);
    }
}
