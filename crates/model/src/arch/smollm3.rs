//! SmolLM3: llama in which every fourth layer does not rotate Q and K.

use super::{Spec, llama};

/// Of so many layers the last does not rotate, where the file does not list them.
const PERIOD: u64 = 4;

pub(super) const SPEC: Spec = Spec {
    name: "smollm3",
    model_types: &["smollm3"],
    describe: |reader, hyper| {
        let listed = reader.config_list("no_rope_layers")?.filter(|list| !list.is_empty());
        let period = reader.count("", "no_rope_layer_interval")?.filter(|&n| n > 0).unwrap_or(PERIOD);
        for (layer, kind) in hyper.kinds.iter_mut().enumerate() {
            let rotates = match listed {
                // The list says 1 where a layer rotates, whatever its name.
                Some(list) => list.get(layer).is_none_or(|entry| entry != 0),
                None => !(layer as u64 + 1).is_multiple_of(period),
            };
            kind.rope = rotates.then_some(0);
        }
        Ok(())
    },
    ..llama::SPEC
};
