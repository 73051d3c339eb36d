//! Hugging Face's names of tensors, and ours.

use super::{Spec, TensorSpec};

/// What a name of a tensor of a safetensors file means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HuggingFaceName {
    /// A tensor under our name, and whether it has a row per input.
    Tensor { name: String, transposed: bool },
    /// Nothing is computed from it.
    Ignored,
    /// It belongs to no model of the architecture.
    Unknown,
}

/// The name of the tensor of one expert, where each has its own.
pub(crate) fn stacked(name: &str, expert: usize) -> String {
    format!("{name}.{expert}")
}

impl Spec {
    /// Our name of a tensor.
    pub(crate) fn translate(&self, name: &str) -> HuggingFaceName {
        let roots = self.roots.iter().filter_map(|root| name.strip_prefix(root));
        // The output matrix is beside the model and not below its root.
        for path in roots.chain([name]) {
            if let Some((tensor, layer, end)) = self.address(path) {
                let (name, transposed) = match layer {
                    None => (tensor.gguf.to_owned(), tensor.transposed),
                    Some((layer, expert)) => {
                        let name = format!("blk.{layer}.{}", tensor.gguf);
                        (expert.map_or(name.clone(), |expert| stacked(&name, expert)), tensor.transposed)
                    }
                };
                let transposed = transposed && end == "weight";
                return HuggingFaceName::Tensor { name: format!("{name}.{end}"), transposed };
            }
            let rest = self.in_layer(path).map_or(path, |(_, rest)| rest);
            if self.ignored.contains(&rest) {
                return HuggingFaceName::Ignored;
            }
        }
        HuggingFaceName::Unknown
    }

    /// The tensor of a matrix that an adapter changes, by any path that ends with it, without `.weight`: the
    /// number of the layer too.
    pub(crate) fn find_in_layer(&self, path: &str) -> Option<(u32, &'static TensorSpec)> {
        let start = path.find(self.layers).filter(|&at| at == 0 || path.as_bytes()[at - 1] == b'.')?;
        let (layer, stem) = self.in_layer(&path[start..])?;
        let mut tensors = self.tensors().filter(|tensor| tensor.is_in_layers());
        tensors.find(|tensor| tensor.hugging_face == stem).map(|tensor| (layer, tensor))
    }

    /// `layers.3.rest` is layer 3 and the rest.
    fn in_layer<'a>(&self, path: &'a str) -> Option<(u32, &'a str)> {
        let (layer, rest) = path.strip_prefix(self.layers)?.split_once('.')?;
        Some((layer.parse().ok()?, rest))
    }

    /// The tensor with this path below the root, its layer and expert, and `weight` or `bias`.
    #[expect(clippy::type_complexity, reason = "taken apart by the one caller")]
    fn address<'a>(
        &self,
        path: &'a str,
    ) -> Option<(&'static TensorSpec, Option<(u32, Option<usize>)>, &'a str)> {
        let (stem, end) = path.rsplit_once('.')?;
        if !matches!(end, "weight" | "bias") {
            return None;
        }
        match self.in_layer(stem) {
            None => {
                let mut tensors = self.tensors().filter(|tensor| !tensor.is_in_layers());
                tensors.find(|tensor| tensor.hugging_face == stem).map(|tensor| (tensor, None, end))
            }
            Some((layer, stem)) => {
                let tensors = self.tensors().filter(|tensor| tensor.is_in_layers());
                tensors
                    .filter_map(|tensor| Some((tensor, tensor.matches(stem)?)))
                    .next()
                    .map(|(tensor, expert)| (tensor, Some((layer, expert)), end))
            }
        }
    }
}

impl TensorSpec {
    /// Whether each layer has it.
    pub(crate) fn is_in_layers(&self) -> bool {
        self.parts.iter().all(|part| part.is_in_layers())
    }

    /// Whether `stem` is the name in safetensors files; of which expert, if each has its own.
    fn matches(&self, stem: &str) -> Option<Option<usize>> {
        match self.hugging_face.split_once('*') {
            None => (self.hugging_face == stem).then_some(None),
            Some((before, after)) => {
                let number = stem.strip_prefix(before)?.strip_suffix(after)?;
                Some(Some(number.parse().ok()?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_translated() {
        let translate = |model: &str, name: &str| Spec::of_folder(model).unwrap().translate(name);
        let check = |model: &str, theirs: &str, ours: &str, transposed: bool| {
            let expected = HuggingFaceName::Tensor { name: ours.to_owned(), transposed };
            assert_eq!(translate(model, theirs), expected, "{theirs}");
        };
        check("llama", "lm_head.weight", "output.weight", false);
        check("llama", "model.layers.12.self_attn.q_proj.bias", "blk.12.attn_q.bias", false);
        check("llama", "model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight", false);
        check("gpt2", "transformer.h.3.attn.c_attn.weight", "blk.3.attn_qkv.weight", true);
        check("gpt2", "h.3.attn.c_attn.bias", "blk.3.attn_qkv.bias", false);
        check("opt", "model.decoder.final_layer_norm.bias", "output_norm.bias", false);
        check("opt", "decoder.layers.0.final_layer_norm.weight", "blk.0.ffn_norm.weight", false);
        check("bert", "embeddings.LayerNorm.bias", "token_embd_norm.bias", false);
        let third = "bert.encoder.layer.3.attention.output.LayerNorm.weight";
        check("bert", third, "blk.3.attn_output_norm.weight", false);
        let inv_freq = "model.layers.3.self_attn.rotary_emb.inv_freq";
        assert_eq!(translate("llama", inv_freq), HuggingFaceName::Ignored);
        assert_eq!(translate("gpt2", "transformer.h.0.attn.masked_bias"), HuggingFaceName::Ignored);
        assert_eq!(translate("bert", "embeddings.position_ids"), HuggingFaceName::Ignored);
        assert_eq!(translate("bert", "bert.pooler.dense.bias"), HuggingFaceName::Ignored);
        for unknown in ["model.layers.x.mlp.down_proj.weight", "transformer.h.0.attn.c_attn.weight", "norm"] {
            assert_eq!(translate("llama", unknown), HuggingFaceName::Unknown, "{unknown}");
        }
    }
}
